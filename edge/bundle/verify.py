"""Is a bundle what its manifest says, and does its network reproduce its golden vectors on this device.

The last bit differs between CPU families (x86-64 and aarch64 kernels round differently), so logits are compared within
the tolerance that the manifest states; the called class must be the same in every vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle import files, golden
from edge.bundle.manifest import MAX_CARD_BYTES, MAX_GOLDEN_BYTES, MAX_VARIANT_BYTES, Manifest, load
from edge.core.errors import BundleError
from edge.core.protocols import Runtime
from edge.core.types import RuntimeInfo


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file of the bundle. `fault` is empty when size and hash are as the manifest says."""

    file: str
    size: int | None
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether the file is as the manifest says."""
        return not self.fault


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """The golden vectors on one runtime of this device.

    `agreeing` of `vectors` have the reference's class, `difference` is the largest absolute difference of a logit.
    """

    runtime: RuntimeInfo
    vectors: int
    agreeing: int
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every class agrees and every logit is within the tolerance."""
        return self.agreeing == self.vectors > 0 and self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: `golden` holds one check for each runtime that was tried."""

    identity: str
    sha256: str
    files: tuple[FileCheck, ...]
    golden: tuple[GoldenCheck, ...]

    @property
    def files_ok(self) -> bool:
        """Whether every file is as the manifest says."""
        return all(check.ok for check in self.files)

    @property
    def ok(self) -> bool:
        """Whether the bundle may be used: every file is right, and each runtime tried reproduces the golden vectors."""
        return self.files_ok and bool(self.golden) and all(check.ok for check in self.golden)


def check_files(manifest: Manifest, folder: Path) -> tuple[FileCheck, ...]:
    """Compare size and SHA-256 of every file that the manifest names."""
    expected: list[tuple[str, str, int | None, int]] = [
        (variant.file, variant.sha256, variant.size, MAX_VARIANT_BYTES) for variant in manifest.variants
    ]
    expected.append((manifest.golden.file, manifest.golden.sha256, None, MAX_GOLDEN_BYTES))
    if manifest.model_card is not None:
        expected.append((manifest.model_card.file, manifest.model_card.sha256, None, MAX_CARD_BYTES))
    return tuple(_check_file(Path(folder) / file, hash_, size, limit) for file, hash_, size, limit in expected)


def _check_file(path: Path, hash_: str, size: int | None, limit: int) -> FileCheck:
    try:
        found_hash, found_size = files.digest(path, limit)
    except BundleError as error:
        return FileCheck(path.name, None, error.message)
    if size is not None and found_size != size:
        return FileCheck(path.name, found_size, f"has {found_size} bytes, the manifest says {size}")
    if found_hash != hash_:
        return FileCheck(path.name, found_size, f"SHA-256 is {found_hash}, the manifest says {hash_}")
    return FileCheck(path.name, found_size)


def check_golden(manifest: Manifest, folder: Path, runtime: Runtime) -> GoldenCheck:
    """Run the golden vectors through an entered runtime. Raises BundleError when they are damaged or do not fit it."""
    from edge.imaging.preprocess import to_input

    vectors = golden.load(manifest, folder)
    preprocessing = manifest.preprocessing.to_preprocessing()
    batch = np.stack([to_input(crop, preprocessing) for crop in vectors.inputs])
    reference = vectors.reference(runtime.info.precision)
    logits = runtime.run(batch).logits
    if logits.shape != reference.shape:
        raise BundleError(
            "model-mismatch",
            f"The network gives logits {logits.shape}, its golden vectors {reference.shape}.",
            files.REINSTALL,
        )
    difference = float(np.abs(logits.astype(np.float64) - reference).max())
    return GoldenCheck(
        runtime=runtime.info,
        vectors=len(logits),
        agreeing=int((logits.argmax(axis=1) == reference.argmax(axis=1)).sum()),
        # Not-a-number compares false with every tolerance; infinity says so in the report too.
        difference=difference if np.isfinite(difference) else float("inf"),
        tolerance=manifest.golden.tolerance,
    )


def verify(folder: Path, *runtimes: Runtime) -> Report:
    """Check every file of the bundle in `folder`, then its golden vectors on each of the entered `runtimes`.

    A network whose file is not as the manifest says is not run. Raises BundleError when there is no manifest to check.
    """
    manifest = load(folder)
    checks = check_files(manifest, folder)
    reproduced: tuple[GoldenCheck, ...] = ()
    if all(check.ok for check in checks):
        reproduced = tuple(check_golden(manifest, folder, runtime) for runtime in runtimes)
    return Report(manifest.identity, manifest.sha256, checks, reproduced)


def require_files(manifest: Manifest, folder: Path) -> None:
    """Raise BundleError when a file of the bundle is not as the manifest says."""
    _require(manifest.identity, check_files(manifest, folder))


def require(report: Report) -> None:
    """Raise BundleError with the first fault of the report, if it has one."""
    _require(report.identity, report.files)
    for result in report.golden:
        if not result.ok:
            raise BundleError(
                "golden-not-reproduced",
                f"{report.identity} on {result.runtime}: {result.agreeing} of {result.vectors} golden vectors keep "
                f"their class, largest difference {result.difference:.3g} (tolerance {result.tolerance:.3g}).",
                "This device computes the network wrongly: use another runtime, and take no results until it passes.",
            )
    if not report.golden:
        raise BundleError(
            "golden-not-tried",
            f"The golden vectors of {report.identity} were run on no runtime.",
            "Run `leuko doctor`.",
        )


def _require(identity: str, checks: Iterable[FileCheck]) -> None:
    for check in checks:
        if not check.ok:
            raise BundleError(
                "bundle-damaged", f"{check.file} of {identity}: {check.fault.rstrip('.')}.", files.REINSTALL
            )
