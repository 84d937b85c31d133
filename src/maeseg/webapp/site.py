"""Routes of the page and of its requests. No file is served by its name: a run is looked up among the found runs.

| request | answer |
|---|---|
| ``GET /``, ``/page/NAME`` | the page: the files of this package's ``page`` |
| ``GET /runs`` | the runs of each tab |
| ``GET /example?run=&number=`` | an image of a run's examples |
| ``POST /segment?run=&name=`` | the body is an image file |
| ``POST /reconstruct?run=&name=&mask_ratio=&seed=`` | the same |
| ``GET /report?run=`` | a run's report, from its present content |

An error is ``{"error": one line}``.
"""

import asyncio
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from maeseg.errors import UserError, in_one_line, reason
from maeseg.reporting.html import report_page
from maeseg.utils.regular_files import open_regular
from maeseg.webapp import answers
from maeseg.webapp.guard import Guard
from maeseg.webapp.runs import FoundRun, NoSuchRun, find_run, find_runs
from maeseg.webapp.threads import COMPUTING_SECONDS, READING_SECONDS, in_thread
from maeseg.webapp.upload import MAX_UPLOAD, read_upload

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""Policy of a report: its own styles and pictures, no script. Text from a run's files is inert."""

Result = TypeVar("Result")


class Answer(JSONResponse):
    """JSON in ASCII alone: a text of a file may hold characters that no encoding has."""

    def render(self, content: Any) -> bytes:
        """Bytes of an answer."""
        return json.dumps(content, allow_nan=False).encode("ascii")


class Site:
    """Answers to the requests of the page.

    Args:
        root: A run folder, or a folder that holds some.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._busy = asyncio.Lock()

    async def runs(self, request: Request) -> Response:
        """Runs that each tab offers."""
        return Answer(await in_thread(READING_SECONDS, _list_runs, self._root))

    async def example(self, request: Request) -> Response:
        """Image of a run's examples."""
        run = await self._run(request)
        content = await in_thread(READING_SECONDS, _read_example, run, request.query_params.get("number", ""))
        return Response(content, media_type="image/png")

    async def segment(self, request: Request) -> Response:
        """Class map that a network predicts for an image."""
        run, name = await self._run(request, "segment"), _name(request)
        content = await read_upload(request, name)
        return Answer(await self._compute(answers.segment, run, content, name))

    async def reconstruct(self, request: Request) -> Response:
        """Reconstruction of an image from its visible patches."""
        run, name = await self._run(request, "reconstruct"), _name(request)
        ratio, seed = _number(request, "mask_ratio", float), _number(request, "seed", int) or 0
        if not 0 <= seed < 2**63:
            raise UserError(f"seed {seed} is out of range: give a number from 0 to 2^63 - 1")
        content = await read_upload(request, name)
        return Answer(await self._compute(answers.reconstruct, run, content, name, ratio, seed))

    async def report(self, request: Request) -> Response:
        """Report of a run."""
        run = await self._run(request)
        page = (await self._compute(report_page, run.path)).encode(errors="replace")
        return Response(page, headers={"Content-Security-Policy": REPORT_POLICY}, media_type="text/html")

    async def _run(self, request: Request, able_to: str | None = None) -> FoundRun:
        run = await in_thread(READING_SECONDS, find_run, self._root, request.query_params.get("run", ""))
        if able_to and run.can != able_to:
            raise NoSuchRun(f"{run.name} has no network that can {able_to}: choose another run")
        return run

    async def _compute(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run one computation at a time, in a thread, so that other requests are answered meanwhile."""
        async with self._busy:
            return await in_thread(COMPUTING_SECONDS, function, *arguments)


def make_site(root: Path) -> ASGIApp:
    """ASGI application that serves the page of the runs in a folder.

    Args:
        root: A run folder, or a folder that holds some.
    """
    site = Site(root)
    routes = [
        Route("/runs", site.runs),
        Route("/example", site.example),
        Route("/segment", site.segment, methods=["POST"]),
        Route("/reconstruct", site.reconstruct, methods=["POST"]),
        Route("/report", site.report),
        *_page_routes(),
    ]
    return Guard(Starlette(routes=routes, exception_handlers=_HANDLERS))


def _page_routes() -> list[Route]:
    routes = []
    for file in files("maeseg.webapp").joinpath("page").iterdir():
        kind = KINDS[Path(file.name).suffix]

        async def give(request: Request, content: bytes = file.read_bytes(), kind: str = kind) -> Response:
            return Response(content, media_type=kind)

        routes.append(Route("/" if file.name == "index.html" else f"/page/{file.name}", give))
    return routes


def _list_runs(root: Path) -> dict[str, Any]:
    """List the runs of each tab."""
    found = find_runs(root)
    listed: dict[str, list[dict[str, Any]]] = {
        can: [{"name": run.name, "iou": run.iou, "examples": list(_examples(run))} for run in found if run.can == can]
        for can in ("segment", "reconstruct")
    }
    reports = sorted(found, key=lambda run: run.verb != "compare")
    listed["report"] = [{"name": run.name, "verb": run.verb} for run in reports]
    return {"root": root.resolve().name, "largest_upload": MAX_UPLOAD, **listed}


def _read_example(run: FoundRun, number: str) -> bytes:
    file = _examples(run).get(number)
    if file is None:
        raise HTTPException(404, f"{run.name} has no such example: load the page again")
    with open_regular(file) as stream:
        content = stream.read(MAX_UPLOAD + 1)
    if len(content) > MAX_UPLOAD:
        raise UserError(f"{file} is larger than {MAX_UPLOAD >> 20} MB: remove it, or repeat the run")
    return content


def _examples(run: FoundRun) -> dict[str, Path]:
    try:
        return run.examples()
    except UserError:  # a link to outside: a network can be used without
        return {}


def _name(request: Request) -> str:
    return request.query_params.get("name") or "the image"


def _number(request: Request, name: str, kind: type[int] | type[float]) -> Any:
    text = request.query_params.get(name)
    try:
        return None if text is None else kind(text)
    except ValueError as error:
        raise UserError(f"{name} {text} is not a number: give one") from error


async def _user_error(request: Request, error: Exception) -> Response:
    line = in_one_line(error)
    return Answer({"error": line}, 404 if isinstance(error, NoSuchRun) else 400)


async def _system_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return Answer({"error": f"{error.filename or 'a file of the run'} cannot be read: {reason(error)}"}, 400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Answer({"error": error.detail}, error.status_code, error.headers)


_HANDLERS = {UserError: _user_error, HTTPException: _http_error, OSError: _system_error}
