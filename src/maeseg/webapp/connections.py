"""Connections that release their place: a client that sends half a request, or reads no answer, is cut off."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 5.0
"""Time for the first line and the headers of a request, and for each part of an answer to be taken."""


class BoundedConnection(H11Protocol):
    """uvicorn's connection with a time limit wherever it waits for the client; see ``upload`` for bodies.

    uvicorn itself limits only the time between an answer and the next byte. The arguments are uvicorn's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; its last one ends the wait."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait."""
        super().connection_lost(exc)
        self._stop()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Start the time limit where the client has the next move, once: more bytes do not extend it."""
        unsent = self.transport.get_write_buffer_size()
        if self._answering and not unsent:
            self._stop()
        elif self._limit is None:
            self._unsent = unsent
            self._limit = self.loop.call_later(REQUEST_SECONDS, self._expire)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _expire(self) -> None:
        self._limit = None
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent or (self._answering and not unsent):  # the client takes a long answer, or took all
            self._watch()
        else:
            self.transport.abort()
