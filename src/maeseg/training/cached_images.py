"""Place of a run's decoded images: in memory, in a file, or nowhere (``--cache``)."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from maeseg.config import CompareConfig, FinetuneConfig, PretrainConfig
from maeseg.data.image_cache import ImageCache
from maeseg.data.part import Part
from maeseg.errors import UserError, reason
from maeseg.runs.layout import CACHE
from maeseg.runs.writer import Run
from maeseg.types import Cache
from maeseg.utils.atomic_io import WriteError, writing_to
from maeseg.utils.distributed import first_process, others_wait
from maeseg.utils.memory import available_memory

log = logging.getLogger(__name__)

MOST_UNASKED = 2 * 2**30
"""Bytes that ``--cache auto`` takes at most; and at most a quarter of the memory that is available."""
_MOST = 0.8
"""Share of the available memory that ``--cache ram`` may take."""

Config = PretrainConfig | FinetuneConfig | CompareConfig


@dataclass
class CachedImages:
    """Decoded images of a run.

    Attributes:
        images: The images; none with ``--cache off``.
        where: Place that was chosen.
        folder: Folder for the file of ``--cache disk``.
        own: True if the folder lies in the run folder; the file is removed at the end of the run.
    """

    images: ImageCache = field(default_factory=ImageCache)
    where: Cache = "off"
    folder: Path = Path()
    own: bool = False

    def fill(self, workers: int) -> None:
        """Decode the images, unless an earlier call did.

        Args:
            workers: Number of processes that decode.

        Raises:
            UserError: An image can no longer be read, or the file cannot be written.
        """
        if self.where == "off" or self.images.filled:
            return
        if self.where == "ram":
            self.images.fill(workers)
            return
        with others_wait(), self._named_if_unwritable():
            if first_process():
                with writing_to(self.folder):
                    self.folder.mkdir(parents=True, exist_ok=True)
                self.images.write(self.folder, workers)
        self.images.map_file(self.folder)

    def remove(self) -> None:
        """Remove the file, if it lies in the run folder.

        Raises:
            WriteError: It cannot be removed.
        """
        if self.own and self.folder.exists():
            with writing_to(self.folder):
                self.images.file(self.folder).unlink(missing_ok=True)
                self.folder.rmdir()

    @contextmanager
    def _named_if_unwritable(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            raise UserError(
                f"--cache disk: {self.folder} cannot be written ({reason(error)}): make room, name another folder with "
                "--cache_folder, or give --cache off"
            ) from error


def remove_cache(run: Run, cached: CachedImages) -> None:
    """Remove the file of decoded images from a run folder, at the end of the run."""
    with run.writing(), others_wait():
        if first_process():
            cached.remove()


def plan_cache(config: Config, parts: Sequence[Part]) -> CachedImages:
    """Choose the place of the decoded images by their size; they are decoded later.

    Args:
        config: Options of the run.
        parts: Its images.

    Raises:
        UserError: They do not fit, or the options contradict each other.
    """
    if config.cache_folder and config.cache != "disk":
        raise UserError(f"--cache_folder {config.cache_folder} has no effect without --cache disk: give both")
    if config.cache == "off":
        return CachedImages()
    images = ImageCache(parts)
    copies = _processes(config)
    if config.cache == "disk":
        return _on_disk(config, images)
    needed, available = images.size * copies, available_memory()
    if config.cache == "ram":
        if available is not None and needed > _MOST * available:
            raise UserError(
                f"--cache ram: {_described(images, copies)} do not fit into {_MOST:.0%} of the {_size(available)} of "
                "memory that are available: give --cache disk or off, or smaller images"
            )
    elif needed > (MOST_UNASKED if available is None else min(MOST_UNASKED, available / 4)):
        log.info(
            "cache: %s are too many to keep in memory unasked: each is decoded whenever it is read (--cache ram or "
            "disk keeps them)", _described(images, copies),
        )  # fmt: skip
        return CachedImages()
    log.info("cache: %s are decoded once, into memory (--cache)", _described(images, copies))
    return CachedImages(images, "ram")


def _on_disk(config: Config, images: ImageCache) -> CachedImages:
    folder = Path(config.cache_folder or Path(config.out) / CACHE)
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), Path())
    free = shutil.disk_usage(there).free
    if not images.file(folder).exists() and images.size > free:
        raise UserError(
            f"--cache disk: {_described(images)} do not fit into {folder}, whose disk has {_size(free)} left: make "
            "room, name another folder with --cache_folder, or give --cache off"
        )
    log.info("cache: %s are decoded once, into %s", _described(images), folder)
    return CachedImages(images, "disk", folder, own=not config.cache_folder)


def _described(images: ImageCache, copies: int = 1) -> str:
    each = f" for each of {copies} processes" if copies > 1 else ""
    return f"{len(images)} images ({_size(images.size)}{each})"


def _size(count: int) -> str:
    """Number of bytes in words: ``1.2 GB``."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count} bytes"


def _processes(config: Config) -> int:
    """Number of processes on this machine that train together; each keeps images in its own memory."""
    given = os.environ.get("LOCAL_WORLD_SIZE", str(config.devices))
    return max(1, int(given)) if given.isdecimal() else 1
