"""Takes the pictures of docs/hub.md from a hub's own pages.

python tests/bench/hub_pictures.py --database URL --objects DIR --person NAME --out docs/images
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hub"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Serve the hub to a browser that is signed in, and keep what it shows."""
    reader = argparse.ArgumentParser(description=__doc__)
    for name in ("database", "objects", "person", "out"):
        reader.add_argument(f"--{name}", required=True)
    asked = reader.parse_args()

    import uvicorn
    from test_hub_browser import Window, browse

    from edge.hub import cases, core, people
    from edge.hub.settings import Settings
    from edge.hub.web.application import application

    hub = core.open_hub(Settings(asked.database, asked.objects))
    account = next(each for each in people.accounts(hub) if each.name == asked.person)
    session = people.open_session(hub, account.id, account.name, "pictures")
    who = people.who(hub, session.token)
    newest = cases.search(hub, who, cases.Search(), "pictures").cases[0].id
    window = Window(application(hub), session.token)
    server = uvicorn.Server(uvicorn.Config(window, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        for name, path, size in (
            ("hub-case", f"/cases/{newest}", "1440,1500"),
            ("hub-fleet", "/fleet", "1440,700"),
        ):
            target = Path(asked.out).resolve() / f"{name}.png"
            browse(Path(folder), base + path, f"--screenshot={target}", f"--window-size={size}", "--hide-scrollbars")
        window.script = "<!-- -->"
        frame = f'<iframe width="390" height="1400" frameborder="0" src="/cases/{newest}"></iframe>'
        window.frames = f"<!DOCTYPE html><style>body {{ margin: 0 }}</style>{frame}"
        target = Path(asked.out).resolve() / "hub-case-phone.png"
        browse(Path(folder), f"{base}/frames", f"--screenshot={target}", "--window-size=500,1400", "--hide-scrollbars")
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main()
