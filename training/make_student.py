"""From labelled images to a bundle, in one chain: train, quantize, pack, evaluate.

`python -m training.make_student --data DIR --out DIR [--weights FILE]` reruns everything; `leuko train fit`,
`leuko quantize tflite` and `leuko quantize pack` are its three links. Each link reads what the one before left in
the run folder.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from msgspec import structs

from edge.bundle.manifest import Manifest
from edge.core.durable import write_bytes
from edge.core.errors import InputError
from quantization import methods
from quantization.methods import QUANTIZED_FILE
from training import distillation, fit
from training.config import RunConfig
from training.data import cells as cell_cache
from training.data import rendered
from training.data.cells import Cells
from training.gan import generated
from training.metrics import Figures, table
from training.predictions import SECOND_LOOK

_LOG = logging.getLogger(__name__)

FIGURES_FILE = "figures.md"

SHIPPED = methods.Options(per_stratum=60, equalise=0.5)
"""How the shipped network is quantized, `--method rounded`: of all that was tried the nearest to the float one."""


def load_cells(data: Path, config: RunConfig, out: Path, cache: Path | None = None) -> Cells:
    """Real cells from `cache` (or the run's own folder; made when missing), the rendered and the generated ones."""
    cells = cell_cache.load_or_build(data, config, cache or out / "cache")
    if config.rendered_share > 0:
        cells = rendered.join(cells, rendered.cells(config))
    if config.generated_share > 0:
        cells = generated.join(cells, generated.load(out / generated.FILE))
    return cells


def train(  # noqa: PLR0917  # each is another thing
    data: Path,
    weights: Path | None,
    out: Path,
    config: RunConfig,
    teachers: Sequence[Path] = (),
    cache: Path | None = None,
    drawn: Path | None = None,
) -> Path:
    """Train a network into the run folder `out`; returns the file of the chosen weights.

    A few hundred of its cells are kept beside them: a later adaptation rehearses them. With `teachers`, folders of
    finished runs, the crops are cut at the largest size among them, also when their share in the loss is 0: what is
    compared then differs in the teachers alone. `drawn` is a file of generated cells: it is copied into the folder, so
    that the run says what it was trained on.
    """
    from quantization.pack import data_sources
    from training.adaptation import replay

    if teachers:
        config = replace(config, view_size=distillation.required_size(teachers, config))
    if drawn is not None:
        generated.adopt(drawn, out)
    taught = teachers if config.distillation_share > 0 else ()
    cells = load_cells(data, config, out, cache)
    chosen = fit.fit(cells, config, weights, out, taught)
    replay.keep(cells, config, out, data_sources(fit.training_cells(cells, config)))
    return chosen


def pack_bundle(  # noqa: PLR0917  # each is another thing
    data: Path,
    out: Path,
    bundle: Path,
    name: str,
    version: str,
    commit: str | None = None,
    cache: Path | None = None,
    network: Path | None = None,
    despite_parity: bool = False,
) -> Manifest:
    """Pack the run's quantized student as a bundle in the folder `bundle`, with its figures and card.

    `network` is its file, by default the run's `student-int8.tflite`. Raises InputError `not-quantized` when there is
    none yet, and ParityError `parity-failed` when it does not say what the run's network says: see
    `quantization.gate`. `despite_parity` packs it all the same, and the bundle's limits state what it breaks. Without a
    `commit` the one of this checkout is stated, where there is one.
    """
    from quantization import commits, gate, pack, variants
    from training.evaluation import device_path

    path = network or out / QUANTIZED_FILE
    if not path.is_file():
        raise InputError("not-quantized", f"There is no {path}.", "Run `leuko quantize tflite` first.")
    model, config = fit.load(out)
    cells = load_cells(data, config, out, cache)
    # Before anything is written: a variant that is another network never becomes a bundle.
    sets = fit.validation_sets(cells, config)
    compared = gate.measure(variants.of_keras(model), [variants.of_file("litert", path)], sets, SECOND_LOOK)
    for row in compared.rows:
        _LOG.info("%s", gate.describe(row))
    if not despite_parity:
        gate.require(compared.rows)
    trained = fit.training_cells(cells, config)
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    manifest = pack.pack(
        path.read_bytes(),
        cells,
        trained,
        config,
        bundle,
        pack.Identity(name, version, created, commit or commits.current()),
    )
    if broken := gate.faults(compared.rows):
        lost = f"Against the network it was made from, on validation cells: {'; '.join(broken)}."
        manifest = structs.replace(manifest, limits=f"{manifest.limits} {lost}")

    def show(row: Figures) -> None:
        _LOG.info(
            "%s: balanced accuracy %.3f, macro-F1 %.3f (n=%d)", row.source, row.balanced_accuracy, row.macro_f1, row.n
        )

    rows = list(device_path.evaluate(manifest, bundle, data, cells, show).values())
    write_bytes(out / FIGURES_FILE, (table(rows) + "\n").encode())
    write_bytes(out / "figures.json", (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode())
    sections = [
        "## INT8 against float, validation cells\n\n" + compared.table() + "\n\n" + gate.RULES,
        "## Settings of the run\n\n```json\n" + (out / "config.json").read_text() + "```",
    ]
    return pack.complete(manifest, bundle, rows, device_path.NOTES, sections)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.make_student", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled images, with manifest.csv")
    parser.add_argument(
        "--weights", type=Path, help="ImageNet weights of the backbone (.npz); Keras downloads its own without"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run in it goes on")
    parser.add_argument("--bundle", type=Path, help="folder of the bundle (default: OUT/bundle)")
    parser.add_argument("--name", default="wbc-student")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--commit", help="commit of the code, written into the manifest (default: this checkout's)")
    parser.add_argument("--despite-parity", action="store_true", help="pack a network that breaks a rule of parity")
    for field in fields(RunConfig):
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        elif isinstance(field.default, tuple):
            parser.add_argument(flag, nargs="*", default=field.default)
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the whole chain."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = _arguments(arguments)
    values = {field.name: getattr(given, field.name) for field in fields(RunConfig)}
    config = RunConfig(**{**values, "leave_out": tuple(given.leave_out)})
    train(given.data, given.weights, given.out, config)
    cells = load_cells(given.data, config, given.out)
    methods.quantize(cells, given.out, "rounded", given.out / QUANTIZED_FILE, SHIPPED)
    bundle = given.bundle or given.out / "bundle"
    pack_bundle(
        given.data,
        given.out,
        bundle,
        given.name,
        given.version,
        given.commit,
        despite_parity=given.despite_parity,
    )


if __name__ == "__main__":
    main()
