"""Throws what the OpenAPI document allows, and what it does not, at every route of the API: no answer may be a 5xx.

    python -m tests.bench.hub_schema [--examples N] [--database URL]

As a device with every right, and as a person with every role. Exit code 1 when a route failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hub"))


def attack(folder: Path, database: str, examples: int) -> dict[str, object]:
    """Try `examples` requests a route; returns how many there were, by status, and each failure."""
    import schemathesis
    from fastapi.testclient import TestClient
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from sent import enrolled, person, version

    from edge.hub import core, people
    from edge.hub.database import Database
    from edge.hub.settings import Settings
    from edge.hub.web.application import application
    from edge.sync import messages

    url = database or f"sqlite:///{folder / 'hub.sqlite3'}"
    tables = Database(url)
    tables.migrate()
    tables.close()
    hub = core.open_hub(Settings(url, str(folder / "objects")))
    app = application(hub)
    statuses: dict[str, int] = {}
    failures: list[str] = []
    with TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 1)) as client:
        device = enrolled(hub, client)
        known = version()
        device.put(known)
        someone = person(hub, client, "someone", "operator", "reviewer", "admin")
        schemathesis.serializer.alias([messages.PICTURES_TYPE, "image/jpeg"], "application/octet-stream")
        schema = schemathesis.openapi.from_dict(app.openapi())
        for found in schema.get_all_operations():
            operation = found.ok()
            if (operation.method, operation.path) == ("delete", f"{messages.PREFIX}/session"):
                continue  # the session is needed for the rest; tests/hub has this route

            @given(case=operation.as_strategy(), real=st.booleans())
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def send(case, real) -> None:
                if real and "id" in (case.path_parameters or {}):
                    case.path_parameters["id"] = known.id  # else nothing behind the 404 is reached
                request = case.as_transport_kwargs(base_url="http://testserver")
                headers = {k: v for k, v in dict(request.pop("headers", None) or {}).items() if v is not None}
                headers.pop("Authorization", None)
                if "/device" in case.path or "/pictures" in case.path or "/results" in case.path:
                    headers |= device.signed
                headers |= {"X-Form-Token": someone.token, "Cookie": f"leuko_session={someone.cookie}"}
                sent = {k: v for k, v in request.items() if k in {"params", "json", "data", "content", "files"}}
                if isinstance(sent.get("data"), (bytes, str)):
                    sent["content"] = sent.pop("data")
                try:
                    answer = client.request(request["method"], request["url"], headers=headers, **sent)
                except (UnicodeError, ValueError, TypeError):
                    return  # not to be sent over HTTP at all
                statuses[str(answer.status_code)] = statuses.get(str(answer.status_code), 0) + 1
                if answer.status_code >= 500 and answer.status_code != 503:
                    failures.append(f"{case.method} {case.path}: {answer.status_code} {answer.text[:300]}")

            send()
            with hub.database.write() as connection:
                from edge.hub import tables as all_tables

                connection.execute(all_tables.attempts.delete())
                connection.execute(all_tables.people.update().values(disabled=None))
                connection.execute(all_tables.devices.update().values(revoked=None))
            someone.__init__(hub, client, "someone")
            assert people.accounts(hub)
    return {"statuses": dict(sorted(statuses.items())), "failures": sorted(set(failures))}


def main() -> None:
    """Attack once, and say what was found."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--examples", type=int, default=100)
    reader.add_argument("--database", default="")
    asked = reader.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = attack(Path(folder), asked.database, asked.examples)
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
