"""Folder layouts: detection of images and labels, and their pairing."""

import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.folders import gray, scene, write_pairs
from maeseg.data.sources.base import open_source
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.survey import survey
from maeseg.errors import UserError

LAYOUTS = {
    "plain": {},
    "voc": {"images": "JPEGImages", "masks": "SegmentationClass", "image": "im_{:02d}.jpg"},
    "pennfudan": {"images": "PNGImages", "masks": "PedMasks", "mask": "im_{:02d}_mask.png"},
    "capitals": {"images": "Images", "masks": "Masks"},
    "singular": {"images": "image", "masks": "mask"},
    "carvana": {"images": "imgs", "masks": "masks", "image": "im_{:02d}.jpg", "mask": "im_{:02d}_mask.gif"},
    "isic": {"images": "Training_Input", "masks": "Training_GroundTruth", "mask": "im_{:02d}_segmentation.png"},
    "suffix twice": {"image": "im_{:02d}.jpg", "mask": "im_{:02d}.jpg.png"},
    "capital names": {"image": "IMG_{:02d}.PNG", "mask": "img_{:02d}.png"},
    "unicode": {
        "image": unicodedata.normalize("NFD", "café_{:02d}.png"),
        "mask": unicodedata.normalize("NFC", "café_{:02d}.png"),
    },
    "dots": {"image": "scan.v1.{:02d}.tif", "mask": "scan.v1.{:02d}.tif"},
    "nested": {"image": "site/{:02d}/a.png", "mask": "site/{:02d}/a.png"},
    "beside": {"images": ".", "masks": ".", "image": "im_{:02d}.jpg", "mask": "im_{:02d}_mask.png"},
    "prefix": {"image": "{:02d}.png", "mask": "mask_{:02d}.png"},
    "camvid": {"images": "train", "masks": "trainannot", "mask": "im_{:02d}_L.png"},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_image_gets_its_own_label_and_no_label_is_taken_for_an_image(name: str, tmp_path: Path) -> None:
    write_pairs(tmp_path, 4, **LAYOUTS[name])  # type: ignore[arg-type]
    source = open_source(str(tmp_path), labeled=True)
    assert len(source) == len(open_source(str(tmp_path), labeled=False)) == 4
    assert not survey(source).faults
    for index in range(4):
        np.testing.assert_array_equal(np.asarray(source.label(index)), scene(index)[1])


def test_folders_called_train_val_and_test_are_parts(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        write_pairs(tmp_path / part, 3, first=3 * number)
    source = open_source(str(tmp_path), labeled=True)
    parts = {source.file(index): source.split(index) for index in range(len(source))}
    assert parts["train/images/im_00.png"] == "train" and parts["valid/images/im_03.png"] == "val"
    assert parts["test/images/im_06.png"] == "test" and len(parts) == 9


@pytest.mark.parametrize(
    ("images", "masks"), [("images/{}", "labels/{}"), ("{}", "{}annot"), ("{}_images", "{}_masks")]
)
def test_parts_below_or_in_the_names_of_the_folders(images: str, masks: str, tmp_path: Path) -> None:
    for number, part in enumerate(("train", "test")):
        write_pairs(tmp_path, 2, images=images.format(part), masks=masks.format(part), first=2 * number)
    source = open_source(str(tmp_path), labeled=True)
    assert sorted(str(source.split(index)) for index in range(4)) == ["test", "test", "train", "train"]
    for index in range(4):
        number = int(Path(source.file(index)).stem[-2:])
        np.testing.assert_array_equal(np.asarray(source.label(index)), scene(number)[1])


def test_a_label_of_one_part_is_not_that_of_an_image_of_another(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", 3)
    write_pairs(tmp_path / "val", 1, first=1)
    (tmp_path / "val" / "images" / "im_01.png").unlink()
    (tmp_path / "train" / "masks" / "im_01.png").unlink()
    with pytest.raises(UserError, match=r"no image for 1 of 3 labels: val/masks/im_01.png"):
        open_source(str(tmp_path), labeled=True)


def test_one_folder_called_train_is_no_part(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", 3)
    assert open_source(str(tmp_path), labeled=True).split(0) is None


def test_the_lists_of_pascal_voc_are_parts(tmp_path: Path) -> None:
    write_pairs(tmp_path, 5, images="JPEGImages", masks="SegmentationClass", image="im_{:02d}.jpg")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("im_00\nim_01\n")
    (lists / "val.txt").write_text("im_02\nim_03\n")
    source = open_source(str(tmp_path), labeled=True)
    assert [source.split(index) for index in range(5)] == ["train", "train", "val", "val", None]


def test_linked_folders_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    write_pairs(tmp_path / "disk", 3)
    (tmp_path / "data").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "images" / "round").symlink_to(tmp_path / "data")
    source = open_source(str(tmp_path / "data"), labeled=True)
    assert [source.file(index) for index in range(len(source))] == [f"images/im_0{number}.png" for number in range(3)]


def test_what_is_left_out_is_counted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, 3)
    for number in range(5):
        (tmp_path / "images" / f"{number}.dng").write_bytes(b"raw")
    with caplog.at_level(logging.INFO):
        source = open_source(str(tmp_path), labeled=False)
    assert len(source) == 3
    assert "3 files of masks/ are used as labels" in caplog.text
    assert "5 .dng files are not read" in caplog.text


def test_a_folder_of_labels_alone_is_taken_for_images_if_it_is_given(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(scene(number)[0]).save(tmp_path / "labels" / f"wine_{number}.jpg")
    with pytest.raises(UserError, match=r"no images found .*; 3 files of labels/ are used as labels: give"):
        open_source(str(tmp_path), labeled=False)
    assert len(open_source(str(tmp_path / "labels"), labeled=False)) == 3


def test_a_name_that_ends_in_mask_is_no_label_without_its_image(tmp_path: Path) -> None:
    for name in ("ann_with_mask", "ben_with_mask", "ben_without"):
        Image.fromarray(scene(len(name))[0]).save(tmp_path / f"{name}.jpg")
    assert len(open_source(str(tmp_path), labeled=False)) == 3


def test_no_labels_says_what_is_there(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3, masks="gtruth_pictures_x")
    with pytest.raises(UserError, match=r"found 6 images in gtruth_pictures_x, images, and no labels"):
        open_source(str(tmp_path), labeled=True)
    described = tmp_path / "data.yaml"
    described.write_text("images: images\nmasks: gtruth_pictures_x\n")
    source = open_source(str(described), labeled=True)
    assert len(source) == 3 and len(open_source(str(described), labeled=False)) == 3
    np.testing.assert_array_equal(np.asarray(source.label(2)), scene(2)[1])


def test_pairing_as_described(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3, masks="truth", mask="T-im_{:02d}-final.png")
    (tmp_path / "data.yaml").write_text('images: images\nmasks: truth\npairing: "T-{name}-final"\n')
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    np.testing.assert_array_equal(np.asarray(source.label(1)), scene(1)[1])


def test_groups_by_a_pattern_or_a_file(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4, image="p{:02d}_a.png", mask="p{:02d}_a.png")
    (tmp_path / "data.yaml").write_text('groups: "p(\\\\d)"\n')
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert [source.group(index) for index in range(4)] == ["0"] * 4
    (tmp_path / "who.csv").write_text("".join(f"p{number:02d}_a.png,{'xy'[number % 2]}\n" for number in range(4)))
    (tmp_path / "data.yaml").write_text("groups: who.csv\n")
    source = open_source(str(tmp_path / "data.yaml"), labeled=False)
    assert [source.group(index) for index in range(4)] == ["x", "y", "x", "y"]
    (tmp_path / "data.yaml").write_text('groups: "q(\\\\d)"\n')
    with pytest.raises(UserError, match=r"groups: q\(\\d\) gives no group for images/p00_a.png"):
        open_source(str(tmp_path / "data.yaml"), labeled=True)


def test_parts_as_described(tmp_path: Path) -> None:
    write_pairs(tmp_path, 5)
    (tmp_path / "v.txt").write_text("im_01\nim_03.png\n")
    (tmp_path / "data.yaml").write_text("val: v.txt\n")
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert [source.split(index) for index in range(5)] == [None, "val", None, "val", None]
    (tmp_path / "v.txt").write_text("other\n")
    with pytest.raises(UserError, match=r"val: v.txt lists no image"):
        open_source(str(tmp_path / "data.yaml"), labeled=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mask: x", "mask is not a setting of a data set; did you mean masks"),
        ("threshold: high", "threshold: high must be a number"),
        ("reading: gray", "reading: gray must be one of values, shown, alpha, colors"),
        ("pairing: name", r"pairing: name must be a name that contains \{name\}"),
        ("classes: 3", "classes: 3 must be a list of names"),
        ("classes: {background: 0, cell: 0}", "classes: two classes share the value 0"),
        ("path: nowhere", r"nowhere: no such folder \(path of "),
        ("- a", "does not describe a data set"),
        ("a: [", "is not a YAML file"),
        ('groups: "("', r"groups: \( is neither a regular expression"),
    ],
)
def test_a_description_that_says_what_cannot_be(text: str, words: str, tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert "\n" not in str(caught.value)


def test_masks_of_another_size_if_allowed(tmp_path: Path) -> None:
    def half(path: Path, mask: np.ndarray) -> None:
        gray(path, mask[::2, ::2])

    write_pairs(tmp_path, 2, write=half)
    source = open_source(str(tmp_path), labeled=True)
    assert "add resize_masks: true" in survey(source).faults[0]
    (tmp_path / "data.yaml").write_text("resize_masks: true\n")
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert not survey(source).faults
    expected = np.kron(scene(0)[1][::2, ::2], np.ones((2, 2), bool))
    np.testing.assert_array_equal(np.asarray(source.label(0)), expected)


def test_labels_of_two_folders_are_asked_about(tmp_path: Path) -> None:
    write_pairs(write_pairs(tmp_path, 2), 2, masks="gt")
    with pytest.raises(UserError, match=r"has labels in gt/ and in masks/: .*masks: gt"):
        open_source(str(tmp_path), labeled=True)
    (tmp_path / "data.yaml").write_text("images: images\nmasks: masks\n")
    assert isinstance(source := open_source(str(tmp_path / "data.yaml"), labeled=True), ImageFolder)
    assert len(source) == 2
