"""Detection of the images and labels in a folder, and pairing of each label with its image.

Folders are recognized by their names (``images``, ``JPEGImages``, ``masks``, ``SegmentationClass``, ``trainannot``),
labels next to their images by a suffix (``cat_mask.png``). A label and its image share the rest of their path,
regardless of case and Unicode normalization form.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maeseg.data.facts import ProvidedSplit
from maeseg.data.image_files import some
from maeseg.errors import UserError

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg", ".webp", ".npy", ".mat")
"""Suffixes of label files, in lower case; matched regardless of case."""

SPLIT_NAMES: Mapping[str, ProvidedSplit] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Split of a data set by folder name, in lower case."""

_IMAGE_FOLDERS = re.compile(r"(images?|imgs?|photos?|pictures?|frames|inputs?|rgb)")
_LABEL_FOLDERS = re.compile(
    r"(masks?|labels?|annots?|annotations?|ground_?truths?|gts?|segs?|segmentations?|segmentation_?class(_?aug)?|trimaps?)"
)
_OTHER_FOLDERS = re.compile(r"(segmentation_?object|bound(ary|aries)|overlays?|color_?labels?)")
_LABEL_ENDINGS = re.compile(
    r"([_. -](l|gt|seg)|[_. -]?(masks?|labels?|segmentation|ground_?truth|annotations?|matte))$"
)
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


_Key = tuple[tuple[str, ...], str]  # folders and stem


@dataclass(frozen=True)
class Pair:
    """An image and its label.

    Attributes:
        image: Image file.
        label: Label file; None for an unlabeled image.
        split: Split named by the image's folder; None without one.
    """

    image: Path
    label: Path | None = None
    split: ProvidedSplit | None = None


@dataclass(frozen=True)
class Layout:
    """Images and labels of a folder.

    Attributes:
        pairs: Every image, sorted by path.
        unpaired: Labels without an image.
        left_out: Number of image files excluded because their folder holds labels or overlays, by folder name.
    """

    pairs: tuple[Pair, ...]
    unpaired: tuple[Path, ...] = ()
    left_out: Mapping[str, int] | None = None


@dataclass(frozen=True)
class _Name:
    """A file's path, parsed into the folder that marks it as image or label, and the rest.

    Attributes:
        path: Path relative to the root.
        kind: Kind of file by its folders: ``image``, ``label``, ``other``, or empty.
        marker: Name of the folder that gives the kind.
        folders: The other folders, normalized.
        stem: Stem of the file name, normalized.
        split: Split named by a folder.
    """

    path: PurePosixPath
    kind: str
    marker: str
    folders: tuple[str, ...]
    stem: str
    split: ProvidedSplit | None


def find_layout(
    root: Path, files: Sequence[Path], image_suffixes: tuple[str, ...], *, images: str | None = None,
    masks: str | None = None, pairing: str | None = None,
) -> Layout:  # fmt: skip
    """Separate images from labels, and pair them.

    Args:
        root: The folder.
        files: Candidate files, relative to the folder.
        image_suffixes: Suffixes of images, in lower case.
        images: Folder of the images, from the description; None to detect it.
        masks: Folder of the labels, from the description; None to detect it.
        pairing: Name of an image's label without suffix, such as ``{name}_mask``; None to detect it.

    Raises:
        UserError: There are two folders of labels, or two files with the same name.
    """
    names = [_read_name(file, images, masks) for file in files if not _JUNK & {part.lower() for part in file.parts}]
    pictures = [name for name in names if name.path.suffix.lower() in image_suffixes]
    labels = [n for n in names if n.kind == "label" and n.path.suffix.lower() in LABEL_SUFFIXES]
    candidates = [name for name in pictures if name.kind in ("image", "")]
    labels = _one_folder(root, labels, candidates, pairing, masks)
    beside: dict[PurePosixPath, _Name] = {}
    if not labels:
        beside = _labels_beside(candidates, pairing)
        labels = list(beside.values())
        candidates = [name for name in candidates if name.path not in beside]
    elif any(name.kind == "image" for name in candidates) or images:
        candidates = [name for name in candidates if name.kind == "image"]
    by_key = _by_key(root, candidates, bool(labels))
    label_of, unpaired = _match(root, by_key, labels, pairing)
    pairs = [_pair(root, name, label_of.get(name.path)) for name in sorted(candidates, key=lambda name: name.path)]
    left_out = Counter(name.marker for name in pictures if name.kind in ("label", "other"))
    return Layout(_with_splits(pairs), tuple(root / name.path for name in unpaired), left_out)


def read_key(path: PurePosixPath) -> _Key:
    """Return a file's folders and stem without the folder that marks its kind: equal for an image and its label."""
    name = _read_name(Path(path), None, None)
    return name.folders, name.stem


def plain(text: str) -> str:
    """Normalize a name: composed Unicode (NFC), case folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _read_name(file: Path, images: str | None, masks: str | None) -> _Name:
    path = PurePosixPath(file.as_posix())
    folders = path.parts[:-1]
    split = next((SPLIT_NAMES[plain(each)] for each in folders if plain(each) in SPLIT_NAMES), None)
    if images or masks:
        kind, marker, rest = _by_description(path, images, masks)
    else:
        kind, marker, rest = _by_folder_names(folders)
    split = split or next((SPLIT_NAMES[each] for each in rest if each in SPLIT_NAMES), None)
    rest = tuple(SPLIT_NAMES.get(each, each) for each in rest)
    return _Name(path, kind, marker, rest, plain(path.stem), split)


def _by_description(path: PurePosixPath, images: str | None, masks: str | None) -> tuple[str, str, tuple[str, ...]]:
    for kind, folder in (("label", masks), ("image", images)):
        if folder is None:
            continue
        inside = PurePosixPath(folder)
        if path.is_relative_to(inside) and path != inside:
            return kind, folder, tuple(map(plain, path.relative_to(inside).parts[:-1]))
    return ("other" if images else "image"), "", tuple(map(plain, path.parts[:-1]))


def _by_folder_names(folders: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """Return a file's kind, the innermost folder that gives it, and the other folders."""
    spelled = [re.sub(r"[\s-]+", "_", plain(each)) for each in folders]
    for place in reversed(range(len(folders))):
        for kind, pattern in (("other", _OTHER_FOLDERS), ("label", _LABEL_FOLDERS), ("image", _IMAGE_FOLDERS)):
            found = re.fullmatch(rf"(?P<first>.*?)_?{pattern.pattern}", spelled[place])
            if found and _is_marker(found["first"], found[2]):
                kept = (found["first"],) if found["first"] in SPLIT_NAMES else ()
                return kind, folders[place], (*spelled[:place], *kept, *spelled[place + 1 :])
    return "", "", tuple(spelled)


def _is_marker(first: str, word: str) -> bool:
    """Test a folder's name for a kind: true for ``masks`` and ``PedMasks``, false for ``imaging`` and ``bags``."""
    return not first or first in SPLIT_NAMES or len(word) > 4 or first.endswith("_")


def _one_folder(
    root: Path, labels: list[_Name], images: list[_Name], pairing: str | None, masks: str | None
) -> list[_Name]:
    """Select the labels of the one folder that pairs with images; drop label folders without any pair."""
    by_key = _with_loose_keys({(name.folders, name.stem): name for name in images})
    pairs: Counter[str] = Counter()
    for label in labels:
        pairs[_marker_of(label)] += _image_of(label, by_key, pairing) is not None
    good = [marker for marker, count in pairs.items() if count]
    if len(good) > 1 and not masks:
        raise UserError(
            f"{root} has labels in {' and in '.join(f'{each}/' for each in sorted(good))}: select one in the data "
            f"set's description, masks: {sorted(good)[0]}, or remove the other"
        )
    if good:
        return [label for label in labels if _marker_of(label) == good[0]]
    return labels


def _marker_of(label: _Name) -> str:
    """Return a label folder's name without the split in it: trainannot and valannot become the same folder."""
    spelled = re.sub(r"[\s-]+", "_", plain(label.marker))
    found = re.fullmatch(rf"(?P<first>.*?)_?{_LABEL_FOLDERS.pattern}", spelled)
    return found[2] if found and found["first"] in SPLIT_NAMES else label.marker


def _stems(label: _Name, pairing: str | None) -> list[str]:
    """List candidate stems of a label's image, the most probable first."""
    if pairing:
        found = re.fullmatch(re.escape(plain(pairing)).replace(r"\{name\}", "(.+)"), label.stem)
        return [found[1]] if found else []
    stems = [label.stem]
    inner = PurePosixPath(label.stem)
    if inner.suffix in LABEL_SUFFIXES:  # masks/cat.jpg.png
        stems.append(inner.stem)
    for stem in tuple(stems):
        short = _LABEL_ENDINGS.sub("", stem)
        if short != stem and short:
            stems.append(short)
    stems += [stem.split("_", 1)[1] for stem in tuple(stems) if re.match(r"(mask|label|gt|seg)_.", stem)]
    return stems


def _labels_beside(images: Sequence[_Name], pairing: str | None) -> dict[PurePosixPath, _Name]:
    """Find labels in the same folder as their images, by a suffix that all of them share."""
    keys = {(name.folders, name.stem): name for name in images}
    found: dict[PurePosixPath, _Name] = {}
    for name in images:
        if pairing is None and not _LABEL_ENDINGS.search(name.stem):
            continue
        stems = [stem for stem in _stems(name, pairing) if stem != name.stem]
        if not any((name.folders, stem) in keys for stem in stems):
            if pairing is None:
                return {}  # a photograph named person_with_mask: not a label
            continue
        found[name.path] = name
    return found


def _by_key(root: Path, images: Iterable[_Name], paired: bool) -> dict[_Key, _Name]:
    by_key: dict[_Key, _Name] = {}
    for name in images:
        key = (name.folders, name.stem)
        if key in by_key and paired:
            raise UserError(
                f"{root}: two images share the name {'/'.join((*name.folders, name.stem))}: {by_key[key].path} and "
                f"{name.path}; rename or remove one"
            )
        by_key[key] = name
    return by_key


def _match(
    root: Path, images: Mapping[_Key, _Name], labels: Sequence[_Name], pairing: str | None
) -> tuple[dict[PurePosixPath, _Name], list[_Name]]:
    by_key = _with_loose_keys(images)
    label_of: dict[PurePosixPath, _Name] = {}
    unpaired: list[_Name] = []
    for label in labels:
        image = _image_of(label, by_key, pairing)
        if image is None:
            unpaired.append(label)
            continue
        if image.path in label_of:
            raise UserError(
                f"{root}: two labels belong to {image.path}: {label_of[image.path].path} and {label.path}; remove one"
            )
        label_of[image.path] = label
    return label_of, unpaired


def _image_of(label: _Name, images: Mapping[_Key, _Name], pairing: str | None) -> _Name | None:
    """Find a label's image: in the same folders, or in the same folders apart from a split's folder."""
    keys = [(folders, stem) for stem in _stems(label, pairing) for folders in (label.folders, _loose(label.folders))]
    found = next((images[key] for key in keys if key in images), None)
    return found if found and (label.split == found.split or None in (label.split, found.split)) else None


def _with_loose_keys(images: Mapping[_Key, _Name]) -> dict[_Key, _Name]:
    """Add keys without the split's folder where they stay unique: for Training_Images beside Ground_Truth."""
    loose = Counter((_loose(folders), stem) for folders, stem in images)
    unique = {
        (_loose(folders), stem): name for (folders, stem), name in images.items() if loose[_loose(folders), stem] == 1
    }  # fmt: skip
    return {**unique, **images}


def _loose(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folder for folder in folders if folder not in SPLIT_NAMES)


def _pair(root: Path, image: _Name, label: _Name | None) -> Pair:
    return Pair(root / image.path, root / label.path if label else None, image.split)


def _with_splits(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Keep splits only if there is a training split and another one; a single folder named train/ is not a split."""
    found = {pair.split for pair in pairs}
    if "train" in found and len(found - {None}) > 1 and None not in found:
        return tuple(pairs)
    return tuple(Pair(pair.image, pair.label) for pair in pairs)


def describe_unpaired(layout: Layout, root: Path) -> str:
    """Describe labels without an image in one line: ``no image for 2 of 9 labels: masks/a.png, masks/b.png``."""
    total = len(layout.unpaired) + sum(pair.label is not None for pair in layout.pairs)
    names = some([path.relative_to(root) for path in layout.unpaired])
    return f"no image for {len(layout.unpaired)} of {total} labels: {names}"
