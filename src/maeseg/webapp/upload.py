"""Upload of an image: the body of a request, kept in memory only, up to a size limit."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_UPLOAD = 32 * 2**20
"""Largest upload, in bytes."""


async def read_upload(request: Request, name: str) -> bytes:
    """Read a request's body, and stop as soon as it is too large.

    Args:
        request: The request.
        name: Name of the image in an error.

    Raises:
        HTTPException: The body is larger than ``MAX_UPLOAD`` (413).
    """
    announced = int(request.headers.get("content-length", 0))  # digits: the server has refused anything else
    if announced > MAX_UPLOAD:
        raise _too_large(name, f" ({announced / 2**20:.0f} MB)")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_UPLOAD:
            raise _too_large(name)
    return bytes(content)


def _too_large(name: str, size: str = "") -> HTTPException:
    most = f"the page takes up to {MAX_UPLOAD // 2**20} MB"
    return HTTPException(413, f"{name} is too large{size}: {most}, so scale it down, or use maeseg predict")
