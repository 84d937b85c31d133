"""Tar shards written member by member, sound or not."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(number: int, form: str = "JPEG", size: tuple[int, int] = (24, 20)) -> bytes:
    """An image file's bytes: noise of its own for each number; ``size`` is (width, height)."""
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def write_shard(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w") -> Path:
    """Write a tar file: bytes as a regular member, a TarInfo as it comes.

    Args:
        path: The file.
        members: By name, in order.
        mode: As tarfile has it: ``w:gz`` compresses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member without content: a link, a device, a pipe."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
