"""The pages: sign-in, fleet, cases, a case with its review, administration. No script is needed to do the work."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from edge import config
from edge.core.errors import LeukoError
from edge.hub import cases, enrolment, fleet, log, people, places, releases, review
from edge.hub.core import ROLES, Person
from edge.hub.problems import RefusedError
from edge.hub.web import body, views
from edge.hub.web.api_routes import set_cookie
from edge.hub.web.doors import COOKIE, FORM_TOKEN, address_of, hub_of, require, require_form
from edge.sync.messages import Problem

if TYPE_CHECKING:
    from jinja2 import Environment

router = APIRouter(include_in_schema=False)
_FORM_BYTES: Final = 2 * 1024 * 1024
_NOT_PAGES: Final = ("/api/", "/health/", "/metrics", "/releases/", "/static/", "/favicon.ico")


def is_page(request: Request) -> bool:
    """Whether a request is for a page, so that a refusal is one, too."""
    return not request.url.path.startswith(_NOT_PAGES)


def problem_page(request: Request, status: int, problem: Problem, retry_after: int | None) -> Response:
    """Say on a page why something was refused; who is not signed in is asked to."""
    if status == 401 and request.url.path != "/sign-in":
        wanted = request.url.path if request.method == "GET" else "/"
        return RedirectResponse("/sign-in?" + urlencode({"next": wanted}), 303)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if request.url.path == "/sign-in":
        return _page(request, "sign_in.html", None, status, headers, problem=problem, next="/")
    return _page(request, "problem.html", None, status, headers, problem=problem)


async def form(request: Request) -> dict[str, str]:
    """Read a form, sent from a page of this hub. Raises RefusedError."""
    origin = request.headers.get("origin")
    if origin not in {None, "null"} and urlsplit(str(origin)).netloc != request.headers.get("host", ""):
        raise RefusedError(403, "other-origin", "The form is from another site.")
    sent = await body.whole(request, _FORM_BYTES)
    try:
        found = parse_qs(sent.decode("utf-8"), keep_blank_values=True, max_num_fields=50_000)
    except (UnicodeDecodeError, ValueError):
        raise RefusedError(422, "not-understood", "The form is not understood.") from None
    return {name: values[-1] for name, values in found.items()}


Form = Annotated[dict[str, str], Depends(form)]


def page(*roles: str) -> Any:
    """Depend on the person of the session."""

    def signed_in(request: Request) -> Person:
        return require(request, roles)

    return Depends(signed_in)


def posted(*roles: str) -> Any:
    """Depend on the person of the session, who sent a form of it."""

    def signed_in(request: Request, sent: Form) -> Person:
        found = require(request, roles)
        require_form(found, sent.get(FORM_TOKEN, ""))
        return found

    return Depends(signed_in)


Anyone = Annotated[Person, page()]
Admin = Annotated[Person, page("admin")]


@router.get("/")
def start(_asking: Anyone) -> Response:
    """Begin with the cases."""
    return RedirectResponse("/cases", 303)


@router.get("/sign-in")
def ask_name(request: Request, next: Annotated[str, Query(max_length=200)] = "/") -> Response:
    """Ask for name and password."""
    return _page(request, "sign_in.html", None, next=_inside(next))


@router.post("/sign-in")
def sign_in(request: Request, sent: Form) -> Response:
    """Open a session."""
    hub = hub_of(request)
    session = people.sign_in(hub, sent.get("name", ""), sent.get("password", ""), address_of(request))
    answer = RedirectResponse(_inside(sent.get("next", "/")), 303)
    set_cookie(answer, session.token, secure=hub.settings.secure)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, _asking: Annotated[Person, posted()]) -> Response:
    """End the session."""
    people.sign_out(hub_of(request), request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/fleet")
def show_fleet(request: Request, asking: Anyone) -> Response:
    """Show the devices."""
    hub = hub_of(request)
    return _page(request, "fleet.html", asking, devices=fleet.devices(hub, asking), rollouts=releases.rollouts(hub))


@router.get("/cases")
def show_cases(  # noqa: PLR0917  # parameters of the query
    request: Request,
    asking: Anyone,
    text: Annotated[str, Query(max_length=500)] = "",
    status: Annotated[str, Query(max_length=20)] = "",
    device: Annotated[str, Query(max_length=200)] = "",
    second: Annotated[str, Query(max_length=5)] = "",
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
    after: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Show the cases that fit."""
    wanted = cases.Search(text, status, device, True if second else None, since, until, after)
    found = cases.search(hub_of(request), asking, wanted, address_of(request))
    asked = {"text": text, "status": status, "device": device, "second": second, "since": since, "until": until}
    following = None if found.after is None else "/cases?" + urlencode({**asked, "after": found.after})
    return _page(request, "cases.html", asking, page=found, asked=asked, following=following)


@router.get("/cases/{id}")
def show_case(
    request: Request,
    id: str,
    asking: Anyone,
    version: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    done: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Show a case for review."""
    hub = hub_of(request)
    case = cases.load(hub, asking, id, address_of(request), version=version)
    shown = views.case_view(case, review.cells(case))
    desk = review.desk(hub, asking, case.row.id)
    return _page(request, "case.html", asking, case=case, view=shown, desk=desk, done=done)


@router.get("/cases/{id}/report")
def show_report(request: Request, id: str, asking: Anyone) -> Response:
    """Show the report of a case, as the device would write it."""
    from edge.report import html

    hub = hub_of(request)
    case = cases.load(hub, asking, id, address_of(request))
    ranges = config.load().ranges
    try:
        text = html.render(cases.record_of(hub, case), ranges=ranges.by_label(), range_profile=ranges.profile)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RefusedError(422, "not-understood", "The document of this case is not understood.") from None
    # The report carries its own, stricter policy, by the hashes of its styles.
    return HTMLResponse(text, headers={"Content-Security-Policy": "frame-ancestors 'none'"})


@router.post("/cases/{id}")
def act_on_case(request: Request, id: str, sent: Form, asking: Annotated[Person, posted()]) -> Response:
    """Do what the pressed button says: save or finish a reading, sign, ask a second reader, take consent back."""
    hub, address = hub_of(request), address_of(request)
    action = sent.get("action", "")
    if action in {"save", "finish", "sign", "no-consent", "withdraw"}:
        require(request, ("reviewer",))
    labels = {name[6:]: label for name, label in sent.items() if name.startswith("label.") and label}
    try:
        version = int(sent.get("version", ""))
    except ValueError:
        raise RefusedError(422, "not-understood", "The form names no version.") from None
    if action in {"save", "finish"}:
        review.save_reading(
            hub,
            asking,
            id,
            version=version,
            labels=labels,
            note=sent.get("note", ""),
            finished=action == "finish",
            address=address,
        )
    elif action == "sign":
        reason = sent.get("reason", "").strip()[:500]
        if not reason:
            raise RefusedError(422, "reason-missing", "A signature needs a reason.", "Say in a few words what you saw.")
        review.sign(hub, asking, id, version=version, labels=labels, reason=reason, address=address)
    elif action == "second":
        review.ask_second_reader(hub, asking, id, sent.get("reader", ""), address)
    elif action == "withdraw":
        review.withdraw_second_reader(hub, asking, id, address)
    elif action == "no-consent":
        review.set_consent(hub, asking, id, False, address)
    else:
        raise RefusedError(422, "not-understood", "The form says nothing to do.")
    return RedirectResponse(f"/cases/{id}?done={action}", 303)


@router.get("/admin")
def show_admin(request: Request, asking: Admin) -> Response:
    """Show people, devices and roll-outs, to change them."""
    return _admin(request, asking)


@router.post("/admin")
async def act_as_admin(request: Request, sent: Form, asking: Annotated[Person, posted("admin")]) -> Response:
    """Do what the pressed button says."""
    return await run_in_threadpool(_administrate, request, sent, asking)


@router.get("/accesses")
def show_accesses(
    request: Request,
    asking: Admin,
    result: Annotated[str, Query(max_length=100)] = "",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """Show who looked at what."""
    found = log.accesses(hub_of(request), asking, result, before)
    following = None
    if len(found) == log.SHOWN:
        following = "/accesses?" + urlencode({"result": result, "before": found[-1].sequence})
    return _page(request, "accesses.html", asking, accesses=found, result=result, following=following)


def _administrate(request: Request, sent: dict[str, str], asking: Person) -> Response:
    hub, by = hub_of(request), f"person {asking.name}"
    action, name = sent.get("action", ""), sent.get("name", "")
    try:
        if action == "code":
            code = enrolment.make_code(
                hub,
                name,
                made_by=by,
                site=places.site(asking, sent.get("site", "")[:100]),
                cohort=sent.get("cohort", "")[:100],
                bound_site=asking.site,
            )
            return _admin(request, asking, code=code)
        if action == "revoke":
            enrolment.revoke(hub, name, by=by, site=asking.site)
        elif action == "account":
            people.add(
                hub,
                name,
                tuple(role for role in ROLES if sent.get(f"role.{role}")),
                by=by,
                site=places.site(asking, sent.get("site", "")[:100]),
                password=sent.get("password", "")[:200],
            )
        elif action == "close":
            people.disable(hub, name, by=by, site=asking.site)
        elif action == "rollout":
            places.require_all_sites(asking)
            share = sent.get("percentage", "")
            releases.add(
                hub,
                name,
                percentage=int(share) if share.isascii() and share.isdigit() and len(share) < 4 else -1,
                cohort=sent.get("cohort", "")[:100],
                device_class=sent.get("device_class", "")[:200],
                by=by,
            )
        elif action == "halt":
            places.require_all_sites(asking)
            releases.halt(hub, name, reason="halted by hand", by=by)
        else:
            raise RefusedError(422, "not-understood", "The form says nothing to do.")
    except LeukoError as error:
        return _admin(request, asking, status=422, problem=error)
    return RedirectResponse("/admin", 303)


def _admin(request: Request, asking: Person, status: int = 200, **more: Any) -> Response:
    hub = hub_of(request)
    return _page(
        request,
        "admin.html",
        asking,
        status,
        accounts=people.accounts(hub, asking.site),
        devices=fleet.devices(hub, asking),
        rollouts=releases.rollouts(hub),
        roles=ROLES,
        **more,
    )


def _page(
    request: Request,
    template: str,
    asking: Person | None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> Response:
    if asking is None and template == "problem.html":
        asking = people.who(hub_of(request), request.cookies.get(COOKIE, ""))
    text = (
        _templates()
        .get_template(template)
        .render(person=asking, path=request.url.path, single_sign_on=hub_of(request).settings.single_sign_on, **values)
    )
    return HTMLResponse(text, status, headers)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("edge.hub"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(views.FILTERS)
    made.globals.update(views.WORDS)
    return made


def _inside(target: str) -> str:
    """Keep a target that lies within the hub: a link to the sign-in page must not lead elsewhere."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain else "/"
