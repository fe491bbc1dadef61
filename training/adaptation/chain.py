"""From folders to a new run and bundle: what `leuko train adapt` does."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.bundle.manifest import MANIFEST_FILE, DataSource
from edge.core.errors import UsageError
from quantization.pack import Identity
from training.adaptation import commission, pictures, record, replay
from training.adaptation.commission import Options
from training.config import RunConfig
from training.data.cells import Cells
from training.data.sources import SOURCES

_SITE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\Z")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where everything lies: the old run, the site's fields and labelled cells (one of them is needed), the new run.

    `data` is the folder that the old run was trained on; without it the run's own replay set is rehearsed. `bundle` is
    the folder of the new bundle, made when it is given, by the name and version that follow.
    """

    run: Path
    out: Path
    fields: Path | None = None
    cells: Path | None = None
    data: Path | None = None
    bundle: Path | None = None
    name: str = "wbc-student"
    version: str | None = None


def next_version(run: Path, site: str) -> str:
    """Version of an adapted bundle: one minor step above the run's own bundle, 0.1.0 without, marked with the site.

    Versions compare as https://semver.org says; what stands behind the plus is ignored by a comparison.
    """
    path = run / "bundle" / MANIFEST_FILE
    found = _VERSION.search(path.read_text(encoding="utf-8").partition('"version"')[2]) if path.is_file() else None
    major, minor = (int(found[1]), int(found[2])) if found else (0, 0)
    return f"{major}.{minor + 1}.0+{site}"


def replayed(folders: Folders, config: RunConfig) -> tuple[Cells, tuple[DataSource, ...]]:
    """Cells of the original training: the run's replay set, or drawn from --data and kept for the next time."""
    if folders.data is None:
        return replay.find(folders.run)
    from quantization.pack import data_sources
    from training import fit
    from training.make_student import load_cells

    cells = load_cells(folders.data, config, folders.run)
    origin = data_sources(fit.training_cells(cells, config))
    return replay.draw(cells, config.leave_out, config.seed), origin


def _require_sensible(folders: Folders, options: Options) -> None:
    if folders.fields is None and folders.cells is None:
        raise UsageError(
            "nothing-of-the-site",
            "Neither fields nor cells of the site are named.",
            "Give --fields DIR, --cells DIR or both.",
        )
    if not _SITE.match(options.site) or options.site in SOURCES:
        raise UsageError(
            "site-name",
            f"{options.site!r} cannot name a site.",
            "Use small letters, digits and hyphens, 31 at most, and not the name of a training source.",
        )
    if not (folders.run / "model.weights.h5").is_file():
        raise UsageError(
            "no-run", f"{folders.run} holds no finished run.", "Name a folder that `leuko train fit` has written."
        )


def run(folders: Folders, options: Options, commit: str | None = None) -> dict[str, Any]:
    """Commission a site: adapt, judge, and write the new run and bundle; returns the summary in `adaptation.json`.

    Nothing is written when the gate refuses or anything fails.
    """
    started = time.monotonic()
    _require_sensible(folders, options)
    with ExitStack() as stack:
        # Folders are claimed first: minutes of work must not end at a folder that is in use.
        out = stack.enter_context(record.staged(folders.out))
        bundle = stack.enter_context(record.staged(folders.bundle)) if folders.bundle is not None else None
        config = RunConfig.load(folders.run / "config.json")
        fields = pictures.read_fields(folders.fields, config) if folders.fields is not None else None
        unreadable = list(fields.unreadable) if fields is not None else []
        cells = None
        if folders.cells is not None:
            listed = pictures.at_most(pictures.list_cells(folders.cells), options.most, options.subsample, options.seed)
            cells, failed = pictures.read_cells(listed, options.site, config)
            unreadable += failed
        adapted = commission.adapt(folders.run, fields, cells, replayed(folders, config), options, unreadable, started)
        record.write_run(adapted, out)
        if bundle is not None:
            version = folders.version or next_version(folders.run, options.site)
            identity = Identity(folders.name, version, record.today(), commit)
            record.write_bundle(adapted, out, bundle, identity)
        return record.write_summary(adapted, out)
