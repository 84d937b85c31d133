"""Choice of a run's unlabeled images: none that is held out, none twice, the same ones when a run is resumed."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maeseg as library
from helpers.tiny_runs import WIDTHS
from maeseg.config import FinetuneConfig
from maeseg.errors import UserError
from maeseg.runs.image_list import read_image_list
from maeseg.training.finetuning import Images, build, choose_labeled
from maeseg.training.setup import settle

TINY: dict[str, Any] = {
    "encoder": "test_resnet", "decoder_channels": WIDTHS, "image_size": 32, "epochs": 1, "batch_size": 2, "workers": 0,
    "accelerator": "cpu", "val": 4, "labels": 3,
}  # fmt: skip
COUNT = 12  # labeled images: 4 validate, 3 train, 5 are the rest


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.full((32, 32, 3), [200, 3 * number, number], np.uint8))


def photos(folder: Path, numbers: range, name: str = "photo{:02d}.bmp") -> str:
    """BMP, whose bytes no library's version changes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number).save(folder / name.format(number))
    return str(folder)


@pytest.fixture
def data(tmp_path: Path) -> str:
    photos(tmp_path / "data" / "images", range(COUNT))
    (tmp_path / "data" / "masks").mkdir()
    for number in range(COUNT):
        label = np.zeros((32, 32), np.uint8)
        label[:16] = 1
        Image.fromarray(label).save(tmp_path / "data" / "masks" / f"photo{number:02d}.png")
    return str(tmp_path / "data")


def config_of(data: str, unlabeled: Any, **more: Any) -> FinetuneConfig:
    return FinetuneConfig(**{**TINY, "data": data, "out": f"{data}-run", "unlabeled": unlabeled, **more})


def choose(data: str, unlabeled: Any, **more: Any) -> Images:
    config = config_of(data, unlabeled, **more)
    return choose_labeled(config, settle(config, []).starts)


def names(images: Images) -> list[str]:
    assert images.unlabeled
    return [source.file(index) for part in images.unlabeled.parts(images.chosen) for source, index in _each(part)]


def _each(part: Any) -> list[Any]:
    return [(part.source, index) for index in part.indices]


def files(images: Images, indices: Any) -> set[str]:
    return {Path(images.source.file(index)).name for index in indices}


def test_rest_is_the_training_images_whose_labels_are_not_used(data: str) -> None:
    images = choose(data, "rest")
    split = images.chosen.split
    assert images.unlabeled and set(images.unlabeled.rest) == set(split.train) - set(images.train)
    assert len(images.unlabeled) == 5
    listed = images.listed()
    assert [len(listed.of(each)) for each in ("train", "unlabeled", "unused", "val")] == [3, 5, 0, 4]


@pytest.mark.parametrize("both", [False, True])
def test_held_out_and_labeled_images_are_left_out_by_content(
    both: bool, data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    copies = photos(tmp_path / "more", range(COUNT), "copy{:02d}.bmp")
    photos(tmp_path / "more", range(20, 24))
    photos(tmp_path / "more", range(20, 22), "twice{:02d}.bmp")
    images = choose(data, ["rest", copies] if both else copies)
    split = images.chosen.split
    held, labeled = files(images, split.val), files(images, images.train)
    rest = {name.replace("photo", "copy") for name in files(images, split.train) - labeled}
    expected = {f"photo{number}.bmp" for number in range(20, 24)} | (set() if both else rest)
    assert images.unlabeled and set(names(images)[len(images.unlabeled.rest) :]) == expected
    assert len(images.unlabeled) == 9
    [line] = [record.message for record in caplog.records if "held-out" in record.message]
    first = min(name.replace("photo", "copy") for name in held)
    assert f"4 images of {copies} left out, {first} the first" in line
    contents = [row.content for row in images.listed().of("train", "unlabeled", "val")]
    assert len(contents) == len(set(contents)) == 16


def test_several_data_sets_and_a_dataset_object(data: str, tmp_path: Path) -> None:
    one, two = photos(tmp_path / "one", range(20, 23)), photos(tmp_path / "two", range(22, 26))
    assert names(choose(data, f"{one},{two}")) == [f"photo{number}.bmp" for number in range(20, 26)]
    arrays = [np.asarray(picture(number)) for number in range(30, 33)]
    images = choose(data, [arrays, one, "rest"])
    assert len(images.unlabeled or ()) == 5 + 3 + 3 and names(images)[5:8] == ["item 0", "item 1", "item 2"]


@pytest.mark.parametrize(
    ("unlabeled", "more", "said"),
    [
        ("rest", {"labels": 8}, "--unlabeled rest: the labels of all 8 training images"),
        ("{held}", {}, "every image in it is held out, or trained on with its label"),
        ("{few}", {}, "--unlabeled {few}: 3 images are fewer than the 4 of a step (--batch_size 2 times"),
        ("{few}", {"batch_size": 1}, ""),
        ("{empty}", {}, "{empty}"),
        ("{few},{few}", {}, "--unlabeled names {few} twice"),
        ("rest,", {}, "--unlabeled rest, lacks a name"),
        ("{bad}", {}, "bad.bmp"),
        ("{few}", {"out": "{few}/run"}, "--out {few}/run lies in --unlabeled {few}"),
    ],
)
def test_bad_input(unlabeled: str, more: dict[str, Any], said: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = {
        "held": photos(tmp_path / "held", range(COUNT)), "few": photos(tmp_path / "few", range(20, 23)),
        "empty": str(tmp_path / "empty"), "bad": photos(tmp_path / "bad", range(20, 26)),
    }  # fmt: skip
    (tmp_path / "bad" / "bad.bmp").write_bytes(b"BM")
    held_alone = {"labels": 8} if unlabeled == "{held}" else {}
    more = {name: value.format(**places) if isinstance(value, str) else value for name, value in more.items()}
    config = config_of(data, unlabeled.format(**places), **{**more, **held_alone})
    if not said:
        setup = settle(config, [])
        build(config, setup, choose_labeled(config, setup.starts))
        return
    with pytest.raises(UserError) as error:
        setup = settle(config, [])
        build(config, setup, choose_labeled(config, setup.starts))
    assert said.format(**places) in str(error.value) and "\n" not in str(error.value)


def test_images_of_other_channels_are_refused(data: str, tmp_path: Path) -> None:
    folder = tmp_path / "bands"
    folder.mkdir()
    for number in range(5):
        np.save(folder / f"{number}.npy", np.full((32, 32, 5), number, np.uint8))
    with pytest.raises(UserError, match="bands"):
        choose(data, str(folder))
    with pytest.raises(UserError, match="5"):
        arrays = [np.full((32, 32, 5), number, np.uint8) for number in range(5)]
        choose(data, arrays)


def test_images_of_another_value_type_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(np.array([[0], [1]], np.uint8), 16, 0).repeat(32, 1)
    pairs = [(rng.integers(0, 256, (32, 32, 5)).astype(np.uint8), label) for _ in range(COUNT)]
    floats = [rng.random((32, 32, 5)).astype(np.float32) for _ in range(5)]
    config = FinetuneConfig(**{**TINY, "data": pairs, "channels": 5, "out": str(tmp_path / "r"), "unlabeled": floats})
    with pytest.raises(UserError, match="float32, which is not scaled"):
        choose_labeled(config, settle(config, []).starts)


def test_a_bad_image_can_be_skipped(data: str, tmp_path: Path) -> None:
    more = photos(tmp_path / "more", range(20, 26))
    (tmp_path / "more" / "photo21.bmp").write_bytes(b"BM")
    images = choose(data, more, on_bad_image="skip")
    assert len(images.unlabeled or ()) == 5 and images.unlabeled and list(images.unlabeled.skipped) == ["photo21.bmp"]


def test_an_option_without_unlabeled_images_is_refused(data: str) -> None:
    for name, value in (("confidence", 0.8), ("ema", 0.9), ("unlabeled_ratio", 1), ("unlabeled_weight", 2.0)):
        with pytest.raises(UserError, match=f"--{name} {value} has no effect without --unlabeled"):
            library.finetune(config_of(data, None, **{name: value}))
    with pytest.raises(UserError, match=r"--unlabeled .*nowhere"):
        library.finetune(config_of(data, f"{data}/nowhere"))


@pytest.fixture
def run(data: str, tmp_path: Path) -> Path:
    """A run on the rest and on other images."""
    photos(tmp_path / "more", range(20, 25))
    config = config_of(data, f"rest,{tmp_path / 'more'}")
    library.finetune(config)
    return Path(config.out)


def test_a_run_lists_its_images_and_is_resumed_with_them(run: Path, data: str, tmp_path: Path) -> None:
    listed = read_image_list(run)
    assert listed and [len(listed.of(each)) for each in ("train", "unlabeled", "unused")] == [3, 10, 0]
    photos(tmp_path / "more", range(10, 20), "aa_new{:02d}.bmp")
    config = {"resume": True, "epochs": 2}
    images = choose(data, f"rest,{tmp_path / 'more'}", **config)
    assert names(images) == [row.file for row in listed.of("unlabeled")] and images.listed().rows == listed.rows
    (tmp_path / "more" / "photo22.bmp").unlink()
    with pytest.raises(UserError, match=r"begun with other images: photo22.bmp .* is gone"):
        choose(data, f"rest,{tmp_path / 'more'}", **config)


def test_weights_that_saw_a_held_out_image_without_its_label_are_refused(run: Path, data: str, tmp_path: Path) -> None:
    for folder, number in (("other", 22), ("third", 40)):  # the first was among the unlabeled images of the run
        photos(tmp_path / folder / "images", range(number, number + 1))
        (tmp_path / folder / "masks").mkdir()
        label = np.repeat(np.array([[0], [1]], np.uint8), 16, 0).repeat(32, 1)
        Image.fromarray(label).save(tmp_path / folder / "masks" / f"photo{number}.png")
    again = {**TINY, "data": data, "encoder": None, "decoder_channels": None, "weights": str(run)}
    with pytest.raises(UserError, match=r"was trained on 1 of the 1 images .* photo22.bmp among them"):
        library.finetune(**{**again, "out": str(tmp_path / "a"), "val": str(tmp_path / "other")})
    library.finetune(**{**again, "out": str(tmp_path / "b"), "val": 4, "epochs": 1})
    with (tmp_path / "b" / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows if row["split"] == "inherited"} >= {f"photo{n}.bmp" for n in range(20, 25)}
