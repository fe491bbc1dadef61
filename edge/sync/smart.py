"""SMART Backend Services: a short-lived token for a signed assertion (HL7 SMART App Launch 2, backend services)."""

from __future__ import annotations

import json
import time
import urllib.parse
import uuid
from pathlib import Path
from typing import Any, Final

from edge.core.errors import MissingExtraError
from edge.sync import secrets
from edge.sync.http import Client
from edge.sync.settings import FhirDestination
from edge.sync.trouble import BlockedError, UnreachableError

_SECONDS: Final = 240
"""How long an assertion is good for; the specification allows five minutes."""

_KIND: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def token(destination: FhirDestination) -> str:
    """Get an access token. Raises `BlockedError`, `UnreachableError`, `MissingExtraError`."""
    address = destination.token_url or _discover(destination)
    body = urllib.parse.urlencode(
        {
            "grant_type": "client_credentials",
            "scope": destination.scope,
            "client_assertion_type": _KIND,
            "client_assertion": assertion(destination, address),
        }
    ).encode()
    parts = urllib.parse.urlsplit(address)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    root = urllib.parse.urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    with Client(root, ca_file=destination.ca_file) as client:
        answer = client.request("POST", path, body, headers)
        found = _object(answer.body)
        given = found.get("access_token")
        if answer.status == 200 and isinstance(given, str) and given:
            return given
        why = str(found.get("error_description") or found.get("error") or f"status {answer.status}")[:200]
        raise BlockedError(
            "token-refused",
            f"{client.host} gives no access token: {why}.",
            "Check client_id, key, key_id and scope; an assertion is also refused when this device's clock is wrong.",
        )


def assertion(destination: FhirDestination, audience: str) -> str:
    """Sign who we are, for `audience`: ES384 for a key on P-384, RS384 for an RSA key. Raises as `token` does."""
    try:
        import jwt
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise MissingExtraError(
            "smart-missing",
            "SMART Backend Services needs the packages PyJWT and cryptography.",
            "Install them: pip install 'leukoscope[smart]'",
        ) from None
    path = Path(destination.private_key_file).expanduser()
    try:
        key = load_pem_private_key(secrets.read(path).encode(), password=None)
    except (ValueError, TypeError) as error:
        raise BlockedError("key-unreadable", f"{path} is no private key in PEM ({error}).", "Make a new key.") from None
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = "RS384"
    elif isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        algorithm = "ES384"
    else:
        raise BlockedError("key-kind", f"{path} is neither an RSA key nor one on P-384.", "Make one of these.")
    now = int(time.time())
    claims = {
        **{"iss": destination.client_id, "sub": destination.client_id, "aud": audience},
        **{"iat": now, "exp": now + _SECONDS, "jti": str(uuid.uuid4())},
    }
    headers = {"typ": "JWT", **({"kid": destination.key_id} if destination.key_id else {})}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def _discover(destination: FhirDestination) -> str:
    with Client(destination.url, ca_file=destination.ca_file) as client:
        answer = client.request("GET", "/.well-known/smart-configuration", headers={"Accept": "application/json"})
        found = _object(answer.body).get("token_endpoint")
        if answer.status != 200 or not isinstance(found, str):
            raise UnreachableError(
                "no-token-endpoint", f"{client.host} does not say where tokens are given.", "Configure `token_url`."
            )
        return found


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
