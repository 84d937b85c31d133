"""Ctrl-C at a chosen moment."""

import contextlib
import logging
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stopped_at(message: str) -> Iterator[None]:
    """Ctrl-C when this is logged."""

    class Stop(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(message):
                signal.raise_signal(signal.SIGINT)

    logger, handler = logging.getLogger("maeseg"), Stop()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
