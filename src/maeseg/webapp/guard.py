"""Who may ask, and what a browser may do with the answer."""

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
"""Of every answer that has none of its own by that name."""


class Guard:
    """Answers this machine's own page alone.

    Any page that is open in the same browser can send requests to a loopback address. One that has made its own name
    mean 127.0.0.1 (DNS rebinding) shows in ``Host``; one that sends them across origins shows in ``Origin`` or
    ``Sec-Fetch-Site``, which no script can set. Following a link to the page is not refused.

    Args:
        app: What answers.
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
            refusal = JSONResponse({"error": "another site asks: open the page that maeseg app names"}, 403)
            await refusal(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)


def _from_elsewhere(headers: Headers) -> bool:
    if "origin" in headers:
        return headers["origin"] != f"http://{headers.get('host')}"
    followed = headers.get("sec-fetch-mode") == "navigate"
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not followed
