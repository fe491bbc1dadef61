"""Single sign-on against a provider that speaks OpenID Connect over HTTP: discovery, code, PKCE, signed token."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

jwk = pytest.importorskip("joserfc.jwk", reason="authlib is not installed")
pytest.importorskip("authlib", reason="authlib is not installed")


class Provider(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"/.well-known/openid-configuration": self.server.about, "/keys": self.server.keys}[self.path])

    def do_POST(self):
        from joserfc import jwt

        sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        asked = self.server.asked
        digest = hashlib.sha256(sent["code_verifier"][0].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"][0]
        claims = {
            "iss": self.server.about["issuer"],
            "sub": "u-17",
            "aud": self.server.audience,
            "exp": int(time.time()) + 60,
            "iat": int(time.time()),
            "nonce": asked["nonce"][0],
        }
        token = jwt.encode({"alg": "RS256", "kid": "k"}, claims, self.server.key)
        self.answer({"access_token": "x", "token_type": "Bearer", "id_token": token, "expires_in": 60})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the test's output quiet."""


@pytest.fixture(scope="module")
def provider():
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        base = f"http://127.0.0.1:{server.server_port}"
        server.key = jwk.RSAKey.generate_key(2048, {"kid": "k", "use": "sig", "alg": "RS256"})
        server.keys = {"keys": [server.key.as_dict(private=False)]}
        server.audience = "hub"
        server.about = {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def browser(tmp_path, sqlite_template, provider):
    import shutil

    from fastapi.testclient import TestClient

    from edge.hub import core
    from edge.hub.settings import Settings, SingleSignOn
    from edge.hub.web.application import application

    shutil.copy(sqlite_template, tmp_path / "hub.sqlite3")
    (tmp_path / "secret").write_text("of the client\n")
    sign_on = SingleSignOn(provider.about["issuer"], "hub", str(tmp_path / "secret"), "http://testserver")
    hub = core.open_hub(
        Settings(f"sqlite:///{tmp_path / 'hub.sqlite3'}", str(tmp_path / "objects"), single_sign_on=sign_on)
    )
    with TestClient(application(hub), follow_redirects=False) as client:
        client.hub = hub
        yield client


def sign_in(browser, provider, state=None):
    assert "/sign-in/elsewhere" in browser.get("/sign-in").text
    sent = browser.get("/sign-in/elsewhere")
    assert sent.status_code == 302, sent.text
    provider.asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert provider.asked["redirect_uri"] == ["http://testserver/sign-in/back"]
    return browser.get("/sign-in/back", params={"code": "c", "state": state or provider.asked["state"][0]})


def test_who_has_an_account_is_let_in(browser, provider):
    from edge.hub import people

    subject = f"{provider.about['issuer']}#u-17"
    people.add(browser.hub, "ada", ("reviewer",), by="test", subject=subject)
    answer = sign_in(browser, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "ada" in browser.get("/cases").text


def test_a_stranger_is_not(browser, provider):
    answer = sign_in(browser, provider)
    assert answer.status_code == 403 and "no account" in answer.text


def test_an_answer_that_was_not_asked_for_is_refused(browser, provider):
    assert sign_in(browser, provider, state="forged").status_code == 403
    provider.audience = "another client"
    try:
        assert sign_in(browser, provider).status_code in {403, 502}
    finally:
        provider.audience = "hub"
