"""A person walks through the page in a real browser: start, watch, review, correct, sign, report."""

from __future__ import annotations

import signal

import pytest
from chrome import BROWSER, chrome
from commands import leuko, store_of
from report_records import FULL, counted, record
from walking import CAMERA, counts, served, start, table

from edge.core.identifiers import uuid7
from edge.core.labels import LABELS, OTHER
from edge.store.results import ResultStore

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
SIZES = ((800, 480), (390, 844), (1440, 900))


def fits(tab, smallest=36):
    """Nothing is wider than the window, and what is to be touched is large enough."""
    assert tab.run("document.documentElement.scrollWidth - innerWidth") <= 0
    small = tab.run(
        f"""[...document.querySelectorAll('button, .button, .rail a, select, .segments label')]
        .filter(e => e.getBoundingClientRect().height && e.getBoundingClientRect().height < {smallest})
        .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert small == []


def test_from_the_start_of_a_session_to_the_signed_report(tmp_path):
    with served(tmp_path) as (address, _), chrome(tmp_path / "profile") as tab:
        tab.size(800, 480)
        start(tab, address, "Ward 3/17")
        # Watch: the picture and the count move on.
        seen = int(tab.text("#counted"))
        tab.wait(f"Number(document.querySelector('#counted').textContent) > {seen}", 180)
        tab.wait("document.querySelector('#frame').naturalWidth > 300")
        tab.click("#pause")
        tab.wait("document.documentElement.dataset.phase === 'paused'")
        tab.click("#pause")
        tab.wait("document.documentElement.dataset.phase === 'running'")
        for width, height in SIZES:
            tab.size(width, height)
            fits(tab)
        tab.size(800, 480)
        # Enough to see; the target itself is a matter of the session's own tests.
        tab.wait("Number(document.querySelector('#counted').textContent) >= 30", 300)
        tab.click("#finish")
        tab.wait("document.documentElement.dataset.phase === 'finished'", 120)
        live = counts(tab)
        assert sum(live[label] for label in LABELS) == int(tab.text("#counted")) >= 30

        # The terminal tells the same numbers, of the session and of the result.
        status = leuko(tmp_path, "session", "status", "--json").document
        tab.click("#done")
        tab.wait("document.querySelector('.differential') !== null")
        identifier = tab.run("location.pathname.split('/')[2]")
        shown = leuko(tmp_path, "review", "show", identifier, "--all", "--json").document
        assert shown["sample"] == "Ward 3/17" and status["session"] == identifier
        terminal = {label: shown["differential"]["classes"][label]["count"] for label in LABELS}
        assert terminal | {OTHER: shown["differential"]["other"]} == live
        page = table(tab)
        assert {label: page[label][0] for label in (*LABELS, OTHER)} == live
        for label in LABELS:
            percent = shown["differential"]["classes"][label]["percent"]
            assert page[label][1] == ("\u2013" if percent is None else f"{percent:.1f}")

        # Review: one key calls a cell; the call is kept in the browser until it is saved.
        chosen = next(each for each in shown["cells"] if each["counted_as"] == "neutrophil")
        tab.open(f"{address}/results/{identifier}/review?cell={chosen['cell']}")
        assert tab.run("document.documentElement.dataset.cell") == chosen["cell"]
        assert tab.run("document.querySelectorAll('#boxes .chosen').length") == 1
        tab.key("a")
        assert "/activation/" in tab.run("document.querySelector('#crop').src")
        tab.key("5")
        tab.wait("document.querySelector('#unsaved').textContent.startsWith('1 ')")
        tab.open(f"{address}/results/{identifier}/review?cell={chosen['cell']}")
        assert tab.text("#unsaved") == "1 not saved"
        for width, height in SIZES:
            tab.size(width, height)
            fits(tab)
        tab.size(800, 480)
        tab.click("#save .primary")
        tab.wait("document.querySelector('.differential') !== null")
        assert table(tab)["basophil"][0] == live["basophil"] + 1
        assert table(tab)["neutrophil"][0] == live["neutrophil"] - 1

        # Sign; history and report say so.
        tab.run("document.querySelector('details.sign').open = true")
        tab.fill(".sign [name=reason]", "All cells reviewed")
        tab.click(".sign .primary")
        tab.wait("document.querySelector('.signed') !== null")
        for width, height in SIZES:
            tab.size(width, height)
            fits(tab)
        history = leuko(tmp_path, "review", "history", identifier, "--json").document["steps"]
        assert [step["event"] for step in history] == ["saved", "corrected", "signed"]
        assert history[1]["changed"] == [f"{chosen['cell']} neutrophil → basophil"]
        assert {step["operator"] for step in history} == {"A. Okafor"}
        tab.open(f"{address}/results/{identifier}/file/html")
        assert "Ward 3/17" in tab.text("h1") and tab.text(".status b") == "Final"
        assert tab.log == []


def test_a_session_that_was_cut_off_is_offered_again(tmp_path):
    with served(tmp_path) as (address, process), chrome(tmp_path / "profile") as tab:
        tab.size(390, 844)
        start(tab, address, "S-9", CAMERA + ",interval=0.3", target=200)
        tab.wait("Number(document.querySelector('#counted').textContent) > 8", 180)
        process.send_signal(signal.SIGKILL)
        process.wait()
    saved = leuko(tmp_path, "session", "status", "--json").document
    with served(tmp_path) as (address, _), chrome(tmp_path / "profile2") as tab:
        tab.size(390, 844)
        tab.open(f"{address}/live")
        assert "S-9" in tab.text(".alarm")
        fits(tab)
        tab.click(".alarm button")
        tab.wait("document.querySelector('#counted') && document.documentElement.dataset.phase === 'running'", 180)
        counted = sum(saved["cells"]["classes"].values()) if "cells" in saved else 1
        tab.wait(f"Number(document.querySelector('#counted').textContent) >= {counted}", 180)
        tab.click("#finish")
        tab.wait("document.documentElement.dataset.phase === 'finished'", 60)
        assert tab.log == []


CONTRAST = """(() => {
const parse = c => c.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
const found = [];
for (const e of document.querySelectorAll('main *, .rail *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e), size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
  const a = light(parse(style.color)), b = light(ground(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < (size >= 24 || (bold && size >= 18.66) ? 3 : 4.5)) found.push([e.outerHTML.slice(0, 100), ratio]);
}
return found; })()"""


def test_contrast_labels_and_keyboard(tmp_path):
    with served(tmp_path) as (address, _), chrome(tmp_path / "profile") as tab:
        identifier = uuid7()
        store_of(tmp_path).parent.mkdir(parents=True, exist_ok=True)
        with ResultStore(store_of(tmp_path)) as store:
            store.save(record(counted(120, 60, 12, 6, 2, other=4), id=uuid7()))
            store.save(record(FULL, id=identifier))
        tab.size(1440, 900)
        for path in ("/", "/live", "/device", "/settings", f"/results/{identifier}", f"/results/{identifier}/review"):
            tab.open(address + path)
            assert tab.run(CONTRAST) == [], path
            unlabelled = """[...document.querySelectorAll('input:not([type=hidden]), select')]
                .filter(e => !e.labels.length && !e.ariaLabel).map(e => e.outerHTML)"""
            assert tab.run(unlabelled) == [], path
            assert tab.run("[...document.images].every(i => i.hasAttribute('alt'))")
            nameless = """[...document.querySelectorAll('button, a')].filter(e => e.getClientRects().length &&
                !e.textContent.trim() && !e.ariaLabel).map(e => e.outerHTML)"""
            assert tab.run(nameless) == [], path
            fits(tab)
        # Everything is reached with the keyboard, and the focus is seen.
        tab.open(f"{address}/")
        reached = set()
        for _ in range(24):
            tab.key("Tab")
            here = "document.activeElement"
            reached.add(tab.run(f"{here}.href || {here}.name || {here}.tagName"))
            seen = tab.run(f"[{here}.outerHTML.slice(0, 90), getComputedStyle({here}).outlineStyle]")
            assert seen[1] != "none" or "<body" in seen[0], seen
        assert {"text", "status", "since", "until", "BUTTON", f"{address}/live", f"{address}/device"} <= reached
        assert tab.log == []
