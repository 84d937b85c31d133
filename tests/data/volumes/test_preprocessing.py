"""Spacing and intensities of preprocessed volumes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.volume_folders import SHAPE, affine_of, save_nifti, volume_scene
from maeseg.data.image_files import DataError
from maeseg.data.volumes.header import Spacing, VolumeHeader
from maeseg.data.volumes.preprocessing import (
    median_spacing,
    preprocess,
    resample_label,
    resampled_size,
    resized,
    resized_label,
)
from maeseg.data.volumes.volume import Volume, read_volume

HEADER = VolumeHeader(SHAPE, (1.0, 1.0, 2.5))


def made(values: Tensor) -> Volume:
    return Volume(values.float(), HEADER)


def test_intensities_are_clipped_and_normalized() -> None:
    values = torch.from_numpy(volume_scene(0)[0])
    values[0, 0, 0], values[0, 0, 1] = 1e9, -1e9
    result = preprocess(made(torch.stack([values, -3 * values + 7])), HEADER.spacing)
    assert result.dtype == torch.float32
    assert result.mean((1, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert result.std((1, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert torch.allclose(result[0], -result[1], atol=1e-4)
    assert result[0, 0, 0, 0] == result[0].max()
    low, high = np.percentile(values.numpy(), (0.5, 99.5))
    inside = (values > low) & (values < high)
    slope, shift = np.polyfit(values[inside].numpy(), result[0][inside].numpy(), 1)
    assert torch.allclose(result[0][inside], values[inside] * slope + shift, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e30, -1e-30])
def test_constant_channel_is_zero(value: float) -> None:
    assert not preprocess(made(torch.full((1, *SHAPE), value)), HEADER.spacing).any()


def test_few_bright_voxels_are_not_clipped_away() -> None:
    values = torch.zeros(1, *SHAPE)
    values[0, 5, 5, :4] = 100
    result = preprocess(made(values), HEADER.spacing)[0]
    assert float(result.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert torch.equal(result == result.max(), values[0] == 100)


@pytest.mark.parametrize("spacing", [HEADER.spacing, (2.0, 0.5, 2.5)])
def test_nan_becomes_the_mean_and_does_not_count(spacing: Spacing) -> None:
    values = torch.from_numpy(volume_scene(0)[0])
    values[8, 0, 0] = 1e9  # an outlier: the mean of all values is beyond the clipped range
    alone = VolumeHeader((4, *SHAPE[1:]), HEADER.spacing)
    expected = preprocess(Volume(values[None, 8:].clone(), alone), HEADER.spacing)[0]
    values[:8] = torch.nan
    result = preprocess(made(values[None]), spacing)[0]
    margin = len(result) * 8 // SHAPE[0]
    assert not result[: margin - 1].any()
    assert float(result[margin:].std(correction=0)) == pytest.approx(1, abs=0.1)
    if spacing == HEADER.spacing:
        assert torch.allclose(result[8:], expected)


def test_spacing_sets_the_size() -> None:
    assert resampled_size(HEADER, (1.0, 1.0, 2.5)) == SHAPE
    assert resampled_size(HEADER, (2.0, 0.5, 1.0)) == (6, 28, 25)
    assert preprocess(made(torch.rand(2, *SHAPE)), (2.0, 0.5, 1.0)).shape == (2, 6, 28, 25)
    with pytest.raises(DataError, match="--spacing"):
        resampled_size(HEADER, (1e-4, 1e-4, 1e-4))


def test_a_linear_ramp_stays_one() -> None:
    ramp = torch.arange(24.0).view(24, 1, 1).expand(24, 4, 4).contiguous()
    shrunk, grown = resized(ramp, (12, 4, 4)), resized(ramp, (48, 4, 4))
    assert torch.allclose(shrunk[2:-2, 0, 0], torch.arange(12.0)[2:-2] * 2 + 0.5, atol=1e-3)
    assert torch.allclose(grown[2:-2, 0, 0], (torch.arange(48.0)[2:-2] + 0.5) / 2 - 0.5, atol=1e-3)


def test_fine_noise_is_smoothed_before_an_axis_shrinks() -> None:
    alternating = torch.tensor([1.0, -1.0]).repeat(32).view(64, 1, 1).expand(64, 8, 8).contiguous()
    assert resized(alternating, (16, 8, 8))[2:-2].abs().max() < 0.2


def test_label_of_another_size_keeps_its_classes_and_places() -> None:
    _, label = volume_scene(0)
    grown = resample_label(label, HEADER, (0.5, 0.5, 1.25))
    assert grown.shape == tuple(2 * side for side in SHAPE)
    assert grown.dtype == torch.uint8
    assert grown.unique().tolist() == [0, 1, 2]
    back = resized_label(grown, SHAPE)
    assert torch.equal(back, torch.from_numpy(label))
    volumes = torch.bincount(grown.flatten()) / 8
    assert torch.allclose(volumes, torch.bincount(torch.from_numpy(label).flatten()).float(), rtol=0.1)


def test_border_of_a_label_is_kept() -> None:
    label = torch.zeros(SHAPE, dtype=torch.uint8)
    label[6:] = 255
    assert resample_label(label, HEADER, (2.0, 1.0, 2.5))[3:].eq(255).all()


def test_median_spacing() -> None:
    assert median_spacing([(1, 1, 1), (1, 2, 5), (1, 3, 3)]) == (1, 2, 3)


def test_anisotropic_volume_from_a_file(tmp_path: Path) -> None:
    values, label = volume_scene(1)
    volume = read_volume(save_nifti(tmp_path / "a.nii.gz", values, affine_of()), 1)
    image = preprocess(volume, (1.0, 1.0, 1.25))[0]
    classes = resample_label(label, volume.header, (1.0, 1.0, 1.25))
    assert image.shape == classes.shape == (12, 14, 20)
    assert image[classes > 0].mean() > 1.5
