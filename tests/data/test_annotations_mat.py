"""Labels in MATLAB files, compared with files written by SciPy."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from helpers.annotation_files import HEIGHT, WIDTH, expected
from maeseg.data.annotations import find_annotations, mat5, read_mat_label
from maeseg.data.annotations.mat5 import parse_mat5
from maeseg.data.image_files import DataError

LABEL = expected()


def save(path: Path, variables: dict[str, Any], compress: bool = False) -> Path:
    scipy.io.savemat(path, variables, do_compression=compress)
    return path


def cell(*values: Any) -> np.ndarray[Any, Any]:
    array = np.empty((1, len(values)), dtype=object)
    for place, value in enumerate(values):
        array[0, place] = value
    return array


SPARSE = cell(scipy.sparse.csc_matrix(LABEL > 1))
READ: dict[str, dict[str, Any]] = {
    "CrackForest": {"groundTruth": {"Segmentation": LABEL + 1, "Boundaries": LABEL > 1}},
    "SBD": {"GTcls": {"Boundaries": SPARSE, "Segmentation": LABEL.astype(np.uint8), "CategoriesPresent": 3}},
    "BSDS, one annotator": {"groundTruth": cell({"Segmentation": LABEL, "Boundaries": LABEL > 1})},
    "doubles": {"S": LABEL.astype(np.float64), "names": cell("cat", "dog"), "threshold": 0.5, "note": "by hand"},
    "booleans": {"mask": LABEL > 0, "complex": LABEL * 1j},
    "small": {"mask": np.array([[0, 1], [2, 3]], np.uint8)},
}  # fmt: skip


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", READ)
def test_labels_are_read_as_stored(name: str, compress: bool, tmp_path: Path) -> None:
    found = read_mat_label(save(tmp_path / "a.mat", READ[name], compress))
    right = {"CrackForest": LABEL + 1, "booleans": LABEL > 0, "small": [[0, 1], [2, 3]]}.get(name, LABEL)
    np.testing.assert_array_equal(found, right)
    assert found.dtype == np.uint16 and found.flags.c_contiguous


def test_every_kind_of_number_is_read_as_scipy_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    kinds = [np.dtype(kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")]
    arrays = {f"x{kind.name}": random.integers(0, 100, (3, 4, 2)).astype(kind) for kind in kinds}
    content = save(tmp_path / "a.mat", arrays).read_bytes()
    found = parse_mat5(content)
    for name, array in arrays.items():
        value = found[name]
        assert isinstance(value, np.ndarray) and value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(class_number: int, shape: tuple[int, int], name: bytes, data: bytes) -> bytes:
    flags, sides = struct.pack(">II", class_number, 0), struct.pack(">ii", *shape)
    return element(14, element(6, flags) + element(5, sides) + element(1, name) + data)


def mat_file(body: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI" + body


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    data = np.arange(6, dtype=">u2").reshape(2, 3)
    (tmp_path / "a.mat").write_bytes(mat_file(matrix(11, (2, 3), b"label", element(4, data.tobytes(order="F")))))
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "a.mat")["label"], data)
    np.testing.assert_array_equal(read_mat_label(tmp_path / "a.mat"), data)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several annotators": (
        {"groundTruth": cell({"Segmentation": LABEL}, {"Segmentation": LABEL})},
        r"2 possible labels \(groundTruth\{1\}.Segmentation, groundTruth\{2\}.Segmentation\): save one of them",
    ),
    "several arrays": ({"S": LABEL, "regions": LABEL}, r"2 possible labels \(S, regions\)"),
    "two structs": ({"a": {"Segmentation": LABEL}, "b": {"Segmentation": LABEL}}, r"a.Segmentation, b.Segmentation"),
    "no array": ({"names": cell("a"), "x": np.arange(5)}, "has no label"),
    "fractions": ({"S": LABEL / 2}, "S has values that are not integers from 0 to 65535"),
    "negative": ({"S": LABEL.astype(np.int16) - 1}, "not integers"),
    "large": ({"S": LABEL.astype(np.int32) * 40_000}, "not integers"),
    "not a number": ({"S": np.full((3, 3), np.nan)}, "not integers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_or_none_is_refused(name: str, tmp_path: Path) -> None:
    variables, expected = REFUSED[name]
    with pytest.raises(DataError, match=expected) as caught:
        read_mat_label(save(tmp_path / "a.mat", variables))
    assert str(tmp_path / "a.mat") in str(caught.value)


def deep(levels: int) -> bytes:
    """Nested cells: 10,000 levels crash SciPy's reader."""
    body = matrix(6, (1, 1), b"", element(9, bytes(8)))
    for level in reversed(range(levels)):
        body = matrix(1, (1, 1), b"" if level else b"x", body)
    return mat_file(body)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", r"7\.3 \(HDF5\) is not supported.*: save it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), r"7\.3"),
        (bytes(200), "not a MATLAB file"),
        (mat_file(bytes(3)), "truncated"),
        (mat_file(element(14, b"")), "no label"),
        (mat_file(element(15, b"damaged.")), "incorrect header"),
        (mat_file(matrix(9, (2**30, 2**30), b"x", element(2, bytes(8)))), "an array of"),
        (mat_file(matrix(9, (-1, 5), b"x", element(2, bytes(8)))), "an array of"),
        (mat_file(matrix(9, (2, 3), b"x", element(2, bytes(5)))), "cannot reshape"),
        (mat_file(matrix(1, (5000, 5000), b"x", b"")), "0 values instead of 25000000"),
        (mat_file(matrix(1, (1, 1), b"x", element(2, bytes(8)))), "other than arrays"),
        (mat_file(matrix(2, (1, 1), b"x", element(5, bytes(4)) + element(1, b"a"))), "without field names"),
        (deep(300), "more than 8 nested cells or structs"),
    ],
)  # fmt: skip
def test_broken_files_are_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        read_mat_label(tmp_path / "a.mat")
    assert str(tmp_path / "a.mat") in str(caught.value)


def test_a_file_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat5, "MOST_INFLATED", 2**20)
    size = 2**19 + 2**10
    zeros = zlib.compress(struct.pack(">II", 1, size) + bytes(size))
    (tmp_path / "a.mat").write_bytes(mat_file(2 * (struct.pack(">II", 15, len(zeros)) + zeros)))
    with pytest.raises(DataError, match="more than 1 MB"):
        read_mat_label(tmp_path / "a.mat")
    untrue = zlib.compress(struct.pack(">II", 14, 100) + bytes(size))
    (tmp_path / "a.mat").write_bytes(mat_file(struct.pack(">II", 15, len(untrue)) + untrue))
    with pytest.raises(DataError, match="more than its size"):
        read_mat_label(tmp_path / "a.mat")


def test_a_folder_whose_first_file_has_no_label_is_none(tmp_path: Path) -> None:
    save(tmp_path / "lists.mat", {"train": np.arange(5)})
    assert find_annotations(tmp_path) is None


def test_names_and_sizes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    save(tmp_path / "train" / "x.1.mat", {"S": LABEL})
    save(tmp_path / "y.MAT", {"S": LABEL * 2})
    annotations = find_annotations(tmp_path)
    assert annotations is not None and annotations.files == ("train/x.1", "y")
    np.testing.assert_array_equal(annotations.label("y", HEIGHT, WIDTH), LABEL * 2)
