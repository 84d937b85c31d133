"""PNG features that Pillow does not support: long texts (rejected) and 16-bit color channels (reduced to 8 bits)."""

import io
import struct
import zlib
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
    kept, left_out, place = [(0, len(SIGNATURE))], False, len(SIGNATURE)
    while True:
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        size = 12 + length  # with the head and the checksum
        unwanted = kind in _TEXTS and not _is_wanted(kind, stream.read(min(length, _LONGEST + 1)))
        if unwanted or kind == _PROFILE or _is_long_extra(kind, length):
            left_out = True
        else:
            kept.append((place, size))
        place += size
    stream.seek(0)
    return kept, left_out


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


def read_deep_colors(stream: BinaryIO) -> NDArray[np.uint16]:
    """Read a PNG of several 16-bit channels: (H, W, C), uint16."""
    from torchvision.io import ImageReadMode, decode_png

    content = torch.frombuffer(bytearray(without_long_texts(stream).read()), dtype=torch.uint8)
    values: NDArray[np.uint16] = decode_png(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    return values
