"""SMART Backend Services against a token endpoint that checks the assertion with the public key."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

jwt = pytest.importorskip("jwt", reason="PyJWT is not installed: pip install 'leukoscope[smart]'")
ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec", reason="cryptography is not installed")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402

from edge.sync import smart  # noqa: E402
from edge.sync.settings import FhirDestination  # noqa: E402
from edge.sync.trouble import BlockedError  # noqa: E402


class Authority(BaseHTTPRequestHandler):
    public: Any = None
    seen: ClassVar[list[dict[str, Any]]] = []
    used: ClassVar[set[str]] = set()

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        host = f"http://{self.headers['Host']}"
        self.reply(200, {"token_endpoint": f"{host}/token"} if "smart-configuration" in self.path else {})

    def do_POST(self) -> None:
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        audience = f"http://{self.headers['Host']}/token"
        try:
            claims = jwt.decode(
                form["client_assertion"], type(self).public, algorithms=["ES384", "RS384"], audience=audience
            )
            assert claims["iss"] == claims["sub"] == "leuko-7" and claims["exp"] - claims["iat"] <= 300
            assert claims["jti"] not in self.used and form["grant_type"] == "client_credentials"
            self.used.add(claims["jti"])
            self.seen.append({**jwt.get_unverified_header(form["client_assertion"]), "scope": form["scope"]})
            self.reply(200, {"access_token": "token-1", "token_type": "bearer", "expires_in": 300})
        except jwt.PyJWTError as error:
            self.reply(400, {"error": "invalid_client", "error_description": str(error)})

    def reply(self, status: int, document: dict[str, Any]) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def authority() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Authority)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def destination(url: str, folder: Path, key: Any, mode: int = 0o600) -> FhirDestination:
    path = folder / "key.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.chmod(mode)
    return FhirDestination("ehr", url, client_id="leuko-7", private_key_file=str(path), key_id="key-1")


@pytest.mark.parametrize("kind", ["ES384", "RS384"])
def test_a_token_is_given_for_a_signed_assertion(authority: str, tmp_path: Path, kind: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1()) if kind == "ES384" else rsa.generate_private_key(65537, 2048)
    Authority.public = key.public_key()
    for _ in range(2):
        assert smart.token(destination(authority, tmp_path, key)) == "token-1"
    assert Authority.seen[-1] == {"alg": kind, "typ": "JWT", "kid": "key-1", "scope": "system/*.write system/*.read"}


def test_a_wrong_key_is_refused_with_a_cure(authority: str, tmp_path: Path) -> None:
    Authority.public = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(BlockedError) as caught:
        smart.token(destination(authority, tmp_path, ec.generate_private_key(ec.SECP384R1())))
    assert caught.value.code == "token-refused" and "clock" in caught.value.cure


def test_a_key_that_others_may_read_or_of_another_kind_is_not_used(authority: str, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(BlockedError) as caught:
        smart.token(destination(authority, tmp_path, key, 0o640))
    assert caught.value.code == "secret-exposed"
    with pytest.raises(BlockedError) as caught:
        smart.token(destination(authority, tmp_path, ec.generate_private_key(ec.SECP256R1())))
    assert caught.value.code == "key-kind"
