"""The command ``app``."""


def app(*, runs: str, port: int = 8000) -> None:
    """Serve a page for the browser on this machine: drop an image, see its mask, reconstruction, and the runs' reports.

    The page is for this machine alone (127.0.0.1); it needs no network, and an image that is dropped on it stays in
    memory. Needs the extra ``app``. Ctrl-C ends it.

    Args:
        runs: A pretrain, finetune or compare run, or a folder that holds such runs in any depth.
        port: Port to listen at; 0 takes any free port.

    Raises:
        UserError: The extra is not installed, there is no run, or the port is out of range, in use or not permitted.
    """
    import importlib.util
    from pathlib import Path

    from maeseg.errors import UserError

    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"maeseg app needs {' and '.join(missing)}: pip install 'maeseg[app]'")

    from maeseg.webapp.server import serve

    serve(Path(runs), port)
