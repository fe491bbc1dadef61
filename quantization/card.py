"""The model card: what a person should know before trusting the bundle."""

from __future__ import annotations

from collections.abc import Sequence

from edge.bundle.manifest import Manifest
from training.metrics import Figures, table


def render(manifest: Manifest, rows: Sequence[Figures], sections: Sequence[str] = ()) -> str:
    """Write the card as Markdown, from the manifest and the full figures, then any further sections."""
    calibration = manifest.calibration
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"{manifest.intended_use}",
        "",
        "## What it does",
        "",
        f"Calls a crop of one cell ({manifest.preprocessing.size} px, {manifest.preprocessing.margin:g} nucleus "
        f"diameters wide) as one of: {', '.join(manifest.labels)}. MobileNetV2 0.35 with CBAM after the last "
        "convolution, full-integer INT8."
        + (" The nucleus of each crop is given one colour first." if manifest.preprocessing.stain == "nucleus" else ""),
        "",
        "## Figures of the INT8 network, through the device's own path",
        "",
        table(rows),
        "",
        *(f"- {site.source}: {site.note}." for site in manifest.figures if site.note),
        "",
        "Calls of `other` count as wrong for a cell of the five; abstained cells keep their best label here.",
        "",
        "## Calibration",
        "",
        f"Temperature {calibration.temperature}, abstention below {calibration.abstention_threshold} for the best of "
        f"the five. Fitted on {calibration.fitted_on}.",
        "",
        "## Data that the weights saw",
        "",
        "| source | licence | crops | citation |",
        "|---|---|---|---|",
        *(f"| {item.source} | {item.licence} | {item.images} | {item.citation} |" for item in manifest.data),
        "",
        f"{manifest.weights_origin}",
        "",
        "## Limits",
        "",
        f"{manifest.limits}",
        "",
    ]
    for section in sections:
        lines += [section, ""]
    return "\n".join(lines)
