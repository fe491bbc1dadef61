"""The hazard table and the threat model name tests that exist: no control without something that shows it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import syntax

TESTS = syntax.ROOT / "tests"
NODE = re.compile(r"`((?:[\w-]+/)+test_\w+\.py::\w+(?:::\w+)?)`")
HAZARDS = ("id", "hazard", "sequence of events", "harm (S)", "control", "verification", "residual risk")
THREATS = ("id", "element", "category", "threat", "control", "verification", "residual risk")
NEEDED = {"external": "SR", "process": "STRIDE", "flow": "TID", "store": "TRID"}
"""Categories that an element of a kind must have: STRIDE per element (Shostack, Threat Modeling, 2014, chapter 3)."""

TOPICS = (
    *("wrong class with confidence", "unlike all five", "too few cells", "counted twice", "lost", "mixed up", "clock"),
    *("unfit bundle", "hostile bundle", "unfit camera", "drift", "control overdue", "overrides", "over-temperature"),
    *("altered", "contradict", "stolen"),
)


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """The tables of a Markdown page, each row by the names of its columns."""
    names: list[str] = []
    rows: list[dict[str, str]] = []
    for line in [*text.splitlines(), ""]:
        if not line.startswith("|"):
            if names:
                yield rows
            names, rows = [], []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not names:
            names = cells
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            assert len(cells) == len(names), f"{len(cells)} cells instead of {len(names)}: {line[:80]}"
            rows.append(dict(zip(names, cells, strict=True)))


def table(text: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The one table with these columns."""
    (found,) = [rows for rows in tables(text) if rows and tuple(rows[0]) == columns]
    return found


def named(path: Path) -> frozenset[str]:
    """The tests of a file, those of a class as Class::test."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


def faults(rows: list[dict[str, str]], tests: Path = TESTS) -> list[str]:
    """What is wrong with the rows of a page: repeated ids, empty cells, and tests that are missing or do not exist."""
    found = []
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            found.append(f"{row['id']} is there twice")
        seen.add(row["id"])
        found += [f"{row['id']} says nothing under {name}" for name, cell in row.items() if not cell]
        nodes = NODE.findall(row["verification"])
        if not nodes:
            found.append(f"{row['id']} names no test")
        if NODE.sub("", row["verification"]).strip():
            found.append(f"{row['id']} names something that is no test: {NODE.sub('', row['verification']).strip()}")
        for node in nodes:
            file, _, test = node.partition("::")
            if not (tests / file).is_file() or test not in named(tests / file):
                found.append(f"{row['id']} names {node}, which does not exist")
    return found


def lacking(elements: Mapping[str, str], rows: list[dict[str, str]]) -> list[str]:
    """Categories that an element must have and has no row for, and rows of elements or categories that are none."""
    have = {(row["element"], row["category"]) for row in rows}
    must = {(element, letter) for element, kind in elements.items() for letter in NEEDED[kind]}
    return [f"{element} lacks {letter}" for element, letter in sorted(must - have)] + [
        f"{element} has no {letter}" for element, letter in sorted(have - must)
    ]


def page(name: str) -> str:
    return (syntax.ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_hazard_has_a_control_that_a_test_shows() -> None:
    assert faults(table(page("hazards.md"), HAZARDS)) == []


def test_every_threat_has_a_control_that_a_test_shows() -> None:
    assert faults(table(page("threats.md"), THREATS)) == []


@pytest.mark.parametrize("topic", TOPICS)
def test_the_hazard_table_speaks_of_what_it_must(topic: str) -> None:
    assert any(topic in row["hazard"] for row in table(page("hazards.md"), HAZARDS))


def test_every_element_has_the_categories_of_its_kind() -> None:
    text = page("threats.md")
    elements = {row["element"]: row["kind"] for row in table(text, ("element", "what", "kind"))}
    assert lacking(elements, table(text, THREATS)) == []
    # What the diagram shows is in the table, and the other way round.
    diagram = text.partition("```mermaid")[2].partition("```")[0]
    assert set(re.findall(r"\b([XPFS]\d)\b", diagram)) == set(elements)


def test_the_checks_notice(tmp_path: Path) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_a.py").write_text(
        "def test_b(): ...\ndef helper(): ...\nclass TestC:\n def test_d(s): ..."
    )
    good = "`unit/test_a.py::test_b` `unit/test_a.py::TestC::test_d`"

    def wrong(**changes: str) -> list[str]:
        return faults([{"id": "H1", "control": "c", "verification": good, **changes}], tmp_path)

    assert wrong() == []
    assert "names no test" in wrong(verification="by looking at it")[0]
    for missing in ("unit/test_a.py::test_x", "unit/test_x.py::test_b", "unit/test_a.py::test_d"):
        assert "does not exist" in wrong(verification=f"`{missing}`")[0]
    assert wrong(verification="`unit/test_a.py::helper`") == ["H1 names unit/test_a.py::helper, which does not exist"]
    assert "says nothing" in wrong(control="")[0]
    assert "no test: as above" in wrong(verification=good + " as above")[0]
    assert "twice" in faults([{"id": "H1", "verification": good}] * 2, tmp_path)[0]
    rows = [{"element": "F1", "category": "T"}, {"element": "F1", "category": "S"}]
    assert lacking({"F1": "flow"}, rows) == ["F1 lacks D", "F1 lacks I", "F1 has no S"]
