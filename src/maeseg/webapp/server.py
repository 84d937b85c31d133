"""Server at one port of the loopback address."""

import errno
import logging
import os
import socket
from pathlib import Path

import uvicorn

from maeseg.errors import UserError
from maeseg.webapp.connections import BoundedConnection
from maeseg.webapp.guard import LOOPBACK
from maeseg.webapp.runs import find_runs
from maeseg.webapp.site import make_site

log = logging.getLogger(__name__)

ADDRESS = LOOPBACK[0]
_AT_ONCE = 32  # requests; a browser sends six


def serve(root: Path, port: int) -> None:
    """Serve the page of the runs in a folder until the process is interrupted.

    Args:
        root: A run folder, or a folder that holds some.
        port: Port to listen at; 0 for any free port.

    Raises:
        UserError: There is no run, or the port cannot be opened.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    found = len(find_runs(root))
    with listen(port) as listening:
        address = f"http://{ADDRESS}:{listening.getsockname()[1]}"
        log.info("%d run%s of %s at %s (Ctrl-C ends it)", found, "s" if found > 1 else "", root, address)
        make_server(root).run([listening])


def make_server(root: Path) -> uvicorn.Server:
    """Server of the page of the runs in a folder, with its limits."""
    config = uvicorn.Config(
        make_site(root), lifespan="off", http=BoundedConnection, ws="none", log_config=None, log_level="warning",
        access_log=False, server_header=False, proxy_headers=False, limit_concurrency=_AT_ONCE,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def listen(port: int) -> socket.socket:
    """Listen at a port of the loopback address.

    Raises:
        UserError: The number is out of range, or the port is in use or not permitted.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port} is out of range: give a number from 1024 to 65535, or 0 for any free port")
    try:
        return socket.create_server((ADDRESS, port))
    except PermissionError as error:
        raise UserError(f"--port {port} is not permitted: give one above 1023, or 0 for any free port") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        fault = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({reason})"
        raise UserError(f"--port {port} {fault}: give another, or 0 for any free port") from error
