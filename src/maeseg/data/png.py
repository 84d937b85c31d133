"""PNG features that Pillow does not support: long texts, 16-bit color channels, and detection of missing rows."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
_ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts that may contain the orientation
_FRAME = b"fdAT"
_LONGEST_EXTRA = 2**20  # bytes
_LONGEST = 2**18  # bytes
_SEVERAL = (2, 4, 6)  # color types of more than one channel: RGB, gray with alpha, RGB with alpha
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Interlaced passes (PNG specification, section 8.2): first column, first row, and the steps between them."""
_LONGEST_SIDE = 1_000_000  # pixels; libpng's own limit
_AT_ONCE = 2**20  # bytes


def without_long_texts(stream: BinaryIO) -> BinaryIO:
    """Remove texts and color profile from a PNG; return any other stream unchanged.

    Pillow rejects an image whose texts or profile exceed 1 MB. They are not used here, except EXIF and XMP texts, which
    may contain the orientation: these are kept up to 256 KB.
    """
    start = stream.read(len(SIGNATURE))
    stream.seek(0)
    if start != SIGNATURE:
        return stream
    kept, left_out = _sort_chunks(stream)
    if not left_out:
        return stream
    copy = io.BytesIO()
    for place, size in kept:
        stream.seek(place)
        copy.write(stream.read(size))
    copy.seek(0)
    return copy


def _sort_chunks(stream: BinaryIO) -> tuple[list[tuple[int, int]], bool]:
    """List offset and size of the chunks to keep, with a flag for removed ones; rewinds the stream."""
    kept, left_out = [(0, len(SIGNATURE))], False
    for place, length, kind in _chunks(stream):
        unwanted = kind in _TEXTS and not _is_wanted(kind, stream.read(min(length, _LONGEST + 1)))
        if unwanted or kind == _PROFILE or _is_long_extra(kind, length):
            left_out = True
        else:
            kept.append((place, 12 + length))  # with the head and the checksum
    stream.seek(0)
    return kept, left_out


def _chunks(stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """List offset, length and kind of each chunk; the stream is at the content of the chunk."""
    place = len(SIGNATURE)
    while True:
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield place, length, kind
        place += 12 + length


def _is_long_extra(kind: bytes, length: int) -> bool:
    """Test a chunk for one that is not needed to decode the image, and is long: Pillow would hold it in memory.

    The names of such chunks begin with a lower-case letter. Those of an animation's later frames, which are long, do so
    too, but Pillow does not read them for the first frame.
    """
    return kind[:1].islower() and kind != _FRAME and length > _LONGEST_EXTRA


def _is_wanted(kind: bytes, text: bytes) -> bool:
    """Test a text chunk: it may contain the orientation, and is short, also when decompressed."""
    if not text.startswith(_ORIENTED) or len(text) > _LONGEST:
        return False
    _, _, rest = text.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return True
    packed = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed, _LONGEST)
    except zlib.error:
        return False
    return not inflater.unconsumed_tail


def has_deep_colors(stream: BinaryIO) -> bool:
    """Test a stream for a PNG of several 16-bit channels, of which Pillow keeps only the upper 8 bits."""
    head = stream.read(26)
    stream.seek(0)
    return head.startswith(SIGNATURE) and len(head) == 26 and head[24] == 16 and head[25] in _SEVERAL


def check_rows(stream: BinaryIO) -> int:
    """Test a PNG for missing rows, which Pillow reads as black, and libpng ends the process for; rewinds the stream.

    Returns:
        Length of the compressed data that the rows need, in bytes; 0 for another file.

    Raises:
        ValueError: The compressed data ends before the last row.
        zlib.error: The compressed data is damaged.
    """
    head = stream.read(29)
    is_png = head.startswith(SIGNATURE) and len(head) == 29
    needed = _inflate(stream, _stored_bytes(*struct.unpack(">IIBBBBB", head[16:]))) if is_png else 0
    stream.seek(0)
    return needed


def _inflate(stream: BinaryIO, expected: int) -> int:
    """Inflate the pixels, compare their number of bytes, and verify their checksum; return the compressed length."""
    inflater, read = zlib.decompressobj(), 0
    for _, length, kind in _chunks(stream):
        left = length if kind == b"IDAT" else 0
        while left > 0 and not inflater.eof and (packed := stream.read(min(left, _AT_ONCE))):
            left, read = left - len(packed), read + len(packed)
            while packed and not inflater.eof:
                expected -= len(inflater.decompress(packed, _AT_ONCE))
                packed = inflater.unconsumed_tail
                if expected < 0:
                    raise ValueError("its compressed data holds more rows than its header")
    if expected or not inflater.eof:
        raise ValueError("its compressed data ends before the last row")
    return read - len(inflater.unused_data)


def _stored_bytes(width: int, height: int, depth: int, color: int, *methods: int) -> int:
    """Number of bytes of all rows before compression, each with the byte that names its filter."""
    passes = _PASSES if methods[-1] else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // step_x), -(-(height - y) // step_y)) for x, y, step_x, step_y in passes]
    bits = depth * _CHANNELS.get(color, 0)
    return sum((1 + -(-columns * bits // 8)) * rows for columns, rows in sides if columns > 0 and rows > 0)


def read_deep_colors(stream: BinaryIO) -> NDArray[np.uint16]:
    """Read a PNG of several 16-bit channels: (H, W, C), uint16.

    The pixels are checked before, and every other chunk is left out: an error of libpng may end the process.

    Raises:
        ValueError: Rows are missing, or a side is longer than a million pixels.
        zlib.error: The compressed data is damaged.
    """
    from torchvision.io import ImageReadMode, decode_png

    needed = check_rows(stream)
    head = stream.read(29)
    width, height, depth, color, *_, interlace = struct.unpack(">IIBBBBB", head[16:])
    if max(width, height) > _LONGEST_SIDE:
        raise ValueError(f"a side is longer than {_LONGEST_SIDE} pixels")
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, min(interlace, 1))
    pixels = b"".join(stream.read(length) for _, length, kind in _chunks(stream) if kind == b"IDAT")
    copy = SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels[:needed]) + _chunk(b"IEND", b"")
    content = torch.frombuffer(bytearray(copy), dtype=torch.uint8)
    values: NDArray[np.uint16] = decode_png(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    return values


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
