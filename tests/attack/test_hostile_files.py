"""Every kind of file that people and memory cards produce is read right, or refused by its own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_files import make, unreadable
from making import READ, HostileFile, encoded, png, rgb, smear

from edge.core.errors import InputError, UsageError
from edge.core.types import Image
from edge.files import PICTURE_SUFFIXES, display_name, expand, read_image
from edge.imaging.decode import decode

MEBIBYTE = 1024 * 1024

READ_ALL = """
import json, os, resource, sys
from edge.core.errors import InputError
from edge.files import read_image
import edge.imaging.decode
user = int(sys.argv[1])
paths = [os.fsdecode(bytes.fromhex(line)) for line in sys.stdin.read().split()]
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
codes = []
for path in paths:
    try:
        read_image(path)
        codes.append("read")
    except InputError as error:
        codes.append(error.code)
print(json.dumps({"codes": codes, "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}))
"""


@pytest.fixture(scope="module")
def table() -> Iterator[list[HostileFile]]:
    # Not in pytest's folder, whose name may be too long for a socket's.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield make(Path(folder))


def outcome(path: Path) -> str | Image:
    try:
        return read_image(path)
    except InputError as error:
        assert error.message and error.cure, "an error says what to do"
        assert str(error).isprintable() and json.loads(json.dumps(str(error))) == str(error)
        assert str(error).encode(), "an error can be written to a terminal"
        return error.code


def in_a_child(root: Path, paths: list[Path], user: int = 0) -> tuple[list[str], int, str]:
    """What a fresh process reads: codes, growth of its memory in bytes, and what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(user)],
        input="\n".join(os.fsencode(path).hex() for path in paths),
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["codes"], answer["grown"], done.stderr


def test_the_table_is_as_long_as_promised(table: list[HostileFile]) -> None:
    assert len(table) >= 150
    assert len({row.path for row in table}) == len(table)


def test_every_file_is_read_right_or_refused_by_its_code(table: list[HostileFile]) -> None:
    wrong: dict[str, str] = {}
    for row in table:
        got, name = outcome(row.path), display_name(row.path.name)
        if isinstance(got, str):
            if got != row.expectation:
                wrong[name] = f"{got} instead of {row.expectation}"
            continue
        if row.expectation != READ:
            wrong[name] = f"read, instead of {row.expectation}"
            continue
        assert row.expected is not None
        if got.shape != row.expected.shape or got.dtype != np.uint8 or not got.flags.c_contiguous:
            wrong[name] = f"{got.dtype}{got.shape} instead of {row.expected.shape}"
            continue
        difference = np.abs(got.astype(int) - row.expected)
        if difference.mean() > row.tolerance or difference.max() > row.largest:
            wrong[name] = f"differs by {difference.mean():.2f} in the mean, {difference.max()} at most"
    assert wrong == {}


def test_the_whole_table_costs_little_memory_and_leaves_no_traceback(root: Path, table: list[HostileFile]) -> None:
    codes, grown, errors = in_a_child(root, [row.path for row in table])
    assert codes == [row.expectation for row in table]
    assert grown < 300 * MEBIBYTE
    assert "Traceback" not in errors and "Warning" not in errors


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("PNG", {"compress_level": 1}), ("TIFF", {})])
def test_a_large_picture_costs_at_most_its_stated_memory(root: Path, tmp_path: Path, kind: str, options: dict) -> None:
    picture = np.tile(smear(), (20, 20, 1))
    data = encoded(rgb(picture), kind, **options)
    path = tmp_path / "large"
    path.write_bytes(data)
    codes, grown, _ = in_a_child(root, [path])
    assert codes == [READ]
    assert grown < 2 * len(data) + 12 * picture.shape[0] * picture.shape[1] + 64 * MEBIBYTE


def test_what_may_not_be_read_is_permission_denied(root: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        rows = unreadable(folder)
        good = folder / "good.png"
        good.write_bytes(png(smear()))
        paths = [*(row.path for row in rows), good]
        if os.geteuid() == 0:
            codes, _, _ = in_a_child(root, paths, user=65534)
        else:
            codes = [got if isinstance(got := outcome(path), str) else READ for path in paths]
        (folder / "locked folder").chmod(0o700)
        assert codes == [*(row.expectation for row in rows), READ]


def test_a_truncated_file_from_a_real_camera(data: Path) -> None:
    fields = expand([data / "milab_focus" / "fields"])
    assert len(fields) == 10
    for path in fields[:9]:
        assert read_image(path).shape == (1200, 1920, 3)
    with pytest.raises(InputError) as caught:
        read_image(fields[9])
    assert caught.value.code == "truncated"


def test_real_fields_are_read_as_opencv_reads_them(data: Path) -> None:
    paths = [
        *sorted((data / "bccd" / "fields").glob("*.jpg"))[:5],
        *sorted((data / "embedded" / "fields").glob("*.*"))[:5],
    ]
    pictures = [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES]
    assert pictures
    for path in pictures:
        assert np.abs(read_image(path).astype(int) - cv2.imread(str(path))).max() <= 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
        ("GIF", {}),
    ],
)
def test_no_beginning_of_a_file_is_taken_for_the_whole(kind: str, options: dict) -> None:
    """Whatever the byte at which a copy stopped, a picture that is read has all its pixels."""
    picture = rgb(smear(64, 48))
    data = encoded(picture.quantize(64) if kind == "GIF" else picture, kind, **options)
    whole = decode(data)
    for length in range(0, len(data), max(1, len(data) // 300)):
        try:
            part = decode(data[:length])
        except InputError as error:
            assert error.code in {"truncated", "not-an-image", "empty-file", "damaged"}, (length, error.code)
        else:
            assert np.array_equal(part, whole), length


def test_the_pixel_limit_is_the_callers() -> None:
    data = png(smear(100, 80))
    assert decode(data, max_pixels=8000).shape == (80, 100, 3)
    with pytest.raises(InputError) as caught:
        decode(data, max_pixels=7999)
    assert caught.value.code == "too-large"


def test_python_warnings_are_as_they_were(recwarn: pytest.WarningsRecorder, table: list[HostileFile]) -> None:
    for row in table:
        outcome(row.path)
    assert len(recwarn) == 0


class TestExpand:
    def test_a_folder_becomes_its_pictures_in_natural_order(self, tmp_path: Path) -> None:
        for name in (
            "field10.png",
            "field2.PNG",
            "Field1.png",
            ".hidden.png",
            "._field1.png",
            ".DS_Store",
            "notes.txt",
        ):
            (tmp_path / name).touch()
        (tmp_path / "deeper.png").mkdir()
        (tmp_path / "deeper.png" / "field3.png").touch()
        (tmp_path / "gone.png").symlink_to("nowhere")
        (tmp_path / "phone.heic").touch()
        names = [path.name for path in expand([tmp_path])]
        assert names == ["Field1.png", "field2.PNG", "field10.png", "gone.png", "phone.heic"]

    def test_files_stand_as_given_and_once(self, tmp_path: Path) -> None:
        first, second = tmp_path / "b.png", tmp_path / "a.dat"
        first.touch(), second.touch()
        assert expand([first, str(second), tmp_path, first]) == [first, second]

    def test_missing_empty_and_unmatched_names_stay(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        given = [tmp_path / "missing.png", empty, tmp_path / "none*.png"]
        assert expand(given) == given
        assert [outcome(path) for path in given] == ["not-found", "empty-folder", "not-found"]

    def test_patterns(self, tmp_path: Path) -> None:
        for name in ("s10.png", "s2.png", "t1.png", "s[1].png"):
            (tmp_path / name).touch()
        assert [path.name for path in expand([tmp_path / "s?.png", tmp_path / "s1*.png"])] == ["s2.png", "s10.png"]
        assert [path.name for path in expand([tmp_path / "s[1].png"])] == ["s[1].png"], (
            "a name that exists is no pattern"
        )

    def test_links_in_circles_end(self, tmp_path: Path) -> None:
        (tmp_path / "round").symlink_to(tmp_path)
        (tmp_path / "again").symlink_to(tmp_path)
        (tmp_path / "a.png").touch()
        assert expand([tmp_path]) == [tmp_path / "a.png"]
        assert len(expand([tmp_path / "**"])) <= 3

    def test_an_empty_name_is_refused_and_not_the_current_folder(self) -> None:
        with pytest.raises(UsageError):
            expand([""])

    def test_names_that_are_no_text_can_be_shown(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"\xff\xfe \xe2\x82\xac.png")
        (tmp_path / name).write_bytes(png(smear()))
        (path,) = expand([tmp_path])
        assert read_image(path).shape == (240, 320, 3)
        assert display_name(path.name) == "\\xff\\xfe €.png"

    @pytest.mark.parametrize("name", ["nul\0byte.png", "\ud800.png"])
    def test_names_that_no_system_accepts_are_not_found(self, name: str) -> None:
        assert outcome(expand([name])[0]) == "not-found"
