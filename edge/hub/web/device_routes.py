"""The protocol of docs/sync-protocol.md over HTTP: what devices ask the hub."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from edge.hub import enrolment, fleet, ingest, people, pictures, releases, wayback
from edge.hub.core import Device
from edge.hub.problems import RefusedError
from edge.hub.web import body
from edge.hub.web.doors import hub_of
from edge.hub.web.schemas import answers, described
from edge.sync import messages as m

router = APIRouter(tags=["device"])
ID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_SHA256: Final = re.compile("[0-9a-f]{64}")
_RANGE: Final = re.compile(r"bytes (\d{1,12})-(\d{1,12})/(\d{1,12})")


def answer(message: msgspec.Struct, status: int = 200) -> Response:
    """Write a message as the body of an answer."""
    return Response(msgspec.json.encode(message), status, media_type="application/json")


def needs(scope: str = "") -> Any:
    """Depend on a device that has signed in, with a scope."""

    def signed_in(request: Request) -> Device:
        device = enrolment.sign_in(hub_of(request), request.headers.get("authorization"))
        request.state.actor = f"device {device.id}"
        if scope and scope not in device.scopes:
            raise RefusedError(403, "scope-missing", f"The device's credential is not good for {scope}.")
        return device

    return Depends(signed_in)


@router.post(
    "/enrolments",
    openapi_extra=described(m.EnrolmentRequest),
    responses=answers(403, 409, 410, 413, 422, 429, kind=m.Enrolment, ok=(200, 201)),
    status_code=201,
)
async def enrol(request: Request) -> Response:
    """Become a device of the hub, by a one-time code."""
    hub = hub_of(request)
    await run_in_threadpool(people.limit, hub, f"enrol {request.state.address}", 30, 600)
    asked = await body.message(request, m.EnrolmentRequest)
    made, new = await run_in_threadpool(enrolment.enrol, hub, asked, request.state.address)
    return answer(made, 201 if new else 200)


@router.get("/device", responses=answers(401, kind=m.DeviceState))
def state(request: Request, device: Annotated[Device, needs()]) -> Response:
    """What the hub knows about the device that asks."""
    return answer(wayback.state(hub_of(request), device))


@router.post(
    "/device/credential",
    openapi_extra=described(m.RotationRequest),
    responses=answers(401, 413, 422, ok=(204,)),
    status_code=204,
)
async def rotate(request: Request, device: Annotated[Device, needs()]) -> Response:
    """Replace the device's secret."""
    asked = await body.message(request, m.RotationRequest)
    await run_in_threadpool(enrolment.rotate, hub_of(request), device, asked.credential_sha256)
    return Response(status_code=204)


@router.put(
    "/device/clock-anchors/{boot_id}",
    openapi_extra=described(m.ClockAnchor),
    responses=answers(401, 403, 413, 422, ok=(200, 201)),
)
async def keep_anchor(request: Request, boot_id: str, device: Annotated[Device, needs("results")]) -> Response:
    """Tell the true time of one moment of a boot."""
    anchor = await body.message(request, m.ClockAnchor)
    new = await run_in_threadpool(wayback.keep_anchor, hub_of(request), device, boot_id, anchor)
    return Response(status_code=201 if new else 200)


@router.put(
    "/device/health",
    openapi_extra=described(m.HealthReport),
    responses=answers(401, 403, 413, 422, ok=(204,)),
    status_code=204,
)
async def keep_health(request: Request, device: Annotated[Device, needs("health")]) -> Response:
    """Tell how the device is."""
    report = await body.message(request, m.HealthReport)
    await run_in_threadpool(fleet.keep_health, hub_of(request), device, report)
    return Response(status_code=204)


@router.put(
    "/results/{id}/versions/{version}",
    openapi_extra={
        **described(m.ResultVersion),
        "parameters": [
            {"name": m.CONTENT_HASH, "in": "header", "required": True, "schema": {"type": "string"}},
        ],
    },
    responses=answers(400, 401, 403, 409, 412, 413, 422, kind=m.Acknowledgement, ok=(200, 201)),
)
async def put_version(request: Request, id: str, version: int, device: Annotated[Device, needs("results")]) -> Response:
    """Store one version of a result."""
    sent = await body.whole(request, m.MAX_RESULT_BYTES)
    stated = request.headers.get(m.CONTENT_HASH)
    made, new = await run_in_threadpool(ingest.receive, hub_of(request), device, id, version, stated, sent)
    return answer(made, 201 if new else 200)


@router.post(
    "/pictures/missing",
    openapi_extra=described(m.PictureQuestion),
    responses=answers(401, 403, 413, 422, kind=m.PictureAnswer),
)
async def which_missing(request: Request, device: Annotated[Device, needs("pictures")]) -> Response:
    """Ask which pictures the hub lacks."""
    # Ten thousand hashes of 67 bytes: more than the limit for small bodies.
    asked = await body.message(request, m.PictureQuestion, 1024 * 1024)
    return answer(await run_in_threadpool(pictures.which_missing, hub_of(request), device, asked.pictures))


@router.post(
    "/pictures",
    openapi_extra={"requestBody": {"content": {m.PICTURES_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    responses=answers(400, 401, 403, 413, 415, kind=m.PicturesReceived),
)
async def post_pictures(request: Request, device: Annotated[Device, needs("pictures")]) -> Response:
    """Store several small pictures."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != m.PICTURES_TYPE:
        raise RefusedError(415, "type-unknown", f"The body is not {m.PICTURES_TYPE}.")
    sent = await body.whole(request, m.MAX_BATCH_BYTES, keep_cut=True)
    return answer(await run_in_threadpool(pictures.receive_several, hub_of(request), device, sent))


@router.head("/pictures/{sha256}", responses=answers(401, 403, 404))
def picture_offset(request: Request, sha256: str, device: Annotated[Device, needs("pictures")]) -> Response:
    """Tell how much of a picture is here."""
    held, complete = pictures.offset(hub_of(request), device, _hash(sha256))
    return Response(headers={m.UPLOAD_OFFSET: str(held), m.UPLOAD_COMPLETE: "?1" if complete else "?0"})


@router.put(
    "/pictures/{sha256}",
    openapi_extra={
        "requestBody": {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        "parameters": [{"name": "Content-Range", "in": "header", "required": True, "schema": {"type": "string"}}],
    },
    responses=answers(400, 401, 403, 404, 408, 409, 422, 503, ok=(200, 201, 202)),
)
async def put_picture(request: Request, sha256: str, device: Annotated[Device, needs("pictures")]) -> Response:
    """Store a part of a picture."""
    wanted = _RANGE.fullmatch(request.headers.get("content-range", ""))
    if wanted is None:
        raise RefusedError(400, "range-invalid", "A Content-Range is needed.", "See docs/sync-protocol.md.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "coding-unknown", "A picture is sent as it is.")
    first, last, total = (int(number) for number in wanted.groups())
    upload = pictures.Upload(hub_of(request), device, _hash(sha256), first, last, total)
    if not await run_in_threadpool(upload.open):
        return _offset_answer(200, total, complete=True)
    try:
        try:
            async for chunk in body.chunks(request):
                await run_in_threadpool(upload.write, chunk)
        except ClientDisconnect:
            pass  # what arrived is kept; nobody reads the answer
        finally:
            held = await run_in_threadpool(upload.keep)
        complete = await run_in_threadpool(upload.finish)
    finally:
        upload.close()
    return _offset_answer(201 if complete else 202, held, complete=complete)


@router.get("/device/changes", responses=answers(400, 401, 403, kind=m.Changes))
def changes(
    request: Request,
    device: Annotated[Device, needs("changes")],
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Response:
    """Give the versions that were made at the hub, after a cursor."""
    return answer(wayback.changes(hub_of(request), device, after, limit))


@router.get("/device/release", responses=answers(401, 403, kind=m.WantedRelease))
def wanted_release(request: Request, device: Annotated[Device, needs("releases")]) -> Response:
    """Tell which bundle the device shall have."""
    return answer(releases.wanted(hub_of(request), device))


def _hash(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise RefusedError(404, "not-found", "This is no SHA-256.")
    return sha256


def _offset_answer(status: int, held: int, *, complete: bool) -> Response:
    return Response(
        status_code=status, headers={m.UPLOAD_OFFSET: str(held), m.UPLOAD_COMPLETE: "?1" if complete else "?0"}
    )
