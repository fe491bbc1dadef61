"""Drives a headless Chromium over its debugging pipe: what a person does, sees, and a picture of it. No packages."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


class Tab:
    """One page. `log` holds what the browser had to say: errors of scripts, refused loads."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.log: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", {})
        self._call("Emulation.setFocusEmulationEnabled", {"enabled": True})

    def size(self, width: int, height: int) -> None:
        """Take the size of a screen."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def open(self, url: str) -> None:
        """Open an address and wait until it is loaded."""
        found = self._call("Page.navigate", {"url": url})
        assert "errorText" not in found, found
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Give the value of an expression."""
        found = self._call(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 90) -> Any:
        """Wait until an expression is true, and give its value. A page that is being left has none."""
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError, RuntimeError):
                if value := self.run(condition):
                    return value
            assert time.monotonic() < until, (
                f"{condition} did not come true; {self.run('document.body.innerText')[:600]}"
            )
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click what a selector finds first, where a finger would: not if something else lies over it."""
        place = self.wait(
            f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;
            e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = e.getBoundingClientRect();
            const p = [r.x + r.width / 2, r.y + r.height / 2]; const hit = document.elementFromPoint(...p);
            return hit && (e.contains(hit) || hit.contains(e)) ? p : null; }})()""",
            60,
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call(
                "Input.dispatchMouseEvent",
                {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1},
            )

    def key(self, key: str, text: str = "") -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            said = {"type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text if kind == "keyDown" else ""}
            self._call("Input.dispatchKeyEvent", said)

    def fill(self, selector: str, text: str) -> None:
        """Write into a field, in place of what is in it."""
        self.run(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.value = ''; }})()")
        self._call("Input.insertText", {"text": text})

    def text(self, selector: str) -> str:
        """The text that a selector's first element shows."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText")).strip()

    def picture(self, path: Path) -> None:
        """Write what is on the screen as PNG."""
        # All pictures have arrived.
        self.wait("[...document.images].filter(i => i.loading !== 'lazy').every(i => !i.src || i.complete)")
        found = self._call("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(found["data"]))

    def _call(self, method: str, parameters: dict[str, Any], seconds: float = 120) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            found = self._read(until)
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(found["error"]["message"])
                result: dict[str, Any] = found["result"]
                return result
            self._note(found)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.log.append(json.dumps(told["exceptionDetails"])[:500])
        if event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.log.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        if event.get("method") == "Page.javascriptDialogOpening":
            self._number += 1
            answer = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._writer, json.dumps({**answer, "sessionId": self._session}).encode() + b"\0")
            self._number += 1

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._reader, 1 << 20)
            assert part, "the browser is gone"
            self._buffer += part
        one, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(one)
        return found


@contextlib.contextmanager
def chrome(profile: Path, *options: str) -> Iterator[Tab]:
    """A browser with a new profile, ended with the block."""
    assert BROWSER is not None
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for pair in (os.pipe(), os.pipe()) for end in pair]
    to_browser, writer, reader, from_browser = ends[0], ends[1], ends[2], ends[3]

    def hand_over() -> None:
        os.dup2(to_browser, 3)
        os.dup2(from_browser, 4)

    command = [
        BROWSER,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"),
        *("--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe", "--lang=en", "--accept-lang=en"),
        f"--user-data-dir={profile}",
        *options,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(3, 4),
        preexec_fn=hand_over,  # noqa: PLW1509 - it calls dup2 alone
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Tab(reader, writer)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(reader)
        os.close(writer)
