"""A stored result as a file."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Literal

from edge.core.types import ResultRecord

if TYPE_CHECKING:
    from edge.config import Config

Kind = Literal["csv", "cells", "html", "pdf", "json"]


def exported(record: ResultRecord, config: Config, kind: Kind) -> bytes:
    """Write a result as the content of a file.

    "csv" is the differential and "cells" the cells, both with the mark that makes spreadsheets read them as UTF-8;
    "html" the report and "pdf" the report as a browser prints it; "json" the record with its document. Raises as
    `edge.report.pdf.printed` does.
    """
    from edge import recording
    from edge.report import pdf, spreadsheet

    if kind == "csv":
        return spreadsheet.differential(record).encode("utf-8-sig")
    if kind == "cells":
        return spreadsheet.cells(record).encode("utf-8-sig")
    if kind == "json":
        return record_json(record)
    report = recording.render_report(record, config)
    return pdf.printed(report) if kind == "pdf" else report.encode("utf-8")


def record_json(record: ResultRecord) -> bytes:
    """A result as JSON: what it is stamped with, and the document of the analysis."""
    stamp = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in {"pictures", "document", "created"}
    }
    created = dataclasses.asdict(record.created)
    text = json.dumps({**stamp, "created": created, "document": record.document}, indent=2)
    return (text + "\n").encode("utf-8", "surrogatepass")
