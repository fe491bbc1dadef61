"""Laws of labelled data: whatever is found, no picture is on two sides, and what is written is read back."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.core.errors import InputError
from training.data.duplicates import drop_duplicates, one_group_for_what_looks_alike
from training.data.inspection import Picture, box_inside
from training.data.paths import inside
from training.data.rows import Row, manifest
from training.data.sources import read_manifest
from training.data.splits import _count_bits

LABELS = ("neutrophil", "monocyte", "erythroblast", "red_cell")


def row(file: int, sha1: int, digest: int, label: int, box: bool, source: str = "pbc") -> Row:
    return Row(
        source=source,
        label=LABELS[label],
        path=Path(f"{file}.png"),
        file=f"{file}.png",
        group=f"g{file}",
        slide="",
        subtype="",
        width=50,
        height=40,
        sha1=f"{sha1:040x}",
        digest=digest,
        kind="field" if box else "cell",
        box=(1.5, 2.0, 30.25, 31.0) if box else None,
    )


# The same file always has the same bytes.
FILES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**64 - 1)), min_size=1, max_size=8)


@st.composite
def many_rows(draw: st.DrawFn) -> list[Row]:
    files = draw(FILES)
    chosen = draw(st.lists(st.tuples(st.integers(0, len(files) - 1), st.integers(0, 3), st.booleans()), max_size=20))
    sources = draw(st.lists(st.sampled_from(["pbc", "jtsc"]), min_size=len(files), max_size=len(files)))
    return [row(file, files[file][0], files[file][1], label, box, sources[file]) for file, label, box in chosen]


@given(many_rows())
def test_after_duplicates_are_dropped_each_picture_says_one_thing_once(rows: list[Row]) -> None:
    kept, dropped, problems = drop_duplicates(rows)
    assert len({(item.sha1, item.box) for item in kept}) == len(kept)
    files = defaultdict(set)
    for item in kept:
        files[item.sha1].add(item.file)
    assert all(len(same) == 1 for same in files.values())
    assert len(kept) + dropped <= len(rows)
    # Nothing vanishes without being told.
    assert len(kept) + dropped == len(rows) or problems
    assert all(item in rows for item in kept)
    again = drop_duplicates(kept)
    assert again == (kept, 0, [])


@given(many_rows())
def test_rows_of_one_group_stay_in_one_group(rows: list[Row]) -> None:
    merged = one_group_for_what_looks_alike(rows)
    of = defaultdict(set)
    for item, group in zip(rows, merged, strict=True):
        of[item.group].add(group)
        of[f"digest {item.digest}"].add(group)
    assert all(len(groups) == 1 for groups in of.values())


@given(many_rows())
def test_a_manifest_is_read_as_it_was_written(tmp_path_factory: object, rows: list[Row]) -> None:
    folder = tmp_path_factory.mktemp("m")  # type: ignore[attr-defined]
    (folder / "manifest.csv").write_text(manifest(rows), encoding="utf-8")
    for sample, item in zip(read_manifest(folder), rows, strict=True):
        assert (sample.source, sample.file, sample.group, sample.box) == (item.source, item.file, item.group, item.box)
        assert sample.subtype == item.label
        assert sample.label == (item.label if item.label in LABELS[:2] else "other")


NUMBER = st.floats(-1e4, 1e4) | st.sampled_from([0.0, 1e300, -1e300])


@given(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), st.booleans())
def test_a_box_is_inside_its_picture_or_refused(box: tuple[float, float, float, float], shares: bool) -> None:
    try:
        left, top, right, bottom = box_inside(box, shares, Picture(50, 40, "", 0), "a.png")
    except InputError as error:
        assert error.code == "bad-box"
    else:
        assert 0 <= left < right <= 50
        assert 0 <= top < bottom <= 40


@given(st.text(max_size=40))
def test_a_name_stays_inside_its_folder_or_is_refused(name: str) -> None:
    try:
        found = inside(name, Path("manifest.csv"))
    except InputError as error:
        assert error.code == "outside-folder"
    else:
        root = Path("/a/b")
        assert (root / found).is_relative_to(root)
        assert ".." not in Path(found).parts


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_bits_are_counted_without_the_newest_numpy(values: list[int]) -> None:
    assert _count_bits(np.array(values, dtype=np.uint64)).tolist() == [value.bit_count() for value in values]
