"""Segment many images: decoding, the network and encoding side by side, in bounded memory.

Axes: C channels, K maps (of foreground, or of each class), H W pixels.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maeseg.data.image_files import MAX_PIXELS_ALONE
from maeseg.data.image_reading import LargeArray, LargePicture, open_large, picture_of, read_pixels
from maeseg.prediction.areas import ImageAreas
from maeseg.prediction.backends import Backend, probability_maps, probability_strips
from maeseg.prediction.geotiff import read_georeference, square_meters
from maeseg.prediction.inputs import Images
from maeseg.prediction.sliding_window import OVERLAP, Tiling, choose_tile
from maeseg.prediction.threads import in_order, open_workers, share_out
from maeseg.prediction.writer import Prediction, PredictionWriter
from maeseg.utils.progress import show_progress

log = logging.getLogger(__name__)

PIXELS_AT_ONCE = 32 * 2**20
"""Images that are being worked on have this many pixels together, or there is one alone."""

TILE_VALUES = 2**27
"""Probabilities of tiles that wait to be blended; those of a tile that has more wait alone."""

_BATCH_PIXELS = 8 * 2**20

Batch = list[Path]
Part = tuple[int, int, Tensor]
"""First row, first column and probabilities (K, H, W) of a part of an image."""
Measured = tuple[Path, ImageAreas]
"""An image that is segmented, and the areas of its classes."""


@dataclass(frozen=True)
class Predictor:
    """Segmentation of images of any size, resized to the network's size or in tiles.

    Args:
        backend: The network.
        tile: Side of the tiles in pixels, 0 for none, or ``auto``; see ``sliding_window.choose_tile``.
        overlap: Share of a tile that its neighbor covers too.
        flips: Average with the mirror image's prediction.
    """

    backend: Backend
    tile: int | Literal["auto"] = "auto"
    overlap: float = OVERLAP
    flips: bool = False

    def segment(self, images: Images, writer: PredictionWriter) -> dict[Path, ImageAreas]:
        """Segment images and write the predictions.

        Images without tiles come first, in batches that depend on the images' order and sizes and the number of cores
        alone; each thread reads a batch, predicts it and writes it. Those in tiles follow one by one, and the threads
        share the tiles. Nothing depends on which thread is faster.

        Args:
            images: The images.
            writer: Writer of the predictions' files.

        Returns:
            The areas in each image, in the order of the images.

        Raises:
            DataError: An image can no longer be read.
            WriteError: A file cannot be written.
        """
        workers, at_once = share_out(self.backend.spec.size)
        tiles = {name: self._choose_tile(size) for name, size in images.sizes.items()}
        untiled = [name for name, tile in tiles.items() if tile is None]
        if len(untiled) < len(tiles):
            log.info(
                "%d of %d images are predicted in tiles (--tile)%s",
                len(tiles) - len(untiled),
                len(tiles),
                self._scale(),
            )
        with open_workers(workers) as pool:
            batches = _in_batches(untiled, images.sizes, min(at_once, -(-len(untiled) // workers)))
            run = partial(self._segment_batch, images, writer)
            done = in_order(pool, run, batches, partial(_pixels, images.sizes), PIXELS_AT_ONCE)
            found = dict(show_progress((each for batch in done for each in batch), "segmenting", len(untiled)))
            for name, tile in tiles.items():
                if tile is not None:
                    found[name] = self._segment_alone(images, writer, name, tile, pool)
        return {name: found[name] for name in images.sizes}

    def class_map(self, image: LargePicture | LargeArray, name: str) -> NDArray[np.uint8]:
        """Segment an image in memory; tiles are shared among all cores.

        Args:
            image: The image.
            name: Its name in the progress bar.

        Returns:
            The class of each pixel, (H, W), from 0.
        """
        prediction = Prediction(image.size, self.backend.spec.classes.maps)
        tile = self._choose_tile(image.size)
        if tile is None:
            prediction.fill(0, self._maps(image.cut(0, 0, *image.size), name))
            return prediction.classes_HW
        with open_workers(share_out(self.backend.spec.size)[0]) as pool:
            self._fill_from_tiles(prediction, image, name, tile, pool)
        return prediction.classes_HW

    def probabilities(self, image: LargePicture | LargeArray, name: str) -> Tensor:
        """Segment an image in memory; its tiles go through the network one by one, independent of the number of cores.

        Args:
            image: The image.
            name: Its name in messages.

        Returns:
            Probability of foreground, or of each class, (K, H, W), float32, 0..1.
        """
        found_KHW = torch.empty(self.backend.spec.classes.maps, *image.size)
        for top, left, part_KHW in self.parts(image, name):
            found_KHW[:, top : top + part_KHW.shape[1], left : left + part_KHW.shape[2]] = part_KHW
        return found_KHW

    def parts(self, image: LargePicture | LargeArray, name: str) -> Iterator[Part]:
        """Segment an image in memory part by part: rows from tiles, or strips of columns without tiles.

        Args:
            image: The image.
            name: Its name in messages.

        Yields:
            The parts of what ``probabilities`` returns.
        """
        tile = self._choose_tile(image.size)
        if tile is None:
            strips = probability_strips(self.backend, image.cut(0, 0, *image.size), name, self.flips)
            yield from ((0, left, strip_KHW) for left, strip_KHW in strips)
            return
        tiling, top = Tiling(image.size, tile, self.overlap), 0
        tiles = (self._maps(tiling.fill(image.cut(*tiling.box(corner))), name) for corner in tiling.corners)
        for rows_KHW in tiling.blend(tiles, self.backend.spec.classes.maps):
            yield top, 0, rows_KHW
            top += rows_KHW.shape[1]

    def _maps(self, pixels_CHW: Tensor, name: str) -> Tensor:
        return torch.stack(list(probability_maps(self.backend, [pixels_CHW], [name], self.flips)[0]))

    def _choose_tile(self, image: tuple[int, int]) -> tuple[int, int] | None:
        return choose_tile(self.tile, image, self.backend.spec.stored_size, self.backend.spec.crop)

    def _scale(self) -> str:
        """Scale of the tiles of a network that was trained at native resolution, in words."""
        if not self.backend.spec.crop:
            return ""
        height, width = self.backend.spec.crop
        if self.tile == "auto" or self.tile == height == width:
            return f" of {height} x {width} pixels at native resolution, as it was trained (--crop)"
        return f", resized from {self.tile} to {height} x {width} pixels, though it was trained at native resolution"

    def _segment_batch(self, images: Images, writer: PredictionWriter, batch: Batch) -> list[Measured]:
        read, measured = [self._read(images.folder / name) for name in batch], []
        found = probability_maps(self.backend, read, [str(images.folder / name) for name in batch], self.flips)
        for name, pixels_CHW, maps in zip(batch, read, found, strict=True):
            georeference = read_georeference(images.folder / name, images.sizes[name])
            with writer.predicting(images.sizes[name]) as prediction:
                prediction.fill(0, maps)
                writer.write(name, partial(picture_of, pixels_CHW), prediction, georeference)
            measured.append((name, ImageAreas(images.sizes[name], prediction.areas, square_meters(georeference))))
        return measured

    def _segment_alone(
        self, images: Images, writer: PredictionWriter, name: Path, tile: tuple[int, int], pool: Executor
    ) -> ImageAreas:
        file = images.folder / name
        spec = self.backend.spec
        image = open_large(file, str(file), spec.channels, spec.normalization.largest)
        georeference = read_georeference(file, images.sizes[name])
        with writer.predicting(image.size) as prediction:
            self._fill_from_tiles(prediction, image, str(name), tile, pool)
            writer.write(name, image.picture, prediction, georeference)
        return ImageAreas(image.size, prediction.areas, square_meters(georeference))

    def _fill_from_tiles(
        self, prediction: Prediction, image: LargePicture | LargeArray, name: str, tile: tuple[int, int], pool: Executor
    ) -> None:
        tiling, top = Tiling(image.size, tile, self.overlap), 0
        workers, at_once = share_out(self.backend.spec.size)
        share, values = TILE_VALUES // (2 * workers), self.backend.spec.classes.maps * tile[0] * tile[1]
        at_once = max(1, min(at_once, share // values))
        corners = [tiling.corners[first : first + at_once] for first in range(0, len(tiling.corners), at_once)]

        def segment(corners: Sequence[tuple[int, int]]) -> list[Tensor]:
            tiles = [tiling.fill(image.cut(*tiling.box(corner))) for corner in corners]
            found = probability_maps(self.backend, tiles, [name] * len(tiles), self.flips)
            return [torch.stack(list(maps)) for maps in found]

        predicted = in_order(pool, segment, corners, lambda each: max(share, len(each) * values), TILE_VALUES)
        shown = show_progress(predicted, f"{name} in tiles", len(corners))
        tiles = (tile_KHW for each in shown for tile_KHW in each)
        for rows_KHW in tiling.blend(tiles, self.backend.spec.classes.maps):
            prediction.fill(top, rows_KHW)
            top += rows_KHW.shape[1]

    def _read(self, file: Path) -> Tensor:
        spec = self.backend.spec
        return read_pixels(file, str(file), spec.channels, MAX_PIXELS_ALONE, spec.normalization.largest)


def _pixels(sizes: dict[Path, tuple[int, int]], batch: Batch) -> int:
    return sum(sizes[name][0] * sizes[name][1] for name in batch)


def _in_batches(names: list[Path], sizes: dict[Path, tuple[int, int]], at_once: int) -> Iterator[Batch]:
    """Neighbors in batches of ``at_once``, fewer where they are large."""
    batch: Batch = []
    for name in names:
        if batch and (len(batch) == at_once or _pixels(sizes, [*batch, name]) > _BATCH_PIXELS):
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch
