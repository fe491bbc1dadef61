"""The work on one picture or video, as a worker does it: with the same model, runtime and version as all the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from edge import __version__
from edge.archive import codec
from edge.archive.engine import Piece, Work
from edge.config import Config
from edge.core.errors import LeukoError

if TYPE_CHECKING:
    from edge.session import Pipeline


@dataclass(frozen=True, slots=True)
class Identity:
    """What a field's figures depend on besides the field."""

    software: str
    bundle: str
    bundle_sha256: str
    runtime: str
    calibration: str

    @staticmethod
    def of(bundle: str, bundle_sha256: str, runtime: str, calibration: str = "") -> Identity:
        """The identity of this process with that bundle on that runtime, and a commissioning record."""
        return Identity(__version__, bundle, bundle_sha256, runtime, calibration)


@dataclass(frozen=True)
class FieldJob:
    """Opens the model, one thread of it, and analyses fields; see `edge.archive.engine.Job`.

    `previews` is how many pieces from the first keep a preview; `pictures` whether crops and maps are kept.
    """

    configuration: bytes
    identity: Identity
    previews: int
    pictures: bool
    camera: str = ""

    @staticmethod
    def of(config: Config, identity: Identity, *, previews: int, pictures: bool, camera: str = "") -> FieldJob:
        """Make the job for a configuration, and for the camera whose commissioning record is used, if any."""
        return FieldJob(msgspec.msgpack.encode(config), identity, previews, pictures, camera)

    @contextlib.contextmanager
    def open(self) -> Iterator[Work]:
        """See `Job`. Raises BundleError, RuntimeUnavailableError, or LeukoError `worker-differs`."""
        import cv2

        from edge import app
        from edge.calibration import commissioned

        config = msgspec.structs.replace(msgspec.msgpack.decode(self.configuration, type=Config), threads=1)
        cv2.setNumThreads(1)
        record = commissioned.required(self.camera, config) if self.camera else None
        with app.worker_pipeline(config) as pipeline:
            if record is not None:
                pipeline = replace(pipeline, surface=record.surface, reference=record.reference)  # noqa: PLW2901
            here = identity_of(pipeline, record.id if record is not None else "")
            if here != self.identity:
                raise LeukoError(
                    "worker-differs",
                    f"A worker has {_said(here)}, and the analysis was begun with {_said(self.identity)}: their "
                    "figures must not be mixed.",
                    "Install the same leukoscope and the same model on every node.",
                )

            def work(piece: Piece) -> Iterator[bytes]:
                from edge import session
                from edge.core.types import FieldFailure

                frames = app.replay([piece.path])
                for number, frame in enumerate(frames if record is None else commissioned.fitting(frames, record)):
                    preview = self.pictures and piece.number + number < self.previews
                    found = (
                        frame if isinstance(frame, FieldFailure) else session.analyse_field(frame, pipeline, preview)
                    )
                    yield codec.encode(found, pictures=self.pictures)

            yield work


def identity_of(pipeline: Pipeline, calibration: str) -> Identity:
    """The identity of this process with an open pipeline, and the id of a commissioning record, empty without one."""
    manifest = pipeline.classifier.manifest
    return Identity.of(manifest.identity, manifest.sha256, str(pipeline.classifier.runtime.info), calibration)


def _said(identity: Identity) -> str:
    record = f", commissioning record {identity.calibration}" if identity.calibration else ""
    bundle = f"{identity.bundle} ({identity.bundle_sha256[:8]})"
    return f"leukoscope {identity.software}, {bundle}, {identity.runtime}{record}"
