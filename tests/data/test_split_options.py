"""Split of each image: provided splits, groups, given folders and lists, copies; without training."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.tar_shards import encoded, write_shard
from helpers.tiny_runs import contents, split_of
from maeseg.data.facts import ProvidedSplit
from maeseg.data.sources.base import Source, open_source
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.split_options import assign, gather
from maeseg.data.splits import Split
from maeseg.errors import UserError
from maeseg.runs.image_list import ImageList, Listed, read_image_list, write_image_list
from maeseg.training.run_images import choose_images
from maeseg.types import Held


class Grouped(ImageFolder):
    """A folder whose images have splits and groups, by their names."""

    def __init__(
        self, root: Path, split: Callable[[str], ProvidedSplit | None] = lambda name: None,
        group: Callable[[str], str | None] = lambda name: None,
    ) -> None:  # fmt: skip
        super().__init__(root, labeled=False)
        self._split, self._group = split, group

    def split(self, index: int) -> ProvidedSplit | None:
        return self._split(self.file(index))

    def group(self, index: int) -> str | None:
        return self._group(self.file(index))


def folder(root: Path, names: dict[str, int]) -> Path:
    """Images by name, with noise from a number; BMP, whose bytes do not depend on library versions."""
    for name, number in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(number, "BMP", (16, 16)))
    return root


def divided(data: Source, val: Held = 0.2, test: Held = 0) -> tuple[Source, Split]:
    images = gather(data, val, test, labeled=False)
    return images.source, assign(images, contents(images.source), val, test)


def files(source: Source, indices: tuple[int, ...]) -> set[str]:
    return {source.file(index) for index in indices}


def pictures_of(source: Source, indices: tuple[int, ...]) -> set[str]:
    of = contents(source)
    return {of[index] for index in indices}


PHOTOS = {f"{number:02d}.bmp": number for number in range(30)}
IN_SPLITS = {f"{part}/{number}.bmp": number + begin for part, begin, count in
            (("train", 0, 6), ("val", 10, 2), ("test", 20, 3)) for number in range(count)}  # fmt: skip


def own_split(name: str) -> ProvidedSplit | None:
    return {"train": "train", "val": "val", "test": "test"}[name.partition("/")[0]]  # type: ignore[return-value]


def test_copies_links_and_shards_have_the_splits_of_the_images(tmp_path: Path) -> None:
    photos = folder(tmp_path / "photos", PHOTOS)
    renamed = folder(tmp_path / "renamed", {f"deep/x{29 - number:02d}.bmp": number for number in range(30)})
    (tmp_path / "linked").mkdir()
    for file in photos.iterdir():
        (tmp_path / "linked" / f"l{file.name}").symlink_to(file)
    write_shard(tmp_path / "shards" / "a.tar", {file.name: file.read_bytes() for file in sorted(photos.iterdir())})
    sources = [
        open_source(str(path), labeled=False) for path in (photos, renamed, tmp_path / "linked", tmp_path / "shards")
    ]
    for val in (0.3, 7):
        splits = [(source, split_of(source, val)) for source in sources]
        assert len({frozenset(pictures_of(source, split.val)) for source, split in splits}) == 1
        assert len({frozenset(pictures_of(source, split.train)) for source, split in splits}) == 1


def test_a_subset_of_a_folder_holds_out_the_same_images(tmp_path: Path) -> None:
    """Pre-training on all photographs and fine-tuning on the labeled ones, with the same share."""
    photos = open_source(str(folder(tmp_path / "photos", PHOTOS)), labeled=False)
    few = open_source(str(folder(tmp_path / "few", {f"f{n}.bmp": n for n in range(0, 30, 2)})), labeled=False)
    before, now = split_of(photos, 0.3), split_of(few, 0.2, 0.1)
    assert not pictures_of(photos, before.train) & pictures_of(few, (*now.val, *now.test))


def test_copies_under_other_names_are_in_one_part(tmp_path: Path) -> None:
    source, split = divided(
        open_source(str(folder(tmp_path, PHOTOS | {f"copy{n}.bmp": n for n in range(30)})), labeled=False)
    )
    assert not pictures_of(source, split.train) & pictures_of(source, split.val)
    assert len(split.val) % 2 == 0 and len(split.train) + len(split.val) == 60


def test_groups_stay_together_whatever_is_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = {f"film{n // 5}_{n}.bmp": n for n in range(30)}
    by = {"group": lambda name: name.partition("_")[0]}
    source = Grouped(folder(tmp_path, names), **by)
    with caplog.at_level(logging.INFO, logger="maeseg"):
        _, split = divided(source, 4)
    assert len(split.val) == 5 and "--val 4: 5 images, as groups and copies stay together" in caplog.text
    assert len({name.partition("_")[0] for name in files(source, split.val)}) == 1
    folder(tmp_path, {f"film{n // 5}_{n}.bmp": 100 + n for n in range(30, 33)} | {"film0_x.bmp": 200})
    more = Grouped(tmp_path, **by)
    share = {name.partition("_")[0] for name in files(more, divided(more, 0.4)[1].val)}
    assert not share & {name.partition("_")[0] for name in files(more, divided(more, 0.4)[1].train)}


def test_a_copy_in_another_group_is_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A frame shared by two films, such as a black one."""
    names = {f"film{n // 5}_{n}.bmp": n for n in range(30)}
    source = Grouped(folder(tmp_path, names | {f"film{film}_black.bmp": 99 for film in range(6)}),
                     group=lambda name: name.partition("_")[0])  # fmt: skip
    with caplog.at_level(logging.INFO, logger="maeseg"):
        _, split = divided(source, 6)
    assert (len(split.val), len(split.train)) == (6, 25) and "5 images (film" in caplog.text
    assert not pictures_of(source, split.train) & pictures_of(source, split.val)


def test_provided_splits_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Grouped(folder(tmp_path, IN_SPLITS), own_split)
    with caplog.at_level(logging.INFO, logger="maeseg"):
        _, split = divided(source)
    assert {part: len(getattr(split, part)) for part in ("train", "val", "test")} == {"train": 6, "val": 2, "test": 3}
    assert all(name.startswith("val/") for name in files(source, split.val))
    assert "6 train, 2 val, 3 test" in caplog.text


def test_a_validation_part_is_drawn_from_own_training_images(tmp_path: Path) -> None:
    names = {name: number for name, number in IN_SPLITS.items() if not name.startswith("val/")}
    source = Grouped(folder(tmp_path, names), own_split)
    _, split = divided(source, 2)
    assert len(split.val) == 2 and len(split.train) == 4
    assert all(name.startswith("train/") for name in files(source, split.val))
    assert all(name.startswith("test/") for name in files(source, split.test)) and len(split.test) == 3


@pytest.mark.parametrize(
    ("val", "test", "expected"),
    [
        (0.3, 0, "--val 0.3: .* validation split of 2 images: omit --val"),
        (0.2, 2, "--test 2: .* test split of 3 images: omit --test"),
    ],
)
def test_options_that_contradict_provided_splits_are_refused(
    val: Held, test: Held, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected):
        divided(Grouped(folder(tmp_path, IN_SPLITS), own_split), val, test)


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_own_parts_that_share_images_are_refused(first: str, second: str, tmp_path: Path) -> None:
    number = IN_SPLITS[f"{first}/0.bmp"]
    source = Grouped(folder(tmp_path, IN_SPLITS | {f"{second}/copy.bmp": number}), own_split)
    with pytest.raises(UserError, match=rf"1 image \({first}/0.bmp\) of {first} have .* of {second}: keep each"):
        divided(source)


def test_images_in_no_split_are_excluded_if_a_training_split_is_provided(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path, IN_SPLITS | {"more/1.bmp": 90, "more/2.bmp": 91})
    source = Grouped(tmp_path, lambda name: None if name.startswith("more/") else own_split(name))
    with caplog.at_level(logging.INFO, logger="maeseg"):
        assert len(divided(source)[1].train) == 6
    assert "2 images (more/1.bmp, ...) in none of its splits" in caplog.text
    source = Grouped(tmp_path, lambda name: "val" if name.startswith("val/") else None)
    assert len(divided(source)[1].train) == 6 + 3 + 2


def test_only_held_out_splits(tmp_path: Path) -> None:
    names = {name: number for name, number in IN_SPLITS.items() if not name.startswith("train/")}
    with pytest.raises(UserError, match="no training split: give its training images as --data"):
        divided(Grouped(folder(tmp_path, names), own_split))


def test_a_folder_given_validates_and_its_copies_do_not_train(tmp_path: Path) -> None:
    photos = open_source(str(folder(tmp_path / "photos", PHOTOS)), labeled=False)
    given = folder(tmp_path / "given", {f"v{number}.bmp": number for number in (3, 4, 77)})
    source, split = divided(photos, str(given))
    assert files(source, split.val) == {"v3.bmp", "v4.bmp", "v77.bmp"} and split.test == ()
    assert files(source, split.train) == PHOTOS.keys() - {"03.bmp", "04.bmp"}
    source, split = divided(photos, str(given), 0.3)
    assert files(source, split.val) == {"v3.bmp", "v4.bmp", "v77.bmp"} and split.test
    assert not pictures_of(source, split.test) & pictures_of(source, (*split.val, *split.train))


def test_a_list_of_names_validates(tmp_path: Path) -> None:
    photos = open_source(str(folder(tmp_path / "photos", PHOTOS | {"twin.bmp": 5})), labeled=False)
    listing = tmp_path / "val.txt"
    listing.write_text("05.bmp\n07.bmp\n")
    source, split = divided(photos, str(listing), 2)
    assert files(source, split.val) == {"05.bmp", "07.bmp"} and len(split.test) == 2
    assert len(split.train) == 31 - 2 - 1 - 2 and "twin.bmp" not in files(source, split.train)
    listing.write_text("99.bmp")
    with pytest.raises(UserError, match=r"--val .*val.txt: '99.bmp' is not an image of .*a valid name is '00.bmp'"):
        divided(photos, str(listing))
    with pytest.raises(UserError, match=r"of val have .* of test: keep each in one split"):
        listing.write_text("05.bmp")
        divided(photos, str(listing), str(folder(tmp_path / "test", {"t.bmp": 5})))
    with pytest.raises(UserError, match="--test nowhere: no such folder"):
        divided(photos, 2, "nowhere")


def test_extra_images_of_held_out_parts_stay_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = open_source(str(folder(tmp_path / "data", PHOTOS)), labeled=False)
    extra = folder(tmp_path / "extra", {f"e{number}.bmp": number for number in (0, 1, 2, 3, 50, 51)})
    images = gather(data, 10, 0, [str(extra)], labeled=False)
    with caplog.at_level(logging.INFO, logger="maeseg"):
        split = assign(images, contents(images.source), 10, 0)
    held = len(pictures_of(images.source, split.val) & pictures_of(images.source, tuple(range(4))))
    assert held and f"{held} held-out images excluded" in caplog.text
    assert len(split.train) == 20 + 2
    assert not pictures_of(images.source, split.train) & pictures_of(images.source, split.val)


# --- the lists that a run keeps


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    names = ("a, b.bmp", 'q"uote.bmp', "two\nlines.bmp", b"\xff.bmp".decode(errors="surrogateescape"))
    rows = tuple(Listed("train", name, f"{number:032x}") for number, name in enumerate(names))
    write_image_list(tmp_path, ImageList((*rows, Listed("inherited", "runs/old", ""))))
    found = read_image_list(tmp_path)
    assert found and found.rows[:-1] == rows
    assert found.trained == {row.content: row.file for row in rows}
    assert read_image_list(tmp_path / "nowhere") is None


HEAD = "split,file,content,label\n"


@pytest.mark.parametrize("text", ["", "split,file\n", f"{HEAD}train,a.bmp\n", f"{HEAD}x,a,b,c\n"])
def test_a_damaged_list_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises(UserError, match=r"images.csv is damaged"):
        read_image_list(tmp_path)


def test_a_run_that_goes_on_has_the_images_that_it_began_with(tmp_path: Path) -> None:
    photos, out = folder(tmp_path / "photos", PHOTOS), tmp_path / "run"
    out.mkdir()

    def chosen(resume: bool) -> tuple[list[str], list[str], list[str]]:
        source = open_source(str(photos), labeled=False)
        images = choose_images(source, str(out), val=6, labeled=False, resume=resume)
        train = images.choose_labels(10, seed=3)
        images.write(out, images.listed(train))
        return tuple([source.file(index) for index in part] for part in (images.split.train, images.split.val, train))  # type: ignore[return-value]

    first = chosen(resume=False)
    assert list(map(len, first)) == [24, 6, 10]
    folder(photos, {f"0{number}_new.bmp": 100 + number for number in range(9)})
    assert chosen(resume=True) == first
    assert chosen(resume=False) != first  # the lowest places of more images
    (photos / first[0][0]).write_bytes(encoded(500, "BMP", (16, 16)))
    with pytest.raises(UserError, match=f"{first[0][0]} of .* has changed: put back"):
        chosen(resume=True)
    (photos / first[0][0]).unlink()
    (photos / first[1][1]).unlink()
    with pytest.raises(UserError, match=rf"{first[0][0]} of .* is gone \(and 1 more\)"):
        chosen(resume=True)
    (out / "images.csv").unlink()
    (out / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"has no images.csv, so it is not known"):
        chosen(resume=True)
