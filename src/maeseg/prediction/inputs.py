"""Input images of a command: found, and each checked before the first result is saved."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from maeseg.data.decoding import count_pixels
from maeseg.data.image_files import MAX_PIXELS, DataError, some
from maeseg.data.image_reading import RGB
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import PixelFacts, assumptions, check_pixels
from maeseg.data.sources.base import Source
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.splits import evenly_spread
from maeseg.errors import UserError
from maeseg.prediction.threads import in_order, open_workers
from maeseg.types import OnBadImage
from maeseg.utils.progress import show_progress

log = logging.getLogger(__name__)


_LARGE = 2**24  # pixels; one such image is checked at a time
_one_large = threading.Lock()


@dataclass(frozen=True)
class Images:
    """Images that were found.

    Attributes:
        folder: Folder that the paths are relative to.
        sizes: Height and width of each that can be used, by its path relative to the folder, sorted.
        bad: Reason why each of the others cannot be used, in one line.
    """

    folder: Path
    sizes: dict[Path, tuple[int, int]]
    bad: dict[Path, str]


def find_images(
    path: Path, channels: int = RGB, most: int = MAX_PIXELS, on_bad_image: OnBadImage | None = None,
    count: int | None = None,
    largest: int = FULL,
) -> Images:  # fmt: skip
    """Find the images to segment.

    Args:
        path: An image file, or a folder of images at any depth.
        channels: Number of channels.
        most: Largest number of pixels of an image.
        on_bad_image: Action on images that cannot be used, if the command gives the choice: ``fail`` or ``skip``.
        count: Number of images to take, evenly spread; no other is checked. By default all.
        largest: The value of 16 bits that images are scaled by; it is logged with the other assumptions.

    Raises:
        UserError: There is no such path, or it holds no image or fewer than ``count``; two images differ only in their
            suffix, so that their predictions would overwrite each other; or an image cannot be used and is not to be
            skipped.
    """
    opened = partial(ImageFolder, labeled=False, channels=channels)
    folder, files = list_inputs(path, opened, count, lambda file: file.with_suffix(""), "image")
    with open_workers(torch.get_num_threads()) as pool:
        check = partial(_check, channels=channels, most=most)
        checked = in_order(pool, check, [folder / file for file in files], lambda file: 1, 2**10)
        found = dict(zip(files, show_progress(checked, "checking images", len(files)), strict=True))
    facts = {file: what for file, what in found.items() if not isinstance(what, str)}
    sizes = {file: (each.height, each.width) for file, each in facts.items()}
    bad = {file: what for file, what in found.items() if isinstance(what, str)}
    complain(path, bad, sizes, on_bad_image)
    for line in assumptions(list(facts.values()), largest):
        log.info("%s: %s", path, line)
    return Images(folder, sizes, bad)


def list_inputs(
    path: Path, opened: Callable[[Path], Source], count: int | None, stem: Callable[[Path], Path], kind: str
) -> tuple[Path, list[Path]]:
    """List a file, or the files of a folder, unchecked: the folder, and the paths in it; see ``find_images``.

    Args:
        path: A file, or a folder.
        opened: Function that opens a folder.
        count: Number of files to take, evenly spread; by default all.
        stem: Function that removes the suffix of a path.
        kind: ``image`` or ``volume``.
    """
    if path.is_file():
        folder, files = path.parent, [Path(path.name)]
    else:
        source = opened(path)
        folder, files = path, [Path(source.file(index)) for index in range(len(source))]
    if count is not None:
        check_count(count, len(files), path, kind)
        files = evenly_spread(files, count)
    doubled = [name for name, times in Counter(map(stem, files)).items() if times > 1]
    if doubled:
        raise UserError(f"{path}: two {kind}s share the name {some(doubled)}: rename one of each")
    return folder, files


def check_count(count: int, there: int, path: Path, kind: str = "image") -> None:
    """Raise a UserError unless ``count`` is 1 to the number of images or volumes."""
    if not 1 <= count <= there:
        raise UserError(f"--count {count}: {path} has {there} {kind}s; give 1 to {there}")


def _check(file: Path, channels: int, most: int) -> PixelFacts | str:
    """Facts about an image, or the reason why it cannot be used, in one line."""
    try:
        with _one_large if count_pixels(file, str(file), most) > _LARGE else nullcontext():
            return check_pixels(file, str(file), channels, most)
    except DataError as error:
        return str(error)


def complain(
    path: Path, bad: Mapping[Path, str], usable: Collection[Path], on_bad_image: OnBadImage | None, kind: str = "image"
) -> None:
    """Raise a UserError on images or volumes that cannot be used, or warn of them where they are to be skipped."""
    if not bad:
        return
    first = next(iter(bad.values()))
    if on_bad_image == "skip":
        if not usable:
            raise UserError(f"--on_bad_image skip leaves no {kind} of {path}: {first}")
        log.warning("%d %ss of %s cannot be used and are left out", len(bad), kind, path)
        return
    others = f" (and {len(bad) - 1} more cannot be used)" if len(bad) > 1 else ""
    choice = "; or leave out what cannot be used: --on_bad_image skip" if on_bad_image else ""
    raise UserError(f"{first}{others}{choice}")
