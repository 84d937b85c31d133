"""Annotation files of every format: the labels drawn from them, pixel by pixel."""

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as reference

from helpers.annotation_files import (
    CAT,
    DOG,
    FORMATS,
    HEIGHT,
    WIDTH,
    bitmap,
    coco_content,
    expected,
    labelme_content,
    pairs,
    shape,
    write_coco,
    write_cvat,
    write_json,
    write_yolo,
    yolo_line,
)
from maeseg.data.annotations import IGNORED, Annotations, find_annotations, read_labelmap
from maeseg.data.annotations.collector import image_name
from maeseg.data.annotations.polygons import ellipse, polygon_runs
from maeseg.data.annotations.runs import bitmap_runs, counted_runs, decode_counts
from maeseg.data.image_files import DataError


def opened(path: Path) -> Annotations:
    annotations = find_annotations(path)
    assert annotations is not None
    return annotations


def first_label(path: Path) -> NDArray[np.uint16]:
    annotations = opened(path)
    return annotations.label(annotations.files[0], HEIGHT, WIDTH)


def painted(runs_R2: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    flat = np.zeros(height * width, np.bool_)
    for start, stop in runs_R2.tolist():
        flat[start:stop] = True
    return flat.reshape(width, height).T


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_label_drawn_by_hand(name: str, tmp_path: Path) -> None:
    annotations = pickle.loads(pickle.dumps(opened(FORMATS[name](tmp_path))))
    suffix = {"yolo": "", "mat": ""}.get(name, ".png")
    folder = "images/" if name == "yolo" else ""
    assert annotations.files == (f"{folder}a{suffix}", f"{folder}b{suffix}")
    assert annotations.names == (() if name == "mat" else ("cat", "dog"))
    assert annotations.size(annotations.files[1]) == (None if name in ("yolo", "mat") else (HEIGHT, WIDTH))
    label_HW = annotations.label(annotations.files[0], HEIGHT, WIDTH)
    assert label_HW.dtype == np.uint16 and label_HW.flags.c_contiguous
    np.testing.assert_array_equal(label_HW, expected())
    assert not annotations.label(annotations.files[1], HEIGHT, WIDTH).any()


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_that_holds_them_is_enough(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path)
    np.testing.assert_array_equal(first_label(tmp_path), expected())


def random_polygon(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """A star around a center, partly outside the image, or a self-intersecting polygon."""
    count = int(random.integers(3, 12))
    if random.random() < 0.3:
        return random.uniform(-5, [width + 5, height + 5], (count, 2))
    angle = np.sort(random.uniform(0, 2 * np.pi, count))
    radius = random.uniform(2, 15, count)
    points_P2 = random.uniform(0, [width, height]) + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.asarray(points_P2)


def near_edges(points_P2: NDArray[np.float64], height: int, width: int, distance: float) -> NDArray[np.bool_]:
    """Pixels whose center is within a distance of a polygon's outline."""
    centers_HW2 = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    near_HW = np.zeros((height, width), np.bool_)
    for start, stop in zip(points_P2, np.roll(points_P2, -1, axis=0), strict=True):
        along = stop - start
        share_HW = ((centers_HW2 - start) @ along / max(along @ along, 1e-12)).clip(0, 1)
        near_HW |= np.linalg.norm(centers_HW2 - start - share_HW[..., None] * along, axis=-1) <= distance
    return near_HW


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with NumPy 2
def test_polygons_are_those_of_pycocotools_and_pillow_but_for_the_outline() -> None:
    random, height, width = np.random.default_rng(0), 40, 50
    for _ in range(200):
        points_P2 = random_polygon(random, height, width)
        ours_HW = painted(polygon_runs(points_P2, height, width), height, width)
        coco_HW = reference.decode(reference.frPyObjects([points_P2.ravel().tolist()], height, width))[..., 0] > 0
        picture = Image.new("1", (width, height))
        ImageDraw.Draw(picture).polygon(list(map(tuple, points_P2.tolist())), fill=1)
        pillow_HW = np.asarray(picture)
        # pycocotools rounds x and y to a fifth of a pixel, Pillow draws the outline too
        assert not (ours_HW != coco_HW)[~near_edges(points_P2, height, width, 0.3)].any()
        assert not (ours_HW != pillow_HW)[~near_edges(points_P2, height, width, 1.5)].any()


def test_a_pixel_is_inside_if_its_center_is() -> None:
    triangle = np.array([(0, 0), (4, 0), (0, 4)])
    # row r has columns c with (c + 0.5) + (r + 0.5) < 4; on the slanted edge itself c + r + 1 = 4
    rows, columns = np.mgrid[:5, :5]
    np.testing.assert_array_equal(painted(polygon_runs(triangle, 5, 5), 5, 5), rows + columns + 1 < 4)


def test_a_polygon_that_surrounds_the_image_covers_it_and_one_outside_nothing() -> None:
    around = np.array([(-1e30, -1e30), (1e30, -1e30), (1e30, 1e30), (-1e30, 1e30)])
    assert painted(polygon_runs(around, 5, 7), 5, 7).all()
    assert not len(polygon_runs(np.array([(8.0, 1), (20, 1), (20, 4)]), 5, 7))
    assert not len(polygon_runs(np.array([(1.0, -9), (5, -9), (5, -1)]), 5, 7))


def test_an_ellipse_is_within_a_twentieth_of_a_pixel() -> None:
    outline = ellipse(0, 0, 300, 300)
    middles = (outline + np.roll(outline, -1, axis=0)) / 2
    assert np.linalg.norm(middles, axis=1).min() > 299.95


def test_counts_are_decoded_as_pycocotools_does() -> None:
    random = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 1):
        for height, width in ((1, 1), (13, 17), (70, 90)):
            inside_HW = random.random((height, width)) < share
            encoded = reference.encode(np.asfortranarray(inside_HW.astype(np.uint8)))
            runs_R2 = counted_runs(decode_counts(encoded["counts"].decode()), height * width)
            np.testing.assert_array_equal(painted(runs_R2, height, width), inside_HW)


@pytest.mark.parametrize(("left", "top"), [(2, 3), (-2, -3), (5, 7), (20, 20), (-9, 0)])
def test_a_bitmap_is_cut_off_at_the_borders(left: int, top: int) -> None:
    inside_HW = np.random.default_rng(0).random((6, 5)) < 0.5
    canvas_HW = np.zeros((60, 60), np.bool_)
    canvas_HW[20 + top : 26 + top, 20 + left : 25 + left] = inside_HW
    runs_R2 = bitmap_runs(inside_HW, left, top, (9, 8))
    np.testing.assert_array_equal(painted(runs_R2, 9, 8), canvas_HW[20:29, 20:28])


# COCO


def changed(**more: Any) -> dict[str, Any]:
    return {**coco_content(), **more}


def annotation(**more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 7, "category_id": 4, "segmentation": [CAT], "iscrowd": 0, **more}


def test_crowds_are_ignored_and_lie_below_all_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "maeseg")
    counts = [HEIGHT * 2, HEIGHT * 5, HEIGHT * (WIDTH - 7)]  # columns 2 to 6
    crowd = annotation(category_id=40, iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": counts})
    right = np.zeros((HEIGHT, WIDTH), np.uint16)
    right[:, 2:7] = IGNORED
    right[4:8, 5:9] = 1
    content = changed(annotations=[annotation(segmentation=[DOG]), crowd])
    np.testing.assert_array_equal(first_label(write_json(tmp_path / "a.json", content)), right)
    assert caplog.messages[0].endswith("; 1 crowds ignored")


@pytest.mark.parametrize("change", [{}, {"attributes": {"occluded": False}}])
def test_cvats_masks_are_objects_though_marked_as_crowds(
    change: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "maeseg")
    content = coco_content()
    for each in content["annotations"] if not change else content["annotations"][:1]:
        each.update(iscrowd=1, **change)
    np.testing.assert_array_equal(first_label(write_json(tmp_path / "a.json", content)), expected())
    assert f"{1 if change else 2} marked as crowds read as objects (CVAT marks all masks)" in caplog.text


def test_polygons_of_an_annotation_are_united_and_ordered_by_their_total_area(tmp_path: Path) -> None:
    far = [20, 0, 30, 0, 30, 20, 20, 20]  # 200 pixels, which put the dog, in two parts, below the cat of 80
    content = changed(annotations=[annotation(), annotation(category_id=40, segmentation=[DOG, far])])
    right = expected(dog=1)
    right[:, 20:] = 2
    np.testing.assert_array_equal(first_label(write_json(tmp_path / "a.json", content)), right)


def test_sizes_that_an_image_lacks_come_from_its_encodings(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}]
    annotations = opened(write_json(tmp_path / "a.json", changed(images=images)))
    assert [annotations.size(file) for file in annotations.files] == [(HEIGHT, WIDTH), None]


def test_background_and_ignored_categories_are_no_classes(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "Background"}, {"id": 4, "name": "__ignore__"}, {"id": 40, "name": "dog"}]
    inner = annotation(category_id=1, segmentation=[[6, 5, 8, 5, 8, 7, 6, 7]])
    content = changed(categories=categories, annotations=[*coco_content()["annotations"], inner])
    annotations = opened(write_json(tmp_path / "a.json", content))
    right = expected(dog=1, cat=IGNORED)
    right[5:7, 6:8] = 0
    assert annotations.names == ("dog",)
    # what is ignored lies below everything, as crowds do
    np.testing.assert_array_equal(annotations.label("a.png", HEIGHT, WIDTH), right)


def test_roboflows_heading_is_no_class(tmp_path: Path) -> None:
    heading = {"id": 0, "name": "pets", "supercategory": "none"}
    below = [{"id": 40, "name": "dog", "supercategory": "pets"}, {"id": 4, "name": "cat", "supercategory": "pets"}]
    assert opened(write_json(tmp_path / "a.json", changed(categories=[heading, *below]))).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("a.png", "a.png"),
        ("train/a.png", "train/a.png"),
        ("./train//a.png", "train/a.png"),
        ("train\\a.png", "train/a.png"),
        ("C:\\data\\a.png", "a.png"),
        ("/data/a.png", "a.png"),
        ("../images/a.png", "../images/a.png"),
        ("https://example.org/x/a%20b.png?size=1", "a b.png"),
    ],
)
def test_names_of_images(written: str, name: str) -> None:
    assert image_name(written) == name


def test_the_log_says_what_was_assumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "maeseg")
    opened(write_coco(tmp_path))
    assert caplog.messages == [
        f"{tmp_path / 'instances.json'}: COCO, 2 images, 2 shapes; 2 classes: cat, dog; images without a shape, all "
        "background: 1"
    ]


# LabelMe


def test_labelmes_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "maeseg")
    inside_HW = np.random.default_rng(0).random((4, 6)) < 0.5
    content = labelme_content(
        "..\\photos\\a.png",
        shape("__ignore__", [[0, 0], [30, 1]], "rectangle"),
        shape("zebra", [[10, 10], [10, 14]], "circle"),
        shape("ant", [[20, 5], [25, 8]], "mask", mask=bitmap(inside_HW)),
        shape("_background_", pairs([9, 9, 11, 9, 11, 11, 9, 11])),
        shape("hair", [[0, 0], [5, 5]], "linestrip"),
    )
    annotations = opened(write_json(tmp_path / "deep" / "a.json", content).parent.parent)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    right = np.where((rows - 10) ** 2 + (columns - 10) ** 2 <= 16, 2, 0)
    right[0] = IGNORED
    right[5:9, 20:26][inside_HW] = 1
    right[9:11, 9:11] = 0
    assert annotations.names == ("ant", "zebra") and annotations.files == ("photos/a.png",)
    np.testing.assert_array_equal(annotations.label("photos/a.png", HEIGHT, WIDTH), right)
    assert "1 rectangles filled; 1 shapes without an area (linestrip) skipped" in caplog.text


def test_one_file_of_labelmes_is_enough(tmp_path: Path) -> None:
    content = labelme_content("a.png", shape("cat", pairs(CAT)), shape("dog", pairs(DOG)))
    for each in content["shapes"]:
        del each["shape_type"]  # as old versions wrote them
    np.testing.assert_array_equal(first_label(write_json(tmp_path / "a.json", content)), expected())


def test_nothing_but_rectangles_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = labelme_content("a.png", shape("cat", [[13, 10], [3, 2]], "rectangle"))
    np.testing.assert_array_equal(first_label(write_json(tmp_path / "a.json", content)), expected(dog=1))
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]
    assert "all shapes are rectangles" in caplog.text


# CVAT


def test_cvats_boxes_and_ellipses_turn(tmp_path: Path) -> None:
    shapes = (
        '<box label="cat" xtl="5" ytl="5" xbr="15" ybr="9" rotation="90" z_order="0"/>'
        '<ellipse label="dog" cx="22" cy="10" rx="6" ry="2" rotation="90"/>'
        '<polyline label="cat" points="0,0;9,9"/>'
    )
    file = write_cvat(tmp_path, shapes)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    right = np.where(((columns - 22) / 2) ** 2 + ((rows - 10) / 6) ** 2 <= 1, 2, 0)
    right[2:12, 8:12] = 1
    np.testing.assert_array_equal(first_label(file), right)


def test_a_quarter_turn_is_clockwise(tmp_path: Path) -> None:
    shapes = (
        '<polygon label="cat" points="0,0;1,0;1,1"/><box label="dog" xtl="10" ytl="8" xbr="20" ybr="9" rotation="45"/>'
    )
    file = write_cvat(tmp_path, shapes)
    label_HW = first_label(file)
    assert label_HW[11, 17] == 2 and label_HW[5, 17] == 0  # the right end goes down


# YOLO


def test_yolo_without_names_and_in_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "val"):
        (tmp_path / "labels" / part).mkdir(parents=True)
        (tmp_path / "labels" / part / "x.1.txt").write_text(yolo_line(2, CAT))
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    annotations = opened(tmp_path)
    assert annotations.names == ("0", "1", "2")
    assert annotations.files == ("images/train/x.1", "images/val/x.1")
    assert opened(tmp_path / "labels").files == ("train/x.1", "val/x.1")
    np.testing.assert_array_equal(annotations.label("images/val/x.1", HEIGHT, WIDTH), expected(3, 3))
    # the same share of an image of another size
    assert (annotations.label("images/val/x.1", 200, 300) == 3).sum() == 80 * 100


def test_yolos_names_are_found_from_the_folder_of_labels(tmp_path: Path) -> None:
    assert opened(write_yolo(tmp_path) / "labels").names == ("cat", "dog")


# labelmap.txt


def test_a_labelmap(tmp_path: Path) -> None:
    file = tmp_path / "labelmap.txt"
    file.write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat: 128,0,0 ::\na:b:0,128,0::\n\nplain:1,2,3\n"
    )
    colors = read_labelmap(file)
    assert colors == {"background": (0, 0, 0), "cat": (128, 0, 0), "a:b": (0, 128, 0), "plain": (1, 2, 3)}
    assert list(colors) == ["background", "cat", "a:b", "plain"]


def test_what_is_none_of_these_is_none(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    (tmp_path / "readme.txt").write_text("12 images of cats\n")
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\n")
    write_json(tmp_path / "package.json", {"name": "cats", "shapes": [3]})
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "page.xml").write_text("<html/>")
    assert find_annotations(tmp_path) is None
    for file in tmp_path.iterdir():
        if file.name != "broken.json":
            assert find_annotations(file) is None
    with pytest.raises(DataError, match="not valid JSON"):  # as it was named
        find_annotations(tmp_path / "broken.json")
