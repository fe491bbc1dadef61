"""What runs in the field: from a frame to a differential count, a stored result and a report."""

from __future__ import annotations

__version__ = "0.1.0"
