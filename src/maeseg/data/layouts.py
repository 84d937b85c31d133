"""Which files of a folder are images, which are labels, and which belong together.

Folders are told by their names (``images``, ``JPEGImages``, ``masks``, ``SegmentationClass``, ``trainannot``), labels
beside their images by a suffix (``cat_mask.png``). A label and its image share the rest of their path, in any
capitals and either Unicode form.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maeseg.data.facts import Part
from maeseg.data.image_files import DataError, some
from maeseg.errors import UserError

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg", ".webp", ".npy", ".mat")
"""Suffixes of label files, in any case."""

PARTS: Mapping[str, Part] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of folders that are parts of a data set."""

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
    """An image, and its label if it has one.

    Attributes:
        image: The file.
        label: The label's file; None where there is none.
        part: Part of the data set that its folder names.
    """

    image: Path
    label: Path | None = None
    part: Part | None = None


@dataclass(frozen=True)
class Layout:
    """Images and labels of a folder.

    Attributes:
        pairs: Every image, sorted.
        spare: Labels without an image.
        left_out: Images that are neither, by the reason.
    """

    pairs: tuple[Pair, ...]
    spare: tuple[Path, ...] = ()
    left_out: Mapping[str, int] | None = None


@dataclass(frozen=True)
class _Name:
    """A file's path with what marks it as image or label taken out.

    Attributes:
        path: Relative to the root.
        kind: The folder that marks it: ``image``, ``label``, ``other``, or none.
        marker: That folder's name.
        folders: The other folders, in one spelling.
        stem: The file's, in one spelling.
        part: The part that a folder names.
    """

    path: PurePosixPath
    kind: str
    marker: str
    folders: tuple[str, ...]
    stem: str
    part: Part | None


def find_layout(
    root: Path, files: Sequence[Path], image_suffixes: tuple[str, ...], *, images: str | None = None,
    masks: str | None = None, pairing: str | None = None,
) -> Layout:  # fmt: skip
    """Tell images from labels, and pair them.

    Args:
        root: The folder.
        files: Its files that may be either, relative to it.
        image_suffixes: Suffixes of images, in lower case.
        images: Folder of the images, as the description says; None to find it.
        masks: Folder of the labels, likewise.
        pairing: Name of an image's label without suffix, such as ``{name}_mask``; None to find it.

    Raises:
        UserError: Two folders of labels, or two files of one name.
    """
    names = [_read_name(file, images, masks) for file in files if not _JUNK & {part.lower() for part in file.parts}]
    pictures = [name for name in names if name.path.suffix.lower() in image_suffixes]
    labels = [n for n in names if n.kind == "label" and n.path.suffix.lower() in LABEL_SUFFIXES]
    candidates = [name for name in pictures if name.kind in ("image", "")]
    labels, dropped = _one_folder(root, labels, candidates, pairing, masks)
    beside: dict[PurePosixPath, _Name] = {}
    if not labels:
        beside = _labels_beside(candidates, pairing)
        labels = list(beside.values())
        candidates = [name for name in candidates if name.path not in beside]
    elif any(name.kind == "image" for name in candidates) or images:
        candidates = [name for name in candidates if name.kind == "image"]
    by_key = _by_key(root, candidates, bool(labels))
    label_of, spare = _match(root, by_key, labels, pairing)
    pairs = [_pair(root, name, label_of.get(name.path)) for name in sorted(candidates, key=lambda name: name.path)]
    left_out = Counter(name.marker for name in pictures if name.kind in ("label", "other")) - Counter(dropped)
    return Layout(_with_parts(pairs), tuple(root / name.path for name in spare), left_out)


def read_key(path: PurePosixPath) -> _Key:
    """A file's folders and stem, without what marks it as an image or a label: the same for both of a pair."""
    name = _read_name(Path(path), None, None)
    return name.folders, name.stem


def plain(text: str) -> str:
    """A name in one spelling: composed Unicode, no capitals."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _read_name(file: Path, images: str | None, masks: str | None) -> _Name:
    path = PurePosixPath(file.as_posix())
    folders = path.parts[:-1]
    part = next((PARTS[plain(each)] for each in folders if plain(each) in PARTS), None)
    if images or masks:
        kind, marker, rest = _by_description(path, images, masks)
    else:
        kind, marker, rest = _by_folder_names(folders)
    part = part or next((PARTS[each] for each in rest if each in PARTS), None)
    rest = tuple(PARTS.get(each, each) for each in rest)
    return _Name(path, kind, marker, rest, plain(path.stem), part)


def _by_description(path: PurePosixPath, images: str | None, masks: str | None) -> tuple[str, str, tuple[str, ...]]:
    for kind, folder in (("label", masks), ("image", images)):
        if folder is None:
            continue
        inside = PurePosixPath(folder)
        if path.is_relative_to(inside) and path != inside:
            return kind, folder, tuple(map(plain, path.relative_to(inside).parts[:-1]))
    return ("other" if images else "image"), "", tuple(map(plain, path.parts[:-1]))


def _by_folder_names(folders: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """The kind of a file by the last of its folders that marks one, and the other folders."""
    spelled = [re.sub(r"[\s-]+", "_", plain(each)) for each in folders]
    for place in reversed(range(len(folders))):
        for kind, pattern in (("other", _OTHER_FOLDERS), ("label", _LABEL_FOLDERS), ("image", _IMAGE_FOLDERS)):
            found = re.fullmatch(rf"(?P<first>.*?)_?{pattern.pattern}", spelled[place])
            if found and _is_marker(found["first"], found[2]):
                kept = (found["first"],) if found["first"] in PARTS else ()
                return kind, folders[place], (*spelled[:place], *kept, *spelled[place + 1 :])
    return "", "", tuple(spelled)


def _is_marker(first: str, word: str) -> bool:
    """Whether a folder's name marks what it holds: ``masks``, ``PedMasks``; but not ``imaging`` or ``bags``."""
    return not first or first in PARTS or len(word) > 4 or first.endswith("_")


def _one_folder(
    root: Path, labels: list[_Name], images: list[_Name], pairing: str | None, masks: str | None
) -> tuple[list[_Name], dict[str, int]]:
    """The labels of the one folder that pairs with images; what pairs with none is left out."""
    by_key = _with_loose_keys({(name.folders, name.stem): name for name in images})
    pairs: Counter[str] = Counter()
    for label in labels:
        pairs[_marker_of(label)] += _image_of(label, by_key, pairing) is not None
    good = [marker for marker, count in pairs.items() if count]
    if len(good) > 1 and not masks:
        raise UserError(
            f"{root} has labels in {' and in '.join(f'{each}/' for each in sorted(good))}: say which count, masks: "
            f"{sorted(good)[0]}, in the data set's description, or keep one"
        )
    if good:
        return [label for label in labels if _marker_of(label) == good[0]], {}
    return labels if labels else [], {}


def _marker_of(label: _Name) -> str:
    """A folder's name without the part in it: trainannot and valannot are one."""
    spelled = re.sub(r"[\s-]+", "_", plain(label.marker))
    found = re.fullmatch(rf"(?P<first>.*?)_?{_LABEL_FOLDERS.pattern}", spelled)
    return found[2] if found and found["first"] in PARTS else label.marker


def _stems(label: _Name, pairing: str | None) -> list[str]:
    """Names that the image of a label may have, the likeliest first."""
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
    """Labels that lie in their images' own folder, told by a suffix that all of them share."""
    keys = {(name.folders, name.stem): name for name in images}
    found: dict[PurePosixPath, _Name] = {}
    for name in images:
        if pairing is None and not _LABEL_ENDINGS.search(name.stem):
            continue
        stems = [stem for stem in _stems(name, pairing) if stem != name.stem]
        if not any((name.folders, stem) in keys for stem in stems):
            if pairing is None:
                return {}  # a picture of somebody with_mask: no label
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
                f"{name.path}; keep one of each"
            )
        by_key[key] = name
    return by_key


def _match(
    root: Path, images: Mapping[_Key, _Name], labels: Sequence[_Name], pairing: str | None
) -> tuple[dict[PurePosixPath, _Name], list[_Name]]:
    by_key = _with_loose_keys(images)
    label_of: dict[PurePosixPath, _Name] = {}
    spare: list[_Name] = []
    for label in labels:
        image = _image_of(label, by_key, pairing)
        if image is None:
            spare.append(label)
            continue
        if image.path in label_of:
            raise UserError(
                f"{root}: two labels belong to {image.path}: {label_of[image.path].path} and {label.path}; keep one"
            )
        label_of[image.path] = label
    return label_of, spare


def _image_of(label: _Name, images: Mapping[_Key, _Name], pairing: str | None) -> _Name | None:
    """The image of a label: in the same folders, or in those but for the part that one of the two names."""
    keys = [(folders, stem) for stem in _stems(label, pairing) for folders in (label.folders, _loose(label.folders))]
    found = next((images[key] for key in keys if key in images), None)
    return found if found and (label.part == found.part or None in (label.part, found.part)) else None


def _with_loose_keys(images: Mapping[_Key, _Name]) -> dict[_Key, _Name]:
    """Images by their keys, and without the part in it where that names only one: Training_Images, Ground_Truth."""
    loose = Counter((_loose(folders), stem) for folders, stem in images)
    unique = {
        (_loose(folders), stem): name for (folders, stem), name in images.items() if loose[_loose(folders), stem] == 1
    }  # fmt: skip
    return {**unique, **images}


def _loose(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folder for folder in folders if folder not in PARTS)


def _pair(root: Path, image: _Name, label: _Name | None) -> Pair:
    return Pair(root / image.path, root / label.path if label else None, image.part)


def _with_parts(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Parts count only where there is one to train on and another: a single folder called train/ is none."""
    found = {pair.part for pair in pairs}
    if "train" in found and len(found - {None}) > 1 and None not in found:
        return tuple(pairs)
    return tuple(Pair(pair.image, pair.label) for pair in pairs)


def read_names(file: Path, option: str) -> list[str]:
    """Read a text file of names, one a line; empty lines do not count.

    Raises:
        DataError: It cannot be read, or lists nothing.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{option} {file} is no text file that can be read: give names, one a line") from error
    names = [line for line in lines if line]
    if not names:
        raise DataError(f"{option} {file} lists nothing: give names, one a line")
    return names


def describe_spare(layout: Layout, root: Path) -> str:
    """A line about labels without an image: ``no image for 2 of 9 labels: masks/a.png, masks/b.png``."""
    total = len(layout.spare) + sum(pair.label is not None for pair in layout.pairs)
    return f"no image for {len(layout.spare)} of {total} labels: {some([p.relative_to(root) for p in layout.spare])}"
