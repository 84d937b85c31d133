"""The task of pre-training, against what can be worked out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.facts import pretraining_facts, volume_facts
from helpers.tiny_runs import WIDTHS
from maeseg.data.sources.synthetic import Synthetic
from maeseg.masking.patches import reconstruction_loss
from maeseg.masking.visible import GridWindow
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.resenc import ResEncSize, build_resenc
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.prediction.examples import load_normalized
from maeseg.training.pretrain import PretrainTask

ENCODER, SIDE = "test_resnet", 64


@pytest.fixture(scope="module")
def images_BCHW() -> Tensor:
    source = Synthetic(4)
    return torch.stack([load_normalized(source.pixels(index), (SIDE, SIDE)) for index in range(4)])


def pretrain_task(seed: int = 0) -> PretrainTask:
    network = MaskedAutoencoder(ENCODER, WIDTHS)
    return PretrainTask(network, pretraining_facts(), mask_ratio=0.5, normalize_target=True, seed=seed)


def test_pretraining_learns_a_fixed_batch(images_BCHW: Tensor) -> None:
    task = pretrain_task()
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = task.losses(images_BCHW, 0)["loss"]  # the same visible grids at every step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.2)  # an untrained network predicts about the mean
    assert losses[-1] < 0.8 * losses[0]


def test_the_loss_of_a_window_is_that_of_its_patches(images_BCHW: Tensor) -> None:
    task = pretrain_task().double().eval()
    images_BCHW = images_BCHW.double()
    window = GridWindow(first=(0, 1), counts=(2, 1))
    visible_BYX = task.draw_visible(4, (SIDE, SIDE), 0)
    predicted = task.network(images_BCHW, visible_BYX, window)
    expected = reconstruction_loss(predicted.float(), images_BCHW[..., 32:], visible_BYX[..., 1:], 32)
    loss = task.losses(images_BCHW, 0, window=window)["loss"]
    torch.testing.assert_close(loss, expected)


# --- visible grids


def test_the_visible_grid_depends_on_seed_and_step_alone() -> None:
    task, same, other = pretrain_task(seed=1), pretrain_task(seed=1), pretrain_task(seed=2)
    first = task.draw_visible(4, (256, 128), 7)
    torch.manual_seed(99)
    torch.rand(5)
    task.draw_visible(3, (64, 64), 8)
    assert torch.equal(task.draw_visible(4, (256, 128), 7), first)
    assert torch.equal(same.draw_visible(4, (256, 128), 7), first)
    assert first.shape == (4, 8, 4) and (first.flatten(1).sum(1) == 16).all()
    assert not torch.equal(task.draw_visible(4, (256, 128), 8), first)
    assert not torch.equal(task.draw_visible(4, (256, 128), 7, 1), first)
    assert not torch.equal(other.draw_visible(4, (256, 128), 7), first)


@pytest.mark.parametrize("encoder", ["resnet18", "test_convnext2", "test_efficientnet_gn"])
@pytest.mark.parametrize("window", [None, 1])
def test_a_step_never_waits_for_the_device(encoder: str, window: int | None) -> None:
    """On PyTorch's meta device, which has no numbers to wait for: any request for one is an error."""
    network = MaskedAutoencoder(encoder, WIDTHS)
    task = PretrainTask(
        network, pretraining_facts(), mask_ratio=0.5, normalize_target=True, seed=0, decoder_window=window
    ).to("meta")
    optimizer = torch.optim.AdamW(task.parameters())
    loss = task(torch.empty(2, 3, 96, 96, device="meta"), 0, 0)
    with torch._C.DisableTorchFunctionSubclass():  # its operations are written in Python, and would meet the rules
        loss.backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in task.network.decoder.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        float(loss)


@pytest.mark.parametrize("window", [None, 2])
def test_pretraining_learns_volumes(window: int | None) -> None:
    torch.manual_seed(0)
    network = VolumeMaskedAutoencoder(build_resenc("resenc", ResEncSize((8, 16), (1, 1)), 1), patch_size=4)
    facts = replace(pretraining_facts(), spec=replace(volume_facts().spec, task="reconstruction"))
    task = PretrainTask(network, facts, mask_ratio=0.5, normalize_target=True, seed=0, decoder_window=window)
    ramp_DHW = torch.linspace(0, 6, 16)[:, None, None] + torch.linspace(0, 9, 24)[:, None] + torch.linspace(0, 4, 16)
    volumes_BCDHW = torch.stack([ramp_DHW.sin(), (1.3 * ramp_DHW).cos()])[:, None]
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=1e-2)
    losses = []
    for step in range(20):
        loss = task(volumes_BCDHW, step, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.5)
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    task.eval().validate(volumes_BCDHW, 0)
    assert 0 < float(task.val_figures.compute()["val_loss"]) < losses[0]
