"""Files that ``predict`` writes of volumes: formats, geometry, tables and refusals."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("monai")

from helpers.bright_volumes import THREE, ball, bright_segmenter, opened, stored, volume_spec, write_nifti
from maeseg.errors import UserError

SEGMENTER = bright_segmenter(volume_spec((8, 16, 8)))
TILTED = np.array([[0, -2.0, 0, 30], [-1.0, 0, 0, 20], [0, 0, 1.5, -7], [0, 0, 0, 1]])
"""Affine whose axes are not those of RAS+: the first points to posterior, the second to the left."""


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("affine", [np.eye(4), TILTED, np.diag([-1.0, -1, 2, 1])])
def test_a_label_map_has_the_orientation_and_affine_of_its_volume(
    tmp_path: Path, suffix: str, affine: NDArray[np.float64]
) -> None:
    there = ball((20, 24, 18), (6, 15, 9), 5)
    write_nifti(tmp_path / "in" / "deep" / f"scan{suffix}", there.astype(np.int16) * 900, affine)
    assert SEGMENTER.predict_folder(tmp_path / "in", tmp_path / "out") == 1
    written = opened(tmp_path / "out" / "labels" / "deep" / f"scan{suffix}")
    assert np.array_equal(written.affine, affine)
    assert written.get_data_dtype() == np.uint8
    found = np.asanyarray(written.dataobj)
    assert found.shape == there.shape
    assert (found & there).sum() > 0.95 * there.sum()
    assert found.sum() < 2 * there.sum()
    with Image.open(tmp_path / "out" / "overlays" / "deep" / "scan.png") as overlay:
        assert overlay.width > 1.5 * overlay.height


def test_the_table_has_the_volume_of_each_class(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scan.nii.gz", ball((20, 24, 18), (6, 15, 9), 5).astype(np.float32), TILTED)
    SEGMENTER.predict_folder(tmp_path / "scan.nii.gz", tmp_path / "out", overlays=False)
    voxels = int(stored(tmp_path / "out" / "labels" / "scan.nii.gz").sum())
    background, foreground = rows_of(tmp_path / "out")
    assert foreground["class"] == "foreground"
    assert int(foreground["voxels"]) == voxels
    assert float(foreground["cubic_millimeters"]) == voxels * 3
    assert float(foreground["milliliters"]) == pytest.approx(voxels * 3 / 1000)
    assert float(foreground["share"]) + float(background["share"]) == pytest.approx(1)
    # on canonical axes
    assert (foreground["depth"], foreground["height"], foreground["width"]) == ("24", "20", "18")
    assert 0.5 < float(foreground["confidence"]) <= 1


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_arrays_and_stacks_keep_their_format(tmp_path: Path, suffix: str) -> None:
    values = ball((20, 24, 18), (6, 15, 9), 5) * 200
    if suffix == ".npy":
        np.save(tmp_path / "scan.npy", values)
    else:
        tifffile.imwrite(tmp_path / "scan.tif", values, photometric="minisblack")
    SEGMENTER.predict_folder(tmp_path / f"scan{suffix}", tmp_path / "out")
    file = tmp_path / "out" / "labels" / f"scan{suffix}"
    found = np.load(file) if suffix == ".npy" else tifffile.imread(file)
    assert found.shape == values.shape
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    assert found[6, 15, 9] == 1


def test_labels_have_the_values_of_the_classes_and_probabilities_one_file_for_each(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scan.nii.gz", ball((20, 24, 18), (6, 15, 9), 5).astype(np.float32))
    segmenter = bright_segmenter(volume_spec((8, 16, 8), classes=THREE))
    segmenter.predict_folder(tmp_path / "scan.nii.gz", tmp_path / "out", probabilities=True)
    label = stored(tmp_path / "out" / "labels" / "scan.nii.gz")
    assert set(np.unique(label)) == {0, 4}
    assert (tmp_path / "out" / "legend.png").exists()
    folder = tmp_path / "out" / "probabilities" / "scan"
    maps = [opened(folder / f"{name}.nii.gz") for name in THREE.names]
    assert maps[0].get_data_dtype() == np.float32
    probability_KDHW = np.stack([np.asanyarray(each.dataobj) for each in maps])
    assert probability_KDHW.sum(0) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(np.array(THREE.values)[probability_KDHW.argmax(0)], label)


def test_bad_volumes_are_named_or_left_out(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "scan.nii.gz", ball((20, 24, 18), (6, 15, 9), 5).astype(np.float32))
    write_nifti(tmp_path / "in" / "time.nii.gz", np.zeros((9, 9, 9, 3), np.float32))
    write_nifti(tmp_path / "in" / "endless.nii.gz", np.full((9, 9, 9), np.inf, np.float32))
    content = (tmp_path / "in" / "scan.nii.gz").read_bytes()
    (tmp_path / "in" / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut\.nii\.gz.*on_bad_image"):
        SEGMENTER.predict_folder(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert SEGMENTER.predict_folder(tmp_path / "in", tmp_path / "out", on_bad_image="skip") == 1
    skipped = (tmp_path / "out" / "skipped.csv").read_text()
    assert all(f"{name}.nii.gz" in skipped for name in ("cut", "endless", "time"))


def test_two_volumes_of_one_name_are_refused(tmp_path: Path) -> None:
    for suffix in (".nii", ".nii.gz"):
        write_nifti(tmp_path / f"scan{suffix}", np.ones((9, 9, 9), np.float32))
    with pytest.raises(UserError, match="scan"):
        SEGMENTER.predict_folder(tmp_path, tmp_path / "out")


def test_tiles_are_for_images(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scan.nii.gz", np.ones((9, 9, 9), np.float32))
    with pytest.raises(UserError, match="--tile 64"):
        SEGMENTER.predict_folder(tmp_path / "scan.nii.gz", tmp_path / "out", tile=64)
    with pytest.raises(UserError, match=r"--overlap 0\.5"):
        SEGMENTER.predict_folder(tmp_path / "scan.nii.gz", tmp_path / "out", overlap=0.5)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        SEGMENTER.predict_folder(tmp_path / "nowhere.nii.gz", tmp_path / "out")
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(UserError, match=r"scan\.nrrd is no volume"):
        SEGMENTER.predict_folder(tmp_path / "scan.nrrd", tmp_path / "out")
