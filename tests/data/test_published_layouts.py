"""Small imitations of public data sets in their published layout: one command reads each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from helpers.folders import scene, write_pairs
from helpers.label_encodings import classes_of, instances, jpeg
from maeseg.cli import main
from maeseg.data.sources.base import open_source
from maeseg.data.survey import survey

CAMVID = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "Sign", "Fence", "Car", "Pedestrian", "Bicyclist"]


def kvasir(root: Path) -> None:
    """Kvasir-SEG (Jha et al. 2020): JPEG masks, and a file of boxes."""
    write_pairs(root, 4, image="cju{:02d}.jpg", mask="cju{:02d}.jpg", write=jpeg)
    (root / "kavsir_bboxes.json").write_text('{"cju00": {"height": 24, "width": 32, "bbox": []}}')


def pennfudan(root: Path) -> None:
    """Penn-Fudan pedestrians (Wang et al. 2007): instance numbers, and text files of boxes."""
    write_pairs(
        root, 4, images="PNGImages", masks="PedMasks", image="FudanPed{:05d}.png", mask="FudanPed{:05d}_mask.png",
        write=instances,
    )  # fmt: skip
    (root / "Annotation").mkdir()
    for number in range(4):
        (root / "Annotation" / f"FudanPed{number:05d}.txt").write_text("# Compatible with PASCAL Annotation 1.00\n")
    (root / "readme.txt").write_text("1. Directory structure\n")


def camvid(root: Path) -> None:
    """CamVid (Brostow et al. 2009) in SegNet's layout: train, trainannot and so on; 11 is void."""

    def write(path: Path, mask: NDArray[np.bool_]) -> None:
        values = np.where(mask, 8, np.arange(mask.shape[1]) % 8).astype(np.uint8)
        values[0] = 11
        Image.fromarray(values).save(path)

    for first, part in enumerate(("train", "val", "test")):
        write_pairs(root, 2, images=part, masks=f"{part}annot", first=2 * first, write=write)
        lines = [f"/SegNet/CamVid/{part}/im_{n:02d}.png /SegNet/CamVid/{part}annot/im_{n:02d}.png" for n in range(2)]
        (root / f"{part}.txt").write_text("\n".join(lines))


def crack_forest(root: Path) -> None:
    """CrackForest (Shi et al. 2016): MATLAB structs, 1 background, 2 crack."""

    def write(path: Path, mask: NDArray[np.bool_]) -> None:
        truth = {"Segmentation": mask.astype(np.uint16) + 1, "Boundaries": mask.astype(np.uint8)}
        scipy.io.savemat(path, {"groundTruth": truth})

    write_pairs(root, 4, images="image", masks="groundTruth", image="{:03d}.jpg", mask="{:03d}.mat", write=write)
    (root / "seg").mkdir()
    for number in range(4):
        (root / "seg" / f"{number:03d}.seg").write_text("format ascii cr\n")


def people(root: Path) -> None:
    """A human-segmentation data set: palette masks, white first, in folders with other names."""

    def write(path: Path, mask: NDArray[np.bool_]) -> None:
        image = Image.fromarray(np.where(mask, 0, 1).astype(np.uint8)).convert("P")
        image.putpalette([255, 255, 255, 0, 0, 0])
        image.save(path)

    write_pairs(root, 4, images="Training_Images", masks="Ground_Truth", image="{:d}.jpg", mask="{:d}.png", write=write)
    (root / "train.csv").write_text("images,masks\n")


def camvid_label(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    values = np.where(mask, 8, np.arange(mask.shape[1]) % 8)
    values[0] = 255
    return values


Label = Callable[[NDArray[np.bool_]], NDArray[np.generic]]
SETS: dict[str, tuple[Callable[[Path], None], str | None, Label]] = {
    "Kvasir-SEG": (kvasir, None, lambda mask: mask),
    "PennFudan": (pennfudan, "{classes: {background: 0, foreground: 1-255}}", lambda mask: mask),
    "CamVid": (camvid, f"{{classes: [{', '.join(CAMVID)}], ignore: 11}}", camvid_label),
    "CrackForest": (crack_forest, "{classes: {background: 1, foreground: 2-4}}", lambda mask: mask),
    "people": (people, None, lambda mask: mask),
}


@pytest.mark.parametrize("name", SETS)
def test_a_published_data_set_is_accepted_by_one_command(name: str, tmp_path: Path) -> None:
    write, add, expected = SETS[name]
    root = tmp_path / name
    root.mkdir()
    write(root)
    words = ["check", str(root), "--write", str(tmp_path / "data.yaml")]
    assert main([*words, "--add", add] if add else words) == 0
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    assert not survey(source).faults
    for index in range(len(source)):
        number = int("".join(filter(str.isdigit, Path(source.file(index)).stem)))
        np.testing.assert_array_equal(np.asarray(source.label(index)), expected(scene(number)[1]))
    assert len(open_source(str(root), labeled=False)) == len(source)
    assert {source.split(index) for index in range(len(source))} == (
        {"train", "val", "test"} if name == "CamVid" else {None}
    )


def test_a_set_of_classes_is_not_taken_for_instances(tmp_path: Path) -> None:
    def write(path: Path, mask: NDArray[np.bool_]) -> None:
        Image.fromarray(classes_of(mask)).save(path)

    assert main(["check", str(write_pairs(tmp_path, 3, write=write))]) == 2
