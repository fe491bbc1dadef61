"""Whether the network costs by the byte, as NetworkManager knows it."""

from __future__ import annotations

import subprocess
from typing import Final

_SECONDS: Final = 5.0


def is_metered(setting: str) -> bool:
    """Whether the network is metered: "yes" and "no" as configured, "auto" as NetworkManager says.

    NetworkManager guesses for phones and says so ("yes (guessed)"), which counts. Where it cannot be asked, no.
    """
    if setting != "auto":
        return setting == "yes"
    try:
        done = subprocess.run(
            ["nmcli", "-t", "-f", "GENERAL.METERED,GENERAL.STATE", "device", "show"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return parse(done.stdout)


def parse(text: str) -> bool:
    """Read nmcli's answer: whether a connected device is metered."""
    metered = False
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "GENERAL.METERED":
            metered = value.startswith("yes")
        elif name == "GENERAL.STATE" and value.startswith("100") and metered:
            return True
    return False
