"""Durable writes: the previous copy or the new one, whatever fails in between."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.core.durable import write_bytes, write_text
from edge.core.errors import StoreError


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(path: Path, data: bytes = b"new") -> StoreError:
    with pytest.raises(StoreError) as caught:
        write_bytes(path, data)
    assert caught.value.cure
    assert str(path) in caught.value.message or str(path.parent) in caught.value.message
    return caught.value


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_text(path, "Rümke\r\n")
    assert path.read_bytes() == "Rümke\r\n".encode()
    write_bytes(str(path), b"")
    assert path.read_bytes() == b""
    assert names(tmp_path) == ["report.html"]


def test_permissions_are_those_of_any_new_file_and_then_kept(tmp_path: Path) -> None:
    path, plain = tmp_path / "a", tmp_path / "b"
    plain.touch()
    write_bytes(path, b"1")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o600)
    write_bytes(path, b"2")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "result.json"
    link.symlink_to(tmp_path / "disk" / "result.json")
    write_bytes(link, b"1")
    write_bytes(link, b"2")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "result.json").read_bytes() == b"2"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ß" * 127)
    write_bytes(path, b"1")
    assert path.read_bytes() == b"1"


def test_a_full_disk_leaves_the_previous_copy(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_bytes(path, b"old")
    with no_file_longer_than(4096):
        assert refused(path, b"x" * 1_000_000).code == "disk-full"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("number", "code"), [(errno.EIO, "write-failed"), (errno.ENOSPC, "disk-full")])
def test_a_failing_disk_leaves_the_previous_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: str
) -> None:
    path = tmp_path / "result.json"
    write_bytes(path, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    assert refused(path).code == code
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["result.json"]


def test_an_interrupt_leaves_the_previous_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_bytes(path, b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["result.json"]


def test_data_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, os.replace

    def watched_sync(descriptor: int) -> None:
        sync(descriptor)
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "data")

    def watched_replace(*names: os.PathLike[str]) -> None:
        replace(*names)
        events.append("rename")

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_bytes(tmp_path / "result.json", b"1")
    assert events == ["data", "rename", "folder"]


def test_a_file_system_that_cannot_sync_folders_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def no_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    write_bytes(tmp_path / "result.json", b"1")
    assert (tmp_path / "result.json").read_bytes() == b"1"


def test_places_that_cannot_be_written_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert refused(tmp_path / "folder").code == "is-a-folder"
    assert refused(tmp_path / "missing" / "file").code == "missing-folder"
    assert refused(tmp_path / "file" / "file").code == "missing-folder"
    assert refused(Path("/proc/sys/kernel") / "leuko-test").code in {"read-only", "missing-folder"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert refused(tmp_path / "file").code == "read-only"
    finally:
        tmp_path.chmod(0o700)
