"""The report as PDF, printed by a Chromium that the system has: it is the browser the report is made for.

No library that is light enough for a device lays out the report's style sheet; every Raspberry Pi OS with a desktop has
Chromium, and on others one package brings it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge.core.errors import MissingExtraError, NothingToDoError

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names under which systems install it."""

DEADLINE_SECONDS: Final = 120.0
"""How long printing may take: a Raspberry Pi 4 needs a few seconds for a report of some hundred cells."""


def browser(names: Sequence[str] = BROWSERS) -> str | None:
    """Where a browser that can print is, or None."""
    return next((found for name in names if (found := shutil.which(name))), None)


def printed(report: str, program: str | None = None, deadline: float = DEADLINE_SECONDS) -> bytes:
    """Print a report (HTML text) to PDF.

    The browser gets a new, empty profile and a page that may load and run nothing, and is offline for all it could do.

    Raises `MissingExtraError` `pdf-needs-chromium`, `NothingToDoError` `pdf-failed`.
    """
    program = program or browser()
    if program is None:
        raise MissingExtraError(
            "pdf-needs-chromium",
            "No Chromium is installed, which prints the report.",
            "Install it: sudo apt install chromium. Or open the HTML report on another machine and print it there.",
        )
    with tempfile.TemporaryDirectory(prefix="leuko-print-") as name:
        folder = Path(name)
        page, sheet = folder / "report.html", folder / "report.pdf"
        page.write_text(report, encoding="utf-8")
        command = [
            program,
            "--headless",
            # The sandbox needs rights that a service does not have. What is printed is our own page, which runs no
            # script; its policy forbids that.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--proxy-server=127.0.0.1:9",
            f"--user-data-dir={folder / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={sheet}",
            page.as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=deadline, check=False)
        except subprocess.TimeoutExpired:
            raise _failed(f"it took longer than {deadline:.0f} s") from None
        except OSError as error:
            raise _failed(str(error.strerror)) from None
        content = sheet.read_bytes() if sheet.is_file() else b""
    if not content.startswith(b"%PDF-"):
        raise _failed(done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or "nothing was printed")
    return content


def _failed(why: object) -> NothingToDoError:
    return NothingToDoError(
        "pdf-failed",
        f"The browser did not print the report: {why}.",
        "Use the HTML report, and print it from a browser.",
    )
