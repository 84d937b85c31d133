"""The page's server stays responsive: half-sent requests, special files, drives that hang, names that are not UTF-8."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_runs import fake_finetune, fake_pretrain

pytest.importorskip("uvicorn", reason="the page needs maeseg[app]")
testclient = pytest.importorskip("starlette.testclient", reason="the page needs maeseg[app]")

from maeseg.webapp import connections, site, upload  # noqa: E402
from maeseg.webapp.runs import find_runs  # noqa: E402
from maeseg.webapp.server import _AT_ONCE, listen, make_server  # noqa: E402
from maeseg.webapp.threads import in_thread  # noqa: E402

DEADLINE = 60  # seconds, for a busy machine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fake_finetune(tmp_path / "runs" / "fine")
    fake_pretrain(tmp_path / "runs" / "pre")
    return tmp_path / "runs"


def client_of(root: Path) -> Any:
    return testclient.TestClient(site.make_site(root), base_url="http://127.0.0.1:8000")


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder; gives the address."""
    server = make_server(root)
    with listen(0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


def status_of(address: tuple[str, int], request: bytes = b"") -> bytes:
    """Status of a request, of the page if none is given; empty if the connection is cut off."""
    with socket.create_connection(address, DEADLINE) as client:
        client.sendall(request or b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            return client.recv(12)
    return b""


def test_half_sent_requests_release_their_places(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.0)
    with served(root) as address, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(socket.create_connection(address, DEADLINE)) for _ in range(_AT_ONCE + 1)]
        for number, each in enumerate(halves):
            each.sendall((b"", b"GET / HTTP/1.1\r\nHo", b"POST /runs HTTP/1.1\r\nHost: 127.0.0.1\r\n")[number % 3])
        for each in halves:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        assert status_of(address) == b"HTTP/1.1 200"


def test_a_half_sent_body_releases_its_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(upload, "UPLOAD_SECONDS", 0.2)
    monkeypatch.setattr(site.Site, "_run", _first_run)
    half = b"POST /segment?run=fine HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc"
    with served(root) as address:
        assert status_of(address, half) == b"HTTP/1.1 408"
        with socket.create_connection(address, DEADLINE) as client:  # a body that nobody reads
            client.sendall(half.replace(b"POST /segment?run=fine", b"GET /"))
            while client.recv(2**16):
                pass


async def _first_run(self: site.Site, request: object, able_to: str | None = None) -> Any:
    return find_runs(self._root)[0]


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_pipe_as_an_example_is_an_error_and_the_rest_is_answered(kind: str, root: Path) -> None:
    file = root / "fine" / "examples" / f"00_{kind}.png"
    file.unlink()
    os.mkfifo(file)
    client = client_of(root)
    if kind == "image":
        answer = client.get("/example", params={"run": "fine", "number": "00"})
        assert answer.status_code == 400 and "00_image.png cannot be read: it is a pipe" in answer.json()["error"]
    answer = client.get("/report", params={"run": "fine"})
    assert answer.status_code == 400 and f"00_{kind}.png cannot be read: it is a pipe" in answer.json()["error"]
    assert client.get("/runs").status_code == 200


def test_a_drive_that_hangs_is_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(site, "READING_SECONDS", 0.1)
    monkeypatch.setattr(site, "find_runs", lambda root: go_on.wait(DEADLINE))
    with client_of(root) as client:
        began = time.monotonic()
        answer = client.get("/runs")
        assert answer.status_code == 504 and "no answer after 0.1 seconds" in answer.json()["error"]
        assert client.get("/").status_code == 200
    assert time.monotonic() - began < DEADLINE / 2
    go_on.set()


def test_a_timeout_of_the_function_itself_is_its_own_error() -> None:
    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        asyncio.run(in_thread(DEADLINE, fail))


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_run_whose_name_is_not_utf8_is_listed_escaped(root: Path) -> None:
    os.rename(os.fsencode(root / "fine"), os.fsencode(root) + b"/caf\xe9")
    example = os.fsencode(root) + b"/caf\xe9/examples/"
    os.rename(example + b"00_image.png", example + b"\xe9_image.png")
    client = client_of(root)
    names = [each["name"] for each in client.get("/runs").json()["report"]]
    assert names == ["caf\\xe9", "pre"]
    assert client.get("/example", params={"run": names[0], "number": "01"}).status_code == 200
    assert client.get("/report", params={"run": names[0]}).status_code == 200
    answer = client.get("/example", params={"run": names[0], "number": "99"})
    assert answer.status_code == 404 and "caf\\xe9" in answer.json()["error"]
    (root / "pre" / "config.yaml").unlink()
    os.mkfifo(root / "pre" / "config.yaml")
    assert [each["name"] for each in client.get("/runs").json()["report"]] == names[:1]
