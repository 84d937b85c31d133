"""The part of each image that the options name: its own, one that was given, or drawn from the image alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maeseg.data.description import is_description
from maeseg.data.facts import Part
from maeseg.data.sources.base import Source, open_source
from maeseg.data.sources.joined import Joined, extra_names
from maeseg.data.sources.tar_shards import SHARD_SUFFIX
from maeseg.data.splits import Split, check_held_out_part, draw_split, read_names
from maeseg.errors import UserError
from maeseg.types import Data, Held

log = logging.getLogger(__name__)

DEFAULT_VAL = 0.2
"""Share that validates where nothing was asked for and the data set has no validation part of its own."""

_Role = Literal["data", "val", "test", "extra"]
_WORDS = {"train": "train", "val": "validate", "test": "test"}


@dataclass(frozen=True)
class Gathered:
    """All images that the options of a run name.

    Attributes:
        source: The images.
        roles: The option that each comes from.
    """

    source: Source
    roles: tuple[_Role, ...]

    def of(self, role: _Role) -> list[int]:
        """Indices of the images that come from an option."""
        return [index for index, each in enumerate(self.roles) if each == role]

    def count(self, indices: Sequence[int]) -> str:
        """How many images there are of them, and the name of one: ``3 images (a.png, ...)``."""
        name = self.source.file(indices[0])
        return f"1 image ({name})" if len(indices) == 1 else f"{len(indices)} images ({name}, ...)"


def gather(data: Source, val: Held, test: Held, extra: str | Sequence[str] | None = None, *, labeled: bool) -> Gathered:
    """Open what ``--val``, ``--test`` and ``--extra`` name, and put it behind the data.

    Args:
        data: What ``--data`` names.
        val: As the option; data sets and shards are opened.
        test: As the option.
        extra: As the option.
        labeled: Whether labels are wanted.

    Raises:
        UserError: No such data, or a share or number is out of range.
    """
    check_held_out_part(val, test)
    more: list[tuple[_Role, Data]] = []
    more += [("val", val)] if not isinstance(val, int | float) and not _is_list(val) else []
    more += [("test", test)] if not isinstance(test, int | float) and not _is_list(test) else []
    more += [("extra", name) for name in extra_names(extra)]
    roles: list[_Role] = ["data"] * len(data)
    if not more:
        return Gathered(data, tuple(roles))
    sources = [
        open_source(
            name, labeled=labeled, option=role, channels=data.channels, classes=data.classes
        )
        for role, name in more
    ]  # fmt: skip
    for (role, _), source in zip(more, sources, strict=True):
        roles += [role] * len(source)
    return Gathered(Joined([data, *sources]), tuple(roles))


def _is_list(path: Data) -> bool:
    """Whether a path is a file that lists names: any but a description of a data set, or a shard."""
    if not isinstance(path, str):
        return False
    return Path(path).is_file() and not is_description(path) and Path(path).suffix.lower() != SHARD_SUFFIX


def assign(images: Gathered, contents: Sequence[str], val: Held, test: Held) -> Split:
    """Put each image into a part.

    The parts that the data set has of its own are kept, and so are images given by a data set or a list; what is
    missing is drawn from the rest, by group or content (``draw_split``). No image trains whose content or group
    validates or tests.

    Args:
        images: All that the options name.
        contents: Digest of each image's content.
        val: As the option.
        test: As the option.

    Returns:
        The parts. Images that are in none are copies of others.

    Raises:
        UserError: Parts of the data set's own, or given ones, share images; options contradict the parts; or nothing
            would be left to train on.
    """
    own = _own_parts(images, val, test)
    validate = _given(images, "val", val) or own["val"]
    testing = _given(images, "test", test) or own["test"]
    _refuse_shared(images, contents, "test", testing, "val", validate)
    for part in ("val", "test"):
        _refuse_shared(images, contents, part, own[part], "train", own["train"])
    held = _marks(images, contents, (*validate, *testing))
    rest = [index for index in own["train"] if not held & _marks(images, contents, [index])]
    drawn = draw_split(
        {index: _key(images.source, contents, index) for index in rest},
        val if isinstance(val, int | float) and not validate else 0,
        test if isinstance(test, int | float) and not testing else 0,
    )
    for part, wanted, there in (("val", val, drawn.val), ("test", test, drawn.test)):
        if isinstance(wanted, int) and len(there) > wanted:
            log.info("--%s %d: %d images, as groups and copies stay together", part, wanted, len(there))
    split = _apart(Split(drawn.train, tuple(validate) or drawn.val, tuple(testing) or drawn.test), contents)
    if left_out := sorted(set(own["train"]) - {*split.train, *split.val, *split.test}):
        log.info(
            "%s not trained on: copies of images that validate or test, or of their groups", images.count(left_out)
        )
    return _with_extra(images, contents, split)


def _own_parts(images: Gathered, val: Held, test: Held) -> dict[Part, list[int]]:
    """Images of the data by the part that the data set puts them in; in train where it has none."""
    name, data = images.source.name, images.of("data")
    parts = {index: images.source.part(index) for index in data}
    own: dict[Part, list[int]] = {
        part: [index for index in data if parts[index] == part] for part in ("train", "val", "test")
    }
    rest = [index for index in data if parts[index] is None]
    if not own["train"]:
        own["train"] = rest
    elif rest:
        log.info("%s: %s in none of its parts, left out", name, images.count(rest))
    if len(rest) == len(data):
        return own
    if not own["train"]:
        raise UserError(f"{name} has parts of its own, and none to train on: give its training images as --data")
    for part, option, default in (("val", val, DEFAULT_VAL), ("test", test, 0)):
        there = own["val" if part == "val" else "test"]
        if there and option != default:
            raise UserError(
                f"--{part} {option}: {name} has {len(there)} images of its own to {_WORDS[part]} with: leave out "
                f"--{part}, or give its training images alone as --data"
            )
    log.info("parts of the data set: %s", ", ".join(f"{len(each)} {part}" for part, each in own.items() if each))
    return own


def _given(images: Gathered, part: Literal["val", "test"], option: Held) -> list[int]:
    """Images that a data set or a list of names puts into a part; none for a share or a number."""
    if not isinstance(option, str) or not _is_list(option):
        return images.of(part)
    names = {images.source.file(index): index for index in images.of("data")}
    wanted = read_names(Path(option), part)
    if strange := sorted(wanted - names.keys()):
        raise UserError(
            f"--{part} {option}: {strange[0]!r} is not an image of {images.source.name} (they are named as "
            f"{next(iter(names))!r} is)"
        )
    return sorted(names[name] for name in wanted)


def _key(source: Source, contents: Sequence[str], index: int) -> str:
    group = source.group(index)
    return contents[index] if group is None else f"group {group}"


def _marks(images: Gathered, contents: Sequence[str], indices: Sequence[int]) -> set[str]:
    """Contents of images, and groups of those of the data."""
    groups = (_key(images.source, contents, index) for index in indices if images.roles[index] == "data")
    return {contents[index] for index in indices}.union(groups)


def _refuse_shared(
    images: Gathered, contents: Sequence[str], part: str, held: Sequence[int], other: str, others: Sequence[int]
) -> None:
    marks = _marks(images, contents, held)
    if shared := [index for index in others if marks & _marks(images, contents, [index])]:
        raise UserError(
            f"{images.source.name}: {images.count(shared)} of {other} have the content or the group of images of "
            f"{part}: keep each in one part"
        )


def _apart(split: Split, contents: Sequence[str]) -> Split:
    """Leave out of training what also validates or tests, and of validation what also tests: copies across groups."""
    test = {contents[index] for index in split.test}
    val = tuple(index for index in split.val if contents[index] not in test)
    held = test | {contents[index] for index in val}
    return Split(tuple(index for index in split.train if contents[index] not in held), val, split.test)


def _with_extra(images: Gathered, contents: Sequence[str], split: Split) -> Split:
    """Add what ``--extra`` names to the training images: what is new, and neither validates nor tests here or there."""
    extra = images.of("extra")
    if not extra:
        return split
    held = {contents[index] for index in (*split.val, *split.test)}
    held |= {contents[index] for index in extra if images.source.part(index) in ("val", "test")}
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
        "extra: %d more images to train on%s%s", len(added),
        f" ({known} were there already)" if known else "",
        f", {left_out} left out that validate or test" if left_out else "",
    )  # fmt: skip
    return Split((*split.train, *added), split.val, split.test)
