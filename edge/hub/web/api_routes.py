"""The API of people, as version 1 under /api/v1. Its pages use the same functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from edge.hub import cases, enrolment, export, fleet, log, people, places, releases, review
from edge.hub.core import SCOPES, Person
from edge.hub.problems import RefusedError
from edge.hub.web.doors import COOKIE, address_of, hub_of, person

router = APIRouter(tags=["people"])
Anyone = Annotated[Person, person()]
Reviewer = Annotated[Person, person("reviewer")]
Admin = Annotated[Person, person("admin")]
Short = Annotated[str, Field(max_length=200)]
Labels = Annotated[
    dict[Annotated[str, Field(max_length=20)], Annotated[str, Field(max_length=20)]], Field(max_length=20000)
]
CaseId = Annotated[str, Field(max_length=100)]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A local account's name and password."""

    name: Annotated[str, Field(max_length=200)]
    password: Annotated[str, Field(max_length=200)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in. `form_token` goes into the header X-Form-Token of every request that changes something."""

    name: str
    roles: tuple[str, ...]
    site: str
    form_token: str


@dataclass(frozen=True, slots=True)
class ReadingSent:
    """A reading: `labels` by place ("3.2" is the second cell of the third field)."""

    version: int
    labels: Labels = field(default_factory=dict)
    note: Annotated[str, Field(max_length=4000)] = ""
    finished: bool = False


@dataclass(frozen=True, slots=True)
class SecondReader:
    """Who shall read a case too; empty: any other reviewer."""

    reader: Short = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """Signs `version`, with the cells in `labels` called anew."""

    version: int
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signed:
    """The version that a signature made."""

    version: int


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether a case may be trained on."""

    consent: bool


@dataclass(frozen=True, slots=True)
class CodeWanted:
    """A one-time code for a device."""

    name: Short
    site: Annotated[str, Field(max_length=100)] = ""
    cohort: Annotated[str, Field(max_length=100)] = ""
    scopes: Annotated[tuple[str, ...], Field(max_length=10)] = SCOPES


@dataclass(frozen=True, slots=True)
class AccountWanted:
    """A new account. `subject` is who the person is for the single sign-on; else a password is needed."""

    name: Annotated[str, Field(max_length=100)]
    roles: Annotated[tuple[Literal["operator", "reviewer", "admin"], ...], Field(min_length=1, max_length=3)]
    site: Annotated[str, Field(max_length=100)] = ""
    password: Annotated[str, Field(max_length=200)] = field(default="", repr=False)
    subject: Annotated[str, Field(max_length=400)] = ""


@dataclass(frozen=True, slots=True)
class RolloutWanted:
    """A rule of a roll-out."""

    bundle: Short
    percentage: Annotated[int, Field(ge=0, le=100)] = 100
    cohort: Annotated[str, Field(max_length=100)] = ""
    device_class: Short = ""


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a roll-out is halted."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


@router.post("/session")
def sign_in(request: Request, response: Response, sent: Credentials) -> SignedIn:
    """Sign in; sets the cookie of the session."""
    hub = hub_of(request)
    session = people.sign_in(hub, sent.name, sent.password, address_of(request))
    set_cookie(response, session.token, secure=hub.settings.secure)
    found = people.who(hub, session.token)
    if found is None:
        raise RefusedError(401, "sign-in-refused", "The account was closed.")
    return SignedIn(found.name, tuple(sorted(found.roles)), found.site, session.form_token)


@router.get("/session")
def who(asking: Anyone) -> SignedIn:
    """Tell who is signed in."""
    return SignedIn(asking.name, tuple(sorted(asking.roles)), asking.site, asking.form_token)


@router.delete("/session", status_code=204)
def sign_out(request: Request, response: Response, asking: Anyone) -> None:
    """Sign out."""
    people.sign_out(hub_of(request), request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE)


@router.get("/fleet")
def get_fleet(request: Request, asking: Anyone) -> tuple[fleet.FleetDevice, ...]:
    """List the devices and how they are."""
    return fleet.devices(hub_of(request), asking)


@router.get("/cases")
def search(  # noqa: PLR0917  # parameters of the query
    request: Request,
    asking: Anyone,
    text: Annotated[str, Query(max_length=500)] = "",
    status: Literal["", "preliminary", "final", "corrected"] = "",
    device: Annotated[str, Query(max_length=200)] = "",
    second_reading: bool | None = None,
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
    after: Annotated[str, Query(max_length=100)] = "",
) -> cases.CasePage:
    """Search the cases, newest first."""
    wanted = cases.Search(text, status, device, second_reading, since, until, after)
    return cases.search(hub_of(request), asking, wanted, address_of(request))


@router.get("/cases/{id}")
def get_case(
    request: Request, id: CaseId, asking: Anyone, version: Annotated[int | None, Query(ge=1, le=1_000_000)] = None
) -> cases.Case:
    """Read a case in its newest version, or another."""
    return cases.load(hub_of(request), asking, id, address_of(request), version=version)


@router.get("/cases/{id}/pictures/{sha256}", response_class=Response)
def get_picture(request: Request, id: CaseId, sha256: CaseId, asking: Anyone) -> Response:
    """Read a picture of a case."""
    found = cases.picture(hub_of(request), asking, id, sha256, address_of(request))
    return Response(found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600, immutable"})


@router.get("/cases/{id}/desk")
def get_desk(request: Request, id: CaseId, asking: Anyone) -> review.Desk:
    """Lay out the readings of a case. Another's is shown once one's own is finished."""
    return review.desk(hub_of(request), asking, id)


@router.put("/cases/{id}/reading", status_code=204)
def put_reading(request: Request, id: CaseId, sent: ReadingSent, asking: Reviewer) -> None:
    """Keep one's reading of a case."""
    review.save_reading(
        hub_of(request),
        asking,
        id,
        version=sent.version,
        labels=sent.labels,
        note=sent.note,
        finished=sent.finished,
        address=address_of(request),
    )


@router.post("/cases/{id}/second-reader", status_code=204)
def ask_second_reader(request: Request, id: CaseId, sent: SecondReader, asking: Anyone) -> None:
    """Ask for a second reading."""
    review.ask_second_reader(hub_of(request), asking, id, sent.reader, address_of(request))


@router.delete("/cases/{id}/second-reader", status_code=204)
def withdraw_second_reader(request: Request, id: CaseId, asking: Reviewer) -> None:
    """Take the request for a second reading back."""
    review.withdraw_second_reader(hub_of(request), asking, id, address_of(request))


@router.post("/cases/{id}/signature", status_code=201)
def sign(request: Request, id: CaseId, sent: Signature, asking: Reviewer) -> Signed:
    """Sign a case; the version this makes goes back to the device."""
    made = review.sign(
        hub_of(request),
        asking,
        id,
        version=sent.version,
        labels=sent.labels,
        reason=sent.reason,
        address=address_of(request),
    )
    return Signed(made)


@router.put("/cases/{id}/consent", status_code=204)
def put_consent(request: Request, id: CaseId, sent: Consent, asking: Reviewer) -> None:
    """Take back the consent to train on a case."""
    review.set_consent(hub_of(request), asking, id, sent.consent, address_of(request))


@router.get("/exports/training", response_class=Response)
def get_export(
    request: Request,
    asking: Annotated[Person, person("admin", "reviewer")],
    source: Annotated[str, Query(max_length=64)],
    licence: Annotated[str, Query(max_length=100)] = "",
    citation: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """Give the cells that people have called, of consenting patients, as a ZIP of a data folder for training."""
    found = export.to_archive(hub_of(request), asking, source=source, licence=licence, citation=citation)
    headers = {"Content-Disposition": 'attachment; filename="cells.zip"'}
    return Response(found, media_type="application/zip", headers=headers)


@router.post("/enrolment-codes", status_code=201)
def make_code(request: Request, sent: CodeWanted, asking: Admin) -> enrolment.NewCode:
    """Make a one-time code for a device."""
    site = places.site(asking, sent.site)
    return enrolment.make_code(
        hub_of(request),
        sent.name,
        made_by=f"person {asking.name}",
        site=site,
        cohort=sent.cohort,
        scopes=sent.scopes,
        bound_site=asking.site,
    )


@router.delete("/devices/{id}", status_code=204)
def revoke(request: Request, id: CaseId, asking: Admin) -> None:
    """Revoke a device. Its results stay."""
    enrolment.revoke(hub_of(request), id, by=f"person {asking.name}", site=asking.site)


@router.get("/people")
def get_people(request: Request, asking: Admin) -> tuple[people.Account, ...]:
    """List the accounts."""
    return people.accounts(hub_of(request), asking.site)


@router.post("/people", status_code=201)
def add_person(request: Request, sent: AccountWanted, asking: Admin) -> people.Account:
    """Make an account."""
    return people.add(
        hub_of(request),
        sent.name,
        sent.roles,
        by=f"person {asking.name}",
        site=places.site(asking, sent.site),
        password=sent.password,
        subject=sent.subject,
    )


@router.delete("/people/{id}", status_code=204)
def disable(request: Request, id: CaseId, asking: Admin) -> None:
    """Close an account."""
    people.disable(hub_of(request), id, by=f"person {asking.name}", site=asking.site)


@router.get("/accesses")
def get_accesses(
    request: Request,
    asking: Admin,
    result: Annotated[str, Query(max_length=100)] = "",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> tuple[log.Access, ...]:
    """List who looked at what, newest first."""
    return log.accesses(hub_of(request), asking, result, before)


@router.get("/rollouts")
def get_rollouts(request: Request, asking: Anyone) -> tuple[releases.Rollout, ...]:
    """List the rules of the roll-outs, newest first."""
    return releases.rollouts(hub_of(request))


@router.post("/rollouts", status_code=201)
def add_rollout(request: Request, sent: RolloutWanted, asking: Admin) -> releases.Rollout:
    """Add a rule."""
    places.require_all_sites(asking)
    return releases.add(
        hub_of(request),
        sent.bundle,
        percentage=sent.percentage,
        cohort=sent.cohort,
        device_class=sent.device_class,
        by=f"person {asking.name}",
    )


@router.post("/rollouts/{id}/halt", status_code=204)
def halt(request: Request, id: CaseId, sent: Halt, asking: Admin) -> None:
    """Halt a roll-out."""
    places.require_all_sites(asking)
    releases.halt(hub_of(request), id, reason=sent.reason, by=f"person {asking.name}")


def set_cookie(response: Response, token: str, *, secure: bool) -> None:
    """Give the browser its session: no script reads it, no other site sends it along."""
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure, path="/")
