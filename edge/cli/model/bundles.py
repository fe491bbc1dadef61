"""`leuko model list|show|verify|schema`: which bundles are here, what they state, and whether they are that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest
    from edge.bundle.verify import Report

Folder = Annotated[Path | None, typer.Argument(help="Folder of a bundle; the one in use when left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def list_bundles(json: Json = False) -> None:
    """List the bundles of this installation; the one in use is marked with a star."""
    from edge import app as composition
    from edge import config
    from edge.bundle import find, manifest
    from edge.core.errors import BundleError

    settings = config.load()
    slots = composition.model_slots(settings)
    damaged = ""
    state = None
    try:
        state = slots.load()
    except BundleError as error:
        damaged = str(error)
    places: dict[Path, dict[str, Any]] = {folder: {"origin": "shipped"} for folder in find.available()}
    for slot in ("a", "b") if state else ():
        if state is not None and state.record(slot) is not None:
            roles = [role for role in ("active", "previous", "staged") if getattr(state, role) == slot]
            row: dict[str, Any] = {"origin": "signed", "slot": slot, "state": roles[0] if roles else "replaced"}
            if state.active == slot and state.probation:
                row["probation"] = state.probation
            places[slots.place(slot).folder.absolute()] = row
    in_use = composition.bundle_folder(settings).absolute() if settings.bundle or places else None
    if in_use is not None and in_use not in places:
        places[in_use] = {"origin": "unsigned"}
    rows = []
    for folder, known in places.items():
        row = {"folder": str(folder), "in_use": folder == in_use, **known}
        try:
            found = manifest.load(folder)
            row |= {"bundle": found.identity, "sha256": found.sha256}
        except BundleError as error:
            row["error"] = {"code": error.code, "message": error.message}
        rows.append(row)
    if json:
        output.answer_json(rows)
        return
    if rows:
        output.answer(output.table([_row(row) for row in rows]))
    else:
        output.note("There are no bundles. Install the package again, or name one in the configuration.")
    if damaged:
        output.note(damaged)
    if stop := slots.describe_stop():
        output.note(stop)
    for event in state.events[-5:] if state else ():
        output.note(f"{event.when}  {event.what} {event.bundle}{': ' + event.why if event.why else ''}")


def _row(row: dict[str, Any]) -> list[str]:
    state = row.get("state", row["origin"])
    if "probation" in row:
        state += f", on probation for {row['probation']} more analyses"
    return ["*" if row["in_use"] else "", row.get("bundle") or "damaged", state, row["folder"]]


def show(folder: Folder = None, json: Json = False) -> None:
    """Show what a bundle states about itself: figures, data, limits."""
    from edge.bundle import manifest

    folder = _folder(folder)
    found = manifest.load(folder)
    if json:
        import msgspec

        stated = msgspec.to_builtins(found)
        output.answer_json({"folder": str(folder), "sha256": found.sha256, "manifest": stated}, indent=2)
    else:
        output.answer("\n".join(_describe(found, folder)))


def verify(
    folder: Folder = None,
    json: Json = False,
    every_variant: Annotated[
        bool, typer.Option("--every-variant", help="Run the golden vectors on every variant, not only the one in use.")
    ] = False,
) -> None:
    """Check a bundle's hashes, and that its golden vectors reproduce on this device."""
    from contextlib import ExitStack

    from edge import config
    from edge.bundle import manifest
    from edge.bundle import verify as verification
    from edge.health import device
    from edge.inference import negotiate

    settings = config.load()
    folder = _folder(folder)
    bundle = manifest.load(folder)
    with ExitStack() as stack:
        runtimes = []
        if all(check.ok for check in verification.check_files(bundle, folder)):
            choices = negotiate.every(bundle) if every_variant else (device.negotiate(settings, bundle, folder),)
            threads = device.threads(settings)
            runtimes = [stack.enter_context(choice.open(folder, threads)) for choice in choices]
        report = verification.verify(folder, *runtimes)
    if json:
        output.answer_json(_document(report))
    else:
        output.answer("\n".join(_lines(report)))
    verification.require(report)


def schema(
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead.", metavar="FILE")] = None,
) -> None:
    """Print the JSON Schema of a bundle's manifest."""
    from edge.bundle import schema as schemas
    from edge.core import durable

    if out is None:
        output.answer(schemas.text().rstrip("\n"))
    else:
        durable.write_text(out, schemas.text())


def _folder(named: Path | None) -> Path:
    from edge import app as composition
    from edge import config

    return composition.bundle_folder(config.load()) if named is None else named


def _document(report: Report) -> dict[str, Any]:
    return {
        "bundle": report.identity,
        "sha256": report.sha256,
        "ok": report.ok,
        "files": [
            {"file": check.file, "size": check.size, "ok": check.ok, "fault": check.fault or None}
            for check in report.files
        ],
        "golden": [
            {
                "runtime": str(check.runtime),
                "version": check.runtime.version,
                "vectors": check.vectors,
                "agreeing": check.agreeing,
                # JSON has no infinity.
                "difference": check.difference if check.difference < float("inf") else None,
                "tolerance": check.tolerance,
                "ok": check.ok,
            }
            for check in report.golden
        ],
    }


def _lines(report: Report) -> list[str]:
    rows = [
        ["ok" if check.ok else "FAIL", check.file, check.fault or f"{check.size} bytes, hash as stated"]
        for check in report.files
    ]
    rows += [
        [
            "ok" if result.ok else "FAIL",
            f"golden vectors on {result.runtime}",
            f"{result.agreeing} of {result.vectors} keep their class, largest difference {result.difference:.3g} "
            f"(tolerance {result.tolerance:.3g})",
        ]
        for result in report.golden
    ]
    return [f"{report.identity}  sha256 {report.sha256}", output.table(rows)]


def _describe(manifest: Manifest, folder: Path) -> list[str]:
    preprocessing, calibration = manifest.preprocessing, manifest.calibration
    rows = [
        ["bundle", f"{manifest.identity}, made {manifest.created}"],
        ["folder", str(folder)],
        ["sha256", manifest.sha256],
        ["classes", ", ".join(manifest.labels)],
        [
            "input",
            f"{preprocessing.size}x{preprocessing.size} {preprocessing.colour_order}, "
            f"crop of {preprocessing.margin:g} nucleus diameters",
        ],
        [
            "calibration",
            f"temperature {calibration.temperature:g}, no call below {calibration.abstention_threshold:g}",
        ],
    ]
    rows += [
        ["variant", f"{variant.runtime}-{variant.precision}, {variant.file}, {variant.size} bytes"]
        for variant in manifest.variants
    ]
    for figures in manifest.figures:
        rows.append(
            [
                "figures",
                f"{figures.source}, n={figures.n}: balanced accuracy {figures.balanced_accuracy:.3f}, "
                f"macro-F1 {figures.macro_f1:.3f}{'; ' + figures.note if figures.note else ''}",
            ]
        )
        rows += [
            ["", f"  recall of {label} {recall.value:.3f} ({recall.low:.3f} - {recall.high:.3f}, n={recall.n})"]
            for label, recall in figures.recall.items()
        ]
    if manifest.device_classes:
        rows.append(["devices", ", ".join(manifest.device_classes)])
    if envelope := manifest.envelope:
        rows += [
            ["may change", envelope.modifications],
            ["", f"  under this protocol: {envelope.protocol}"],
            ["", f"  its impact: {envelope.impact}"],
            [
                "",
                f"  recall may fall by {envelope.recall_drop:g} for a class, balanced accuracy by "
                f"{envelope.balanced_accuracy_drop:g} on a source",
            ],
        ]
    rows += [["data", f"{source.source}: {source.images} images, {source.licence}"] for source in manifest.data]
    rows += [
        ["weights", manifest.weights_origin],
        ["intended use", manifest.intended_use],
        ["limits", manifest.limits],
    ]
    return [output.table(rows)]
