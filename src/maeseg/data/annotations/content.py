"""Reading annotation files of strangers: bounded, and every fault is one line that names the file."""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from maeseg.data.image_files import DataError
from maeseg.errors import reason

REMEDY = "correct it, or export it again"


def read_content(path: Path, most: int) -> bytes:
    """Read a file.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        DataError: It is missing, too large, may not be read, or is a pipe or device.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{path} is not a regular file: remove it")  # a pipe would be waited for without end
        if about.st_size > most:
            raise DataError(f"{path} has {about.st_size >> 20} MB, and at most {most >> 20} are read: split it")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error


def read_start(path: Path, count: int) -> bytes:
    """Read the first bytes of a file; nothing of a pipe or device.

    Raises:
        DataError: It may not be read.
    """
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error


def parse_json(content: bytes, path: Path) -> Any:
    """Parse JSON.

    Raises:
        DataError: It is no JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: of JSON, of UTF-8, and of an endless number
        raise DataError(f"{path} is no sound JSON ({error}): {REMEDY}") from error


class _NoDoctype(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse a document type, which defines entities: a few of them expand to gigabytes."""
        raise ValueError("it has a document type, which no annotation tool writes")


def parse_xml(content: bytes, path: Path) -> Element:
    """Parse XML without document types, hence without entities of its own.

    Raises:
        DataError: It is no XML, or has a document type.
    """
    parser = XMLParser(target=_NoDoctype())
    try:
        parser.feed(content)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that does not exist
        raise DataError(f"{path} is no sound XML ({error}): {REMEDY}") from error
    return root


@contextmanager
def locating(where: str) -> Iterator[None]:
    """Turn what is wrong with a value into a DataError that says where it stands."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: {error}: {REMEDY}") from error


def field(mapping: Any, name: str) -> Any:
    """Take a field that must be there.

    Raises:
        ValueError: It is not, or ``mapping`` is no mapping.
    """
    if not isinstance(mapping, dict) or name not in mapping:
        raise ValueError(f"{name} is missing")
    return mapping[name]


def whole(value: Any, name: str) -> int:
    """Take a whole number; some exporters write 640.0.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or int(value) != value:
        raise ValueError(f"{name} is {value!r}, not a whole number")
    return int(value)


def text(value: Any, name: str) -> str:
    """Take a text that is not blank, without the spaces around it.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}, not a text")
    return value.strip()
