"""Reading of untrusted annotation files: bounded in size, with one-line errors that name the file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from maeseg.data.image_files import DataError
from maeseg.errors import reason
from maeseg.utils.regular_files import NotRegularError, open_regular

REMEDY = "correct it, or export it again"


def read_content(path: Path, most: int) -> bytes:
    """Read a file.

    Args:
        path: The file.
        most: Maximum number of bytes.

    Raises:
        DataError: The file is missing, too large, not readable, or a pipe or device.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > most:
                raise DataError(f"{path} has {size >> 20} MB, and the maximum is {most >> 20} MB: split it")
            return stream.read(size)  # the buffer of a read has the size that is asked for
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error


def read_start(path: Path, count: int) -> bytes:
    """Read the first bytes of a file; empty for a pipe or device.

    Raises:
        DataError: The file is not readable.
    """
    try:
        with open_regular(path) as stream:
            return stream.read(count)
    except NotRegularError:
        return b""
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error


def parse_json(content: bytes, path: Path) -> Any:
    """Parse JSON.

    Raises:
        DataError: The content is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: JSON, UTF-8, or a number with too many digits
        raise DataError(f"{path} is not valid JSON ({error}): {REMEDY}") from error


class _NoDoctype(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Raise a ValueError for a document type: it defines entities, and a few of them expand to gigabytes."""
        raise ValueError("it has a document type, which annotation tools do not write")


def parse_xml(content: bytes, path: Path) -> Element:
    """Parse XML without document types, and so without entity definitions.

    Raises:
        DataError: The content is not XML, or has a document type.
    """
    parser = XMLParser(target=_NoDoctype())
    try:
        parser.feed(content)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise DataError(f"{path} is not valid XML ({error}): {REMEDY}") from error
    return root


@contextmanager
def locating(where: str) -> Iterator[None]:
    """Convert an error about a value inside the context into a DataError that names its location."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: {error}: {REMEDY}") from error


def field(mapping: Any, name: str) -> Any:
    """Return a required field.

    Raises:
        ValueError: The field is missing, or ``mapping`` is not a mapping.
    """
    if not isinstance(mapping, dict) or name not in mapping:
        raise ValueError(f"{name} is missing")
    return mapping[name]


def integer(value: Any, name: str) -> int:
    """Return an integer; some exporters write 640.0.

    Raises:
        ValueError: The value is not an integer.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or int(value) != value:
        raise ValueError(f"{name} is {value!r}, not an integer")
    return int(value)


def text(value: Any, name: str) -> str:
    """Return a text that is not blank, without surrounding spaces.

    Raises:
        ValueError: The value is not a text, or blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}, not a text")
    return value.strip()
