"""Threads with a time limit, so that a file system or a computation that hangs delays no other request."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from starlette.exceptions import HTTPException

Result = TypeVar("Result")

READING_SECONDS = 30.0
"""Time for finding and reading runs; a network drive that does not answer takes longer."""
COMPUTING_SECONDS = 600.0
"""Time for a network's answer or a report, with the wait for the one before."""


async def in_thread(seconds: float, function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a thread of its own; one that takes too long is left behind, and ends with the process.

    asyncio's own threads would keep the process from ending.

    Raises:
        HTTPException: The time is over (504).
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():  # given up
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None alone if that is what the function returns

    def call() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=call, daemon=True).start()
    try:
        return await asyncio.wait_for(future, seconds)
    except TimeoutError as error:
        if future.done() and not future.cancelled():  # the function's own
            raise
        raise HTTPException(504, f"no answer after {seconds:g} seconds: is the drive of the runs connected?") from error
