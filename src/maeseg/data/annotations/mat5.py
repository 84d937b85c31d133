"""Reader of the arrays in MATLAB files of versions 5 to 7, by MathWorks' "MAT-File Format".

SciPy's reader is not used: it follows nested cells without limit, in C, so that a file of half a megabyte crashes the
process (SciPy 1.17), and it allocates any dimensions that a file declares. This reader supports numeric arrays, structs
and cells up to a depth; anything else (text, sparse and complex arrays, objects, functions) is None.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maeseg.data.image_files import MAX_PIXELS

Numbers: TypeAlias = NDArray[np.number[Any]]
Value: TypeAlias = "Numbers | dict[str, list[Value]] | list[Value] | None"
"""Array; fields of a struct, each with the values of all elements; or values of a cell."""

MOST_INFLATED = 2**28
"""Maximum total bytes of a file's variables after decompression."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_DEEPEST = 8
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _NUMERIC = 1, 2, range(6, 16)
_COMPLEX = 0x0800
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_Order = Literal["<", ">"]


def parse_mat5(content: bytes) -> dict[str, Value]:
    """Read all variables.

    Args:
        content: Content of the file.

    Returns:
        Values by variable name.

    Raises:
        ValueError: The file is damaged, of another version, or too large after decompression.
    """
    if content.startswith(_HDF5) or content[512:].startswith(_HDF5):  # after MATLAB's header
        raise ValueError("MATLAB 7.3 (HDF5) is not supported")
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("not a MATLAB file of version 5 to 7")
    order: _Order = "<" if content[126:128] == b"IM" else ">"
    variables, left = {}, MOST_INFLATED
    for kind, data in _elements(memoryview(content)[128:], order):
        if kind == _COMPRESSED:
            data = memoryview(_inflate(data, left, order))
            left -= len(data)
            kind, data = next(_elements(data, order))
        if kind == _MATRIX:
            name, value = _read_matrix(data, order, 0)
            variables[name] = value
    if not variables:
        raise ValueError("the file has no variables")
    return variables


def _inflate(data: memoryview, most: int, order: _Order) -> bytes:
    """Decompress an element: its tag first, and then as many bytes as the tag gives."""
    inflater = zlib.decompressobj()
    try:
        tag = inflater.decompress(data, 8)
        size = struct.unpack(order + "II", tag)[1] if len(tag) == 8 else 0
        if size > most:
            raise ValueError(f"more than {MOST_INFLATED >> 20} MB after decompression")
        inflated = tag + inflater.decompress(inflater.unconsumed_tail, size + 8)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflater.eof:
        raise ValueError("truncated, or more than its size after decompression")
    return inflated


def _elements(data: memoryview, order: _Order) -> Iterator[tuple[int, memoryview]]:
    """Iterate over elements as type and content; up to 4 bytes of content may be inside the tag's 8 bytes."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("the file is truncated")
        kind, count = struct.unpack_from(order + "II", data, at)
        start = at + 8
        if kind >> 16:
            kind, count, start = kind & 0xFFFF, kind >> 16, at + 4
        if count > (len(data) - start if start == at + 8 else 4):
            raise ValueError("the file is truncated or damaged")
        yield kind, data[start : start + count]
        padding = 0 if kind == _COMPRESSED else -(start + count) % 8
        at = start + count + padding


def _read_matrix(data: memoryview, order: _Order, depth: int) -> tuple[str, Value]:
    """Read the name and value of a matrix element, whose first three elements are flags, dimensions and name."""
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} nested cells or structs")
    if not data:
        return "", None
    elements = _elements(data, order)
    head = list(itertools.islice(elements, 3))
    if len(head) < 3 or len(head[0][1]) != 8 or head[1][0] not in (5, 6):
        raise ValueError("an array without size or name")
    (flags,) = struct.unpack_from(order + "I", head[0][1])
    shape = np.frombuffer(head[1][1], order + "i4").tolist()
    if any(side < 0 for side in shape) or math.prod(shape) > MAX_PIXELS:
        raise ValueError(f"an array of {shape} values")
    name = bytes(head[2][1]).decode("latin-1")
    return name, _read_value(flags, shape, elements, order, depth)


def _read_value(
    flags: int, shape: list[int], elements: Iterator[tuple[int, memoryview]], order: _Order, depth: int
) -> Value:
    kind = flags & 0xFF
    if kind in _NUMERIC and not flags & _COMPLEX:
        return _read_numbers(*next(elements, (0, memoryview(b""))), shape, order)
    if kind == _CELL:
        return _read_many(elements, math.prod(shape), order, depth)
    if kind == _STRUCT:
        (_, length), (_, joined) = (next(elements, (0, memoryview(b""))) for _ in range(2))
        names = _field_names(bytes(joined), int.from_bytes(length, "little" if order == "<" else "big"))
        values = _read_many(elements, math.prod(shape) * len(names), order, depth)
        return {name: values[place :: len(names)] for place, name in enumerate(names)}
    return None


def _read_numbers(kind: int, data: memoryview, shape: list[int], order: _Order) -> Numbers:
    if kind not in _TYPES:
        raise ValueError("an array of unknown type")
    return np.frombuffer(data, order + _TYPES[kind]).reshape(shape, order="F")


def _read_many(elements: Iterator[tuple[int, memoryview]], count: int, order: _Order, depth: int) -> list[Value]:
    values = []
    for kind, data in elements:
        if kind != _MATRIX:
            raise ValueError("a cell or struct with elements other than arrays")
        values.append(_read_matrix(data, order, depth + 1)[1])
    if len(values) != count:
        raise ValueError(f"a cell or struct of {len(values)} values instead of {count}")
    return values


def _field_names(joined: bytes, length: int) -> list[str]:
    """Split the names of a struct's fields, each of ``length`` bytes, padded with zeros."""
    if not 0 < length <= 64 or len(joined) % length:
        raise ValueError("a struct without field names")
    fields = [joined[at : at + length] for at in range(0, len(joined), length)]
    return [each.split(b"\0", 1)[0].decode("latin-1") for each in fields]
