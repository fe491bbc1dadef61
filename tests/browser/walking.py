"""The way of a health worker through the page, for the test that walks it and the script that takes its pictures."""

from __future__ import annotations

import contextlib
import re
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

from chrome import Tab
from commands import LEUKO, environment

CAMERA = "simulated:seed=7,cells=12,fields=endless,width=960,height=640"


@contextlib.contextmanager
def served(home: Path, *options: str, **more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The real page of a home folder, in a process of its own: its address and the process."""
    command = [*LEUKO, "serve", "--port", "0", *options]
    with (
        (home / "serve.log").open("wb") as log,
        subprocess.Popen(
            command,
            cwd=home,
            env=environment(home, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], 60)
            address = process.stdout.readline().decode().strip() if ready else ""
            assert re.match(r"https?://", address), (home / "serve.log").read_text()
            yield address.rstrip("/"), process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()


def start(tab: Tab, address: str, sample: str, camera: str = CAMERA, target: int = 100) -> None:
    """Fill in the form of a new count and start it."""
    tab.open(f"{address}/live")
    tab.fill("[name=sample]", sample)
    tab.fill("[name=operator]", "A. Okafor")
    tab.click(f"label[for=t{target}]")
    tab.click("label[for=c-other]")
    tab.fill("#settings", camera)
    tab.click(".start button")
    tab.wait("document.querySelector('#counted') && document.documentElement.dataset.frame !== undefined", 180)


def counts(tab: Tab) -> dict[str, int]:
    """The running count as the page shows it."""
    return tab.run(
        """Object.fromEntries([...document.querySelectorAll('.tally tr')].map(row =>
        [row.dataset.label, Number(row.querySelector('[data-count]').textContent)]))"""
    )


def table(tab: Tab) -> dict[str, tuple[int, str]]:
    """A result's differential as the page shows it: cells and percent by class."""
    found = tab.run(
        """[...document.querySelectorAll('.differential tbody tr')].map(row =>
        [row.querySelector('.chip').className.split('c-')[1].split(' ')[0],
         Number(row.children[1].textContent), row.children[2].textContent.trim()])"""
    )
    return {label: (count, percent) for label, count, percent in found}
