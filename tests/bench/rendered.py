"""What the shipped model makes of simulated slides, whose truth is known, under good and bad optics.

    python tests/bench/rendered.py

Rendered cells are a share of the training images: this shows what light and focus do, and is no evaluation.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from devices.cameras.simulated import SimulatedCamera
from edge import app, config
from edge.session import Pipeline, analyse_field

CELLS = "seed=103,fields=10,cells=5,composition=1/1/1/1/1"
SLIDES = (
    CELLS,
    f"{CELLS},stain=wright",
    f"{CELLS},stain=rapid",
    f"{CELLS},vignetting=.5",
    f"{CELLS},cast=.8/1/1.1",
    f"{CELLS},defocus=0.5",
    f"{CELLS},stain=wright,defocus=0.4,vignetting=.4",
    f"{CELLS},defocus=1",
    "seed=7,fields=40,cells=0",
)


def main() -> None:
    print("| slide | drawn | located | of them called as drawn | called other | located where nothing is drawn |")
    print("|---|---:|---:|---:|---:|---:|")
    with app.open_classifier(config.load()) as classifier:
        for slide in SLIDES:
            drawn = right = other = hits = strays = 0
            with SimulatedCamera.from_spec(f"simulated:{slide}") as camera:
                for frame in camera.frames():
                    truth = list(camera.truth(frame.source))
                    drawn += len(truth)
                    for cell in analyse_field(frame, Pipeline(classifier), with_preview=False).cells:
                        box = cell.call.box
                        labels = [
                            true.label
                            for true in truth
                            if 0 <= true.centre[0] - box.x < box.width and 0 <= true.centre[1] - box.y < box.height
                        ]
                        hits += bool(labels)
                        strays += not labels
                        right += bool(labels) and cell.call.label == labels[0]
                        other += bool(labels) and cell.call.label == "other"
            print(f"| {slide} | {drawn} | {hits} | {right} | {other} | {strays} |", flush=True)


if __name__ == "__main__":
    main()
