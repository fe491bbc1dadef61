"""A lab that releases small bundles and a device that installs them, all in folders, for tests to use and to attack."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bundles

from edge.bundle import archive, install, update, verify
from edge.bundle.framework import CUSTOM_SCHEMA
from edge.bundle.release import keys, publishing, repository
from edge.bundle.release.repository import Repository, RoleKeys
from edge.bundle.slots import Slots
from edge.core.errors import BundleError

DEVICE = "generic-x86-64"


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: kind, mode and content of each entry."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = f"{status.st_mode:o} {content}"
    return found


def check_whole(folder: Path) -> None:
    """A trial without a network: every file is as the manifest says."""
    report = verify.verify(folder)
    verify.require_files(_manifest(folder), folder)
    assert report.files_ok


def _manifest(folder: Path) -> Any:
    from edge.bundle import manifest

    return manifest.load(folder)


@dataclass
class Lab:
    """A repository and its private keys: three for root, of which two must sign, and one for each other role."""

    folder: Path
    keys: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, targets_threshold: int = 1) -> Lab:
        lab = cls(folder)
        counts = {"root": 3, "targets": max(2, targets_threshold), "snapshot": 1, "timestamp": 1}
        thresholds = {"root": 2, "targets": targets_threshold, "snapshot": 1, "timestamp": 1}
        folder.mkdir(parents=True)
        for role, count in counts.items():
            lab.keys[role] = [lab.new_key(f"{role}-{number}") for number in range(count)]
        signers = {
            role: RoleKeys(tuple(key.public_key for key in found), thresholds[role]) for role, found in lab.keys.items()
        }
        repository.init(lab.repo, signers)
        return lab

    def new_key(self, name: str) -> Any:
        path = self.folder / f"{name}.pem"
        keys.generate(path)
        return keys.load_private(path)

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    @property
    def opened(self) -> Repository:
        return Repository(self.repo)

    def bundle(self, version: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        folder = self.folder / f"bundle-{version}"
        if not folder.exists():
            bundles.build(folder)
        bundles.rewrite(folder, lambda values: (values.update(version=version), change(values)))
        return folder

    def sign(self) -> None:
        """Sign the drafts with as many keys as are needed."""
        drafts = self.opened.drafts()
        able = {**({"root": self.keys["root"][:2]} if "root" in drafts else {})}
        able |= {"targets": self.keys["targets"][: self.threshold("targets")]} if "targets" in drafts else {}
        repository.sign(self.opened, [key for found in able.values() for key in found])

    def threshold(self, role: str) -> int:
        return self.opened.root().roles[role].threshold

    def publish(self) -> None:
        publishing.publish(self.opened, [*self.keys["snapshot"], *self.keys["timestamp"]])

    def release(
        self, version: str, change: Callable[[dict[str, Any]], object] = lambda _: None, classes: Sequence[str] = ()
    ) -> archive.Archive:
        """Add a bundle of this version, sign and publish it."""
        found = repository.add(self.opened, self.bundle(version, change), classes)
        self.sign()
        self.publish()
        return found

    def release_bytes(self, data: bytes, version: str, name: str = "", /, **custom: Any) -> None:
        """Sign and publish whatever bytes as the archive of small@version: the lab is careless, or taken over."""
        from tuf.api.metadata import TargetFile

        opened = self.opened
        drafted = opened.start_draft("targets")
        sha256 = hashlib.sha256(data).hexdigest()
        name = name or f"small-{version}.tar"
        described = {
            "schema": CUSTOM_SCHEMA,
            "name": "small",
            "version": version,
            "manifest_sha256": "0" * 64,
            "device_classes": [],
            **custom,
        }
        drafted.signed.targets[name] = TargetFile(len(data), {"sha256": sha256}, name, {"custom": described})
        place = self.repo / "targets" / f"{sha256}.{name}"
        place.parent.mkdir(exist_ok=True, parents=True)
        with contextlib.suppress(OSError):
            place.write_bytes(data)
        opened.save_draft("targets", drafted)
        self.sign()
        self.publish()

    def root_file(self, version: int = 1) -> Path:
        return self.repo / "metadata" / f"{version}.root.json"


@dataclass
class Device:
    """A device: its slots, and what its class is."""

    slots: Slots
    device_class: str = DEVICE

    @classmethod
    def provisioned(cls, folder: Path, root: Path) -> Device:
        device = cls(Slots(folder))
        with device.slots.locked():
            device.slots.trust.pin(root)
        return device

    def install(self, source: Path | str, version: str = "", trial: Any = check_whole, **more: Any) -> Any:
        wanted = update.Wanted("small", version, self.device_class)
        with self.slots.locked():
            return install.install(self.slots, str(source), wanted, trial, **more)

    def activate(self, trial: Any = check_whole, **more: Any) -> Any:
        with self.slots.locked():
            return self.slots.activate(trial, **more)

    def rollback(self, why: str = "test", **more: Any) -> Any:
        with self.slots.locked():
            return self.slots.rollback(why, **more)

    @property
    def active(self) -> str:
        """The active bundle, after checking that all of its files are as its manifest says."""
        place = self.slots.in_use()
        check_whole(place.folder)
        return str(_manifest(place.folder).identity)

    @contextlib.contextmanager
    def refusing(self, *codes: str) -> Iterator[BundleError]:
        """Expect one of these errors, and that nothing on the device's disk has changed by it."""
        before, active = tree(self.slots.folder), self.active
        caught: list[BundleError] = []
        try:
            yield BundleError("", "")
        except BundleError as error:
            caught.append(error)
        assert caught, "it was not refused"
        assert caught[0].code in codes, (caught[0].code, caught[0].message)
        assert caught[0].cure
        assert tree(self.slots.folder) == before
        assert self.active == active


def copy(source: Path, destination: Path) -> Path:
    """A copy of a folder, links as links."""
    shutil.copytree(source, destination, symlinks=True)
    return destination


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change metadata without signing them again."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def signed_by(path: Path, change: Callable[[Any], object], *signers: Any) -> None:
    """Change metadata and sign them with these keys alone."""
    from tuf.api.metadata import Metadata

    metadata = Metadata.from_bytes(path.read_bytes())
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    path.write_bytes(metadata.to_bytes())


def force_publication(lab: Lab) -> None:
    """Publish the draft of the targets without looking whether it may be."""
    opened = lab.opened
    targets = opened.newest("targets")
    snapshot, timestamp = publishing._online(
        opened, opened.root(), targets, [*lab.keys["snapshot"], *lab.keys["timestamp"]]
    )
    for target, described in targets.signed.targets.items():
        waiting = lab.repo / "draft" / target
        if waiting.exists():
            shutil.copy(waiting, lab.repo / "targets" / f"{described.hashes['sha256']}.{target}")
    (lab.repo / "metadata" / f"{targets.signed.version}.targets.json").write_bytes(targets.to_bytes())
    (lab.repo / "metadata" / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
    (lab.repo / "metadata" / "timestamp.json").write_bytes(timestamp.to_bytes())
