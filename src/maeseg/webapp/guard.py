"""Refusal of requests from other sites, and security headers of every answer."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Default headers of every answer."""


class Guard:
    """ASGI middleware that answers only the page of this machine.

    Any page in the same browser can send requests to a loopback address. DNS rebinding, where another name resolves
    to 127.0.0.1, is recognized by ``Host``; requests across origins by ``Origin`` or ``Sec-Fetch-Site``, which no
    script can set. A link to the page may be followed.

    Args:
        app: Application that answers the accepted requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = TrustedHostMiddleware(app, LOOPBACK, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if _from_elsewhere(Headers(scope=scope)):
            refusal = JSONResponse(
                {"error": "the request comes from another site: open the address that maeseg app prints"}, 403
            )
            await refusal(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)


def _from_elsewhere(headers: Headers) -> bool:
    if "origin" in headers:
        return headers["origin"] != f"http://{headers.get('host')}"
    followed = headers.get("sec-fetch-mode") == "navigate"
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not followed
