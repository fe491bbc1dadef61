"""What the whole agent needs: resident memory of `leuko serve` with a live session, and how many fields it does.

    python tests/bench/page_memory.py [--cells 400] [--watchers 1] [--camera SPEC]
    python tests/bench/page_memory.py --minutes 120 [--fields-per-second 1]       drift: one session after the other

Starts the page in an empty home, a session on the simulated slide, and watchers that take the state and each picture
as the page does; then opens results, pictures, report and device checks. Prints one JSON document. Megabytes are 10^6.
The simulated slide is drawn in the same process: a real camera needs less.

The drift is that of the median resident memory over the last tenth of the time against that over the second tenth: the
first holds what every program fetches once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

import psutil  # noqa: E402
from walking import served  # noqa: E402


class Visitor:
    """One browser: a connection that stays, a cookie, the token of its last page."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
        self.cookie = self.csrf = ""

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, bytes]:
        headers = {"accept": "text/html", "cookie": self.cookie, "x-csrf": self.csrf}
        if form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, urlencode(form or {}) if method == "POST" else None, headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if cookie := answer.getheader("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        if token := re.search(rb'name="csrf" content="([^"]+)"', body):
            self.csrf = token[1].decode()
        return answer.status, body


def watch(address: str, seen: list[int], stop: threading.Event) -> None:
    """Take the state, and the picture when it is new, twenty times a second."""
    visitor, last = Visitor(address), -1
    while not stop.is_set():
        state = json.loads(visitor.ask("GET", "/live/state")[1])
        if state and state["last"] and state["last"]["number"] != last:
            last = state["last"]["number"]
            visitor.ask("GET", f"/live/frame.jpg?n={last}")
            seen.append(last)
        time.sleep(0.05)


def drift(visitor: Visitor, chosen: argparse.Namespace, resident: Callable[[], int]) -> dict[str, Any]:
    """Run session after session for so long; how far the memory has moved, and whether every frame is accounted for."""
    samples: list[tuple[float, int]] = []
    sessions: list[dict[str, Any]] = []
    begun, seed = time.monotonic(), 0
    end = begun + 60 * chosen.minutes
    while time.monotonic() < end:
        seed += 1
        interval = 1 / chosen.fields_per_second
        camera = f"simulated:seed={seed},cells=3,fields=endless,overlap=0.2,interval={interval:g}"
        visitor.ask("GET", "/live")
        order = {"sample": f"S-{seed}", "operator": "A", "target": str(chosen.cells), "camera": camera}
        assert visitor.ask("POST", "/live/start", order)[0] == 303
        while not (state := json.loads(visitor.ask("GET", "/live/state")[1]))["ended"]:
            samples.append((time.monotonic() - begun, resident()))
            if time.monotonic() > end:
                visitor.ask("GET", "/live")
                visitor.ask("POST", "/live/finish", {})
            time.sleep(2)
        sessions.append({"counted": state["counted"], **state["fields"]})
    minutes = (time.monotonic() - begun) / 60

    def median(low: float, high: float) -> float:
        return statistics.median(size for at, size in samples if low <= at / 60 / minutes <= high) / 1e6

    first, last = median(0.1, 0.2), median(0.9, 1.0)
    return {
        "minutes": round(minutes, 1),
        "sessions": len(sessions),
        "fields": sum(each["seen"] for each in sessions),
        "unaccounted_fields": sum(
            each["seen"] - each["accepted"] - each["refused"] - each["unreadable"] for each in sessions
        ),
        "dropped_and_counted": sum(each["dropped"] for each in sessions),
        "megabytes_second_tenth": round(first, 1),
        "megabytes_last_tenth": round(last, 1),
        "drift_percent": round(100 * (last / first - 1), 2),
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cells", type=int, choices=(100, 200, 400), default=400)
    options.add_argument("--watchers", type=int, default=1)
    options.add_argument("--camera", default="simulated:seed=7,cells=3,fields=endless")
    options.add_argument("--minutes", type=float, default=0.0, help="measure the drift over so long instead")
    options.add_argument("--fields-per-second", type=float, default=1.0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (address, process):
        tree, most, steps = psutil.Process(process.pid), 0, {}

        def resident() -> int:
            """Of the page and of every process it has started, cameras and trials among them."""
            nonlocal most
            found = 0
            for each in (tree, *tree.children(recursive=True)):
                try:
                    found += each.memory_info().rss
                except psutil.Error:
                    continue
            most = max(most, found)
            return found

        def step(what: str) -> None:
            steps[what] = round(resident() / 1e6, 1)

        visitor = Visitor(address)
        visitor.ask("GET", "/")
        step("page open")
        if chosen.minutes:
            found = drift(visitor, chosen, resident)
            print(json.dumps({**found, "most_megabytes": round(most / 1e6, 1)}, indent=2))
            return
        visitor.ask("GET", "/live")
        order = {"sample": "S-1", "operator": "A", "target": str(chosen.cells), "camera": chosen.camera}
        assert visitor.ask("POST", "/live/start", order)[0] == 303
        stop, seen = threading.Event(), []
        watchers = [threading.Thread(target=watch, args=(address, seen, stop)) for _ in range(chosen.watchers)]
        for each in watchers:
            each.start()
        before = time.monotonic()
        while not (state := json.loads(visitor.ask("GET", "/live/state")[1]))["ended"]:
            resident()
            time.sleep(0.25)
        seconds = time.monotonic() - before
        step("session over")
        stop.set()
        for each in watchers:
            each.join()
        result = f"/results/{state['result']}"
        visitor.ask("GET", result)
        for field in range(6):
            visitor.ask("GET", f"{result}/v1/field/{field}/0.jpg")
        visitor.ask("GET", f"{result}/review")
        visitor.ask("GET", f"{result}/file/html")
        step("result looked at")
        visitor.ask("GET", "/device")
        step("device checked")
        print(
            json.dumps(
                {
                    "phase": state["phase"],
                    "counted": state["counted"],
                    "fields": state["fields"],
                    "seconds": round(seconds, 1),
                    "fields_per_second": round(state["fields"]["seen"] / state["seconds"], 2),
                    "pictures_shown": len(seen),
                    "megabytes": steps,
                    "most_megabytes": round(most / 1e6, 1),
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
