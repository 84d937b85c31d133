"""Small annotation files of every format, all of the same two images of 20 x 30 pixels (height x width).

``a.png`` has a cat in rows 2 to 9 and columns 3 to 12 and on it a dog in rows 4 to 7 and columns 5 to 8; ``b.png`` has
nothing.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as reference

HEIGHT, WIDTH = 20, 30
CAT = [3, 2, 13, 2, 13, 10, 3, 10]
DOG = [5, 4, 9, 4, 9, 8, 5, 8]


def expected(cat: int = 1, dog: int = 2) -> NDArray[np.uint16]:
    """The label of ``a.png``, drawn by hand."""
    label_HW = np.zeros((HEIGHT, WIDTH), np.uint16)
    label_HW[2:10, 3:13] = cat
    label_HW[4:8, 5:9] = dog
    return label_HW


def coco_content() -> dict[str, Any]:
    """The dog comes first in the file, as compressed counts; the cat is a polygon."""
    dog = reference.encode(np.asfortranarray(expected(0, 1).astype(np.uint8)))
    encoded = {"size": dog["size"], "counts": dog["counts"].decode()}
    return {
        "images": [{"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
                   {"id": 3, "file_name": "b.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 40, "name": "dog", "supercategory": "animal"}, {"id": 4, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 40, "segmentation": encoded, "iscrowd": 0},
                        {"id": 2, "image_id": 7, "category_id": 4, "segmentation": [CAT], "iscrowd": 0}],
    }  # fmt: skip


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def shape(label: str, points: list[Any], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def labelme_content(image: str, *shapes: dict[str, Any]) -> dict[str, Any]:
    return {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": "not a picture",
            "imageHeight": HEIGHT, "imageWidth": WIDTH}  # fmt: skip


def pairs(numbers: list[Any]) -> list[list[Any]]:
    return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


def bitmap(inside_HW: NDArray[np.bool_]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(inside_HW.astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_coco(root: Path) -> Path:
    return write_json(root / "instances.json", coco_content())


def write_labelme(root: Path) -> Path:
    dog = shape("dog", [[5, 4], [8, 7]], "mask", mask=bitmap(np.ones((4, 4), np.bool_)))
    write_json(
        root / "labelme" / "a.json", labelme_content("a.png", shape("cat", [[3, 2], [13, 10]], "rectangle"), dog)
    )
    write_json(root / "labelme" / "b.json", labelme_content("b.png"))
    return root / "labelme"


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels>
<label><name>cat</name><color>#fa3253</color><type>any</type></label><label><name>dog</name></label>
<label><name>blurred</name><type>tag</type></label>
</labels></task></meta>
<image id="0" name="a.png" width="30" height="20">
<mask label="dog" source="manual" rle="0, 16" left="5" top="4" width="4" height="4" z_order="2"></mask>
<polygon label="cat" source="manual" points="3.00,2.00;13.00,2.00;13.00,10.00;3.00,10.00" z_order="1"></polygon>
<tag label="blurred"></tag>
</image>
<image id="1" name="b.png" width="30" height="20"></image>
</annotations>
"""


def write_cvat(root: Path, before: str = "") -> Path:
    """The two images, and another one of these shapes before them."""
    image = f"<image id='9' name='c.png' width='{WIDTH}' height='{HEIGHT}'>{before}</image>" if before else ""
    content = CVAT.replace('<image id="0"', f'{image}<image id="0"')
    (root / "annotations.xml").write_text(content, encoding="utf-8")
    return root / "annotations.xml"


def yolo_line(number: int, polygon: list[int]) -> str:
    return " ".join([str(number), *(str(each / (HEIGHT if at % 2 else WIDTH)) for at, each in enumerate(polygon))])


def write_yolo(root: Path) -> Path:
    """A data set's root: data.yaml, images/ and labels/."""
    (root / "yolo" / "labels").mkdir(parents=True)
    (root / "yolo" / "data.yaml").write_text("train: images\nnc: 2\nnames: {0: cat, 1: dog}\n", encoding="utf-8")
    (root / "yolo" / "labels" / "a.txt").write_text(f"{yolo_line(1, DOG)}\n{yolo_line(0, CAT)}\n", encoding="utf-8")
    (root / "yolo" / "labels" / "b.txt").write_text("", encoding="utf-8")
    return root / "yolo"


def write_mat(root: Path) -> Path:
    """CrackForest's kind, except for the values."""
    (root / "mat").mkdir()
    for name, label_HW in (("a", expected()), ("b", expected(0, 0))):
        truth = {"Segmentation": label_HW, "Boundaries": label_HW > 0}
        scipy.io.savemat(root / "mat" / f"{name}.mat", {"groundTruth": truth}, do_compression=True)
    return root / "mat"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "coco": write_coco,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "yolo": write_yolo,
    "mat": write_mat,
}
"""Writers of each format into a folder; they return what is to be opened."""
