from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from maeseg.data.image_files import DataError
from maeseg.data.memory_images import class_map_in_memory, pixels_in_memory, stored_in_memory
from maeseg.data.pixel_conversion import FULL

PICTURE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PICTURE),
        PICTURE,
        PICTURE.transpose(2, 0, 1),
        torch.from_numpy(PICTURE),
        torch.from_numpy(PICTURE).permute(2, 0, 1),
        np.dstack([PICTURE, PICTURE[..., :1]]),  # alpha
    ],
    ids=["picture", "array HWC", "array CHW", "tensor HWC", "tensor CHW", "alpha"],
)
def test_the_same_pixels_in_any_form(image: Any) -> None:
    pixels_CHW = pixels_in_memory(image, "item 0", 3, FULL)
    assert pixels_CHW.dtype == torch.uint8
    np.testing.assert_array_equal(pixels_CHW.permute(1, 2, 0).numpy(), PICTURE)


def test_as_many_rows_as_channels() -> None:
    square = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert pixels_in_memory(square, "", 3, FULL)[1, 0, 2] == square[0, 2, 1]
    assert pixels_in_memory(torch.from_numpy(square), "", 3, FULL)[1, 0, 2] == square[1, 0, 2]


def test_gray_and_other_kinds_of_values() -> None:
    gray = PICTURE[..., 0]
    for image in (gray, torch.from_numpy(gray)[None], Image.fromarray(gray)):
        assert torch.equal(pixels_in_memory(image, "", 3, FULL), torch.from_numpy(gray).expand(3, -1, -1))
        assert torch.equal(pixels_in_memory(image, "", 1, FULL), torch.from_numpy(gray)[None])
    unit = torch.from_numpy(PICTURE).permute(2, 0, 1) / 255
    assert torch.equal(pixels_in_memory(unit, "", 3, FULL), unit)
    assert pixels_in_memory(unit.bfloat16(), "", 3, FULL).dtype == torch.float32
    deep = PICTURE.astype(np.uint16) * 16
    np.testing.assert_array_equal(pixels_in_memory(deep, "", 3, 4080).permute(1, 2, 0).numpy(), PICTURE)
    five = np.random.default_rng(0).normal(size=(6, 8, 5)).astype(np.float32)
    np.testing.assert_array_equal(pixels_in_memory(five, "", 5, FULL).permute(1, 2, 0).numpy(), five)


def test_pictures_and_arrays_have_the_same_values() -> None:
    first, second = stored_in_memory(Image.fromarray(PICTURE), ""), stored_in_memory(torch.from_numpy(PICTURE), "")
    assert (first.values_HWC == second.values_HWC).all() and first.colors == second.colors


@pytest.mark.parametrize(
    ("image", "channels", "said"),
    [
        ("cat.jpg", 3, "item 0 is a str"),
        (np.zeros((2, 6, 8, 3), np.uint8), 3, "shape (2, 6, 8, 3)"),
        (np.zeros((6, 8, 5), np.uint8), 3, "5 channels"),
        (PICTURE, 4, "3 channels, not 4"),
        (PICTURE / 100, 3, "values from 0 to 2.55"),
        (np.full((6, 8, 3), np.nan), 3, "values from nan to nan"),
        (PICTURE.astype(np.int64), 3, "int64"),
        (np.zeros((0, 8, 3), np.float32), 3, "no pixels"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(image: Any, channels: int, said: str) -> None:
    with pytest.raises(DataError) as error:
        pixels_in_memory(image, "item 0", channels, FULL)
    assert said in str(error.value)


LABEL: NDArray[np.uint8] = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


@pytest.mark.parametrize(
    "label",
    [LABEL, LABEL[None], LABEL[..., None], torch.from_numpy(LABEL).long(), Image.fromarray(LABEL)],
    ids=["array", "1HW", "HW1", "tensor", "picture"],
)
def test_class_maps(label: Any) -> None:
    found = class_map_in_memory(label, "label", 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LABEL)


def test_truth_values_are_classes() -> None:
    np.testing.assert_array_equal(class_map_in_memory(LABEL == 1, "label", 2), LABEL == 1)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (3, "label is a int"),
        (LABEL, "values 2: classes are 0 to 1, and 255"),
        (LABEL.astype(np.float32), "float32"),
        (PICTURE, "(6, 8, 3)"),
        (np.array([[-1, 0]]), "values -1"),
        (np.array([[300, 0]]), "values 300"),
    ],
)
def test_a_label_that_cannot_be_used_is_named(label: Any, said: str) -> None:
    with pytest.raises(DataError) as error:
        class_map_in_memory(label, "label", 2)
    assert said in str(error.value)
