"""Pictures of every kind, generated."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
HEIGHT, WIDTH = 48, 64


def noise(channels: int, dtype: str = "uint8", seed: int = 0) -> Array:
    """Random values (C, H, W), of integers over their whole range."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.normal(3, 2, (channels, HEIGHT, WIDTH)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (channels, HEIGHT, WIDTH), dtype, endpoint=True)


def smooth(channels: int) -> Array:
    """Values (C, H, W) that a lossy codec keeps nearly as they are."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(rows * (place + 1) + columns * 2) // 2 for place in range(channels)]).astype(np.uint8)


def gdal(values_CHW: Array, **options: Any) -> bytes:
    """A TIFF file as GDAL writes it."""
    count, height, width = values_CHW.shape
    with warnings.catch_warnings(action="ignore"), rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", height=height, width=width, count=count, dtype=values_CHW.dtype, **options
        ) as target:
            target.write(values_CHW)
        content: bytes = file.read()
    return content


def tiff(values: Array, **options: Any) -> bytes:
    """A TIFF file as tifffile writes it."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def deep_png(values_CHW: Array) -> bytes:
    """A PNG of 16 bits a channel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    count, height, width = values_CHW.shape
    rows = [b"\0" + row.tobytes() for row in values_CHW.transpose(1, 2, 0).astype(">u2")]
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    pixels = zlib.compress(b"".join(rows))
    turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"  # EXIF that says upside down
    chunks = chunk(b"IHDR", header) + chunk(b"eXIf", turned) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def npy(values: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()
