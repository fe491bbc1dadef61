"""Making drafts public: thresholds are checked, then everything is written, timestamp.json last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.bundle import archive, files
from edge.bundle.release.repository import Repository
from edge.core import durable
from edge.core.errors import BundleError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Root, TargetFile


@dataclass(frozen=True, slots=True)
class Missing:
    """A role that too few of its keys have signed for: `signed` of `threshold`; `keys` are those that could."""

    role: str
    signed: int
    threshold: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """What is published for a role, and who signs for it. `expires` is UTC; None before the first publication."""

    role: str
    version: int
    expires: datetime | None
    threshold: int
    keys: tuple[str, ...]


def status(repository: Repository) -> tuple[RoleStatus, ...]:
    """Every role, as it will be after the next publication."""
    root = repository.root()
    found = []
    for role, signers in root.roles.items():
        published = repository.published(role)
        expires = None if published is None else published.signed.expires
        found.append(
            RoleStatus(role, repository.version(role), expires, signers.threshold, tuple(sorted(signers.keyids)))
        )
    return tuple(found)


def missing(repository: Repository) -> tuple[Missing, ...]:
    """Drafts that still lack signatures, and a published list of targets that a new root does not accept."""
    found: list[Missing] = []
    root = repository.root()
    draft = repository.drafted("root")
    if draft is not None:
        previous = repository.published("root")
        for delegator in (root, previous.signed if previous is not None else root):
            found += _lacking(delegator, "root", draft)
    found += _lacking(root, "targets", repository.newest("targets"))
    return tuple(dict.fromkeys(found))


def _lacking(delegator: Root, role: str, metadata: Metadata[Any]) -> list[Missing]:
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    if result.verified:
        return []
    return [Missing(role, len(result.signed), result.threshold, tuple(sorted(result.unsigned)))]


def publish(repository: Repository, signers: Sequence[CryptoSigner]) -> None:
    """Publish the drafts with a new snapshot and timestamp, signed by `signers`; without drafts, only renew those two.

    Raises BundleError: `below-threshold` when a draft lacks signatures or the given keys are not enough for snapshot
    and timestamp, `release-damaged` when an archive is missing or altered. A publication that was interrupted is
    completed by repeating it.
    """
    for lacking in missing(repository):
        raise _below(lacking)
    root = repository.root()
    targets = repository.newest("targets")
    pending = [_pending(repository, name, target) for name, target in targets.signed.targets.items()]
    snapshot, timestamp = _online(repository, root, targets, signers)
    for source, destination in pending:
        if source != destination:
            durable.write_chunks(destination, files.chunks(source, archive.MAX_ARCHIVE_BYTES))
    for role in ("root", "targets"):
        if (draft := repository.drafted(role)) is not None:
            durable.write_bytes(repository.metadata / f"{draft.signed.version}.{role}.json", draft.to_bytes())
    durable.write_bytes(repository.metadata / f"{snapshot.signed.version}.snapshot.json", snapshot.to_bytes())
    durable.write_bytes(repository.metadata / "timestamp.json", timestamp.to_bytes())
    for path in sorted(repository.draft.iterdir()):
        path.unlink()


def _pending(repository: Repository, name: str, target: TargetFile) -> tuple[Path, Path]:
    """Where the archive of a target is now, and where it belongs; its bytes are compared with what will be signed."""
    destination = repository.targets / f"{target.hashes['sha256']}.{name}"
    source = destination if destination.is_file() else repository.draft / name
    found, size = files.digest(source, archive.MAX_ARCHIVE_BYTES)
    if (found, size) != (target.hashes["sha256"], target.length):
        raise BundleError("release-damaged", f"{source} is not the archive that is to be signed.", "Add it again.")
    return source, destination


def _online(
    repository: Repository, root: Root, targets: Metadata[Any], signers: Sequence[CryptoSigner]
) -> tuple[Metadata[Any], Metadata[Any]]:
    from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

    version = repository.version("snapshot") + 1
    described = MetaFile.from_data(targets.signed.version, targets.to_bytes(), ["sha256"])
    snapshot = Metadata(
        Snapshot(version=version, expires=repository.expiry("snapshot"), meta={"targets.json": described})
    )
    _sign(root, "snapshot", snapshot, signers)
    timestamp = Metadata(
        Timestamp(
            version=repository.version("timestamp") + 1,
            expires=repository.expiry("timestamp"),
            snapshot_meta=MetaFile.from_data(version, snapshot.to_bytes(), ["sha256"]),
        )
    )
    _sign(root, "timestamp", timestamp, signers)
    return snapshot, timestamp


def _sign(root: Root, role: str, metadata: Metadata[Any], signers: Sequence[CryptoSigner]) -> None:
    for signer in signers:
        if signer.public_key.keyid in root.roles[role].keyids:
            metadata.sign(signer, append=True)
    for lacking in _lacking(root, role, metadata):
        raise _below(lacking)


def _below(lacking: Missing) -> BundleError:
    keys = ", ".join(keyid[:16] for keyid in lacking.keys)
    how = "leuko model release sign" if lacking.role in {"root", "targets"} else "leuko model release publish --key"
    return BundleError(
        "below-threshold",
        f"{lacking.role} has {lacking.signed} of {lacking.threshold} signatures.",
        f"Sign with `{how}`; these keys may: {keys}.",
    )
