"""Images in tar shards of webdataset's layout, read in place.

Nothing is ever extracted: a member's name is a label, never a path to write to. A shard is scanned once, when the
source is opened, for where each image's bytes lie; reading one is then a seek in a file that is opened for it alone, so
loader workers share no position in a file, forked or spawned.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.facts import ImageFacts, Part, digest
from maeseg.data.image_files import DataError, list_files
from maeseg.data.image_reading import RGB, decode_image, nodata_mask, picture_of, read_pixels, suffixes
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import check_pixels
from maeseg.errors import UserError, reason
from maeseg.labels.classes import BINARY

SHARD_SUFFIX = ".tar"


class _Member(NamedTuple):
    shard: int
    offset: int  # bytes
    size: int  # bytes
    name: str


class TarShards:
    """Unlabeled images in ``.tar`` files, in the order of the files' names and of their members.

    Members whose name up to its first dot is the same are one sample, ``cat_7.jpg`` with ``cat_7.json``. Of a sample
    with a ``cat_7.jpg`` that image alone is taken, and so not ``cat_7.seg.png`` beside it. Links, devices, hidden files
    and names that lead outside are left out.

    Args:
        root: A shard, or the folder that holds them, at any depth.
        channels: Of the images; other than 3, they are read as they are stored.

    Attributes:
        largest: The value of 16 bits that images are scaled by.

    Raises:
        UserError: A shard is damaged, compressed or no tar file, or there is no image in any.
    """

    def __init__(self, root: str | Path, channels: int = RGB) -> None:
        self.root = Path(root)
        self.name = str(root)
        self.labeled = False
        self.channels = channels
        self.largest = FULL
        self.classes = BINARY
        self._shards = find_shards(self.root)
        self._members = [
            _Member(number, *where)
            for number, shard in enumerate(self._shards)
            for where in _images_in(shard, suffixes(channels))
        ]
        if not self._members:
            raise UserError(
                f"{root}: no images in {len(self._shards)} tar shards; looked for {', '.join(suffixes(channels))}"
            )

    def __len__(self) -> int:
        return len(self._members)

    def file(self, index: int) -> str:
        """Return the image's shard and name in it, as ``shard-000.tar/cat_7.jpg``."""
        member = self._members[index]
        return f"{self._shards[member.shard].name}/{member.name}"

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the shard that holds the image, and from which byte on."""
        member = self._members[index]
        return [(self._shards[member.shard], member.offset)]

    def image(self, index: int) -> Image.Image:
        """Read an image as a picture. Raises DataError, naming shard and member, where it is broken."""
        if self.channels != RGB:
            return picture_of(self.pixels(index))
        return decode_image(*self._content(index), largest=self.largest)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a network does: (C, H, W). Raises DataError, naming shard and member, where it is broken."""
        return read_pixels(*self._content(index), self.channels, largest=self.largest)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's pixels without data, (H, W); None if there are none."""
        return nodata_mask(*self._content(index), self.channels)

    def part(self, index: int) -> Part | None:
        """Return None: shards have no parts or groups of their own."""
        return None

    def group(self, index: int) -> str | None:
        """Return None: shards have no parts or groups of their own."""
        return None

    def check(self, index: int) -> ImageFacts:
        """Return an image's facts; raise a DataError where it cannot be read."""
        content, name = self._content(index)
        facts = check_pixels(content, name, self.channels)
        return ImageFacts(digest(content), facts.height, facts.width, facts)

    def label(self, index: int) -> Image.Image:
        """Raise a ValueError: shards hold no labels."""
        raise ValueError(f"source {self.name} has no labels")

    def _content(self, index: int) -> tuple[bytes, str]:
        number, offset, size, name = self._members[index]
        shard = self._shards[number]
        try:
            with shard.open("rb") as file:
                file.seek(offset)
                return file.read(size), f"{shard}/{name}"
        except OSError as error:
            raise DataError(f"{shard} can no longer be read ({reason(error)}): put it back") from error


def find_shards(root: Path) -> list[Path]:
    """Find the shards that a path names: itself, or those in the folder, at any depth, sorted."""
    if root.is_file():
        return [root] if root.suffix.lower() == SHARD_SUFFIX else []
    return [root / path for path in list_files(root, (SHARD_SUFFIX,))]


def _images_in(shard: Path, wanted: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Offset, size and name of each sample's image."""
    samples: dict[str, list[tuple[bool, tuple[int, int, str]]]] = {}
    for member in _scan(shard):
        path = PurePosixPath(member.name)
        inside = not path.is_absolute() and not any(part.startswith(".") for part in path.parts)
        if not inside or not member.isreg() or member.issparse() or not path.name.lower().endswith(wanted):
            continue
        stem, _, extension = path.name.partition(".")
        plain = f".{extension.lower()}" in wanted
        found = (member.offset_data, member.size, str(path))
        samples.setdefault(str(path.with_name(stem)), []).append((plain, found))
    images = []
    for found_of_sample in samples.values():
        of_sample = [found for plain, found in found_of_sample if plain][:1]
        images += of_sample or [found for _, found in found_of_sample]
    return images


def _scan(shard: Path) -> Iterator[tarfile.TarInfo]:
    end = -1
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.offset_data <= end or member.size < 0:
                    raise tarfile.ReadError(f"the header of {member.name!r} points backwards")  # it would never end
                end = member.offset_data
                yield member
            _check_end(archive)
    # for a broken header tarfile raises TarError, ValueError, OverflowError, RecursionError and more
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{shard} cannot be read ({error.strerror})") from error
        raise UserError(
            f"{shard} cannot be read as a tar shard ({error}): a shard is a whole, uncompressed tar file"
        ) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise a ReadError where the list of members ends in the middle: tarfile takes a broken header for the end."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if rest.strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {archive.offset}")
