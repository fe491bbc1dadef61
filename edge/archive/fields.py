"""The work on one picture or video, as a worker does it: with the same model, runtime and version as all the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from edge import __version__
from edge.archive import codec
from edge.archive.engine import Piece, Work
from edge.config import Config
from edge.core.errors import LeukoError


@dataclass(frozen=True, slots=True)
class Identity:
    """What a field's figures depend on besides the field."""

    software: str
    bundle: str
    bundle_sha256: str
    runtime: str

    @staticmethod
    def of(bundle: str, bundle_sha256: str, runtime: str) -> Identity:
        """The identity of this process with that bundle on that runtime."""
        return Identity(__version__, bundle, bundle_sha256, runtime)


@dataclass(frozen=True)
class FieldJob:
    """Opens the model, one thread of it, and analyses fields; see `edge.archive.engine.Job`.

    `previews` is how many pieces from the first keep a preview; `pictures` whether crops and maps are kept.
    """

    configuration: bytes
    identity: Identity
    previews: int
    pictures: bool

    @staticmethod
    def of(config: Config, identity: Identity, *, previews: int, pictures: bool) -> FieldJob:
        """Make the job for a configuration."""
        return FieldJob(msgspec.msgpack.encode(config), identity, previews, pictures)

    @contextlib.contextmanager
    def open(self) -> Iterator[Work]:
        """See `Job`. Raises BundleError, RuntimeUnavailableError, or LeukoError `worker-differs`."""
        import cv2

        from edge import app

        config = msgspec.structs.replace(msgspec.msgpack.decode(self.configuration, type=Config), threads=1)
        cv2.setNumThreads(1)
        with app.worker_pipeline(config) as pipeline:
            manifest = pipeline.classifier.manifest
            here = Identity.of(manifest.identity, manifest.sha256, str(pipeline.classifier.runtime.info))
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

                for number, frame in enumerate(app.replay([piece.path])):
                    preview = self.pictures and piece.number + number < self.previews
                    found = (
                        frame if isinstance(frame, FieldFailure) else session.analyse_field(frame, pipeline, preview)
                    )
                    yield codec.encode(found, pictures=self.pictures)

            yield work


def _said(identity: Identity) -> str:
    return f"leukoscope {identity.software}, {identity.bundle} ({identity.bundle_sha256[:8]}), {identity.runtime}"
