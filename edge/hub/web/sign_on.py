"""Single sign-on by OpenID Connect: the provider says who somebody is, an account here says what they may do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from edge.core.errors import UsageError
from edge.hub import people
from edge.hub.core import Hub
from edge.hub.problems import RefusedError
from edge.hub.settings import SingleSignOn
from edge.hub.web.api_routes import set_cookie


def subject_of(issuer: str, subject: str) -> str:
    """Give the name that an account knows a person by (`leuko hub person --subject`): issuer and subject, as one."""
    return f"{issuer}#{subject}"


def add(app: FastAPI, hub: Hub, settings: SingleSignOn) -> None:
    """Add the two routes of the sign-on. Raises UsageError when the client's secret cannot be read."""
    from authlib.integrations.starlette_client import OAuth, OAuthError
    from starlette.middleware.sessions import SessionMiddleware

    secret = _secret(settings.secret_file)
    provider: Any = OAuth().register(
        name="provider",
        server_metadata_url=settings.issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_id=settings.client,
        client_secret=secret,
        client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
    )
    # What a sign-on under way must remember; any worker may end what another began.
    key = hashlib.sha256(b"sign-on" + secret.encode()).hexdigest()
    app.add_middleware(
        SessionMiddleware,
        secret_key=key,
        session_cookie="leuko_sign_on",
        max_age=600,
        path="/sign-in",
        same_site="lax",
        https_only=hub.settings.secure,
    )

    @app.get("/sign-in/elsewhere", include_in_schema=False)
    async def go(request: Request) -> Response:
        try:
            answer: Response = await provider.authorize_redirect(
                request, settings.address.rstrip("/") + "/sign-in/back"
            )
        except Exception as error:
            raise _unreachable() from error
        return answer

    @app.get("/sign-in/back", include_in_schema=False)
    async def back(request: Request) -> Response:
        try:
            token = await provider.authorize_access_token(request)
            claims = token["userinfo"]
            name = subject_of(str(claims["iss"]), str(claims["sub"]))
        except (OAuthError, KeyError, TypeError, ValueError):
            raise RefusedError(
                403, "sign-on-refused", "The provider did not say who you are.", "Begin again: /sign-in"
            ) from None
        except Exception as error:
            raise _unreachable() from error
        session = await run_in_threadpool(people.sign_in_by_subject, hub, name, request.state.address)
        answer = RedirectResponse("/", 303)
        set_cookie(answer, session.token, secure=hub.settings.secure)
        return answer


def _unreachable() -> RefusedError:
    return RefusedError(502, "sign-on-unreachable", "The provider does not answer as it should.", "Try again later.")


def _secret(path: str) -> str:
    try:
        found = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    if not found:
        raise UsageError("file-unreadable", f"{path} holds no secret.", "Check --oidc-secret-file.")
    return found
