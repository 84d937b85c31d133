"""Ctrl-C and SIGTERM: the first requests an end, so that the state can be saved; the second ends at once."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from maeseg.errors import Terminated

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Request to end training after the current step.

    Attributes:
        signum: Signal that made the request; None before.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals in a block; outside the main thread, where Python allows no handler, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.signal(signum, self._hear) for signum in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def ending(self) -> BaseException:
        """Exception that ends the program: for SIGTERM or Ctrl-C, in any of several processes."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else Terminated()

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        asked_before, self.signum = self.signum is not None, signum
        if asked_before:
            raise self.ending()
        with contextlib.suppress(RuntimeError):  # where the signal came in the middle of another line
            log.warning("stopping after this step, to save it; once more stops at once")
