"""Pages of a TIFF file, and the values of a page: from the file itself, and no larger than its header says.

Metadata of microscopes (OME-XML, Micro-Manager, NDTiff) may name other files, by any path. These are never opened: an
image is the pages of its own file.

Compressed strips and tiles are decompressed here: tifffile's decoders return all that a strip unpacks to, and a strip
of 1.5 MB may unpack to 1.5 GB.

Axes: H W pixels.
"""

import lzma
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

PLAIN = {1, 8, 32946, 32773, 34925}
"""Codecs read without another library: none, deflate (two codes), PackBits, LZMA."""

_NONE, _PACKBITS, _LZMA = 1, 32773, 34925
_SPARE = 2**16  # bytes that a strip may have beyond its size
_TIMES, _ALWAYS = 4, 2**24  # tiles may cover as many times the image's pixels, or as many pixels in any case
_DICTIONARY = 2**28  # bytes of memory of an LZMA decoder


def open_tiff(file: Path | BinaryIO) -> Any:
    """Open a TIFF file with tifffile; no other file is opened, even if the metadata name one."""
    return tifffile.TiffFile(file, _multifile=False, is_ome=False, is_mmstack=False, is_ndtiff=False)


def read_values(series: Any) -> NDArray[Any]:
    """Read the values of a series of pages with a codec of ``PLAIN``, in the shape of the series.

    Raises:
        ValueError: A strip or tile is damaged, or unpacks to more than its size.
    """
    if series.keyframe.compression == _NONE and series.keyframe.is_contiguous:
        values: NDArray[Any] = series.asarray()
        return values
    pages = [_read_page(page, series.keyframe) for page in series.pages]
    return (np.stack(pages) if len(pages) > 1 else pages[0]).reshape(series.shape)


def check_tiles(page: Any) -> None:
    """Raise a ValueError for tiles that cover far more than the image: each is decoded in full."""
    if not page.is_tiled:
        return
    tile, image = (page.tilelength, page.tilewidth), (page.imagelength, page.imagewidth)
    covered = math.prod(-(-side // each) * each for side, each in zip(image, tile, strict=True))
    if covered > max(_TIMES * math.prod(image), _ALWAYS):
        raise ValueError(f"tiles of {page.tilewidth} x {page.tilelength} pixels in a smaller image")


def _read_page(page: Any, keyframe: Any) -> NDArray[Any]:
    """Assemble a page from its strips or tiles, as ``TiffPage.asarray`` does."""
    codec, size = keyframe.compression, _segment_bytes(keyframe)
    file, result = page.parent.filehandle, np.zeros(keyframe.shaped, keyframe.dtype)
    if (found := len(page.dataoffsets)) < (needed := math.prod(keyframe.chunked)):
        raise ValueError(f"{found} of {needed} strips or tiles")
    keyframe.compression = _NONE  # so that its decoder only arranges the values
    try:
        for data, index in file.read_segments(page.dataoffsets, page.databytecounts):
            unpacked = None if data is None else unpack(codec, data, size)
            segment, (sample, depth, top, left, _), shape = keyframe.decode(unpacked, index)
            target = result[sample, depth : depth + shape[0], top : top + shape[1], left : left + shape[2]]
            if segment is None:
                target[...] = keyframe.nodata
            else:
                target[...] = segment[: target.shape[0], : target.shape[1], : target.shape[2]]
    finally:
        keyframe.compression = codec
    return result


def _segment_bytes(page: Any) -> int:
    """Bytes of a strip or tile, unpacked."""
    width, rows = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    depth = page.tiledepth if page.is_tiled else 1
    rows = min(rows, max(page.imagelength, page.tilelength))
    return int(depth * rows * math.ceil(width * samples * page.bitspersample / 8))


def unpack(codec: int, data: bytes, size: int) -> bytes:
    """Decompress a strip.

    Args:
        codec: TIFF's code of the compression: deflate, PackBits or LZMA.
        data: The strip as stored.
        size: Its number of bytes; a few more, to the end of the row or of a block, are tolerated.

    Raises:
        ValueError: It is damaged, or has many more bytes.
    """
    if codec == _NONE:
        return data
    most = size + _SPARE
    if codec == _PACKBITS:
        return _unpack_bits(data, most)
    packed: Any = zlib.decompressobj() if codec != _LZMA else lzma.LZMADecompressor(memlimit=_DICTIONARY)
    try:
        unpacked: bytes = packed.decompress(data, most + 1)
    except (zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error
    if len(unpacked) > most:
        raise _too_long(size)
    if not packed.eof:
        raise ValueError("incomplete or truncated strip")
    return unpacked


def _unpack_bits(data: bytes, most: int) -> bytes:
    """Decompress PackBits (TIFF 6.0, section 9): a length and as many bytes, or a negative one and a byte to repeat."""
    unpacked, place = bytearray(), 0
    while place < len(data) - 1:
        length = data[place]
        if length < 128:
            unpacked += data[place + 1 : place + length + 2]
            place += length + 2
        else:
            unpacked += data[place + 1 : place + 2] * (257 - length if length > 128 else 0)
            place += 2 if length > 128 else 1
        if len(unpacked) > most:
            raise _too_long(most - _SPARE)
    return bytes(unpacked)


def _too_long(size: int) -> ValueError:
    return ValueError(f"a strip or tile of {size} bytes unpacks to more")
