"""Upload of an image: the body of a request, kept in memory only, up to a size limit."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_UPLOAD = 32 * 2**20
"""Largest upload, in bytes."""

UPLOAD_SECONDS = 120.0
"""Time for an upload: 32 MB take 30 s at 1 MB/s, through a forwarded port."""


async def read_upload(request: Request, name: str) -> bytes:
    """Read a request's body, and stop as soon as it is too large.

    Args:
        request: The request.
        name: Name of the image in an error.

    Raises:
        HTTPException: The body is larger than ``MAX_UPLOAD`` (413), or takes longer than ``UPLOAD_SECONDS`` (408).
    """
    announced = int(request.headers.get("content-length", 0))  # digits: the server has refused anything else
    if announced > MAX_UPLOAD:
        raise _too_large(name, f" ({announced / 2**20:.0f} MB)")
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > MAX_UPLOAD:
                    raise _too_large(name)
    except TimeoutError as error:
        late = f"{name} was not sent within {UPLOAD_SECONDS:g} seconds: scale it down, or use maeseg predict"
        raise HTTPException(408, late, {"Connection": "close"}) from error
    return bytes(content)


def _too_large(name: str, size: str = "") -> HTTPException:
    most = f"the page takes up to {MAX_UPLOAD // 2**20} MB"
    return HTTPException(413, f"{name} is too large{size}: {most}, so scale it down, or use maeseg predict")
