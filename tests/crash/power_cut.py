"""Says what a power cut has left, then becomes `leuko session`, which goes on with the session or begins the next.

Run by `power_cut.sh` in a virtual machine. One line of JSON tells every session, how many of its fields and cells the
journal has, and the counts of those that are finished; `power_cuts.py` on the other side holds it against what was
shown as saved before the cut.
"""

from __future__ import annotations

import json
import logging
import runpy
import sys
from pathlib import Path

from edge import app, config
from edge.store.journal import SessionJournal

_LOG = logging.getLogger("power-cut")
FIELDS = Path("/verify/fields")


def main() -> None:
    """Check, tell, and hand over. Ends with 1 where the database is damaged or its audit chain is broken."""
    settings = config.load()
    told = []
    going = None
    if settings.database_path.exists():
        with app.open_store(settings) as store, SessionJournal(settings.database_path) as journal:
            problems = [*store.check_integrity(), *store.verify_audit().problems]
            if problems:
                _LOG.info("damaged %s", problems)
                sys.exit(1)
            for session in journal.sessions():
                if not session.sample.startswith("cut-"):
                    continue
                entries = list(journal.fields(session.id))
                record = store.get(session.id)
                counts = None if record is None else record.document["differential"]
                result = (
                    None
                    if counts is None
                    else [counts["counted"] + counts["other"], *(each["count"] for each in counts["classes"].values())]
                )
                cells = sum(len(each.field.cells) for each in entries)
                told.append({"session": session.id, "fields": len(entries), "cells": cells, "result": result})
                if session.phase not in {"finished", "aborted"}:
                    going = session.id
    _LOG.info("kept %s", json.dumps(told))
    work = ["resume", going] if going else ["start", "--camera", f"replay:{FIELDS}", "--sample", f"cut-{len(told)}"]
    options = [] if going else ["--target", "100"]
    # In this process: a second start of Python is what takes longest where the processor is emulated.
    sys.argv = ["leuko", "session", *work, *options]
    runpy.run_module("edge.cli", run_name="__main__")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _LOG.setLevel(logging.INFO)
    main()
