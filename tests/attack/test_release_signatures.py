"""Releases made to harm: signatures, altered files, and whose bundle it is.

Each is refused with an error of ours, and the device's disk is as it was, byte for byte.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from releases import Device, Lab, copy, edit, force_publication, signed_by

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")

from edge.bundle import archive, update
from edge.bundle.release import repository
from edge.core.errors import BundleError, UsageError


def test_what_is_attacked_here_would_otherwise_be_installed(lab: Lab, device: Device) -> None:
    assert device.active == "small@1.0.0"
    assert device.install(lab.repo).bundle == "small@1.1.0"
    assert device.install(lab.repo) is None
    device.activate()
    assert device.active == "small@1.1.0"


# Signatures.


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_unsigned(lab: Lab, device: Device, name: str) -> None:
    edit(lab.repo / "metadata" / name, lambda found: found["signatures"].clear())
    with device.refusing("signature-invalid", "release-altered"):
        device.install(lab.repo)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_signed_by_a_key_of_no_role(lab: Lab, device: Device, role: str) -> None:
    thief = lab.new_key("thief")
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    signed_by(lab.repo / "metadata" / name, lambda _: None, thief)
    with device.refusing("signature-invalid", "release-altered"):
        device.install(lab.repo)


def test_a_key_of_one_role_does_not_sign_for_another(lab: Lab, device: Device) -> None:
    signed_by(lab.repo / "metadata" / "timestamp.json", lambda _: None, *lab.keys["snapshot"], *lab.keys["root"])
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_a_root_of_strangers(lab: Lab, device: Device, tmp_path: Path) -> None:
    stranger = Lab.start(tmp_path / "stranger")
    stranger.release("9.0.0")
    shutil.copy(stranger.root_file(), lab.root_file(2))
    with device.refusing("signature-invalid", "release-rollback"):
        device.install(lab.repo)
    with device.refusing("signature-invalid"):
        device.install(stranger.repo)


@pytest.mark.parametrize("signers", [0, 1])
def test_a_root_below_its_threshold(lab: Lab, device: Device, signers: int) -> None:
    repository.renew(lab.opened, "root")
    if signers:
        repository.sign(lab.opened, lab.keys["root"][:signers])
    with pytest.raises(BundleError, match="signatures") as caught:
        lab.publish()
    assert caught.value.code == "below-threshold"
    shutil.copy(lab.repo / "draft" / "root.json", lab.root_file(2))
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_a_root_that_only_its_own_keys_have_signed(lab: Lab, device: Device) -> None:
    new = [lab.new_key(f"new-{number}") for number in range(2)]
    removed = [key.public_key.keyid for key in lab.keys["root"]]
    repository.rotate(lab.opened, "root", [key.public_key for key in new], removed)
    repository.sign(lab.opened, new)
    shutil.copy(lab.repo / "draft" / "root.json", lab.root_file(2))
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_targets_below_their_threshold(tmp_path: Path) -> None:
    lab = Lab.start(tmp_path / "lab", targets_threshold=2)
    lab.release("1.0.0")
    device = Device.provisioned(tmp_path / "models", lab.root_file())
    device.install(lab.repo)
    repository.add(lab.opened, lab.bundle("1.1.0"))
    repository.sign(lab.opened, lab.keys["targets"][:1])
    with pytest.raises(BundleError) as caught:
        lab.publish()
    assert caught.value.code == "below-threshold"
    # Whoever holds one targets key and both online keys goes on by himself.
    force_publication(lab)
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_the_same_signature_twice_counts_once(lab: Lab, device: Device) -> None:
    repository.renew(lab.opened, "root")
    repository.sign(lab.opened, lab.keys["root"][:1])
    path = lab.root_file(2)
    shutil.copy(lab.repo / "draft" / "root.json", path)
    edit(path, lambda found: found["signatures"].append(found["signatures"][0]))
    with device.refusing("signature-invalid", "release-damaged"):
        device.install(lab.repo)


# Altered files.


def test_one_byte_flipped_in_each_file(lab: Lab, device: Device) -> None:
    repository.renew(lab.opened, "root")
    lab.sign()
    lab.publish()
    read = [lab.root_file(2), lab.repo / "metadata" / "timestamp.json", lab.repo / "metadata" / "3.snapshot.json"]
    read += [lab.repo / "metadata" / "2.targets.json", *(lab.repo / "targets").glob("*small-1.1.0.tar")]
    for path in read:
        good = path.read_bytes()
        for place in (0, len(good) // 3, len(good) // 2, len(good) - 2):
            bad = bytearray(good)
            bad[place] ^= 1
            path.write_bytes(bytes(bad))
            fresh = Device(type(device.slots)(copy(device.slots.folder, lab.folder / f"d-{path.name[:20]}-{place}")))
            if path != lab.root_file(2):
                # The new root is properly signed, and kept at once: it is taken over before the attack.
                fresh.slots.trust.keep_root(lab.root_file(2).read_bytes())
            with fresh.refusing("signature-invalid", "release-altered", "release-damaged", "release-rollback"):
                fresh.install(lab.repo)
        path.write_bytes(good)
    assert device.install(lab.repo).bundle == "small@1.1.0"


def test_each_file_missing(lab: Lab, device: Device) -> None:
    for path in [
        lab.repo / "metadata" / "timestamp.json",
        lab.repo / "metadata" / "2.snapshot.json",
        lab.repo / "metadata" / "2.targets.json",
        *(lab.repo / "targets").glob("*small-1.1.0.tar"),
    ]:
        path.rename(path.with_suffix(".away"))
        with device.refusing("release-incomplete"):
            device.install(lab.repo)
        path.with_suffix(".away").rename(path)


@pytest.mark.parametrize("text", [b"", b"null", b"[" * 100_000, b'{"signed": 1, "signatures": []}', b"\xff" * 100])
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json"])
def test_metadata_that_are_none(lab: Lab, device: Device, name: str, text: bytes) -> None:
    (lab.repo / "metadata" / name).write_bytes(text)
    with device.refusing("release-damaged", "release-altered", "release-too-large"):
        device.install(lab.repo)


def test_truncated_archive(lab: Lab, device: Device) -> None:
    (path,) = (lab.repo / "targets").glob("*small-1.1.0.tar")
    path.write_bytes(path.read_bytes()[:-700])
    with device.refusing("release-altered"):
        device.install(lab.repo)


# Whose bundle it is.


def test_wrong_device_class_in_the_list(lab: Lab, device: Device) -> None:
    lab.release("1.2.0", classes=["raspberry-pi-5"])
    with device.refusing("wrong-device-class"):
        device.install(lab.repo, "1.2.0")
    # Without a version, the newest that is for this device.
    assert device.install(lab.repo).bundle == "small@1.1.0"


def test_wrong_device_class_in_the_bundle_alone(lab: Lab, device: Device) -> None:
    folder = lab.bundle("1.2.0", lambda values: values.update(device_classes=["raspberry-pi-5"]))
    found = archive.write(folder, lab.folder / "made.tar")
    data = (lab.folder / "made.tar").read_bytes()
    lab.release_bytes(data, "1.2.0", manifest_sha256=found.manifest.sha256)
    with device.refusing("wrong-device-class"):
        device.install(lab.repo)


def test_an_archive_of_another_bundle_than_was_signed(lab: Lab, device: Device) -> None:
    archive.write(lab.bundle("1.2.0"), lab.folder / "made.tar")
    lab.release_bytes((lab.folder / "made.tar").read_bytes(), "1.3.0")
    with device.refusing("release-altered"):
        device.install(lab.repo)


def test_a_bundle_that_is_not_released(lab: Lab, device: Device) -> None:
    with device.refusing("not-released"):
        device.install(lab.repo, "7.7.7")


def test_a_device_that_trusts_nobody(lab: Lab, tmp_path: Path) -> None:
    device = Device(type(Device.provisioned(tmp_path / "x", lab.root_file()).slots)(tmp_path / "models"))
    with device.slots.locked():
        pass
    with device.refusing("no-trust"):
        device.install(lab.repo)


def test_another_root_is_not_trusted_by_the_way(lab: Lab, device: Device, tmp_path: Path) -> None:
    stranger = Lab.start(tmp_path / "stranger")
    stranger.release("9.0.0")
    before = device.slots.trust.root()
    with device.slots.locked(), pytest.raises(UsageError):
        device.slots.trust.pin(stranger.root_file())
    with device.refusing("root-invalid"):
        device.slots.trust.pin(stranger.root_file(), "0" * 64, replace=True)
    with device.refusing("root-invalid"):
        device.slots.trust.pin(lab.repo / "metadata" / "timestamp.json", replace=True)
    assert device.slots.trust.root() == before


def test_a_list_whose_descriptions_are_not_ours_is_passed_over(lab: Lab, device: Device) -> None:
    lab.release_bytes(b"x", "8.0.0", version="../../8.0.0")
    lab.release_bytes(b"x", "8.0.1", unknown="key")
    lab.release_bytes(b"x", "8.0.2", schema=2)
    assert device.install(lab.repo).bundle == "small@1.1.0"


def test_versions_are_ordered_as_semantic_versioning_says() -> None:
    # Section 11 of https://semver.org, and build metadata last.
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.0.0+site-1", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    assert sorted(set(ordered), key=update.precedence) == ordered
