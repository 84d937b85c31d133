"""Vision transformers on visible patches alone, and the masked autoencoder with MAE's decoder."""

import math

import pytest
import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.masking.visible import GridWindow, random_visible
from maeseg.models.mae import MAEDecoder, ViTMaskedAutoencoder
from maeseg.models.positions import resample_positions, sine_cosine_positions
from maeseg.models.vit import build_vit, encode_tokens, patch_side, tap_blocks

ENCODERS = ["test_vit", "test_vit2", "test_vit3", "test_vit4"]  # class token or average, learned positions
ROTARY = ["vit_tiny_patch16_dinov3_qkvb", "vit_small_patch16_rope_mixed_224"]  # with registers; a rotation per block
SIZE = (64, 96)


def visible_of(*rows: str) -> Tensor:
    """Grid of one image: ``x`` for a visible patch."""
    return torch.tensor([[[each == "x" for each in row] for row in rows]])


def tiny(size: tuple[int, int] = SIZE, **options: int) -> ViTMaskedAutoencoder:
    return ViTMaskedAutoencoder("test_vit", size, decoder_width=32, decoder_depth=1, **options).eval()


# --- the encoder


@pytest.mark.parametrize("name", [*ENCODERS, *ROTARY])
def test_with_every_patch_visible_the_encoder_is_timms(name: str) -> None:
    vit = build_vit(name, SIZE).eval()
    images_BCHW, side = torch.randn(2, 3, *SIZE), patch_side(vit)
    visible_BYX = torch.ones(2, SIZE[0] // side, SIZE[1] // side, dtype=torch.bool)
    with torch.inference_mode():
        found = encode_tokens(vit, images_BCHW, visible_BYX, tap_blocks(vit))
        assert torch.equal(found.last, vit.forward_features(images_BCHW))
        taps = vit.forward_intermediates(images_BCHW, tap_blocks(vit), True, intermediates_only=True, output_fmt="NLC")
    for ours_BND, (patches_BLD, prefix_BPD) in zip(found.taps, taps, strict=True):
        assert torch.equal(ours_BND, torch.cat([prefix_BPD, patches_BLD], 1))


@pytest.mark.parametrize("name", ["test_vit", *ROTARY])
def test_masked_patches_are_left_out_after_positions_are_added(name: str) -> None:
    vit = build_vit(name, SIZE).double().eval()
    images_BCHW, visible_BYX = torch.randn(2, 3, *SIZE).double(), random_visible(2, (4, 6), 0.75)
    kept_BN = visible_BYX.flatten(1).nonzero()[:, 1].view(2, 6)
    outer = torch.full((2, 24 + vit.num_prefix_tokens), float("-inf")).double()
    outer[:, : vit.num_prefix_tokens] = 0
    outer.scatter_(1, kept_BN + vit.num_prefix_tokens, 0.0)
    with torch.inference_mode():  # all tokens, where none attends to a masked one: an independent way to leave it out
        expected = vit.forward_features(images_BCHW, attn_mask=outer[:, None, None])
        found = encode_tokens(vit, images_BCHW, visible_BYX).last
    places_BN1 = torch.cat([torch.arange(vit.num_prefix_tokens).expand(2, -1), kept_BN + vit.num_prefix_tokens], 1)
    expected = expected.gather(1, places_BN1[..., None].expand(-1, -1, expected.shape[2]))
    torch.testing.assert_close(found, expected)


def test_a_masked_pixel_reaches_neither_prediction_nor_gradient() -> None:
    network, visible_BYX = tiny(), random_visible(2, (4, 6), 0.75)
    images_BCHW = torch.randn(2, 3, *SIZE)
    hidden = ~visible_BYX.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    results = []
    for value in (0.0, 5.0, float("nan")):
        network.zero_grad()
        predicted_BCHW = network(images_BCHW.masked_fill(hidden, value), visible_BYX)
        predicted_BCHW.square().mean().backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        results.append([predicted_BCHW.detach(), *(each.clone() for each in gradients)])
    for result in results[1:]:
        assert all(map(torch.equal, results[0], result))


def test_other_sizes_than_those_of_the_positions_are_taken() -> None:
    network = tiny()
    images_BCHW, visible_BYX = torch.randn(2, 3, 96, 32), random_visible(2, (6, 2), 0.5)
    assert network(images_BCHW, visible_BYX).shape == images_BCHW.shape
    with torch.inference_mode():
        full = torch.ones_like(visible_BYX)
        expected = network.encoder.forward_features(images_BCHW)
        assert torch.equal(encode_tokens(network.encoder, images_BCHW, full).last, expected)


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        (torch.ones(2, 4, 4, dtype=torch.bool), "a visible grid of 2 x 4 x 4 does not fit 2 images of 64 x 96"),
        (torch.zeros(2, 4, 6, dtype=torch.bool), "have 0 visible patches"),
        (torch.tensor([[[True] * 6] * 4, [[True] * 6] * 3 + [[False] * 6]]), "have 18 and 24 visible patches"),
    ],
)
def test_grids_that_do_not_fit(visible: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny()(torch.randn(2, 3, *SIZE), visible)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deit_tiny_distilled_patch16_224", "cannot be built as a vision transformer"),
        ("resnet18", "cannot be built as a vision transformer|is a ResNet"),
        ("vit_small_r26_s32_224", "HybridEmbed that mixes patches"),
    ],
)
def test_networks_that_are_refused(name: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_vit(name, (64, 64))


# --- positions


def test_positions_are_those_of_the_published_code() -> None:
    """Its loops (facebookresearch/mae, util/pos_embed.py), written out: the column first, sines before cosines."""
    found_LD = sine_cosine_positions(16, (2, 3))[0]
    for number, (row, column) in enumerate((y, x) for y in range(2) for x in range(3)):
        angles = [[place / 10000 ** (k / 4) for k in range(4)] for place in (column, row)]
        expected = [f(each) for half in angles for f in (math.sin, math.cos) for each in half]
        torch.testing.assert_close(found_LD[number], torch.tensor(expected))


def test_positions_of_the_same_grid_are_unchanged_and_prefix_tokens_are_kept() -> None:
    positions_1LD = torch.randn(1, 2 + 6, 8)
    assert torch.equal(resample_positions(positions_1LD, (2, 3), (2, 3), 2), positions_1LD)
    turned_1LD = resample_positions(positions_1LD, (2, 3), (3, 2), 2)
    assert torch.equal(turned_1LD[:, :2], positions_1LD[:, :2]) and turned_1LD.shape == positions_1LD.shape
    assert not torch.equal(turned_1LD, positions_1LD)


# --- the decoder and the loss


def test_the_decoder_has_the_names_of_the_published_code() -> None:
    names = {name.split(".")[0] for name in MAEDecoder(64, (4, 6), 768, 32, 2).state_dict()}
    assert names == {
        "mask_token", "decoder_pos_embed", "decoder_embed", "decoder_blocks", "decoder_norm", "decoder_pred"
    }  # fmt: skip


def test_patches_are_predicted_row_by_row_with_channels_last() -> None:
    network = tiny()
    patches_BLP = torch.arange(24 * 768.0).view(1, 24, 768)
    image_BCHW = network.as_images(patches_BLP, (4, 6))
    # patch (1, 2) is number 8; its pixel (3, 5) of channel 1
    assert image_BCHW[0, 1, 16 + 3, 32 + 5] == 8 * 768 + (3 * 16 + 5) * 3 + 1


def test_loss_and_gradients_are_those_of_the_plain_formula() -> None:
    network = tiny().double()
    images_BCHW, visible_BYX = torch.randn(2, 3, *SIZE).double(), random_visible(2, (4, 6), 0.75)
    loss = network.loss(images_BCHW, visible=visible_BYX)
    loss.backward()
    ours = {name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None}
    network.zero_grad()
    # MAE's published forward_loss, on its own order of a patch's values
    target_BLP = images_BCHW.view(2, 3, 4, 16, 6, 16).permute(0, 2, 4, 3, 5, 1).reshape(2, 24, 768)
    target_BLP = (target_BLP - target_BLP.mean(-1, keepdim=True)) / (target_BLP.var(-1, keepdim=True) + 1e-6) ** 0.5
    error_BL = (network.forward_patches(images_BCHW, visible_BYX) - target_BLP).pow(2).mean(-1)
    masked_BL = (~visible_BYX).flatten(1).double()
    expected = (error_BL * masked_BL).sum() / masked_BL.sum()
    torch.testing.assert_close(loss, expected)
    expected.backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad)
    frozen = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert frozen == {"decoder.decoder_pos_embed"}


def test_the_default_mask_ratio_hides_three_quarters() -> None:
    seen: list[int] = []
    network = tiny()
    with network.encoder.blocks[0].register_forward_pre_hook(lambda _, tokens: seen.append(tokens[0].shape[1])):
        network.loss(torch.randn(2, 3, *SIZE))
    assert seen == [1 + 6]  # the class token, and 6 of 24


def test_a_decoder_that_does_not_fit_and_a_window_are_refused() -> None:
    with pytest.raises(UserError, match="--decoder_width 40 is not a multiple of the 16 attention heads: use 32"):
        ViTMaskedAutoencoder("test_vit", SIZE, decoder_width=40)
    with pytest.raises(UserError, match="--decoder_depth 0 has no block"):
        ViTMaskedAutoencoder("test_vit", SIZE, decoder_depth=0)
    with pytest.raises(UserError, match="leave out the window"):
        tiny()(torch.randn(2, 3, *SIZE), random_visible(2, (4, 6), 0.5), GridWindow((0, 0), (2, 2)))


def test_images_of_other_channels() -> None:
    network = tiny(channels=2)
    assert network(torch.randn(1, 2, *SIZE), visible_of("xxxxx.", "xxxxxx", "xxxxxx", "xxxxxx")).shape == (1, 2, *SIZE)
    assert (network.channels, network.encoder.patch_embed.proj.in_channels) == (2, 2)
