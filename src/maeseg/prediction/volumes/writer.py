"""Files of a predicted volume: label map, overlay, probabilities.

Axes: K maps (of foreground, or of each class), D H W voxels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maeseg.data.volumes.header import Sides
from maeseg.data.volumes.slices import choose_slices
from maeseg.data.volumes.volume import Volume, write_label
from maeseg.labels.class_map import predicted_classes
from maeseg.labels.classes import BINARY, Classes
from maeseg.prediction.areas import ClassAreas
from maeseg.prediction.volumes.inputs import stem, suffix_of
from maeseg.prediction.volumes.predictor import Part
from maeseg.prediction.volumes.table import VolumeOfClasses
from maeseg.prediction.writer import as_label, kept_maps, overlay
from maeseg.utils.atomic_io import write_png, writing_to


@dataclass(frozen=True)
class VolumeWriter:
    """Writer of each volume's label map, overlay and probabilities.

    A label map has the format, orientation, affine and header of the volume, and the classes' values; of foreground and
    background 1 and 0. A folder of them beside ``images/`` is labeled data again. Probabilities are float32.

    Args:
        folder: Output folder: ``labels/NAME.nii.gz``, ``overlays/NAME.png``, ``probabilities/NAME.nii.gz``, or with
            classes ``probabilities/NAME/CLASS.nii.gz``.
        overlays: True to write overlays: three orthogonal slices.
        probabilities: True to write probabilities.
        classes: Classes of the network.
    """

    folder: Path
    overlays: bool
    probabilities: bool
    classes: Classes

    def write(self, name: Path, volume: Volume, parts: Iterable[Part]) -> VolumeOfClasses:
        """Write one volume's prediction.

        Args:
            name: The volume's path relative to the input folder; its folders and suffix are kept.
            volume: The volume.
            parts: Its prediction; consumed.

        Returns:
            The voxels of each class.

        Raises:
            WriteError: A file cannot be written.
        """
        shape, areas = volume.header.shape, ClassAreas(max(2, self.classes.maps))
        classes_DHW = np.zeros(shape, np.uint8)
        with kept_maps(self.folder, self.probabilities) as keep:
            for first, _, part_KDHW in parts:
                self._keep(keep, shape, first, part_KDHW)
                found_DHW, confidence_DHW = (each.numpy() for each in predicted_classes(part_KDHW))
                classes_DHW[first : first + len(found_DHW)] = found_DHW
                areas.add(found_DHW.reshape(-1, shape[2]), confidence_DHW.reshape(-1, shape[2]))
            self._write_probabilities(name, volume, keep)
        if self.overlays:
            self._write_overlay(name, volume, classes_DHW)
        label_DHW = classes_DHW if self.classes == BINARY else as_label(classes_DHW, self.classes)
        write_label(self._file("labels", name), label_DHW, volume.header)
        return VolumeOfClasses(volume.header, areas)

    def _keep(self, keep: IO[bytes] | None, shape: Sides, first: int, part_KDHW: Tensor) -> None:
        if keep is None:
            return
        for number, planes_DHW in enumerate(part_KDHW.numpy()):
            with writing_to(self.folder):
                keep.seek((number * prod(shape) + first * shape[1] * shape[2]) * planes_DHW.itemsize)
                keep.write(np.ascontiguousarray(planes_DHW).data)

    def _write_probabilities(self, name: Path, volume: Volume, keep: IO[bytes] | None) -> None:
        if keep is None:
            return
        shape = volume.header.shape
        for number, each in enumerate(self.classes.names[: self.classes.maps]):
            with writing_to(self.folder):  # seeking writes what is left in the buffer
                keep.seek(number * prod(shape) * np.float32().itemsize)
            map_DHW = np.frombuffer(keep.read(prod(shape) * np.float32().itemsize), np.float32).reshape(shape)
            where = name if self.classes.maps == 1 else stem(name) / f"{each}{suffix_of(name)}"
            write_label(self._file("probabilities", where), map_DHW, volume.header)

    def _write_overlay(self, name: Path, volume: Volume, classes_DHW: NDArray[np.uint8]) -> None:
        slices = choose_slices(volume.header, classes_DHW, side_by_side=True)
        shown_HW = slices.of_classes(classes_DHW, between=0)
        drawn = overlay(slices.of_volume(volume.values_CDHW), torch.from_numpy(shown_HW), self.classes.colors)
        write_png(self._file("overlays", Path(f"{stem(name)}.png")), drawn)

    def _file(self, kind: str, name: Path) -> Path:
        file = self.folder / kind / name
        with writing_to(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
        return file
