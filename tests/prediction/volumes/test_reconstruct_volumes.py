"""Reconstruction of masked volumes from files, and refusals of commands on images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai")

from helpers.bright_volumes import ball, bright_segmenter, volume_spec, write_nifti
from maeseg.data.normalization import Normalization
from maeseg.data.volumes.header import VolumeHeader
from maeseg.data.volumes.volume import Volume
from maeseg.errors import UserError
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.prediction.reconstruction_pictures import draw_side_by_side
from maeseg.prediction.reconstructor import Reconstructor
from maeseg.prediction.suggested_images import suggest_images


@pytest.fixture(scope="module")
def opened() -> Reconstructor:
    torch.manual_seed(0)
    network = VolumeMaskedAutoencoder("resenc", patch_size=8).eval()
    return Reconstructor(network, (16, 24, 16), 8, 0.6, True, Normalization((0.0,), (1.0,)), (1.0, 1.0, 2.0))


def test_files_of_volumes_are_found_read_and_reconstructed(opened: Reconstructor, tmp_path: Path) -> None:
    values = ball((20, 20, 20), (9, 9, 9), 6).astype(np.float32)
    write_nifti(tmp_path / "a" / "scan.nii.gz", values + np.indices(values.shape)[0] / 20)
    folder, found = opened.find(tmp_path, None)
    assert found == {Path("a/scan.nii.gz"): Path("a/scan.png")}
    volume = opened.read(folder / "a/scan.nii.gz")
    assert isinstance(volume, Volume)
    first, again = (opened.reconstruct(volume, 0.6, torch.Generator().manual_seed(3)) for _ in range(2))
    shapes = {getattr(first, kind).shape for kind in ("image", "visible", "reconstruction")}
    assert len(shapes) == 1
    assert shapes.pop()[:2] == (1, 3)
    assert torch.equal(first.visible, again.visible)
    assert first.image.min() >= 0 and first.image.max() <= 1
    same = (first.image == first.visible).float().mean()
    assert 0.2 < same < 0.7  # 40 % is visible
    assert draw_side_by_side(first, True, 7, 12).axes


def test_all_but_masked_voxels_are_those_of_the_volume(opened: Reconstructor) -> None:
    unnormalized = replace(opened, normalized_target=False)
    values = torch.rand(16, 24, 8, generator=torch.Generator().manual_seed(0))
    result = unnormalized.reconstruct(
        Volume(values[None], VolumeHeader((16, 24, 8), (1.0, 1.0, 2.0))), 0.6, torch.Generator().manual_seed(0)
    )
    kept = result.visible == result.image
    assert (result.reconstruction[kept] == result.image[kept]).float().mean() > 0.9


def test_suggest_is_for_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained on volumes"):
        suggest_images(bright_segmenter(volume_spec()), tmp_path, None, 1, tmp_path / "out", False)
