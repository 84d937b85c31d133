"""Files that are no regular files are refused at once, by name, and every reader uses the one opener."""

import ast
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import maeseg
from maeseg.utils.regular_files import NotRegularError, check_regular, open_regular, open_text, read_bytes, read_text

SOURCE = Path(maeseg.__file__).parent
OTHER_OPENERS = {"Image", "tarfile", "rasterio", "memory", "target", "os"}
"""Their ``open`` takes a stream, writes, or is of a folder."""
NOT_OF_USERS = {
    "utils/regular_files.py", "utils/memory.py", "exporting/model_card.py", "runs/provenance.py", "webapp/site.py",
}  # fmt: skip
"""The opener itself, and readers of the package's own files and of the system's."""


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_other_kinds_of_files_are_refused_at_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("x") if kind != "device" else Path("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            server.bind(str(path))
        elif kind == "folder":
            path.mkdir()
        for read in (open_regular, open_text, read_bytes, read_text, check_regular):
            with pytest.raises(NotRegularError) as error:
                read(path)
            assert error.value.filename == str(path) and kind in str(error.value.strerror)


def test_a_file_that_is_replaced_between_the_look_and_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, look = tmp_path / "x", os.stat
    file.write_bytes(b"x")

    def look_and_replace(path: str) -> os.stat_result:
        found = look(path)
        os.unlink(path)
        os.mkfifo(path)
        return found

    monkeypatch.setattr(os, "stat", look_and_replace)
    with pytest.raises(NotRegularError):
        open_regular(file)


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("é\n", encoding="utf-8")
    (tmp_path / "link").symlink_to("x")
    assert read_text(tmp_path / "link") == "é\n"
    assert read_bytes(tmp_path / "x") == "é\n".encode()
    check_regular(tmp_path / "link")


def readers(tree: ast.Module) -> Iterator[int]:
    """Lines of calls that open a path for reading by Python's own means."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        place = 0 if owner else 1
        mode = node.args[place] if len(node.args) > place else None
        writes = isinstance(mode, ast.Constant) and isinstance(mode.value, str) and mode.value[:1] in "wxa"
        opens = name == "open" and not (isinstance(owner, ast.Name) and owner.id in OTHER_OPENERS) and not writes
        from_archive = opens and isinstance(owner, ast.Name) and owner.id == "archive"
        is_text_of_path = name in ("read_text", "read_bytes") and owner is not None
        if (opens and not from_archive) or is_text_of_path:
            yield node.lineno


def test_every_reader_uses_the_opener() -> None:
    found = {
        f"{name}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        if (name := path.relative_to(SOURCE).as_posix()) not in NOT_OF_USERS
        for line in readers(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found
