"""The report, through its one door: what the page may say, and what it may not do."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import FULL, PROFILE, RANGES, analysis, cell, counted, field, record, rendered

from edge.core.labels import LABELS, OTHER
from edge.core.types import ClockReading, FieldFailure
from edge.report.document import document
from edge.report.html import render

VOID = {"meta", "link", "img", "input", "br", "hr"}
# What SVG writes as an empty element.
SELF_CLOSED = {"rect", "line", "circle", "path"}


class Page(HTMLParser):
    """Reads a page strictly: every element must be closed in order. Keeps elements, and text outside of styles."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words, self.style = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words).replace("\xa0", " "))
        self.shape = [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in SELF_CLOSED
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.style if "style" in self.open else self.words).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def text(kept, ranges=RANGES):
    return Page(rendered(kept, ranges)).text


def shown_percentages(kept):
    """Every "%" a person or a screen reader meets."""
    page = Page(rendered(kept))
    said = [value for _, a in page.elements for name, value in a.items() if name in {"aria-label", "alt", "title"}]
    return [words for words in [page.text, *said] if "%" in words]


# --- one file, nothing outside ----------------------------------------------------------------------------------------


def test_page_is_well_formed_and_labelled():
    page = Page(rendered(record(FULL)))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert all(a.get("alt") for a in page.all("img"))
    assert page.all("th")
    assert all(a.get("scope") in {"row", "col"} for a in page.all("th"))
    assert all("aria-hidden" in a or a.get("aria-label") for a in page.all("svg"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    anchors = {a["href"].removeprefix("#") for a in page.all("a")}
    assert anchors <= set(ids)


def test_page_needs_nothing_from_outside_and_runs_nothing():
    page = Page(rendered(record(FULL)))
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in page.all("img"))
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert not [name for _, a in page.elements for name in a if name.startswith("on") or name == "style"]
    assert not re.search(r"url\(|@import|expression", "".join(page.style))


def test_policy_allows_the_two_styles_by_hash_and_nothing_else():
    page = Page(rendered(record(FULL)))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() + "'" for style in page.style
    ]
    assert len(hashes) == 2
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src {' '.join(hashes)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_same_record_gives_the_same_bytes():
    kept = record(FULL)
    assert rendered(kept) == rendered(kept)


hostile = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "' onmouseover='x",
            "</style><script>",
            '"}body{display:none}@x{',
            "]]>&lt;&#60;",
            "$style ${policy}",
            "{0} %s %(x)s",
            "\udc80\udcff",
            "\u202egpj.exe",
            "\x00\x1b[31m",
            "عينة-١٢٣",
        ]
    ),
).map(lambda s: "x" + s)


def hostile_record(sample, operator, device, name, code, message, flag):
    kept = record(FULL, sample=sample, operator=operator, device=device, bundle=name, runtime=code, calibration=message)
    written = copy.deepcopy(dict(kept.document))
    written["fields"][0]["file"] = name
    written["fields"][2]["file"] = "/" + name
    written["fields"][2]["quality"]["reasons"] = ["blurred", code]
    written["fields"][3] = {"file": name, "error": {"code": code, "message": message}}
    written["fields"][1]["cells"][0]["reason"] = code
    written["differential"]["flags"] = [flag, "low-count"]
    return replace(kept, document=written, bundle_sha256=code, id=name)


@settings(deadline=None, max_examples=60)
@given(st.lists(hostile, min_size=7, max_size=7))
def test_no_text_can_change_the_shape_of_the_page(words):
    plain = Page(rendered(hostile_record(*["xplain"] * 7)))
    attacked = rendered(hostile_record(*words))
    attacked.encode("utf-8")
    page = Page(attacked)
    assert page.shape == plain.shape
    braces = re.compile(r'"(?:[^"\\]|\\.)*"')
    assert braces.sub("", page.style[1]) == braces.sub("", plain.style[1])


def test_direction_overrides_and_control_characters_are_seen():
    shown = text(record(FULL, sample="\u202egnp.exe", operator="\x1b[2J", device="\udc80"))
    assert all(mark in shown for mark in ("⟨U+202E⟩gnp.exe", "⟨U+001B⟩[2J", "⟨U+DC80⟩"))


# --- what may be said -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [analysis(), FULL, counted(1, 0, 0, 0, 0), counted(60, 30, 5, 3, 1, other=4)])
def test_below_a_hundred_cells_there_is_no_percentage_anywhere(found):
    kept = record(found)
    assert shown_percentages(kept) == []
    assert "within range" not in text(kept)
    assert "Insufficient count" in text(kept)


def test_a_record_that_claims_more_than_its_count_is_not_believed():
    written = copy.deepcopy(document(counted(120, 60, 12, 6, 2)))
    written["differential"]["counted"] = 40
    assert shown_percentages(record(FULL, document=written)) == []
    written["differential"] |= {"counted": 200, "tier": "splendid"}
    assert shown_percentages(record(FULL, document=written)) == []


def test_cells_that_do_not_give_the_differential_raise_an_alarm():
    kept = record(counted(120, 60, 12, 6, 2))
    assert "Do not use this result" not in text(kept)
    written = copy.deepcopy(dict(kept.document))
    written["fields"][0]["cells"][0]["label"] = "basophil"
    assert "Do not use this result" in text(replace(kept, document=written))


def test_shares_are_withheld_when_too_many_cells_need_review():
    kept = record(counted(120, 60, 12, 6, 2, other=40))
    said = text(kept)
    assert "shares withheld" in said
    assert "Wilson" not in said
    assert "40 of 240 (16.7 %)" in said


def row(kept, name, ranges=RANGES):
    """The words of one class's row."""
    rows = re.findall(r"<tr role=\"row\">.*?</tr>", rendered(kept, ranges))
    return next(re.sub(r"<[^>]+>", " ", words) for words in rows if name in words)


@pytest.mark.parametrize(
    ("numbers", "name", "expected"),
    [
        ((110, 90, 0, 0, 0), "Neutrophils", "within range"),
        ((180, 20, 0, 0, 0), "Neutrophils", "above range"),
        ((20, 180, 0, 0, 0), "Neutrophils", "below range"),
        ((134, 66, 0, 0, 0), "Neutrophils", "indeterminate"),
        ((110, 88, 0, 0, 2), "Basophils", "indeterminate"),
        ((110, 60, 0, 0, 30), "Basophils", "above range"),
    ],
)
def test_reading_against_the_reference_range(numbers, name, expected):
    assert expected in row(record(counted(*numbers)), name)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 200), st.floats(0, 100), st.floats(0, 100))
def test_a_reading_is_definite_only_where_both_intervals_are(k, one, two):
    limits = (min(one, two), max(one, two))
    kept = record(counted(k, 200 - k, 0, 0, 0), pictures=())
    share = kept.document["differential"]["classes"]["neutrophil"]
    intervals = (share["wilson"], share["clopper_pearson"])
    said = row(kept, "Neutrophils", {"neutrophil": limits})
    inside = all(limits[0] <= low and high <= limits[1] for low, high in intervals)
    assert ("within range" in said) == inside
    assert ("above range" in said) == all(low > limits[1] for low, _ in intervals)
    assert ("below range" in said) == all(high < limits[0] for _, high in intervals)


def test_a_class_without_a_range_gets_no_reading():
    said = row(record(counted(120, 60, 12, 6, 2)), "Monocytes", {})
    assert "none set" in said
    assert "range" not in said.replace("none set", "")


def test_the_table_shows_the_documents_figures():
    said = row(record(counted(40, 160, 0, 0, 0)), "Neutrophils")
    assert all(figure in said for figure in ("40", "20.0", "15.0\u201326.1", "14.7\u201326.2", "40\u201370"))
    assert PROFILE in text(record(counted(40, 160, 0, 0, 0)))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (analysis(), "The record holds no fields"),
        (analysis(field()), "No white cell was located"),
        (analysis(field(accepted=False, reasons=("blurred",))), "Every field was refused by the quality gate"),
        (analysis(FieldFailure("a", "b", "c")), "No file could be read"),
        (analysis(field([cell(OTHER)])), "Every located object needs review"),
    ],
)
def test_an_empty_result_says_why(found, words):
    assert words in text(record(found))


def test_cells_that_need_review_come_first_and_the_least_certain_lead():
    found = analysis(
        field([cell("neutrophil", top, seed=i) for i, top in enumerate((0.99, 0.71, 0.85))] + [cell(OTHER, 0.5)])
    )
    page = rendered(record(found))
    assert page.index('id="g-other"') < page.index('id="g-neutrophil"')
    tops = [float(p) for p in re.findall(r'class="under"><b>([\d.]+)</b>', page)]
    assert tops == [0.71, 0.85, 0.99]


def test_every_flag_refusal_and_failure_is_told_with_a_cure():
    said = text(record(FULL))
    assert said.count("What to do") >= 2
    assert "Too few cells" in said
    assert "Blurred." in said
    assert "Focus again" in said
    assert "Unheard of." in said
    assert "The file ends too early." in said
    assert "image-truncated" in said


def test_classes_near_a_limit_share_one_flag():
    said = text(record(counted(134, 62, 2, 1, 1)))
    assert said.count("Near a limit of the reference range") == 1


def test_the_stamp_and_the_limits_are_complete():
    kept = record(FULL, throttle_bits=0x50005, calibration="flat-field 7", version=3)
    said = text(kept)
    for expected in (
        "student@1.2.3",
        "ab" * 32,
        "litert-int8",
        "flat-field 7",
        "under-voltage now",
        kept.id,
        "version 3",
        "For Research Use Only. Not for use in diagnostic procedures.",
        "not a diagnosis",
        "Preliminary until reviewed by a qualified person",
        "Blasts and immature cells: not assessed",
    ):
        assert expected in said
    assert "Errors of the classifier" in said


def test_evaluated_sites_are_named():
    page = render(record(FULL), ranges=RANGES, range_profile=PROFILE, validated=("Site <A>", "Site B"))
    assert "Site <A>; Site B" in Page(page).text


@pytest.mark.parametrize(
    ("status", "badge"), [("preliminary", "Preliminary"), ("final", "Final"), ("corrected", "Cor")]
)
def test_status_badge(status, badge):
    assert f'status s-{status}"><b>{badge}' in rendered(record(FULL, status=status))


def test_an_unset_clock_is_not_hidden():
    kept = record(FULL, created=ClockReading("1970-01-01T00:03:11+00:00", 191.0, "b", "unknown"))
    said = text(kept)
    assert "clock not verified" in said
    assert "Date not verified" in said
    assert "1 Jan 1970, 00:03 UTC" in said


def test_boxes_are_lettered_and_lie_where_the_cells_are():
    page = Page(rendered(record(FULL)))
    edges = [a for a in page.all("rect") if a.get("class") == "edge"]
    boxes = [c.call.box for f in FULL.fields[:2] for c in f.cells]
    assert [(int(a["x"]), int(a["y"]), int(a["width"]), int(a["height"])) for a in edges] == [
        (b.x, b.y, b.width, b.height) for b in boxes
    ]
    assert {"b-neutrophil", "b-basophil", "b-other"} <= {a.get("class") for a in page.all("g")}


def test_no_cell_is_shown_as_certain():
    page = rendered(record(analysis(field([cell("neutrophil", 1.0), cell("neutrophil", 0.994, seed=2)]))))
    assert re.findall(r'class="under"><b>([^<]+)</b>', page) == ["0.99", "&gt;0.99"]


def test_names_are_shortened_by_the_folder_they_share():
    said = text(record(analysis(field(source="/slides/a/x.jpg"), field(source="/slides/b/x.jpg"))))
    assert "/slides/" in said
    assert "a/x.jpg" in said
    assert "/slides/a/x.jpg" not in said
    assert "/other/y.jpg" in text(record(analysis(field(source="/slides/x.jpg"), field(source="/other/y.jpg"))))


def test_a_record_without_pictures_still_reports():
    said = text(record(FULL, pictures=()))
    assert "no picture" in said
    assert "0.95" in said


def test_text_colours_reach_wcag_aa():
    style = Page(rendered(record(FULL))).style[0]
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", style))

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one, two):
        light, dark = sorted((luminance(one), luminance(two)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for name in ("ink", "soft", "accent", "high", "amber"):
        assert contrast(colours[name], "#ffffff") >= 4.5
        assert contrast(colours[name], colours["wash"]) >= 4.5
    for label in LABELS:
        assert contrast("#ffffff", colours[label]) >= 4.5
    assert contrast("#1a1400", colours["other"]) >= 4.5
    assert len({colours[label] for label in LABELS}) == 5


def test_heading_levels_do_not_skip():
    levels = [int(tag[1]) for tag, _ in Page(rendered(record(FULL))).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
