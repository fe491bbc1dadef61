"""Takes the pictures of docs/page.md: a session on the simulated slide, walked through at three sizes.

    python tests/browser/screenshots.py [FOLDER]        (docs/images without one)

Needs Chromium. The pictures are written only when the walk succeeds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import cv2  # noqa: E402
from chrome import Tab, chrome  # noqa: E402
from commands import leuko  # noqa: E402
from walking import served, start  # noqa: E402

SIZES = ((800, 480), (390, 844), (1440, 900))
CAMERA = "simulated:seed=21,cells=5,fields=endless,interval=0.2,overlap=0.2"


def taken(tab: Tab, name: str, folder: Path, script: str = "0") -> None:
    """Take one page at the three sizes."""
    for width, height in SIZES:
        tab.size(width, height)
        tab.run(script)
        time.sleep(0.4)
        path = folder / f"page-{name}-{width}x{height}.png"
        tab.picture(path)


def walk(home: Path, folder: Path) -> None:
    """Walk from the form of a new count to the signed result."""
    more = {"LEUKO_DEVICE": "scope-03"}
    assert leuko(home, "control", "run", "--operator", "A. Okafor", **more).code == 0
    with served(home, **more) as (address, _), chrome(home / "profile") as tab:
        tab.size(800, 480)
        tab.open(f"{address}/live")
        tab.fill("[name=sample]", "Ward 3 / 17")
        tab.fill("[name=operator]", "A. Okafor")
        taken(tab, "start", folder)
        start(tab, address, "Ward 3 / 17", CAMERA, 200)
        tab.wait("Number(document.querySelector('#counted').textContent) > 120", 300)
        taken(tab, "live", folder)
        tab.wait("document.documentElement.dataset.phase === 'finished'", 600)
        tab.click("#done")
        tab.wait("document.querySelector('.differential') !== null")
        identifier = tab.run("location.pathname.split('/')[2]")
        taken(tab, "result", folder)
        shown = leuko(home, "review", "show", identifier, "--all", "--json", **more).document
        cell = next(each for each in shown["cells"] if each["doubt"] != "none" or each["counted_as"] == "monocyte")
        tab.open(f"{address}/results/{identifier}/review?cell={cell['cell']}")
        taken(tab, "review", folder)
        tab.open(f"{address}/")
        taken(tab, "results", folder)
        tab.open(f"{address}/device")
        taken(tab, "device", folder)
        assert tab.log == [], tab.log


def main() -> None:
    """Write the pictures as JPEG, a tenth of their size as PNG."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    with tempfile.TemporaryDirectory() as name:
        home, folder = Path(name) / "home", Path(name) / "pictures"
        home.mkdir()
        folder.mkdir()
        walk(home, folder)
        for path in sorted(folder.iterdir()):
            picture = cv2.imread(str(path))
            assert picture is not None
            cv2.imwrite(str(target / f"{path.stem}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 84])
            print(target / f"{path.stem}.jpg")


if __name__ == "__main__":
    main()
