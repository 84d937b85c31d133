"""Split of each image by the options: provided by the data set, given by an option, or drawn by ``splits``."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maeseg.data.bad_images import refuse_other_classes
from maeseg.data.description import is_description
from maeseg.data.facts import ProvidedSplit
from maeseg.data.sources.base import Source, open_source
from maeseg.data.sources.joined import Joined, extra_names
from maeseg.data.sources.tar_shards import SHARD_SUFFIX
from maeseg.data.splits import SHARE_OR_NUMBER, Split, check_held_out_part, draw_split, read_names
from maeseg.data.volumes.source import is_volumes
from maeseg.errors import UserError
from maeseg.types import Data, Held

log = logging.getLogger(__name__)

DEFAULT_VAL = 0.2
"""Default share of validation images of a data set without a validation split."""

_Role = Literal["data", "val", "test", "extra"]
_NAMES = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Gathered:
    """All images named by the options of a run.

    Attributes:
        source: The images.
        roles: Option that names each image.
    """

    source: Source
    roles: tuple[_Role, ...]

    def of(self, role: _Role) -> list[int]:
        """Return the indices of the images of one option."""
        return [index for index, each in enumerate(self.roles) if each == role]

    def count(self, indices: Sequence[int]) -> str:
        """Describe images by their number and the name of the first: ``3 images (a.png, ...)``."""
        name = self.source.file(indices[0])
        return f"1 image ({name})" if len(indices) == 1 else f"{len(indices)} images ({name}, ...)"


def gather(data: Source, val: Held, test: Held, extra: str | Sequence[str] | None = None, *, labeled: bool) -> Gathered:
    """Open the data sets of ``--val``, ``--test`` and ``--extra``, and append them to the data.

    Args:
        data: Source named by ``--data``.
        val: Value of ``--val``; data sets and shards are opened.
        test: Value of ``--test``; data sets and shards are opened.
        extra: Value of ``--extra``.
        labeled: True to open labels too.

    Raises:
        UserError: A data set does not exist, or a share or number is out of range.
    """
    check_held_out_part(val, test)
    more: list[tuple[_Role, Data]] = []
    more += [("val", val)] if not isinstance(val, int | float) and not is_list(val) else []
    more += [("test", test)] if not isinstance(test, int | float) and not is_list(test) else []
    more += [("extra", name) for name in extra_names(extra)]
    roles: list[_Role] = ["data"] * len(data)
    if not more:
        return Gathered(data, tuple(roles))
    sources = [
        open_source(
            name, labeled=labeled, option=role, channels=data.channels, classes=data.classes,
            volumes=is_volumes(data),
        )
        for role, name in more
    ]  # fmt: skip
    for (role, _), source in zip(more, sources, strict=True):
        if is_volumes(source) != is_volumes(data):
            raise UserError(f"--{role} {source.name}: {data.name} has volumes, or images, and this the other: give one")
        if labeled:
            refuse_other_classes(source, data.classes)
        roles += [role] * len(source)
    return Gathered(Joined([data, *sources]), tuple(roles))


def is_list(path: Data) -> bool:
    """Test a path for a list of names: any file other than a description of a data set or a shard."""
    if not isinstance(path, str):
        return False
    return Path(path).is_file() and not is_description(path) and Path(path).suffix.lower() != SHARD_SUFFIX


def assign(images: Gathered, contents: Sequence[str], val: Held, test: Held) -> Split:
    """Assign each image to a split.

    Splits provided by the data set are kept, and so are images given by a data set or a list. Missing splits are drawn
    from the remaining images, by group or content (``draw_split``). No training image shares its content or group with
    a held-out image.

    Args:
        images: All images named by the options.
        contents: Digest of each image's content.
        val: Value of ``--val``.
        test: Value of ``--test``.

    Returns:
        The split. Images in none of its subsets are copies of others.

    Raises:
        UserError: Provided or given splits share images, options contradict the provided splits, or no training image
            would remain.
    """
    own = _provided_splits(images, val, test)
    validate = _given(images, "val", val) or own["val"]
    testing = _given(images, "test", test) or own["test"]
    _refuse_shared(images, contents, "test", testing, "val", validate)
    for split in ("val", "test"):
        _refuse_shared(images, contents, split, own[split], "train", own["train"])
    held = _keys(images, contents, (*validate, *testing))
    rest = [index for index in own["train"] if not held & _keys(images, contents, [index])]
    drawn = _draw(images, contents, rest, 0 if validate else val, 0 if testing else test)
    assigned = _disjoint(Split(drawn.train, tuple(validate) or drawn.val, tuple(testing) or drawn.test), contents)
    if left_out := sorted(set(own["train"]) - {*assigned.train, *assigned.val, *assigned.test}):
        log.info("%s excluded from training: copies of held-out images, or of their groups", images.count(left_out))
    return _with_extra(images, contents, assigned)


def _draw(images: Gathered, contents: Sequence[str], indices: Sequence[int], val: Held, test: Held) -> Split:
    """Draw the splits that are given as a share or a number."""
    drawn = draw_split(
        {index: _key(images.source, contents, index) for index in indices},
        val if isinstance(val, int | float) else 0,
        test if isinstance(test, int | float) else 0,
    )
    for split, wanted, found in (("val", val, drawn.val), ("test", test, drawn.test)):
        if wanted and isinstance(wanted, int) and len(found) > wanted:
            log.info("--%s %d: %d images, as groups and copies stay together", split, wanted, len(found))
    return drawn


def _provided_splits(images: Gathered, val: Held, test: Held) -> dict[ProvidedSplit, list[int]]:
    """Group the images of the data by the split that the data set provides; all are in train if it provides none."""
    name, data = images.source.name, images.of("data")
    split_of = {index: images.source.split(index) for index in data}
    own: dict[ProvidedSplit, list[int]] = {
        split: [index for index in data if split_of[index] == split] for split in ("train", "val", "test")
    }
    rest = [index for index in data if split_of[index] is None]
    if not own["train"]:
        own["train"] = rest
    elif rest:
        log.info("%s: %s in none of its splits, excluded", name, images.count(rest))
    if len(rest) == len(data):
        return own
    if not own["train"]:
        raise UserError(f"{name} provides splits, but no training split: give its training images as --data")
    for split, option, default in (("val", val, DEFAULT_VAL), ("test", test, 0)):
        found = own["val" if split == "val" else "test"]
        if found and option != default:
            raise UserError(
                f"--{split} {option}: {name} provides a {_NAMES[split]} split of {len(found)} images: omit --{split}, "
                "or give only its training images as --data"
            )
    log.info("splits of the data set: %s", ", ".join(f"{len(each)} {split}" for split, each in own.items() if each))
    return own


def _given(images: Gathered, split: Literal["val", "test"], option: Held) -> list[int]:
    """Return the images that a data set or a list of names assigns to a split; none for a share or a number."""
    if not isinstance(option, str) or not is_list(option):
        return images.of(split)
    names = {images.source.file(index): index for index in images.of("data")}
    wanted = set(read_names(Path(option), f"--{split}", SHARE_OR_NUMBER))
    if strange := sorted(wanted - names.keys()):
        raise UserError(
            f"--{split} {option}: {strange[0]!r} is not an image of {images.source.name} (a valid name is "
            f"{next(iter(names))!r})"
        )
    return sorted(names[name] for name in wanted)


def _key(source: Source, contents: Sequence[str], index: int) -> str:
    group = source.group(index)
    return contents[index] if group is None else f"group {group}"


def _keys(images: Gathered, contents: Sequence[str], indices: Sequence[int]) -> set[str]:
    """Collect the contents of images, and the groups of those named by ``--data``."""
    groups = (_key(images.source, contents, index) for index in indices if images.roles[index] == "data")
    return {contents[index] for index in indices}.union(groups)


def _refuse_shared(
    images: Gathered, contents: Sequence[str], split: str, held: Sequence[int], other: str, others: Sequence[int]
) -> None:
    keys = _keys(images, contents, held)
    if shared := [index for index in others if keys & _keys(images, contents, [index])]:
        raise UserError(
            f"{images.source.name}: {images.count(shared)} of {other} have the content or the group of images of "
            f"{split}: keep each in one split"
        )


def _disjoint(split: Split, contents: Sequence[str]) -> Split:
    """Remove copies across groups: held-out images from training, and test images from validation."""
    test = {contents[index] for index in split.test}
    val = tuple(index for index in split.val if contents[index] not in test)
    held = test | {contents[index] for index in val}
    return Split(tuple(index for index in split.train if contents[index] not in held), val, split.test)


def _with_extra(images: Gathered, contents: Sequence[str], split: Split) -> Split:
    """Add the images of ``--extra`` to the training images, without copies and without images held out anywhere."""
    extra = images.of("extra")
    if not extra:
        return split
    held = {contents[index] for index in (*split.val, *split.test)}
    held |= {contents[index] for index in extra if images.source.split(index) in ("val", "test")}
    taken = {contents[index] for index in split.train}
    added, left_out = [], 0
    for index in extra:
        if contents[index] in held:
            left_out += 1
        elif contents[index] not in taken:
            added.append(index)
            taken.add(contents[index])
    known = len(extra) - len(added) - left_out
    log.info(
        "extra: %d more training images%s%s", len(added),
        f" ({known} duplicates ignored)" if known else "",
        f", {left_out} held-out images excluded" if left_out else "",
    )  # fmt: skip
    return Split((*split.train, *added), split.val, split.test)
