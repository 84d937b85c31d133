"""Volumes as a data source: a folder with or without labels.

Axes: C channels, D H W voxels.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low

import torch
from torch import Tensor

from maeseg.data.check_cache import CheckResult, check_files
from maeseg.data.description import DataDescription, agreed_classes, is_description, read_description
from maeseg.data.facts import ImageFacts, ProvidedSplit, VolumeFacts, digest
from maeseg.data.image_files import SUFFIXES as PICTURES
from maeseg.data.image_files import DataError, list_files, some
from maeseg.data.label_files import LabelFacts, label_facts_from, plain_label
from maeseg.data.label_rules import LabelRule
from maeseg.data.layouts import Pair, describe_unpaired
from maeseg.data.provided_splits import read_groups, read_splits
from maeseg.data.sources.registry import VOLUMES
from maeseg.data.volumes.base import VolumeSource
from maeseg.data.volumes.files import class_names, find_volumes
from maeseg.data.volumes.formats import ARRAYS, NIFTI, STACKS, read_stored
from maeseg.data.volumes.header import Sides, Spacing, VolumeHeader, by, millimeters
from maeseg.data.volumes.label_classes import choose_volume_rule, volume_label_facts
from maeseg.data.volumes.preprocessing import median_spacing, resampled_size
from maeseg.data.volumes.volume import Volume, read_volume, read_volume_label
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.types import BORDER

log = logging.getLogger(__name__)

LAYOUT = (
    "labeled volumes are a folder with images/ and labels/, paired by file name: images/brain_7.nii.gz with "
    "labels/brain_7.nii.gz"
)
"""Layout of labeled volumes, for error messages."""

_NO_EFFECT = (
    "annotations",
    "threshold",
    "reading",
    "orientation",
    "resize_masks",
)  # settings of descriptions of images


class NoVolumeLabels(UserError):
    """Error for a folder of volumes without labels."""


class VolumeFolder(VolumeSource):
    """Volumes in a folder, at any depth, and their labels if requested.

    With labels, unlabeled volumes are excluded; without, label files are not used as volumes.

    Args:
        data: Folder, or description of a data set.
        labeled: True to open labels too.
        channels: Number of channels of the volumes.
        classes: Classes of the labels; ``BINARY`` for those of the description, or by the values of all labels.
        spacing: Spacing that volumes are brought to, in mm; None to set it later.

    Attributes:
        description: Description of the data set, empty if every setting is detected.
        layout: Volumes and labels of the folder.
        labels: Facts and faults of the labels, by index.
        rule: Values of the classes.
        detected: True if the classes are those of the labels' values.

    Raises:
        UserError: The folder has no volumes, a label has no volume, or labels have no classes.
    """

    def __init__(
        self, data: str | Path | DataDescription, *, labeled: bool, channels: int = 1, classes: Classes = BINARY,
        spacing: Spacing | None = None,
    ) -> None:  # fmt: skip
        self.description = data if isinstance(data, DataDescription) else DataDescription(Path(data))
        self.root = self.description.path
        name = self.description.origin or str(self.root)
        agreed = agreed_classes(self.description, classes)
        super().__init__(name, labeled=labeled, channels=channels, classes=agreed, spacing=spacing)
        if unused := [each for each in _NO_EFFECT if getattr(self.description, each)]:
            raise UserError(f"{name}: {unused[0]} has no effect on volumes: remove it")
        self.layout = find_volumes(self.description)
        self._pairs: Sequence[Pair] = self.layout.pairs
        self._headers: dict[int, VolumeHeader] = {}
        self._warn_of_others()
        self.labels: CheckResult[LabelFacts] = CheckResult({}, {})
        self.rule = LabelRule()
        self.detected = False
        if labeled:
            self._open_labels()
        self._splits = read_splits(self.description, self._pairs)
        self._groups = read_groups(self.description, [self.file(index) for index in range(len(self))])

    def __len__(self) -> int:
        return len(self._pairs)

    def file(self, index: int) -> str:
        """Return the volume's path relative to the root, such as ``images/brain_7.nii.gz``."""
        return self._pairs[index].image.relative_to(self.root).as_posix()

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files of the volume and, if the source is labeled, of the label, at byte offset 0."""
        pair = self._pairs[index]
        return [(pair.image, 0), *([(pair.label, 0)] if self.labeled and pair.label else [])]

    def split(self, index: int) -> ProvidedSplit | None:
        """Return the split provided by the data set's folders or lists; None without one."""
        return self._splits[index]

    def group(self, index: int) -> str | None:
        """Return the volume's group by the description's pattern or file; None without one."""
        return self._groups[index]

    def volume(self, index: int) -> Volume:
        """Read a volume as stored, on canonical axes. Raises DataError if it cannot be used."""
        return read_volume(self._pairs[index].image, self.channels)

    def header(self, index: int) -> VolumeHeader:
        """Read the geometry of a volume. Raises DataError if it cannot be read."""
        if index not in self._headers:
            self._headers[index] = read_stored(self._pairs[index].image, values=False).header
        return self._headers[index]

    def stored_label(self, index: int) -> Tensor:
        """Read a label, (D, H, W) uint8 of the volume's own size: 0 background, then the other classes; 255 border.

        Raises:
            DataError: The file is damaged, has another geometry than the volume, or values that belong to no class.
        """
        path = self._label_file(index)
        values_DHW = read_volume_label(path, self.header(index))
        flat = self.rule.read(plain_label(values_DHW.reshape(-1, values_DHW.shape[2])), str(path))
        return torch.from_numpy(flat.reshape(values_DHW.shape))

    def check(self, index: int) -> ImageFacts:
        """Return a volume's facts; raise a DataError if it or its label cannot be used.

        The content is a digest of the intensities and the spacing: equal for copies in another format, type or
        orientation.
        """
        volume = read_volume(self._pairs[index].image, self.channels, checksum=True)
        label = ""
        if self.labeled:
            if fault := self.labels.faults.get(index):
                raise DataError(fault)
            self.stored_label(index)
            label = self.rule.content(self.labels.facts[index])
        return volume_facts(volume, label)

    def label_shares(self) -> Counter[int]:
        """Count the voxels of each class, and of the border (255), in all labels that fit the classes."""
        fitting = (facts for facts in self.labels.facts.values() if self.rule.fits(facts))
        return sum((self.rule.shares(facts) for facts in fitting), Counter[int]())

    def _label_facts(self, index: int) -> LabelFacts:
        return volume_label_facts(self._label_file(index))

    def _label_file(self, index: int) -> Path:
        label = self._pairs[index].label
        if not self.labeled or label is None:
            raise ValueError(f"source {self.name} was opened without labels")
        return label

    def _open_labels(self) -> None:
        """Pair labels with volumes, drop volumes without one, and choose the classes."""
        layout, described = self.layout, self.description
        if layout.unpaired:
            raise UserError(f"{self.root}: {describe_unpaired(layout, self.root)}: rename volumes or labels")
        self._pairs = [pair for pair in layout.pairs if pair.label]
        if not self._pairs:
            first = layout.pairs[0].image.relative_to(self.root)
            raise NoVolumeLabels(f"{self.root} has no labels (the first volume is {first}): {LAYOUT}")
        if rest := len(layout.pairs) - len(self._pairs):
            log.info(
                "%s: %d of %d volumes have labels; pretrain can use the other %d", self.root, len(self._pairs),
                len(layout.pairs), rest,
            )  # fmt: skip
        files = {index: self._label_file(index) for index in range(len(self._pairs))}
        self.labels = check_files(
            self._label_facts, {index: [(file, 0)] for index, file in files.items()},
            f"labels of volumes {Path(self.name).absolute()}", label_facts_from, f"labels of {self.name}",
        )  # fmt: skip
        if described.codes:
            self.rule = LabelRule(codes=described.codes, border=described.border or (), origin=self.name)
            return
        facts = {files[index].relative_to(self.root).as_posix(): each for index, each in self.labels.facts.items()}
        given, names = self.classes, class_names(self.root)
        self.classes, self.rule = choose_volume_rule(facts, given, self.name, names)
        self.detected = self.classes != given

    def _warn_of_others(self) -> None:
        """Warn of pictures, and of arrays beside NIfTI files, which are not read."""
        used = {pair.image for pair in self.layout.pairs} | {pair.label for pair in self.layout.pairs}
        others = [file for file in list_files(self.root, (*PICTURES, *STACKS, *ARRAYS)) if self.root / file not in used]
        marked = set(self.layout.left_out or ())
        others = [file for file in others if not marked & set(file.parts[:-1])]
        if others:
            log.warning("%s: %d files are no volumes and not read: %s", self.root, len(others), some(others))


def is_volumes(data: object, *, wanted: bool = False) -> bool:
    """Test the ``data`` option for a folder of volumes, or a description of one.

    NIfTI files are volumes, unless the folder has more pictures than these.

    Args:
        data: Value of the option.
        wanted: True if the options ask for volumes, so that arrays and TIFF stacks are volumes too, and pictures do
            not matter.
    """
    if not isinstance(data, str | Path):
        return bool(getattr(data, "axes", 2) == 3)
    if str(data).partition(":")[0] == VOLUMES:
        return True
    try:
        folder = read_description(Path(data)).path if is_description(str(data)) else Path(data)
    except UserError:  # reported when it is opened
        return False
    if not folder.is_dir():
        return False
    nifti = list_files(folder, NIFTI)
    if wanted:
        return bool(nifti or list_files(folder, (*STACKS, *ARRAYS)))
    return bool(nifti) and len(nifti) >= len(list_files(folder, PICTURES))


def open_volumes(
    data: str | Path, *, labeled: bool, channels: int = 1, classes: Classes = BINARY, spacing: Spacing | None = None
) -> VolumeFolder:
    """Open a folder of volumes, or a description of one.

    Args:
        data: The folder, or ``data.yaml``.
        labeled: True to open labels too.
        channels: Number of channels.
        classes: Classes of the labels; ``BINARY`` to find them by the values of the labels.
        spacing: Spacing that volumes are brought to, in mm; None to set it later.

    Raises:
        UserError: See :class:`VolumeFolder`.
    """
    described = read_description(Path(data)) if is_description(str(data)) else DataDescription(Path(data))
    return VolumeFolder(described, labeled=labeled, channels=channels, classes=classes, spacing=spacing)


def volume_channels(data: str | Path) -> int:
    """Number of channels of the first volume of a folder that can be read; 1 if none can."""
    described = read_description(Path(data)) if is_description(str(data)) else DataDescription(Path(data))
    for pair in find_volumes(described).pairs:
        try:
            shape = read_stored(pair.image, values=False).shape
        except DataError:
            continue
        return shape[3] if len(shape) == 4 else 1
    return 1


def volume_sources(source: object) -> tuple[VolumeSource, ...]:
    """Sources of volumes in a source: itself, or those that are joined in it."""
    return tuple(each for each in getattr(source, "sources", (source,)) if isinstance(each, VolumeSource))


def settle_spacing(
    source: object, facts: Mapping[int, ImageFacts], train: Sequence[int], given: Spacing | None
) -> Spacing:
    """Set the spacing of volumes: the given one, or the median of the training volumes.

    Args:
        source: Source of volumes, or several that are joined.
        facts: Facts about its usable volumes, by index.
        train: Indices of the training volumes.
        given: Spacing of the options or of the initial weights; None without one.
    """
    spacings = [volume.spacing for index in train if (volume := facts[index].volume)]
    chosen = given or median_spacing(spacings)
    for each in volume_sources(source):
        each.spacing = chosen
    rule = "given" if given else f"median of {len(spacings)} training volumes"
    log.info("spacing: volumes are brought to %s (%s; --spacing)", millimeters(chosen), rule)
    return chosen


def share_spacing(source: object, other: object) -> None:
    """Bring the volumes of another source to the spacing of a source's."""
    for each in volume_sources(other):
        each.spacing = getattr(source, "spacing", None)


def volume_sizes(facts: Mapping[int, ImageFacts], spacing: Spacing) -> dict[int, Sides]:
    """Sides of volumes at a spacing, by index."""
    return {
        index: resampled_size(VolumeHeader(each.volume.shape, each.volume.spacing), spacing)
        for index, each in facts.items()
        if each.volume
    }


def describe_volume_labels(source: VolumeFolder) -> str:
    """Describe the labels in one line: ``200 labels: 0 background, 1 class_1; 2.4 % class_1``."""
    rule, shares = source.rule, source.label_shares()
    total, names = sum(shares.values()) or 1, source.classes.names
    shown = [f"{100 * shares[number] / total:.1f} % {name}" for number, name in enumerate(names) if number]
    if shares[BORDER]:
        shown.append(f"{100 * shares[BORDER] / total:.1f} % border")
    more = "; classes by the values of the labels (--classes names them)" if source.detected else ""
    return f"{len(source)} labels: {rule.describe(names)}; {', '.join(shown[:8])}{more}"


def describe_sizes(facts: Sequence[VolumeFacts]) -> dict[str, str]:
    """Describe the shapes and spacings of volumes by heading."""
    shapes, spacings = [each.shape for each in facts], [each.spacing for each in facts]
    low, high = (tuple(map(chosen, zip(*shapes, strict=True))) for chosen in (min, max))
    typical = tuple(map(median_low, zip(*shapes, strict=True)))
    size = (
        f"{by(typical)} voxels, all equal" if low == high else f"{by(low)} to {by(high)} voxels, median {by(typical)}"
    )
    near, far = (tuple(map(chosen, zip(*spacings, strict=True))) for chosen in (min, max))
    if near == far:
        return {"size": size, "spacing": f"{millimeters(spacings[0])}, all equal"}
    spread = " x ".join(f"{low:.4g} to {high:.4g}" for low, high in zip(near, far, strict=True))
    return {"size": size, "spacing": f"{spread} mm, median {millimeters(median_spacing(spacings))}"}


def volume_facts(volume: Volume, label: str) -> ImageFacts:
    """Facts about a volume that was read."""
    values, header = volume.values_CDHW, volume.header
    _, height, width = header.shape
    missing_CDHW = torch.isnan(values)
    low, high = (values.masked_fill(missing_CDHW, end).flatten(1) for end in (math.inf, -math.inf))
    constant = bool((low.amin(1) == high.amax(1)).any())
    missing = int(missing_CDHW.sum()) / values.numel()
    about = f"{tuple(values.shape)} {[f'{each:.4g}' for each in header.spacing]}"
    facts = VolumeFacts(header.shape, header.spacing, header.placed or header.stored is None, missing, constant)
    return ImageFacts(digest(about.encode(), values.numpy().data), height, width, None, label, facts)


def volume_notes(facts: Mapping[int, ImageFacts]) -> list[str]:
    """List the assumptions made in reading volumes, one line each."""
    every = [each.volume for each in facts.values() if each.volume]
    lines = []
    if count := sum(not each.placed for each in every):
        lines.append(f"{count} of {len(every)} volumes have no affine: axes as stored, spacing from the header")
    if count := sum(each.missing > 0 for each in every):
        lines.append(f"{count} of {len(every)} volumes have NaN voxels: filled with the mean of the volume")
    if count := sum(each.constant for each in every):
        lines.append(f"{count} of {len(every)} volumes have a channel of one value: read as 0")
    return lines
