"""Bodies of requests: read in pieces, unpacked no further than the limit, and not for ever."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final, TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from edge.hub.problems import RefusedError

IDLE_SECONDS: Final = 30.0
"""A sender that says nothing for so long is cut off."""

TOTAL_SECONDS: Final = 600.0
"""No body takes longer than this: at 30 kB/s the largest still fits."""

SMALL: Final = 64 * 1024
Message = TypeVar("Message")


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """Give the body piece by piece, as sent. Raises RefusedError 408, and ClientDisconnect when it is cut off."""
    loop = asyncio.get_running_loop()
    end = loop.time() + TOTAL_SECONDS
    stream = request.stream().__aiter__()
    while True:
        try:
            chunk = await asyncio.wait_for(stream.__anext__(), min(IDLE_SECONDS, max(end - loop.time(), 0.001)))
        except StopAsyncIteration:
            return
        except (TimeoutError, asyncio.TimeoutError):
            raise RefusedError(408, "too-slow", "The body did not arrive in time.", "Send it again.") from None
        yield chunk


async def whole(request: Request, limit: int, *, keep_cut: bool = False) -> bytes:
    """Read the body, unpacked, up to `limit` bytes. Raises RefusedError 400, 408, 413 or 415.

    With `keep_cut`, what arrived of a body that was cut off is returned.
    """
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding not in {"identity", "gzip"}:
        raise RefusedError(415, "coding-unknown", "Only gzip is understood.", "Send the body as it is.")
    unpacker = zlib.decompressobj(wbits=31) if coding == "gzip" else None
    found = bytearray()
    try:
        async for chunk in chunks(request):
            found += chunk if unpacker is None else unpacker.decompress(chunk, limit + 1 - len(found))
            if len(found) > limit or (unpacker is not None and unpacker.unconsumed_tail):
                raise RefusedError(413, "too-large", f"The body has more than {limit} bytes.", "Send less at once.")
    except zlib.error:
        raise RefusedError(400, "gzip-broken", "The body is no gzip.", "Send it again.") from None
    except ClientDisconnect:
        if not keep_cut:
            raise
    else:
        if unpacker is not None and not unpacker.eof and not keep_cut:
            raise RefusedError(400, "gzip-broken", "The body ends too early.", "Send it again.")
    return bytes(found)


async def message(request: Request, kind: type[Message], limit: int = SMALL) -> Message:
    """Read the body as a structure of `edge.sync.messages`. Raises RefusedError 422 `not-understood`."""
    body = await whole(request, limit)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(422, "not-understood", f"The body is not what is expected: {error}.") from None
