"""Folders of volumes as a data source."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from helpers.volume_folders import SHAPE, SPACING, affine_of, save_nifti, volume_scene, write_volumes
from maeseg.data.facts import facts_from
from maeseg.data.sources.base import Source, described_channels, open_source
from maeseg.data.sources.joined import Joined
from maeseg.data.split_options import gather
from maeseg.data.summary import summarize
from maeseg.data.survey import survey
from maeseg.data.volumes.source import (
    NoVolumeLabels,
    VolumeFolder,
    describe_volume_labels,
    is_volumes,
    open_volumes,
    settle_spacing,
    volume_notes,
    volume_sizes,
)
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY


def test_volumes_with_labels(tmp_path: Path) -> None:
    source = open_source(str(write_volumes(tmp_path)), labeled=True, channels=1)
    assert isinstance(source, VolumeFolder)
    assert isinstance(source, Source)
    assert [source.file(index) for index in range(len(source))] == [f"images/scan_{n:02d}.nii.gz" for n in range(4)]
    assert source.classes.names == ("background", "class_1", "class_2")
    assert source.classes.values == (0, 1, 2)
    source.spacing = SPACING
    values, label = volume_scene(2)
    assert np.array_equal(source.volume(2).values_CDHW[0], values)
    assert np.array_equal(source.stored_label(2), label)
    assert np.array_equal(source.label(2), label)
    assert source.pixels(2).shape == (1, *SHAPE)
    source.spacing = (2.0, 1.0, 1.25)
    assert source.pixels(2).shape[1:] == source.label(2).shape == (6, 14, 20)
    assert source.image(2).size == source.label_picture(2).size


def test_facts(tmp_path: Path) -> None:
    write_volumes(tmp_path, 3)
    source = open_volumes(tmp_path, labeled=True)
    found = survey(source)
    facts = found.facts[0]
    assert not found.faults
    assert facts.volume is not None
    assert facts.volume.shape == SHAPE
    assert facts.volume.spacing == SPACING
    assert facts_from(json.loads(json.dumps(facts.as_dict()))) == facts
    assert len({each.content for each in found.facts.values()}) == 3
    assert survey(source).facts == found.facts  # from the cache


def test_copies_have_the_same_content(tmp_path: Path) -> None:
    values, _ = volume_scene(0)
    values = values.round()
    save_nifti(tmp_path / "a.nii.gz", values, affine_of())
    save_nifti(tmp_path / "b.nii", values.astype(np.int16), affine_of())
    save_nifti(tmp_path / "c.nii.gz", values[::-1].copy(), affine_of("LAS"))
    save_nifti(tmp_path / "d.nii.gz", values, affine_of("RAS", (1, 1, 3)))
    contents = [open_volumes(tmp_path, labeled=False).check(index).content for index in range(4)]
    assert len(set(contents[:3])) == 1
    assert contents[3] != contents[0]


@pytest.mark.parametrize("foreground", [1, 255])
def test_binary_labels(tmp_path: Path, foreground: int) -> None:
    values, label = volume_scene(0)
    save_nifti(tmp_path / "images" / "a.nii.gz", values, affine_of())
    save_nifti(tmp_path / "labels" / "a.nii.gz", (label > 0).astype(np.uint8) * foreground, affine_of())
    source = open_volumes(tmp_path, labeled=True)
    assert source.classes == BINARY
    assert np.array_equal(source.stored_label(0), label > 0)


def test_pictures_show_the_patients_right_on_the_left(tmp_path: Path) -> None:
    label = np.zeros((20, 20, 20), np.uint8)
    label[15:, 8:12, 8:12] = 1  # right, in RAS+
    for kind in ("images", "labels"):
        save_nifti(tmp_path / kind / "a.nii.gz", label, affine_of("RAS", (1.0, 1.0, 1.0)))
    source = open_volumes(tmp_path, labeled=True)
    shown = [np.asarray(each.convert("L")) > 0 for each in (source.label_picture(0), source.image(0))]
    for each_HW in shown:
        axial, coronal = each_HW[:, : each_HW.shape[1] // 3], each_HW[:, each_HW.shape[1] // 3 :]
        for part in (axial, coronal):
            assert np.flatnonzero(part.any(0))[0] < 20
    assert np.mean(shown[0] != shown[1]) < 0.02


def test_255_beside_classes_does_not_count(tmp_path: Path) -> None:
    write_volumes(tmp_path, 1)
    label = volume_scene(0)[1]
    label[0] = 255
    save_nifti(tmp_path / "labels" / "scan_00.nii.gz", label, affine_of())
    source = open_volumes(tmp_path, labeled=True)
    assert source.classes.values == (0, 1, 2)
    assert np.array_equal(source.stored_label(0), label)
    assert "border" in describe_volume_labels(source)


def test_values_with_gaps_are_classes_in_order(tmp_path: Path) -> None:
    values, label = volume_scene(0)
    save_nifti(tmp_path / "images" / "a.nii.gz", values, affine_of())
    save_nifti(tmp_path / "labels" / "a.nii.gz", label * np.uint8(40), affine_of())
    source = open_volumes(tmp_path, labeled=True)
    assert source.classes.values == (0, 40, 80)
    assert np.array_equal(source.stored_label(0), label)


@pytest.mark.parametrize(
    ("label", "complaint"),
    [
        (np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE), "no classes"),
        (np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE) % 100, "--classes"),
        (-volume_scene(0)[1].astype(np.int16), "no classes"),
    ],
)
def test_values_that_are_no_classes(tmp_path: Path, label: NDArray[Any], complaint: str) -> None:
    write_volumes(tmp_path, 1)
    save_nifti(tmp_path / "labels" / "scan_00.nii.gz", label, affine_of())
    with pytest.raises(UserError, match=complaint):
        open_volumes(tmp_path, labeled=True)


def test_decathlon_names_channels_and_classes(tmp_path: Path) -> None:
    write_volumes(tmp_path, 2, images="imagesTr", labels="labelsTr", image="scan_{:02d}_0000.nii.gz")
    write_volumes(tmp_path, 1, images="imagesTs", labels="other", image="test_{:02d}_0000.nii.gz")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "anterior": 1, "posterior": 2}}')
    source = open_volumes(tmp_path, labeled=True)
    assert [source.file(index) for index in (0, 1)] == [f"imagesTr/scan_{n:02d}_0000.nii.gz" for n in (0, 1)]
    assert len(source) == 2
    assert source.classes.names == ("background", "anterior", "posterior")
    (tmp_path / "imagesTr" / "scan_00_0000.nii.gz").rename(tmp_path / "imagesTr" / "scan_00_0001.nii.gz")
    with pytest.raises(UserError, match="fourth axis"):
        open_volumes(tmp_path, labeled=True)


@pytest.mark.parametrize("binary", [True, False])
def test_the_class_ignore_of_nnunet_does_not_count(tmp_path: Path, binary: bool) -> None:
    write_volumes(tmp_path, 1, images="imagesTr", labels="labelsTr", binary=binary)
    label = np.minimum(volume_scene(0)[1], 1 if binary else 2)
    ignore = 2 if binary else 3
    label[-1] = ignore
    save_nifti(tmp_path / "labelsTr" / "scan_00.nii.gz", label, affine_of())
    names = {"background": 0, "front": 1, **({} if binary else {"back": 2}), "ignore": ignore}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names}))
    source = open_volumes(tmp_path, labeled=True)
    assert source.classes.names == (BINARY.names if binary else ("background", "front", "back"))
    assert np.array_equal(source.stored_label(0), np.where(label == ignore, 255, label))


def test_volumes_alone_at_any_depth(tmp_path: Path) -> None:
    for name in ("a/b/x.nii.gz", "c/y.nii"):
        save_nifti(tmp_path / name, volume_scene(0)[0], affine_of())
    assert len(open_volumes(tmp_path, labeled=False)) == 2
    with pytest.raises(NoVolumeLabels, match="labels/"):
        open_volumes(tmp_path, labeled=True)


def test_arrays_and_stacks_are_volumes_where_they_are_asked_for(tmp_path: Path) -> None:
    values, label = volume_scene(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    np.save(tmp_path / "images" / "a.npy", values)
    np.save(tmp_path / "labels" / "a.npy", label)
    assert not is_volumes(str(tmp_path))
    assert is_volumes(str(tmp_path), wanted=True)
    source = open_source(str(tmp_path), labeled=True, channels=1, volumes=True)
    assert np.array_equal(source.stored_label(0), volume_scene(0)[1])  # type: ignore[attr-defined]


def test_facts_of_volumes_are_not_those_of_images(tmp_path: Path) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", volume_scene(number)[0])
    as_images = survey(open_source(str(tmp_path), labeled=False, channels=12))
    as_volumes = survey(open_volumes(tmp_path, labeled=False, channels=12))
    assert len(as_images.facts) == len(as_volumes.faults) == 2


def test_faults_are_one_line_each(tmp_path: Path) -> None:
    write_volumes(tmp_path, 5)
    values, label = volume_scene(1)
    save_nifti(tmp_path / "images" / "scan_00.nii.gz", np.stack([values, values], -1), affine_of())
    save_nifti(tmp_path / "labels" / "scan_01.nii.gz", label[1:], affine_of())
    save_nifti(tmp_path / "labels" / "scan_02.nii.gz", label * 0.5, affine_of())
    file = tmp_path / "labels" / "scan_03.nii.gz"
    file.write_bytes(file.read_bytes()[:-99])
    source = open_volumes(tmp_path, labeled=True)
    found = survey(source)
    assert sorted(found.faults) == [0, 1, 2, 3]
    assert all(f"scan_0{index}.nii.gz" in fault and "\n" not in fault for index, fault in found.faults.items())
    summary = summarize(source, found)
    assert "4 of 5" in summary.lines["cannot be used"]
    assert summary.lines["spacing"].startswith("1 x 1 x 2.5 mm")


def test_label_without_a_volume(tmp_path: Path) -> None:
    write_volumes(tmp_path, 2)
    (tmp_path / "images" / "scan_01.nii.gz").unlink()
    with pytest.raises(UserError, match=r"labels/scan_01.nii.gz"):
        open_volumes(tmp_path, labeled=True)


def test_a_picture_among_volumes_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_volumes(tmp_path, 1)
    Image.new("L", (4, 4)).save(tmp_path / "images" / "slice.png")
    assert len(open_volumes(tmp_path, labeled=True)) == 1
    assert "images/slice.png" in caplog.text


def test_more_pictures_than_volumes_are_images(tmp_path: Path) -> None:
    write_volumes(tmp_path, 1)
    for number in range(3):
        Image.new("L", (4, 4)).save(tmp_path / "images" / f"{number}.png")
    assert not is_volumes(str(tmp_path))
    assert is_volumes(str(tmp_path), wanted=True)


def test_channels_of_the_data(tmp_path: Path) -> None:
    write_volumes(tmp_path / "one", 1)
    save_nifti(tmp_path / "two" / "a.nii.gz", np.zeros((*SHAPE, 2), np.float32), affine_of())
    assert described_channels(str(tmp_path / "one")) == 1
    assert described_channels(str(tmp_path / "two")) == 2
    assert described_channels("synthetic-volumes:3") == 1


def test_spacing_of_a_run_is_the_median_of_its_training_volumes(tmp_path: Path) -> None:
    for number, step in enumerate((1.0, 2.0, 4.0)):
        save_nifti(tmp_path / f"{number}.nii.gz", volume_scene(number)[0], affine_of("RAS", (1, 1, step)))
    first, second = open_volumes(tmp_path, labeled=False), open_volumes(tmp_path, labeled=False)
    joined = Joined([first, second])
    facts = survey(first).facts
    assert settle_spacing(joined, facts, [1, 2], None) == (1, 1, 3)
    assert first.spacing == second.spacing == joined.spacing == (1, 1, 3)
    assert volume_sizes(facts, (1, 1, 3))[0] == (12, 14, 3)
    assert settle_spacing(first, facts, [0], (2.0, 2.0, 2.0)) == (2, 2, 2)


def test_notes_name_what_was_assumed(tmp_path: Path) -> None:
    values = volume_scene(0)[0]
    save_nifti(tmp_path / "bare.nii.gz", values)
    save_nifti(tmp_path / "flat.nii.gz", np.ones_like(values), affine_of())
    values[0] = np.nan
    save_nifti(tmp_path / "holes.nii.gz", values, affine_of())
    save_nifti(tmp_path / "both.nii.gz", np.where(np.isnan(values), values, 7), affine_of())
    notes = volume_notes(survey(open_volumes(tmp_path, labeled=False)).facts)
    assert [note.split()[0] for note in notes] == ["1", "2", "2"]


def test_validation_data_needs_volumes_and_classes_of_the_run(tmp_path: Path) -> None:
    data = open_volumes(write_volumes(tmp_path / "binary", binary=True), labeled=True)
    write_volumes(tmp_path / "three")
    with pytest.raises(UserError, match="class_2"):
        gather(data, str(tmp_path / "three"), 0, labeled=True)
    both = gather(data, str(tmp_path / "binary"), 0, labeled=True)
    assert is_volumes(both.source)


def test_groups_and_classes_of_a_description(tmp_path: Path) -> None:
    write_volumes(tmp_path, 4, image="p{:02d}_a.nii.gz", label="p{:02d}_a.nii.gz")
    (tmp_path / "data.yaml").write_text("path: .\nclasses: [background, front, back]\ngroups: '(p[0-9]+)'\n")
    source = open_source(str(tmp_path / "data.yaml"), labeled=True, channels=1)
    assert source.classes.names == ("background", "front", "back")
    assert source.group(0) == "p00"
    (tmp_path / "bad.yaml").write_text("path: .\nthreshold: 128\n")
    with pytest.raises(UserError, match="threshold has no effect"):
        open_source(str(tmp_path / "bad.yaml"), labeled=True, channels=1)


def test_a_source_goes_to_other_processes(tmp_path: Path) -> None:
    source = open_volumes(write_volumes(tmp_path, 1), labeled=True, spacing=SPACING)
    source.check(0)
    again = pickle.loads(pickle.dumps(source))
    assert torch.equal(again.pixels(0), source.pixels(0))
    assert torch.equal(again.label(0), source.label(0))


def test_without_nibabel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"maeseg\[volumes\]"):
        open_volumes(tmp_path, labeled=True)


@pytest.mark.slow
def test_nothing_of_volumes_is_imported_without_use() -> None:
    code = "import sys, maeseg.data.sources.base; print({'nibabel', 'monai'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
