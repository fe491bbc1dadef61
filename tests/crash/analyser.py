"""The child that crash tests kill: it analyses two small fields for ever, and reports each result once it is saved.

    analyser.py FIELDS      forks a child for each line "analyse STORE" of standard input; FIELDS holds the pictures

Imports stand at the top so that a forked child starts at once.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import ai_edge_litert.interpreter  # noqa: F401  (loaded when first needed; a child must not spend its life on it)
import numpy as np
import saver

import devices.runtimes.litert  # noqa: F401
import edge.bundle.verify
import edge.report.document
import edge.session
import edge.store.results  # noqa: F401
from edge import app, config
from edge.core import clock
from edge.core.types import Frame

PICTURES = np.load(sys.argv[1])


def analyse_for_ever(folder: Path) -> None:
    settings = config.load(environment={"LEUKO_DATA_FOLDER": str(folder)})
    frames = [Frame(picture, clock.read(), f"field {number}") for number, picture in enumerate(PICTURES)]
    for number in count():
        record = app.analyse(frames, f"sample-{number % 3}", settings)
        saver.say("saved", record.id, len(record.pictures))


if __name__ == "__main__":
    saver.WORK["analyse"] = analyse_for_ever
    saver.serve()
