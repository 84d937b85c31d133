"""Images in tar shards in the layout of webdataset, read in place.

Nothing is extracted: a member's name is never used as a path. A shard is scanned once, when the source is opened, for
the byte offset of each image. Each read then opens the file and seeks, so that loader workers share no file position,
whether forked or spawned.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.facts import ImageFacts, ProvidedSplit, digest
from maeseg.data.image_files import MAX_PIXELS, DataError, list_files
from maeseg.data.image_reading import RGB, decode_image, nodata_mask, picture_of, read_pixels, suffixes
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import check_pixels
from maeseg.errors import UserError, reason
from maeseg.labels.classes import BINARY
from maeseg.utils.regular_files import open_regular

SHARD_SUFFIX = ".tar"
MOST_BYTES = 8 * MAX_PIXELS
"""Maximum size of a member: that of the largest image in four channels of 16 bits, uncompressed."""


class _Member(NamedTuple):
    shard: int
    offset: int  # bytes
    size: int  # bytes
    name: str


class TarShards:
    """Unlabeled images in ``.tar`` files, in the order of the file names and of the members.

    Members with the same name up to the first dot are one sample, such as ``cat_7.jpg`` and ``cat_7.json``. If a sample
    has an image named ``cat_7.jpg``, other images such as ``cat_7.seg.png`` are not used. Links, devices, hidden files
    and absolute or parent paths are skipped.

    Args:
        root: A shard, or a folder that contains shards at any depth.
        channels: Number of channels of the images; other than 3, stored values are kept.

    Attributes:
        largest: 16-bit value that images are scaled by.

    Raises:
        UserError: A shard is damaged, compressed or not a tar file, or no shard has an image.
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
                f"{root}: no images in {len(self._shards)} tar shards: give images of {', '.join(suffixes(channels))}"
            )

    def __len__(self) -> int:
        return len(self._members)

    def file(self, index: int) -> str:
        """Return the shard's and the member's name, such as ``shard-000.tar/cat_7.jpg``."""
        member = self._members[index]
        return f"{self._shards[member.shard].name}/{member.name}"

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the image's shard and byte offset."""
        member = self._members[index]
        return [(self._shards[member.shard], member.offset)]

    def image(self, index: int) -> Image.Image:
        """Read an image as RGB. Raises DataError, naming shard and member, if it is damaged."""
        if self.channels != RGB:
            return picture_of(self.pixels(index))
        return decode_image(*self._content(index), largest=self.largest)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a tensor (C, H, W). Raises DataError, naming shard and member, if it is damaged."""
        return read_pixels(*self._content(index), self.channels, largest=self.largest)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's nodata pixels, (H, W); None if there are none."""
        return nodata_mask(*self._content(index), self.channels)

    def split(self, index: int) -> ProvidedSplit | None:
        """Return None: shards provide no splits or groups."""
        return None

    def group(self, index: int) -> str | None:
        """Return None: shards provide no splits or groups."""
        return None

    def check(self, index: int) -> ImageFacts:
        """Return an image's facts; raise a DataError if it cannot be read."""
        content, name = self._content(index)
        facts = check_pixels(content, name, self.channels)
        return ImageFacts(digest(content), facts.height, facts.width, facts)

    def label(self, index: int) -> Image.Image:
        """Raise a ValueError: shards have no labels."""
        raise ValueError(f"source {self.name} has no labels")

    def _content(self, index: int) -> tuple[bytes, str]:
        number, offset, size, name = self._members[index]
        shard = self._shards[number]
        if size > MOST_BYTES:
            raise DataError(
                f"{shard}/{name} has {size // 10**6} MB, and the maximum is {MOST_BYTES // 10**6} MB: remove it "
                "from the shard, or cut the image into tiles"
            )
        try:
            with open_regular(shard) as file:
                file.seek(offset)
                return file.read(size), f"{shard}/{name}"
        except OSError as error:
            raise DataError(f"{shard} can no longer be read ({reason(error)}): put it back") from error


def find_shards(root: Path) -> list[Path]:
    """List the shards of a path: the file itself, or those in the folder at any depth, sorted."""
    if root.is_file():
        return [root] if root.suffix.lower() == SHARD_SUFFIX else []
    return [root / path for path in list_files(root, (SHARD_SUFFIX,))]


def _images_in(shard: Path, wanted: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """List offset, size and name of each sample's image."""
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
        with open_regular(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.offset_data <= end or member.size < 0:
                    raise tarfile.ReadError(f"the header of {member.name!r} points backwards")  # it would never end
                end = member.offset_data
                yield member
            _check_end(archive)
    # for a damaged header tarfile raises TarError, ValueError, OverflowError, RecursionError and more
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{shard} cannot be read ({error.strerror}): make it readable or remove it") from error
        raise UserError(
            f"{shard} cannot be read as a tar shard ({error}): give a complete, uncompressed tar file"
        ) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise a ReadError if the list of members is cut off: tarfile takes a damaged header for the end."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if rest.strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {archive.offset}")
