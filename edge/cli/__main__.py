"""`python -m edge.cli` is `leuko`, for where the script is not on the path."""

from __future__ import annotations

from edge.cli.main import main

main()
