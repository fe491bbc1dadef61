"""For which devices something is meant."""

from __future__ import annotations

from collections.abc import Sequence


def suits(classes: Sequence[str], device: str) -> bool:
    """Whether something for these device classes is for this one; none named means every device."""
    return not classes or device in classes
