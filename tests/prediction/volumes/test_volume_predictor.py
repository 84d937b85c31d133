"""Prediction of volumes: windows, slabs and the way back to the volume's own grid."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("monai")

from monai.inferers.utils import sliding_window_inference

from helpers.bright_volumes import THREE, BrightIsForeground, ball, bright_segmenter, volume_spec
from maeseg.data.image_files import DataError
from maeseg.data.volumes.header import Sides, Spacing, VolumeHeader
from maeseg.data.volumes.volume import Volume
from maeseg.errors import UserError
from maeseg.prediction.backends import TorchBackend
from maeseg.prediction.segmenter import Segmenter
from maeseg.prediction.volumes.predictor import AnyVolume, VolumePredictor
from maeseg.prediction.volumes.sliding_window import blended_planes, resized_planes


def convolution(maps: int) -> nn.Module:
    """A network that sees the end of a window."""
    torch.manual_seed(0)
    return nn.Conv3d(1, maps, 5, padding=2).eval()


def volume_of(values_DHW: Tensor, spacing: Spacing = (1.0, 1.0, 1.0)) -> Volume:
    depth, height, width = values_DHW.shape
    return Volume(values_DHW[None].float(), VolumeHeader((depth, height, width), spacing))


def random_volume(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(23, 14, 9), (8, 8, 8), (5, 20, 3), (9, 8, 17), (16, 6, 8)])
@torch.inference_mode()
def test_slabs_are_the_windows_of_monai_over_the_volume(shape: Sides) -> None:
    network, values_CDHW, window = convolution(2), random_volume(1, *shape), (8, 8, 6)
    found_KDHW = torch.cat(list(blended_planes(values_CDHW, window, network)), dim=1)
    missing = [(0, max(side - has, 0)) for side, has in zip(window, shape, strict=True)]
    continued = torch.from_numpy(np.pad(values_CDHW[0].numpy(), missing, "symmetric"))
    expected = sliding_window_inference(continued[None, None], window, 4, network, overlap=0.5, mode="gaussian")
    assert isinstance(expected, Tensor)
    depth, height, width = shape
    torch.testing.assert_close(found_KDHW, expected[0, :, :depth, :height, :width])


@torch.inference_mode()
def test_no_more_planes_than_a_window_has_are_held_together() -> None:
    values_CDHW = random_volume(1, 90, 8, 9)
    depths = [each.shape[1] for each in blended_planes(values_CDHW, (8, 8, 6), convolution(2))]
    assert sum(depths) == 90
    assert max(depths) == 8


@pytest.mark.parametrize("size", [(7, 9, 5), (14, 18, 10), (5, 6, 7), (20, 9, 3), (1, 9, 5)])
@pytest.mark.parametrize("at_once", [1, 2**20])
def test_planes_are_resized_as_they_arrive(size: Sides, at_once: int) -> None:
    maps_KDHW = random_volume(2, 7, 9, 5)
    parts = list(resized_planes(iter(maps_KDHW.split([2, 1, 4], dim=1)), 7, size, at_once))
    assert [first for first, _ in parts] == np.cumsum([0, *(each.shape[1] for _, each in parts[:-1])]).tolist()
    expected = F.interpolate(maps_KDHW[None], size, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat([each for _, each in parts], dim=1), expected)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5)])
def test_a_bright_ball_is_found_at_its_own_grid(spacing: Spacing) -> None:
    found_DHW = ball((20, 24, 30), (9, 12, 14), 6)
    volume = volume_of(torch.from_numpy(found_DHW) * 100.0, spacing)
    segmenter = bright_segmenter(volume_spec((8, 16, 8), (1.0, 1.0, 1.0)))
    assert segmenter.probabilities(volume).shape == (1, 20, 24, 30)
    classes_DHW = segmenter.predict(volume)
    assert classes_DHW.shape == (20, 24, 30)
    overlap = 2 * (classes_DHW & found_DHW).sum() / (classes_DHW.sum() + found_DHW.sum())
    assert overlap == 1 if spacing == (1.0, 1.0, 1.0) else overlap > 0.8  # a mean of 0 is nearer to dark


def test_the_network_gets_windows_of_its_size() -> None:
    network = BrightIsForeground()
    VolumePredictor(TorchBackend(network, volume_spec((8, 16, 8)))).class_map(volume_of(random_volume(5, 20, 9)))
    assert {size[1:] for size in network.sizes} == {(1, 8, 16, 8)}


def test_probabilities_of_classes_sum_to_one() -> None:
    segmenter = bright_segmenter(volume_spec(classes=THREE))
    probability_KDHW = segmenter.probabilities(volume_of(random_volume(9, 11, 12)))
    torch.testing.assert_close(probability_KDHW.sum(0), torch.ones(9, 11, 12))
    assert np.array_equal(segmenter.predict(volume_of(random_volume(9, 11, 12))), probability_KDHW.argmax(0))


def test_flips_are_the_mean_with_the_mirror_image() -> None:
    backend = TorchBackend(convolution(1), volume_spec((16, 8, 8)))
    values_DHW = random_volume(16, 10, 9)
    both = VolumePredictor(backend, flips=True).probabilities(volume_of(values_DHW))
    one, other = (VolumePredictor(backend).probabilities(volume_of(each)) for each in (values_DHW, values_DHW.flip(0)))
    torch.testing.assert_close(both, (one + other.flip(1)) / 2)


def test_arrays_are_taken_at_the_spacing_of_the_network() -> None:
    segmenter = bright_segmenter(volume_spec(spacing=(2.0, 3.0, 4.0)))
    values_DHW = random_volume(9, 10, 11)
    expected = segmenter.predict(volume_of(values_DHW, (2.0, 3.0, 4.0)))
    assert np.array_equal(segmenter.predict(values_DHW.numpy()), expected)
    for array in (values_DHW.numpy()[::-1, :, ::-1][::-1, :, ::-1], values_DHW.numpy().astype(">f8", order="F")):
        assert np.array_equal(segmenter.predict(array), expected)


@pytest.mark.parametrize(
    ("volume", "complaint"),
    [
        (random_volume(2, 9, 10, 11), "channels"),
        (Volume(random_volume(2, 9, 10, 11), VolumeHeader((9, 10, 11), (1.0, 1.0, 1.0))), "channels"),
        (np.full((9, 10, 11), 1e60), "infinite"),
        (np.full((9, 10, 11), math.nan), "NaN"),
    ],
)
def test_arrays_that_do_not_suit_the_network(volume: AnyVolume, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        bright_segmenter(volume_spec()).predict(volume)


def test_a_prediction_that_is_not_finite_is_refused() -> None:
    network = BrightIsForeground()
    nn.init.constant_(network.scale, math.nan)
    with pytest.raises(UserError, match="not finite"):
        Segmenter(TorchBackend(network, volume_spec())).predict(volume_of(random_volume(9, 9, 9)))
