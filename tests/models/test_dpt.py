"""The segmentation network of a vision transformer, and its pre-training."""

import pytest
import segmentation_models_pytorch as smp
import torch

from helpers.tiny_vits import DPT_WIDTHS
from maeseg.errors import UserError
from maeseg.masking.visible import random_visible
from maeseg.models.dpt import DPTMaskedAutoencoder, build_dpt, dpt_stride, nominal_side
from maeseg.weights.transfer import transfer_to_unet

SIZE = (64, 96)


def tiny() -> DPTMaskedAutoencoder:
    network = DPTMaskedAutoencoder("test_vit", SIZE, decoder_channels=DPT_WIDTHS).eval()
    torch.nn.init.normal_(network.head[0].weight)  # zero when new
    return network


def test_it_is_the_dpt_of_segmentation_models_pytorch() -> None:
    ours = build_dpt("test_vit", SIZE, DPT_WIDTHS, 4, 2).eval()
    theirs = smp.DPT(**ours.config).eval()
    theirs.load_state_dict(ours.state_dict())
    images_BCHW = torch.randn(2, 4, *SIZE)
    with torch.inference_mode():
        assert torch.equal(ours(images_BCHW), theirs(images_BCHW))
        assert ours(torch.randn(1, 4, 128, 32)).shape == (1, 2, 128, 32)


@pytest.mark.parametrize(("side", "stride", "nominal"), [(8, 32, 8), (14, 28, 16), (16, 32, 16), (32, 32, 32)])
def test_strides(side: int, stride: int, nominal: int) -> None:
    assert (dpt_stride(side), nominal_side(side)) == (stride, nominal)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride"), [("vit_small_patch8_224", 32), ("vit_small_patch14_dinov2", 28), ("vit_small_patch32_224", 32)]
)
def test_other_patches(name: str, stride: int) -> None:
    network = build_dpt(name, (stride, 3 * stride), DPT_WIDTHS).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, stride, 3 * stride)).shape == (1, 1, stride, 3 * stride)
        assert network(torch.randn(1, 3, 2 * stride, stride)).shape == (1, 1, 2 * stride, stride)


def test_every_trained_parameter_has_a_part_in_the_output() -> None:
    for network in (build_dpt("test_vit", SIZE, DPT_WIDTHS), tiny()):
        inputs = (random_visible(2, (4, 6), 0.5),) if isinstance(network, DPTMaskedAutoencoder) else ()
        network(torch.randn(2, 3, *SIZE), *inputs).square().mean().backward()
        assert not [name for name, each in network.named_parameters() if each.requires_grad and each.grad is None]


def test_with_every_patch_visible_pre_training_has_the_decoder_of_fine_tuning() -> None:
    network, dpt = tiny(), build_dpt("test_vit", SIZE, DPT_WIDTHS).eval()
    report = transfer_to_unet(network, dpt, "here")
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}
    assert {key.split(".")[0] for key in report.skipped} == {"tokens", "head"}
    maps: list[torch.Tensor] = []
    for each in (network.decoder, dpt.decoder):
        each.register_forward_hook(lambda _, __, output: maps.append(output))
    images_BCHW = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        network(images_BCHW, torch.ones(2, 4, 6, dtype=torch.bool))
        dpt(images_BCHW)
    assert torch.equal(*maps)


def test_masked_pixels_never_reach_the_prediction() -> None:
    network, visible_BYX = tiny(), random_visible(2, (4, 6), 0.75)
    images_BCHW = torch.randn(2, 3, *SIZE)
    hidden = ~visible_BYX.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    with torch.inference_mode():
        expected = network(images_BCHW, visible_BYX)
        assert torch.equal(network(images_BCHW.masked_fill(hidden, float("nan")), visible_BYX), expected)
        assert not torch.equal(network(images_BCHW + 1, visible_BYX), expected)


def test_a_new_network_predicts_the_mean() -> None:
    network = DPTMaskedAutoencoder("test_vit", SIZE, decoder_channels=DPT_WIDTHS)
    assert network.loss(torch.randn(2, 3, *SIZE)).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("widths", [[8, 8, 8, 8], [8, 8, 8, 8, 0]])
def test_widths_that_do_not_fit(widths: list[int]) -> None:
    with pytest.raises(UserError, match="must be five widths for the vision transformer test_vit"):
        build_dpt("test_vit", SIZE, widths)
