"""The hub's pages in a real browser: they fit a phone and a screen, their scripts run under their own policy, and a
person can review and sign a case, which then returns to the device."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time

import msgspec
import pytest
from report_records import FULL, record
from sent import enrolled, person, report, version

from edge.sync import messages as m

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")

WIDTHS = (360, 390, 768, 1440)
MEASURE = """<script>addEventListener('load', () => { const d = document.documentElement;
const cut = [...document.querySelectorAll('main *, header *')].filter(e => !e.closest('svg, .scroll, thead') &&
e.getBoundingClientRect().right > innerWidth + 1 && e.getClientRects().length);
const small = [...document.querySelectorAll('button, select, input:not([type=hidden])')].filter(e =>
e.getClientRects().length && !e.closest('label') && e.getBoundingClientRect().height < 24);
const found = [d.scrollWidth - innerWidth, cut.length, small.length].join(' ');
parent.document.documentElement.dataset['w' + innerWidth] = found;
})</script>"""
WALK = """<script>addEventListener('load', () => { if (location.search) return;
const select = document.querySelector('select[name="label.1.1"]');
const card = select.closest('.card'); card.focus();
card.dispatchEvent(new KeyboardEvent('keydown', {key: 'b', bubbles: true}));
document.querySelector('[name=reason]').value = 'dark granules';
document.querySelector('button[value=sign]').click(); })</script>"""


class Window:
    """What stands between browser and hub: it carries the session, and can put a script of the test into the pages."""

    def __init__(self, app, cookie):
        self.app, self.cookie = app, cookie
        self.script, self.frames = "", ""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["path"] == "/frames":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            return await send({"type": "http.response.body", "body": self.frames.encode()})
        headers = [each for each in scope["headers"] if each[0] != b"cookie"]
        scope = {**scope, "headers": [*headers, (b"cookie", f"leuko_session={self.cookie}".encode())]}
        if not self.script:
            return await self.app(scope, receive, send)

        async def changed(message):
            if message["type"] == "http.response.start":
                gone = {b"content-security-policy", b"x-frame-options", b"content-length"}
                message["headers"] = [each for each in message["headers"] if each[0] not in gone]
            elif b"</html>" in message.get("body", b""):
                message["body"] += self.script.encode()
            await send(message)

        return await self.app(scope, receive, changed)


@pytest.fixture
def window(hub, client):
    import uvicorn

    device = enrolled(hub, client)
    kept = record(FULL)
    pictures = [(each.kind, each.field, each.cell, each.jpeg) for each in kept.pictures]
    references = tuple(
        m.PictureReference(kind, field, cell, m.sha256(data), len(data)) for kind, field, cell, data in pictures
    )
    sent = version(document=dict(kept.document), sample="S-17")
    sent = msgspec.structs.replace(sent, pictures=references)
    assert device.put(sent).status_code == 201
    device.send_pictures(*[data for *_, data in pictures])
    checks = (m.Check("clock", "warn", "no time server answered since the last start of this device"),)
    client.put(f"{m.PREFIX}/device/health", content=m.encode(report(checks=checks)), headers=device.signed)
    ada = person(hub, client, "ada", "reviewer", "admin")
    found = Window(client.app, ada.cookie)
    server = uvicorn.Server(uvicorn.Config(found, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    found.base, found.case, found.device = f"http://127.0.0.1:{port}", sent.id, device
    yield found
    server.should_exit = True
    thread.join()


def browse(folder, url, *options):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000"]
    done = subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_pages_fit_and_a_case_is_signed_by_hand(window, tmp_path):
    pages = ("/cases", f"/cases/{window.case}", "/fleet", "/admin", "/accesses")
    window.script = MEASURE
    for page in pages:
        window.frames = "<!DOCTYPE html>" + "".join(
            f'<iframe width="{width}" height="900" src="{page}"></iframe>' for width in WIDTHS
        )
        dom, _ = browse(tmp_path, f"{window.base}/frames", "--dump-dom", "--hide-scrollbars")
        assert dict(re.findall(r'data-w(\d+)="([-\d ]+)"', dom)) == {str(width): "0 0 0" for width in WIDTHS}, page
    window.script = ""
    dom, log = browse(tmp_path, f"{window.base}/cases/{window.case}", "--dump-dom")
    assert 'class="scripted"' in dom and "Content Security Policy" not in log
    assert re.search(r'class="card [^"]*chosen', dom)
    window.script = WALK
    dom, _ = browse(tmp_path, f"{window.base}/cases/{window.case}", "--dump-dom")
    assert "Signed." in dom and "status s-final" in dom
    back = msgspec.json.decode(window.device.get("/device/changes").content)["changes"][0]["result"]
    cell = back["document"]["fields"][0]["cells"][0]
    assert (cell["label"], cell["reviewed"]["reason"], back["operator"]) == ("basophil", "dark granules", "ada")
