"""Annotation files that are damaged, contradictory or not a segmentation: one-line errors that name the file."""

import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.annotation_files import (
    CAT,
    FORMATS,
    HEIGHT,
    WIDTH,
    bitmap,
    coco_content,
    labelme_content,
    pairs,
    shape,
    write_cvat,
    write_json,
    write_labelme,
    write_yolo,
)
from maeseg.data.annotations import find_annotations, read_labelmap
from maeseg.data.image_files import DataError


def read_all(path: Path) -> int:
    """Open annotations and draw every label; returns the number of images."""
    annotations = find_annotations(path)
    if annotations is None:
        return 0
    for file in annotations.files:
        annotations.label(file, *(annotations.size(file) or (HEIGHT, WIDTH)))
    return len(annotations.files)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Content that is truncated, or has up to four bytes changed."""
    if chance.random() < 0.2:
        return content[: chance.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed))
        changed[place] = chance.choice([chance.randrange(256), changed[place] ^ 1 << chance.randrange(8), 0x39, 0x2D])
    return bytes(changed)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_end_in_a_label_or_in_one_line(name: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    path = FORMATS[name](tmp_path)
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.stat().st_size]
    endings = {"read": 0, "refused": 0}
    for _ in range(150):
        file = chance.choice([each for each in files if each.is_file()])
        content = file.read_bytes()
        file.write_bytes(damaged(content, chance))
        try:
            read_all(path)
            endings["read"] += 1
        except DataError as error:
            assert str(tmp_path) in str(error) and "\n" not in str(error)
            endings["refused"] += 1
        file.write_bytes(content)
    assert min(endings.values()) > 8
    assert read_all(path) == 2


@pytest.mark.parametrize(
    "name", ["coco", "labelme", "cvat", "mat"]
)  # a text of YOLO's has no end that could be missing
def test_a_file_cut_off_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path)
    file = path if path.is_file() else max(path.rglob("a.*"))
    content = file.read_bytes()
    for stop in range(128, len(content) - 2, max(1, len(content) // 60)):
        file.write_bytes(content[:stop])
        assert str(file) in refusal(path)


def coco(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = coco_content()
    change(content)
    return content


def set_in(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


BOX = {"id": 5, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "segmentation": []}
KEYPOINTS = {"id": 5, "image_id": 7, "category_id": 4, "keypoints": [1, 2, 2]}
CAPTION = {"id": 5, "image_id": 7, "caption": "a cat"}
SEGMENTS = {"file_name": "a.png", "image_id": 7, "segments_info": [{"id": 1, "category_id": 4}]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_in("annotations", to=[BOX, BOX]), "annotation 5 and 1 more of 2 without a segmentation; they are boxes"),
        (set_in("annotations", 1, to=BOX), "annotation 5 of 2 without a segmentation; they are boxes"),
        (set_in("annotations", to=[KEYPOINTS]), "they are keypoints"),
        (set_in("annotations", to=[CAPTION]), "they are captions"),
        (set_in("annotations", to=[SEGMENTS]), "they are panoptic segments"),
        (set_in("annotations", 1, to=3), "annotation number 2 is not an object"),
        (set_in("annotations", to={}), "annotations is not a list"),
        (set_in("annotations", 1, "image_id", to=9), "annotation 2: its image_id 9 is not among the images"),
        (set_in("annotations", 1, "category_id", to="4"), "its category_id '4' is not among the categories"),
        (set_in("annotations", 1, "image_id", to=[7]), "image_id is [7], not an integer"),
        (set_in("annotations", 1, "segmentation", to=[[1, 2, 3, 4, 5, 6, 7]]), "7 numbers, which are not pairs"),
        (set_in("annotations", 1, "segmentation", to=["abcdef"]), "annotation 2: "),
        (set_in("annotations", 1, "segmentation", to=[[1, 2, 3, 4, 5, 10**400]]), "annotation 2: "),
        (set_in("annotations", 1, "segmentation", to=[[1, 2, 3, 4, 5, float("nan")]]), "not finite"),
        (set_in("annotations", 1, "segmentation", to=[[1, 2, 3, 4, 5, 1e300]]), "not finite"),
        (set_in("annotations", 1, "segmentation", to=7), "neither polygons nor a run-length encoding"),
        (set_in("annotations", 0, "segmentation", "size", to=[30, 20]), "a size of 20 x 30, but the image has 30 x 20"),
        (set_in("annotations", 0, "segmentation", "counts", to=[600.0]), "annotation 1: "),
        (set_in("annotations", 0, "segmentation", "counts", to=[601]), "do not add up to the 600 pixels"),
        (set_in("annotations", 0, "segmentation", "counts", to=[-1, 601]), "do not add up"),
        (set_in("annotations", 0, "segmentation", "counts", to=[2**63 - 1, 2**63 - 1]), "do not add up"),
        (set_in("annotations", 0, "segmentation", "counts", to="o" * 20), "the counts are damaged"),
        (set_in("annotations", 0, "segmentation", "counts", to="o\u00e9"), "annotation 1: "),
        (set_in("annotations", 0, "segmentation", "counts", to=""), "do not add up"),
        (set_in("images", 1, "id", to=7), "image number 2: the id 7 occurs twice"),
        (set_in("images", 1, "file_name", to="./a.png"), "the image 'a.png' occurs twice"),
        (set_in("images", 1, "file_name", to=""), "file_name is '', not a text"),
        (set_in("images", 0, "height", to=10**6), "a size of 30 x 20, but the image has 30 x 1000000"),
        (set_in("images", 0, "height", to=10**9), "an image has 1 to 100 million pixels"),
        (set_in("images", 0, "height", to="high"), "height is 'high', not an integer"),
        (set_in("images", to=[]), "is not among the images"),
        (set_in("categories", to=None), "the list of categories is missing"),
        (set_in("categories", 1, "name", to="dog"), "two categories have the name 'dog'"),
        (set_in("categories", 1, "id", to=40), "the id 40 occurs twice"),
        (set_in("annotations", to=[{**BOX, "segmentation": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.9]]}]), "between 0 and 1"),
    ],
)
def test_coco_that_is_refused(change: Callable[[dict[str, Any]], Any], expected: str, tmp_path: Path) -> None:
    message = refusal(write_json(tmp_path / "a.json", coco(change)))
    assert expected in message and str(tmp_path / "a.json") in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_in("shapes", to=7), "shapes is not a list"),
        (set_in("shapes", 0, to=7), "shape number 1: label is missing"),
        (set_in("shapes", 0, "label", to=None), "label is None, not a text"),
        (set_in("shapes", 0, "points", to=[[1, 2], [3]]), "shape number 1: "),
        (set_in("shapes", 0, "points", to="ab"), "shape number 1: "),
        (set_in("shapes", 0, "shape_type", to="cuboid"), "type 'cuboid' is not supported"),
        (set_in("shapes", 0, "shape_type", to=["polygon"]), "shape number 1: "),
        (set_in("shapes", 0, "shape_type", to="circle"), "a circle of 4 points"),
        (set_in("shapes", 0, "shape_type", to="mask"), "mask is missing"),
        (set_in("shapes", 1, "mask", to="%"), "shape number 2: "),
        (set_in("shapes", 1, "mask", to="AAAA"), "a mask in"),
        (set_in("imageHeight", to=None), "height and width are missing"),
        (set_in("imagePath", to=3), "imagePath is 3, not a text"),
    ],
)
def test_labelme_that_is_refused(change: Callable[[dict[str, Any]], Any], expected: str, tmp_path: Path) -> None:
    mask = shape("dog", [[5, 4], [8, 7]], "mask", mask=bitmap(np.ones((4, 4), np.bool_)))
    content = labelme_content("a.png", shape("cat", pairs(CAT)), mask)
    change(content)
    message = refusal(write_json(tmp_path / "a.json", content))
    assert expected in message and str(tmp_path / "a.json") in message


def test_annotations_without_a_class_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", labelme_content("a.png", shape("_background_", pairs(CAT))))
    assert "(LabelMe) has no shape of any class" in refusal(tmp_path)


def test_labelmes_image_twice(tmp_path: Path) -> None:
    shutil.copy(write_labelme(tmp_path) / "a.json", tmp_path / "labelme" / "c.json")
    assert "c.json: the image 'a.png' occurs twice" in refusal(tmp_path / "labelme")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ('<polygon label="bird" points="1,1;2,2;3,1"/>', "its label 'bird' is not among the labels of the task"),
        ('<polygon points="1,1;2,2;3,1"/>', "label is None"),
        ('<polygon label="cat" points="1,1;2,;3,1"/>', "shape number 1: could not convert"),
        ('<polygon label="cat"/>', "points is None"),
        ('<polygon label="cat" points="0,0;1,1;nan,2"/>', "not finite"),
        ('<box label="cat" xtl="1" ytl="1" xbr="5"/>', "ybr is missing"),
        ('<ellipse label="cat" cx="1" cy="1" rx="inf" ry="5"/>', "not finite"),
        ('<hexagon label="cat"/>', "type 'hexagon' is not supported"),
        ('<mask label="cat" rle="3,3" left="1" top="1" width="2" height="2"/>', "do not add up to the 4 pixels"),
        ('<mask label="cat" rle="4" left="1" top="1" width="1000000" height="1000000"/>', "a mask of 1000000 x"),
        ('<mask label="cat" rle="1;3" left="1" top="1" width="2" height="2"/>', "shape number 1: "),
    ],
)
def test_cvat_that_is_refused(shapes: str, expected: str, tmp_path: Path) -> None:
    message = refusal(write_cvat(tmp_path, shapes))
    assert expected in message and str(tmp_path / "annotations.xml") in message


def test_xml_that_is_no_segmentation(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    image = '<image id="0" name="a" width="9" height="9"><box label="a" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'
    file.write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    assert f"{file} has only boxes, which are not a segmentation" in refusal(file)
    file.write_text('<annotations><version>1.1</version><track id="0" label="a"/></annotations>')
    assert "annotates a video by tracks" in refusal(file)
    file.write_text("<annotations><version>1.1</version></annotations>")
    assert "lists no image" in refusal(file)
    file.write_text("<annotation><object><bndbox/></object></annotation>")
    assert "XML of Pascal VOC or LabelMe" in refusal(file)


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "laugh"}">' for n in range(12))
    (tmp_path / "a.xml").write_text(f"<!DOCTYPE x [{entities}]><annotations><version>&e11;</version></annotations>")
    tracemalloc.start()
    assert "a document type" in refusal(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0.5 0.5 0.1 0.1", "line 3: a box, which is not a segmentation"),
        ("0 0.5 0.5 0.1", "line 3: 4 numbers"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.93", "line 3: 8 numbers"),
        ("0 10 10 50 10 50 50", "line 3: coordinates are not between 0 and 1"),
        ("0 0.1 0.1 0.5 0.1 0.5 nan", "line 3: coordinates are not between 0 and 1"),
        ("2 0.1 0.1 0.5 0.1 0.5 0.5", "line 3: the class 2 is not among the names"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "line 3: the class -1"),
        ("cat 0.1 0.1 0.5 0.1 0.5 0.5", "line 3: invalid literal"),
    ],
)
def test_yolo_that_is_refused(line: str, expected: str, tmp_path: Path) -> None:
    file = write_yolo(tmp_path) / "labels" / "a.txt"
    file.write_text(file.read_text() + line)
    assert expected in refusal(tmp_path / "yolo") and str(file) in refusal(tmp_path / "yolo")


def test_yolos_data_yaml_is_checked(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for content, expected in (("names: [a", "not valid YAML"), ("names: [a, a]", "two names are equal")):
        (tmp_path / "yolo" / "data.yaml").write_text(content)
        assert expected in refusal(tmp_path / "yolo")


def test_a_text_that_is_no_label_among_labels_is_named(tmp_path: Path) -> None:
    (write_yolo(tmp_path) / "labels" / "c.txt").write_text("a cat")
    assert "c.txt: line 1" in refusal(tmp_path)


def test_several_annotations_in_one_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "b.json", coco_content())
    write_json(tmp_path / "a.json", coco_content())
    assert "several sets of annotations (a.json, b.json)" in refusal(tmp_path)
    (tmp_path / "b.json").unlink()
    write_cvat(tmp_path)
    assert "several formats" in refusal(tmp_path)
    (tmp_path / "annotations.xml").unlink()
    write_labelme(tmp_path)
    assert "several sets of annotations (a.json, LabelMe's files)" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["coco", "labelme", "cvat", "mat"])
def test_an_image_of_another_size_is_refused(name: str, tmp_path: Path) -> None:
    annotations = find_annotations(FORMATS[name](tmp_path))
    assert annotations
    with pytest.raises(DataError, match=r"30 x 20 pixels \(width x height\), but the image has 20 x 30"):
        annotations.label(annotations.files[0], WIDTH, HEIGHT)


def test_files_are_bounded_and_regular(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**30 + 1)  # of zeros, which take no room on a disk
    assert "has 1024 MB, and the maximum is 1024 MB" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "b.json")
    (tmp_path / "c.xml").mkdir()
    assert find_annotations(tmp_path / "c.xml") is None


def test_deep_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": ' + "[" * 100_000)
    assert "not valid JSON" in refusal(tmp_path)


def test_a_polygon_that_crosses_the_image_without_end_is_refused(tmp_path: Path) -> None:
    points = [0, 0, 10_000, 9_000] * 2000
    images = [{"id": 1, "file_name": "a.png", "height": 10_000, "width": 10_000}]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [points]}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    assert "a polygon of 4000 points crosses the image 4000 times" in refusal(write_json(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no line of the form"),
        ("# label:color_rgb:parts:actions\n", "no line of the form"),
        ("cat:::", "line 1: not of the form"),
        ("cat", "line 1: not of the form"),
        ("cat:1,2::", "line 1: not of the form"),
        ("cat:1,2,x::", "line 1: invalid literal"),
        ("cat:1,2,256::", "outside 0 to 255"),
        ("cat:1,2,3::\ncat:3,4,5::", "line 2: the name 'cat'"),
        ("cat:1,2,3::\ndog:1,2,3::", "line 2: the name 'dog' or the color"),
        (b"\xff\xfe", "codec"),
    ],
)
def test_labelmaps_that_are_refused(content: str | bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "labelmap.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=expected) as caught:
        read_labelmap(file)
    assert str(file) in str(caught.value)
