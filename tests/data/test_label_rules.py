"""Label encodings in practice: read correctly, or rejected with the line to add."""

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.folders import SIZE, gray, scene, write_pairs
from helpers.label_encodings import (
    ASKED,
    RIGHT,
    Mask,
    classes_of,
    colored,
    colored_void,
    soft,
)
from maeseg.data.label_rules import AmbiguousLabels
from maeseg.data.sources.base import open_source
from maeseg.data.sources.folder import ImageFolder, describe_labels
from maeseg.data.survey import survey
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY


@pytest.mark.parametrize("name", RIGHT)
def test_labels_that_can_be_read_in_one_way_are_read_so(name: str, tmp_path: Path) -> None:
    write, suffix = RIGHT[name]
    # a multiple of JPEG's blocks, so that nothing is blurred across the shape's edge by a neighbor
    write_pairs(tmp_path, 4, mask=f"im_{{:02d}}.{suffix}", write=write)
    source = open_source(str(tmp_path), labeled=True)
    assert not survey(source).faults and source.classes == BINARY
    for index in range(4):
        np.testing.assert_array_equal(np.asarray(source.label(index)), scene(index)[1])


@pytest.mark.parametrize("name", ASKED)
def test_labels_that_can_be_read_in_two_ways_are_asked_about_and_the_line_answers(name: str, tmp_path: Path) -> None:
    write, suffix, line, expected = ASKED[name]
    write_pairs(tmp_path, 4, mask=f"im_{{:02d}}.{suffix}", write=write)
    with pytest.raises(AmbiguousLabels) as caught:
        open_source(str(tmp_path), labeled=True)
    assert caught.value.line == line and line in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "data.yaml").write_text(line)
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert not survey(source).faults
    for index in range(4):
        np.testing.assert_array_equal(np.asarray(source.label(index)), expected(scene(index)[1]))


def test_a_threshold_of_soft_labels(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3, mask="im_{:02d}.tif", write=soft)
    (tmp_path / "data.yaml").write_text("threshold: 0.5")
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    values = tifffile.imread(tmp_path / "masks" / "im_01.tif")
    np.testing.assert_array_equal(np.asarray(source.label(1)), values >= 0.5)


def test_classes_by_lists_and_ranges_of_values_with_an_ignored_value(tmp_path: Path) -> None:
    def write(path: Path, mask: Mask) -> None:
        Image.fromarray(np.where(mask, np.arange(SIZE[1]) * 700, 0).astype(np.uint16)).save(path)

    write_pairs(tmp_path, 2, write=write)
    (tmp_path / "data.yaml").write_text("classes: {ground: 0, low: [1-5600, 6300], high: 7001-65535}\nignore: 7000")
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert source.classes.names == ("ground", "low", "high") and not survey(source).faults
    values = np.where(scene(0)[1], np.arange(SIZE[1]) * 700, 0)
    expected = np.select([values == 7000, values > 7000, values > 0], [255, 2, 1], 0)
    np.testing.assert_array_equal(np.asarray(source.label(0)), expected)


def test_the_void_color_of_pascal_voc_is_border(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2, write=colored_void)
    (tmp_path / "data.yaml").write_text(
        "classes: {background: [0, 0, 0], cat: [128, 0, 0], dog: [0, 0, 9]}\nignore: [224, 224, 192]"
    )
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    expected = np.array([0, 1, 255])[classes_of(scene(1)[1])]
    np.testing.assert_array_equal(np.asarray(source.label(1)), expected)


def test_a_list_of_colors_beside_the_labels_is_found(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2, images="JPEGImages", masks="SegmentationClass", write=colored)
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nright:0,128,0::\nleft:128,0,0::\n"
    )
    source = open_source(str(tmp_path), labeled=True)
    assert source.classes.names == ("background", "right", "left")
    np.testing.assert_array_equal(np.asarray(source.label(0)), np.array([0, 2, 1])[classes_of(scene(0)[1])])


def test_two_conventions_in_one_folder_are_refused(tmp_path: Path) -> None:
    def zero_and_one(path: Path, mask: Mask) -> None:
        Image.fromarray(mask.astype(np.uint8)).save(path)

    write_pairs(write_pairs(tmp_path, 3), 2, first=3, write=zero_and_one)
    with pytest.raises(AmbiguousLabels, match=r"2 labels have the values 0 and 1 \(masks/im_03.png\), and 3 0 and 255"):
        open_source(str(tmp_path), labeled=True)


def test_one_odd_label_among_many_is_that_label_s_fault(tmp_path: Path) -> None:
    write_pairs(tmp_path, 5)
    odd = np.zeros(SIZE, np.uint8)
    odd[0, 0] = 37
    Image.fromarray(odd).save(tmp_path / "masks" / "im_03.png")
    faults = survey(open_source(str(tmp_path), labeled=True)).faults
    assert (
        list(faults) == [3]
        and "masks/im_03.png has the value 37, which belongs to no class of the other labels" in faults[3]
    )


def test_a_label_of_several_pages_is_refused(tmp_path: Path) -> None:
    def pages(path: Path, mask: Mask) -> None:
        tifffile.imwrite(path, np.stack([~mask, mask]).astype(np.uint8) * 255, photometric="minisblack")

    write_pairs(tmp_path, 2, mask="im_{:02d}.tif", write=pages)
    assert "im_00.tif has 2 pages" in survey(open_source(str(tmp_path), labeled=True)).faults[0]


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("drawn", ["applied", "stored"])
def test_the_orientation_of_an_image_counts_for_its_label(orientation: int, drawn: str, tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    for number in range(2):
        pixels, mask = scene(number)
        stored = Image.fromarray(pixels)
        stored.save(tmp_path / "images" / f"im_{number:02d}.png", exif=exif(orientation))
        shown = Image.open(tmp_path / "images" / f"im_{number:02d}.png")
        if drawn == "applied":
            turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
            Image.fromarray(mask.astype(np.uint8) * 255).transpose(Image.Transpose(turned)).save(
                tmp_path / "masks" / f"im_{number:02d}.png"
            )
        shown.close()
    if orientation < 5:
        with pytest.raises(AmbiguousLabels, match="2 images have an orientation tag"):
            open_source(str(tmp_path), labeled=True)
        (tmp_path / "data.yaml").write_text(f"orientation: {drawn}")
        source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    else:  # sizes tell
        source = open_source(str(tmp_path), labeled=True)
    assert not survey(source).faults
    for index in range(2):
        brightness = source.pixels(index).float().mean(0).numpy()
        label = np.asarray(source.label(index))
        assert label.sum() == scene(index)[1].sum() and brightness[label == 1].min() > 90


def test_the_encoding_is_logged_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_source(str(write_pairs(tmp_path, 4)), labeled=True)
    assert isinstance(source, ImageFolder)
    share = 100 * np.mean([scene(number)[1].mean() for number in range(4)])
    assert describe_labels(source) == f"4 labels: 0 background, 255 foreground; {share:.1f} % foreground"
    with caplog.at_level(logging.INFO):
        open_source(str(tmp_path), labeled=True)


def test_what_is_drawn_is_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="opened without labels"):
        try:
            open_source(str(write_pairs(tmp_path, 2)), labeled=False).label(0)
        except ValueError as error:
            raise UserError(str(error)) from error


@pytest.mark.parametrize(("value", "what"), [(0, "background"), (255, "foreground")])
def test_labels_of_one_class_alone_cannot_be_learned_from(value: int, what: str, tmp_path: Path) -> None:
    from maeseg.data.bad_images import refuse_one_class

    def flat(path: Path, mask: Mask) -> None:
        gray(path, np.full(mask.shape, value > 0))

    source = open_source(str(write_pairs(tmp_path, 3, write=flat)), labeled=True)
    with pytest.raises(UserError, match=f"the 3 training labels contain {what} only"):
        refuse_one_class(source, range(3))
