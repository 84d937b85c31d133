"""Volumes that are read and written, and volumes that cannot be used."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from helpers.volume_folders import SHAPE, affine_of, nibabel, save_nifti, volume_scene
from maeseg.data.image_files import DataError
from maeseg.data.volumes.formats import read_stored
from maeseg.data.volumes.header import VolumeHeader
from maeseg.data.volumes.volume import read_volume, read_volume_label, write_label

VALUES, LABEL = volume_scene(0)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "ALI"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_orientation_and_affine_survive(tmp_path: Path, codes: str, suffix: str) -> None:
    affine = affine_of(codes, (1.0, 1.5, 2.5))
    path = save_nifti(tmp_path / f"a{suffix}", VALUES, affine, descrip=b"scanner")
    label = save_nifti(tmp_path / f"l{suffix}", LABEL, affine)
    volume = read_volume(path, 1)
    classes = read_volume_label(label, volume.header)
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(VALUES, affine))
    assert np.array_equal(volume.values_CDHW[0], expected.get_fdata(dtype=np.float32))
    assert volume.header.spacing == pytest.approx(nibabel.affines.voxel_sizes(expected.affine))
    assert volume.header.shape == expected.shape
    assert (volume.values_CDHW[0].numpy()[classes > 0] > 130).all()

    write_label(tmp_path / "out.nii.gz", torch.from_numpy(classes), volume.header)
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), LABEL)
    assert np.allclose(written.affine, affine)
    assert written.get_data_dtype() == np.uint8
    assert written.header["descrip"] == nibabel.load(path).header["descrip"]
    assert int(written.header["sform_code"]) == int(nibabel.load(path).header["sform_code"])


def test_rotated_and_sheared_affine_has_the_spacing_of_its_columns(tmp_path: Path) -> None:
    affine = affine_of("RAS", (1.0, 2.0, 3.0))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    volume = read_volume(save_nifti(tmp_path / "a.nii.gz", VALUES, turn @ affine), 1)
    assert volume.header.spacing == pytest.approx((1.0, 2.0, 3.0), rel=1e-5)
    write_label(tmp_path / "out.nii.gz", LABEL, volume.header)
    assert np.allclose(nibabel.load(tmp_path / "out.nii.gz").affine, turn @ affine, atol=1e-5)


@pytest.mark.parametrize(("unit", "scale"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 1e-3), (3 + 8, 1e-3)])
def test_spacing_is_in_millimeters_for_any_unit(tmp_path: Path, unit: int, scale: float) -> None:
    affine = affine_of("LPS", (0.2, 0.4, 0.5))
    header = read_volume(save_nifti(tmp_path / "a.nii.gz", VALUES, affine, xyzt_units=unit), 1).header
    assert header.spacing == pytest.approx((0.2 * scale, 0.4 * scale, 0.5 * scale))
    label = save_nifti(tmp_path / "l.nii.gz", LABEL, affine)  # without a unit
    write_label(tmp_path / "out.nii.gz", read_volume_label(label, header), header)
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), LABEL)
    assert (int(written.header["xyzt_units"]), written.affine.tolist()) == (unit, nibabel.load(label).affine.tolist())
    bare = save_nifti(tmp_path / "bare.nii.gz", VALUES, pixdim=[1, 2, 3, 4, 1, 1, 1, 1], xyzt_units=unit)
    assert read_volume(bare, 1).header.spacing == pytest.approx((2 * scale, 3 * scale, 4 * scale))


def test_without_affine_axes_are_as_stored(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", VALUES, None, pixdim=[1, 2, 3, 4, 1, 1, 1, 1])
    volume = read_volume(path, 1)
    assert np.array_equal(volume.values_CDHW[0], VALUES)
    assert volume.header.spacing == (2, 3, 4)
    assert not volume.header.placed
    write_label(tmp_path / "out.nii.gz", LABEL, volume.header)
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), LABEL)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (0, 0)
    assert np.allclose(written.affine, nibabel.load(path).affine)


def test_label_without_affine_has_the_axes_of_its_image(tmp_path: Path) -> None:
    header = read_volume(save_nifti(tmp_path / "a.nii.gz", VALUES, affine_of("PIL")), 1).header
    bare = save_nifti(tmp_path / "bare.nii.gz", LABEL)
    np.save(tmp_path / "array.npy", LABEL)
    placed = save_nifti(tmp_path / "placed.nii.gz", LABEL, affine_of("PIL"))
    expected = read_volume_label(placed, header)
    assert np.array_equal(read_volume_label(bare, header), expected)
    assert np.array_equal(read_volume_label(tmp_path / "array.npy", header), expected)


def test_label_of_an_array_has_its_stored_axes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    label = save_nifti(tmp_path / "label.nii.gz", LABEL, affine_of("PIL"))
    assert np.array_equal(read_volume_label(label, read_volume(tmp_path / "a.npy", 1).header), LABEL)


def test_label_on_other_axes_in_the_same_place(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(LABEL, affine_of("PIL"))
    header = read_volume(save_nifti(tmp_path / "a.nii.gz", VALUES, image.affine), 1).header
    turned = nibabel.as_closest_canonical(image)
    label = save_nifti(tmp_path / "l.nii.gz", np.asarray(turned.dataobj), turned.affine)
    assert np.array_equal(read_volume_label(label, header), np.asarray(turned.dataobj))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_types(tmp_path: Path, dtype: type) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", VALUES.astype(dtype), affine_of())
    assert np.array_equal(read_volume(path, 1).values_CDHW[0], VALUES.astype(dtype).astype(np.float32))


def test_scaled_integers(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.arange(1680, dtype=np.int16).reshape(SHAPE), affine_of())
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", 0.5, -1024)  # scl_slope, scl_inter
    path.write_bytes(content)
    assert read_volume(path, 1).values_CDHW.flatten()[:3].tolist() == [-1024, -1023.5, -1023]


def test_channels_are_the_fourth_axis(tmp_path: Path) -> None:
    both = np.stack([VALUES, -VALUES], -1)
    for path in (save_nifti(tmp_path / "a.nii.gz", both, affine_of()), tmp_path / "a.npy"):
        if path.suffix == ".npy":
            np.save(path, both)
        assert np.array_equal(read_volume(path, 2).values_CDHW, np.stack([VALUES, -VALUES]))
        with pytest.raises(DataError, match="2 channels, and --channels is 1"):
            read_volume(path, 1)
    single = save_nifti(tmp_path / "single.nii.gz", VALUES[..., None], affine_of())
    assert read_volume(single, 1).values_CDHW.shape == (1, *SHAPE)
    with pytest.raises(DataError, match="give --channels 1"):
        read_volume(single, 2)


def test_tiff_stack_states_its_spacing(tmp_path: Path) -> None:
    values = VALUES.astype(np.uint16)
    micron = {"spacing": 2.0, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "imagej.tif", values, imagej=True, resolution=(4, 2), metadata=micron)
    sides = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (3.0, 2.0, 1.0), strict=True)}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"}
    tifffile.imwrite(tmp_path / "ome.tif", values, ome=True, metadata={"axes": "ZYX", **sides, **units})
    tifffile.imwrite(tmp_path / "bare.tif", values, photometric="minisblack", compression="zlib")
    for name, spacing in (("imagej", (2e-3, 5e-4, 2.5e-4)), ("ome", (3, 2, 1)), ("bare", (1, 1, 1))):
        volume = read_volume(tmp_path / f"{name}.tif", 1)
        assert np.array_equal(volume.values_CDHW[0], values)
        assert volume.header.spacing == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("unit", "scale"), [("m", 1000.0), ("Microns", 1e-3), ("Å", 1e-7), ("nm", 1e-6), ("pixel", 1.0), ("furlong", None)]
)
def test_units_of_a_stack(tmp_path: Path, unit: str, scale: float | None) -> None:
    sides = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (3.0, 2.0, 1.0), strict=True)}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", VALUES, ome=True, metadata={"axes": "ZYX", **sides, **units})
    if scale is None:
        with pytest.raises(DataError, match="furlong"):
            read_volume(tmp_path / "a.tif", 1)
        return
    expected = (3 * scale, 2 * scale, scale)
    assert read_volume(tmp_path / "a.tif", 1).header.spacing == pytest.approx(expected)


def test_tiff_with_channels(tmp_path: Path) -> None:
    both = np.stack([VALUES, -VALUES], 1).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    assert np.array_equal(read_volume(tmp_path / "a.tif", 2).values_CDHW, np.stack([VALUES, -VALUES]))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".npy", ".tif"])
def test_label_is_written_in_each_format(tmp_path: Path, suffix: str) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    header = read_volume(tmp_path / "a.npy", 1).header
    write_label(tmp_path / f"out{suffix}", LABEL, header)
    assert np.array_equal(read_volume_label(tmp_path / f"out{suffix}", header), LABEL)


def test_a_written_stack_states_its_spacing(tmp_path: Path) -> None:
    header = VolumeHeader((14, 12, 10), (2.5, 1.0, 0.3))
    for name in ("a.tif", "b.tif"):
        write_label(tmp_path / name, np.zeros(header.shape, np.uint8), header)
    assert read_stored(tmp_path / "a.tif", values=False).header == header
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_nan_is_kept(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[0] = np.nan
    path = save_nifti(tmp_path / "a.nii.gz", values, affine_of())
    assert int(torch.isnan(read_volume(path, 1).values_CDHW).sum()) == 14 * 10


def _truncated(path: Path) -> Path:
    save_nifti(path, VALUES, affine_of())
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _header_of(path: Path, offset: int, content: bytes) -> Path:
    """A file with other bytes in its header, at an offset of the NIfTI-1 standard."""
    plain = save_nifti(path.with_name("plain.nii"), VALUES, affine_of())
    changed = bytearray(plain.read_bytes())
    changed[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(changed) if path.suffix == ".gz" else changed)
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _complex(path: Path) -> Path:
    return save_nifti(path, VALUES.astype(np.complex64), affine_of())


def _colors(path: Path) -> Path:
    return save_nifti(path, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), affine_of())


def _infinite(path: Path) -> Path:
    values = VALUES.copy()
    values[1, 2, 3] = np.inf
    return save_nifti(path, values, affine_of())


HUGE = struct.pack("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1)
BAD: list[tuple[str, Callable[[Path], Path]]] = [
    ("infinite values", _infinite),
    ("beyond those of 32 bits", lambda path: save_nifti(path, np.full(SHAPE, 1e60), affine_of())),
    ("beyond those of 32 bits", lambda path: _header_of(path, 112, struct.pack("<f", 3e38))),  # scl_slope
    ("NaN everywhere", lambda path: save_nifti(path, np.full(SHAPE, np.nan, np.float32), affine_of())),
    ("cannot be read as a volume", _truncated),
    ("2D image", lambda path: save_nifti(path, VALUES[0], affine_of())),
    ("2D image", lambda path: save_nifti(path, VALUES[..., :1], affine_of())),
    ("5 axes", lambda path: save_nifti(path, np.zeros((4, 4, 4, 2, 2), np.float32), affine_of())),
    ("complex", _complex),
    ("colors", _colors),
    ("maximum|truncated", lambda path: _header_of(path, 40, HUGE)),
    ("is empty|cannot be read", lambda path: _header_of(path, 40, struct.pack("<8h", 3, 0, 14, 10, 1, 1, 1, 1))),
    ("is empty|cannot be read", lambda path: _header_of(path, 40, struct.pack("<8h", 3, -4, 14, 10, 1, 1, 1, 1))),
    ("not finite", lambda path: _header_of(path, 280, struct.pack("<f", float("nan")))),  # srow_x
    ("spacing|one direction", lambda path: _header_of(path, 280, struct.pack("<f", 0.0))),
    ("empty file", lambda path: _written(path, b"")),
    ("cannot be read as a volume", lambda path: _written(path, b"no NIfTI" * 99)),
]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize(("complaint", "make"), BAD)
def test_bad_volume_is_one_line(tmp_path: Path, suffix: str, complaint: str, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / f"scan{suffix}")
    if make is _truncated and suffix == ".nii":
        complaint = "truncated"
    with pytest.raises(DataError, match=complaint) as caught:
        read_volume(path, 1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spacing", [0.0, float("nan"), float("inf")])
def test_spacing_that_is_no_number(tmp_path: Path, spacing: float) -> None:
    path = save_nifti(tmp_path / "a.nii", VALUES)
    content = bytearray(path.read_bytes())
    content[80:84] = struct.pack("<f", spacing)
    path.write_bytes(content)
    with pytest.raises(DataError, match="spacing"):
        read_volume(path, 1)


def test_damaged_checksum_is_found(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", VALUES, affine_of())
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(DataError, match="cannot be read as a volume"):
        read_volume(path, 1, checksum=True)


@pytest.mark.parametrize(
    ("complaint", "values", "affine"),
    [
        ("12 x 14 x 9 but its image 12 x 14 x 10", LABEL[..., :9], affine_of()),
        ("spacing of 1 x 1 x 3 mm", LABEL, affine_of("RAS", (1.0, 1.0, 3.0))),
        ("lies elsewhere", LABEL, affine_of("LAS")),
        ("2.5, which is no class", LABEL * np.float32(2.5), affine_of()),
        ("nan, which is no class", np.where(LABEL > 0, np.nan, 0).astype(np.float32), affine_of()),
        ("several channels", np.stack([LABEL, LABEL], -1), affine_of()),
    ],
)
def test_bad_label_is_one_line(tmp_path: Path, complaint: str, values: NDArray[Any], affine: NDArray[Any]) -> None:
    header = read_volume(save_nifti(tmp_path / "a.nii.gz", VALUES, affine_of()), 1).header
    label = save_nifti(tmp_path / "label.nii.gz", values, affine)
    with pytest.raises(DataError, match=complaint) as caught:
        read_volume_label(label, header)
    assert str(label) in str(caught.value)


@pytest.mark.parametrize("shape", [(40, 50), (1, 40, 50)])
def test_bad_stack_and_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8))
    for name in ("a.npy", "a.tif"):
        with pytest.raises(DataError, match="2D image"):
            read_volume(tmp_path / name, 1)


def test_a_picture_of_colors_is_no_volume(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match="2D image"):
        read_volume(tmp_path / "a.tif", 1)


def test_huge_array_header_allocates_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(SHAPE, np.uint8))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(12, 14, 10)", b"(812,814,90)"))
    with pytest.raises(DataError, match="truncated"):
        read_volume(tmp_path / "a.npy", 1)
