"""The report in a real browser: it fits a phone, asks for nothing, and its own policy lets its styles through."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from report_records import FULL, analysis, cell, counted, field, record, rendered

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

LONG = "unbroken" * 30
CASES = {
    "full": record(FULL),
    "differential": record(counted(120, 60, 12, 6, 2, other=4), pictures=()),
    "empty": record(analysis()),
    "long names": record(
        analysis(field([cell("neutrophil")], source="/" + LONG), field(accepted=False, reasons=(LONG,))),
        sample=LONG,
        operator=LONG,
        device="מכשיר" * 40,
        runtime=LONG,
    ),
}
WIDTHS = (360, 390, 600, 752, 753, 800, 1119, 1440)
MEASURE = """<script>addEventListener('load', () => { const d = document.documentElement;
const cut = [...document.querySelectorAll('main *')].filter(e => !e.closest('nav, svg, thead, .switch > input') &&
e.getBoundingClientRect().right > innerWidth + 1);
const found = [d.scrollWidth - innerWidth, cut.length].join(' ');
parent.document.documentElement.dataset['w' + innerWidth] = found; })</script>"""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def browse(folder, url, *options):
    """The page's markup after loading, and what the browser had to say."""
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        "--dump-dom",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_wider_than_the_window(tmp_path, case):
    # The copy that is measured runs a script, which the policy of the report itself forbids. It lies in frames, since
    # a browser's own window can not be as narrow as a phone.
    copy = html.escape(POLICY.sub(MEASURE, rendered(CASES[case])))
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{copy}"></iframe>' for width in WIDTHS)
    (tmp_path / "frames.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{frames}", encoding="utf-8")
    dom, _ = browse(tmp_path, (tmp_path / "frames.html").as_uri(), "--hide-scrollbars")
    measured = dict(re.findall(r'data-w(\d+)="(-?\d+ \d+)"', dom))
    assert measured == {str(width): "0 0" for width in WIDTHS}


class Listener(BaseHTTPRequestHandler):
    """Serves one page at /report.html and notes every request."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.page if self.path == "/report.html" else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the test's output quiet."""


def asked_for(tmp_path, page):
    """The paths that a browser asks a server for when it opens the page, and the browser's log."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.asked = []
        base = f"http://127.0.0.1:{server.server_port}"
        server.page = page.replace("http://listener", base).encode("utf-8")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            _, log = browse(tmp_path, f"{base}/report.html")
        finally:
            server.shutdown()
            thread.join()
        return server.asked, log


def test_the_page_asks_for_nothing_else(tmp_path):
    attack = "\"><img src='http://listener/leak'><link rel=stylesheet href='http://listener/style'>"
    page = rendered(record(FULL, sample=attack, operator=attack, device=attack))
    asked, log = asked_for(tmp_path, page)
    assert asked == ["/report.html"]
    assert "Content Security Policy" not in log


def test_the_policy_stops_what_escaping_would_miss(tmp_path):
    page = rendered(record(FULL))
    planted = "<img src='http://listener/leak'><script>new Image().src='http://listener/run'</script><style>p{}</style>"
    asked, log = asked_for(tmp_path, page.replace("<main>", f"<main>{planted}"))
    assert asked == ["/report.html"]
    assert "Content Security Policy" in log


def test_the_activation_can_be_chosen_without_script(tmp_path):
    probe = """<script>addEventListener('load', () => {
    const seen = k => getComputedStyle(document.querySelector('.cells .p-' + k)).display;
    const both = () => seen('cell') + ' ' + seen('activation');
    const first = both();
    document.querySelector('label[for=view-activation]').click();
    const second = both();
    document.querySelector('label[for=view-both]').click();
    document.documentElement.dataset.seen = [first, second, both()].join(', '); })</script>"""
    (tmp_path / "report.html").write_text(POLICY.sub(probe, rendered(CASES["full"])), encoding="utf-8")
    dom, _ = browse(tmp_path, (tmp_path / "report.html").as_uri())
    assert 'data-seen="block none, none block, block block"' in dom
