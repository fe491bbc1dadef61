"""A repository of releases: static files that any web server or USB stick can carry.

    metadata/  N.root.json, N.targets.json, N.snapshot.json, timestamp.json
    targets/   SHA256.NAME-VERSION.tar
    draft/     the next root.json and targets.json while their signatures are collected, and archives they name
    release.json   for how many days each role signs

Nothing in it is secret. A change of root or targets is drafted by one command and signed by others, each with its own
key, until the threshold is reached; `edge.bundle.release.publishing` then makes it public, its last step being the
replacement of timestamp.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.bundle import archive, files
from edge.bundle.framework import CUSTOM_SCHEMA, METADATA, ROLES, TARGETS
from edge.core import durable
from edge.core.errors import BundleError, UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key
    from tuf.api.metadata import Metadata, Root, Targets

DRAFT: Final = "draft"
SETTINGS: Final = "release.json"
DAYS: Final[Mapping[str, int]] = {"root": 730, "targets": 365, "snapshot": 180, "timestamp": 180}
"""For how many days each role signs by default: a clinic is visited by a stick twice a year, not every week."""

_MAX_METADATA: Final = 5 << 20
_VERSIONED: Final = re.compile(r"([0-9]{1,9})\.(root|targets|snapshot)\.json")


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who signs for a role: public keys, and how many of them must."""

    keys: tuple[Key, ...]
    threshold: int


class Repository:
    """The repository in a folder. Reading needs no key; nothing is cached, several people work on it in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.metadata = self.folder / METADATA
        self.targets = self.folder / TARGETS
        self.draft = self.folder / DRAFT

    def require(self) -> None:
        """Raise BundleError unless there is a repository."""
        if not (self.folder / SETTINGS).is_file():
            raise BundleError(
                "no-release-repository",
                f"{self.folder} is not a repository of releases.",
                "Make one with `leuko model release init`.",
            )

    def days(self) -> Mapping[str, int]:
        """For how many days each role signs."""
        self.require()
        found = json.loads(files.read(self.folder / SETTINGS, _MAX_METADATA))
        return {role: int(found["days"][role]) for role in ROLES}

    def expiry(self, role: str) -> datetime:
        """When metadata of a role that is made now expires, UTC."""
        return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=self.days()[role])

    def version(self, role: str) -> int:
        """The newest published version of a role; 0 before the first."""
        if role == "timestamp":
            return self._load(self.metadata / "timestamp.json").signed.version if self._has_timestamp() else 0
        numbers = [
            int(found[1])
            for path in self.metadata.glob("*.json")
            if (found := _VERSIONED.fullmatch(path.name)) and found[2] == role
        ]
        return max(numbers, default=0)

    def _has_timestamp(self) -> bool:
        return (self.metadata / "timestamp.json").is_file()

    def published(self, role: str, version: int | None = None) -> Metadata[Any] | None:
        """The newest published metadata of a role, or those of one version."""
        version = self.version(role) if version is None else version
        if version == 0:
            return None
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        return self._load(self.metadata / name)

    def drafted(self, role: str) -> Metadata[Any] | None:
        """The draft of root or targets, if there is one; one that was published already is none any more."""
        path = self.draft / f"{role}.json"
        if not path.is_file():
            return None
        found = self._load(path)
        return found if found.signed.version > self.version(role) else None

    def newest(self, role: str) -> Metadata[Any]:
        """The draft of root or targets, else what is published."""
        self.require()
        found = self.drafted(role) or self.published(role)
        if found is None:
            raise BundleError("release-damaged", f"{self.folder} has no metadata of {role}.", _RESTORE)
        return found

    def save_draft(self, role: str, metadata: Metadata[Any]) -> None:
        """Keep the draft of a role."""
        durable.write_bytes(self.draft / f"{role}.json", metadata.to_bytes())

    def start_draft(self, role: str) -> Metadata[Any]:
        """Take the newest metadata of root or targets as one version later, with a new expiry and no signature."""
        found = self.newest(role)
        found.signed.version = self.version(role) + 1
        found.signed.expires = self.expiry(role)
        found.signatures.clear()
        return found

    def drafts(self) -> dict[str, Metadata[Any]]:
        """Every draft there is."""
        return {role: found for role in ("root", "targets") if (found := self.drafted(role)) is not None}

    def root(self) -> Root:
        """The root that will hold after the next publication."""
        root: Root = self.newest("root").signed
        return root

    def _load(self, path: Path) -> Metadata[Any]:
        from tuf.api.metadata import Metadata
        from tuf.api.serialization import DeserializationError

        try:
            return Metadata.from_bytes(files.read(path, _MAX_METADATA))
        except DeserializationError as error:
            raise BundleError("release-damaged", f"{path} cannot be read: {error}.", _RESTORE) from None


_RESTORE: Final = "Restore the repository from its last copy."


def init(folder: Path, signers: Mapping[str, RoleKeys], days: Mapping[str, int] | None = None) -> Repository:
    """Draft the first root and an empty list of targets in a new repository; both are still to be signed.

    `signers` has an entry for each of the four roles. Raises UsageError when there is a repository already, when a
    role has fewer keys than its threshold, or when a root key also signs for another role.
    """
    from tuf.api.metadata import Metadata, Root, Targets

    repository = Repository(folder)
    if repository.folder.exists() and any(repository.folder.iterdir()):
        raise UsageError("release-exists", f"{folder} is not empty.", "Name a new folder.")
    root = Root(consistent_snapshot=True)
    for role in ROLES:
        _assign(root, role, signers[role])
    _keep_root_apart(root)
    for made in (repository.metadata, repository.targets, repository.draft):
        made.mkdir(parents=True)
    settings = {"schema": 1, "days": {**DAYS, **(days or {})}}
    durable.write_text(repository.folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
    root.expires = repository.expiry("root")
    repository.save_draft("root", Metadata(root))
    repository.save_draft("targets", Metadata(Targets(expires=repository.expiry("targets"))))
    return repository


def _assign(root: Root, role: str, signers: RoleKeys) -> None:
    for key in signers.keys:
        root.add_key(key, role)
    count = len(root.roles[role].keyids)
    if not 1 <= signers.threshold <= count:
        raise UsageError(
            "threshold-impossible",
            f"{role}: {signers.threshold} of {count} keys cannot sign.",
            "Give as many keys as the threshold, or more.",
        )
    root.roles[role].threshold = signers.threshold


def _keep_root_apart(root: Root) -> None:
    shared = [role for role in ROLES[1:] if set(root.roles[role].keyids) & set(root.roles["root"].keyids)]
    if shared:
        raise UsageError(
            "root-key-shared",
            f"A root key also signs for {shared[0]}: it could not stay offline.",
            "Use a key of its own.",
        )


def add(repository: Repository, bundle: Path, device_classes: Sequence[str] | None = None) -> archive.Archive:
    """Archive the bundle in a folder, or take an archive, and add it to the draft of the targets.

    `device_classes` narrows what the bundle's manifest says. Raises BundleError for a bundle that is not whole, or
    whose name and version were released already with other contents.
    """
    from tuf.api.metadata import TargetFile

    metadata = repository.start_draft("targets")
    repository.draft.mkdir(exist_ok=True)
    incoming = repository.draft / f"incoming{archive.SUFFIX}"
    if bundle.is_dir():
        archive.write(bundle, incoming)
    else:
        durable.write_chunks(incoming, files.chunks(bundle, archive.MAX_ARCHIVE_BYTES))
    try:
        found = archive.read(incoming)
        name = archive.file_name(found.manifest)
        targets: Targets = metadata.signed
        known = targets.targets.get(name)
        if known is not None and known.hashes.get("sha256") != found.sha256:
            raise BundleError(
                "release-differs",
                f"{found.manifest.identity} was released with other contents.",
                "Give the bundle a new version: one version is one content, for ever.",
            )
        incoming.replace(repository.draft / name)
    finally:
        incoming.unlink(missing_ok=True)
    durable.sync_folder(repository.draft)
    classes = _narrowed(found, device_classes)
    targets.targets[name] = TargetFile(
        found.size,
        {"sha256": found.sha256},
        name,
        {
            "custom": {
                "schema": CUSTOM_SCHEMA,
                "name": found.manifest.name,
                "version": found.manifest.version,
                "manifest_sha256": found.manifest.sha256,
                "device_classes": list(classes),
            }
        },
    )
    repository.save_draft("targets", metadata)
    return found


def _narrowed(found: archive.Archive, wanted: Sequence[str] | None) -> tuple[str, ...]:
    stated = found.manifest.device_classes
    if not wanted:
        return stated
    if stated and (outside := sorted(set(wanted) - set(stated))):
        raise UsageError(
            "device-class-unknown",
            f"{found.manifest.identity} is not for {outside[0]}.",
            f"It is for: {', '.join(stated)}.",
        )
    for name in wanted:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
            raise UsageError("device-class-invalid", f"{name!r} is no device class.", "Write it as raspberry-pi-5.")
    return tuple(dict.fromkeys(wanted))


def remove(repository: Repository, identity: str) -> None:
    """Take a bundle, named as NAME@VERSION, out of the draft of the targets: no device will install it any more."""
    metadata = repository.start_draft("targets")
    name = identity.replace("@", "-") + archive.SUFFIX
    if metadata.signed.targets.pop(name, None) is None:
        raise UsageError("not-released", f"{identity} is not released.", "See `leuko model release show`.")
    repository.save_draft("targets", metadata)


def renew(repository: Repository, role: str) -> None:
    """Draft root or targets anew with a later expiry."""
    repository.save_draft(role, repository.start_draft(role))


def rotate(
    repository: Repository, role: str, added: Sequence[Key] = (), removed: Sequence[str] = (), threshold: int = 0
) -> None:
    """Draft a root that gives a role other keys, and another threshold unless that is 0.

    `removed` are identifiers of keys or their first characters. A revoked key is worth nothing to a device from the
    moment on that it has seen the new root. Raises UsageError for a key that has no such role.
    """
    metadata = repository.start_draft("root")
    root: Root = metadata.signed
    for key in added:
        root.add_key(key, role)
    for start in removed:
        matching = [keyid for keyid in root.roles[role].keyids if len(start) >= 8 and keyid.startswith(start)]
        if len(matching) != 1:
            raise UsageError(
                "key-unknown",
                f"{start} is not one key of {role}.",
                "See `leuko model release show`; 8 letters or more.",
            )
        root.revoke_key(matching[0], role)
    _assign(root, role, RoleKeys((), threshold or root.roles[role].threshold))
    _keep_root_apart(root)
    repository.save_draft("root", metadata)
    if role == "targets" and repository.drafted("targets") is None and repository.version("targets"):
        # What a revoked key has signed must be signed again; the same list, by those who may.
        renew(repository, "targets")


def sign(repository: Repository, signers: Sequence[CryptoSigner]) -> tuple[tuple[str, str], ...]:
    """Sign every draft for whose role a key counts; returns (role, key identifier) of each signature made.

    The draft of a root is signed by keys of the previous root and of the new one alike. Raises UsageError for a key
    that counts for no draft.
    """
    made = []
    drafts = repository.drafts()
    if not drafts:
        raise UsageError("nothing-to-sign", "There is no draft.", "Add a bundle, rotate or renew first.")
    for signer in signers:
        keyid = signer.public_key.keyid
        roles = [role for role in drafts if keyid in _counting(repository, role)]
        if not roles:
            raise UsageError(
                "key-without-role",
                f"The key {keyid[:16]} signs for none of the drafts ({', '.join(drafts)}).",
                "See `leuko model release show`.",
            )
        for role in roles:
            drafts[role].sign(signer, append=True)
            made.append((role, keyid))
    for role in {role for role, _ in made}:
        repository.save_draft(role, drafts[role])
    return tuple(made)


def _counting(repository: Repository, role: str) -> set[str]:
    keyids = set(repository.root().roles[role].keyids)
    if role == "root" and (previous := repository.published("root")) is not None:
        keyids |= set(previous.signed.roles["root"].keyids)
    return keyids
