"""Ctrl-C and SIGTERM: the first asks for an end, so that the state can be saved; the second ends at once."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Ends training from within. No KeyboardInterrupt: of that one Lightning makes an exit without a word.

    Args:
        signum: What asked for it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Stop:
    """Whether someone has asked for an end.

    Attributes:
        asked: The signal that did; None while nobody has.
        patient: Whether there is something to finish first; otherwise a signal ends the work where it is.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.patient = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for a while; outside of the main thread, where Python allows none, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.listen()
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def listen(self) -> None:
        """Take the signals over, from whoever has taken them in the meantime."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._hear)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if not self.patient or self.asked is not None:
            raise Stopped(signum)
        self.asked = signum
        with contextlib.suppress(RuntimeError):  # where the signal came in the middle of another line
            log.warning("stopping after this step, to save it; once more stops at once")
