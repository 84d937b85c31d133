"""Hiera on visible mask units: timm's dense network with masked attention as the reference, leaks and refusals."""

import copy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.models.hiera import Hiera
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.sparse_parity import GRIDS, UNEQUAL, assert_no_leak, encoder_of, enlarged, grid, images_for, observe
from maeseg.errors import UserError
from maeseg.models.encoder_support import check_encoder
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.sparse import encode_densely, encode_visible
from maeseg.sparse.mask_units import hiera_in

SMALL = {"img_size": (64, 96), "embed_dim": 8, "stages": (1, 1, 2, 1)}
"""Options of a Hiera for the grids of 2 x 3 mask units, with attention across units in its last three blocks."""


def small_hiera(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return encoder_of("hiera_tiny_224", **{**SMALL, **options})


def encode_with_masked_attention(encoder: nn.Module, images: Tensor, visible: Tensor) -> list[Tensor]:
    """The dense network on images that are zero where masked, whose attention reads no masked position."""
    hiera, attention = hiera_in(encoder), F.scaled_dot_product_attention
    assert isinstance(hiera, Hiera)
    units = F.interpolate(visible[:, None].double(), size=hiera.mask_spatial_shape).flatten(1)

    def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.dim() == 5:  # within units
            return attention(q, k, v)
        seen = units.repeat(1, k.shape[2] // units.shape[1]) > 0  # the unit is the fastest of a token's indices
        return attention(q, k, v, attn_mask=seen[:, None, None])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", masked)
        maps = encoder(images * enlarged(visible, images.shape[2]))
    return [each * enlarged(visible, each.shape[2]) for each in maps]


@pytest.mark.parametrize("options", [{}, {"abs_win_pos_embed": True}], ids=["positions", "window positions"])
@pytest.mark.parametrize("visible", ["one patch each", "a row", "corners", "all"])
def test_values_and_gradients_are_those_of_masked_attention(visible: str, options: dict[str, Any]) -> None:
    encoder, seen = small_hiera(**options), grid(GRIDS[visible])
    images = images_for(seen, 32)
    expected = observe(encode_with_masked_attention, copy.deepcopy(encoder), images, seen)
    actual = observe(encode_visible, copy.deepcopy(encoder), images, seen)
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-9, atol=1e-11, msg=name)


def test_patch_of_several_units() -> None:
    encoder, seen = small_hiera(img_size=(128, 192)), grid(GRIDS["corners"])
    images = images_for(seen, 64)
    expected = encode_with_masked_attention(encoder, images, seen)
    for actual, other in zip(encode_visible(encoder, images, seen), expected, strict=True):
        torch.testing.assert_close(actual, other, rtol=1e-9, atol=1e-11)


def test_masked_pixels_leak_nowhere() -> None:
    seen = grid(GRIDS["a row"])
    assert_no_leak(small_hiera(), images_for(seen, 32), seen)


def test_encoder_is_left_as_it_was() -> None:
    encoder, seen = small_hiera(), grid(GRIDS["all"])
    images = images_for(seen, 32)
    before = encoder(images)
    encode_visible(encoder, images, seen)
    for actual, expected in zip(encoder(images), before, strict=True):
        assert torch.equal(actual, expected)


def test_u_nets_encoder_has_the_empty_map_of_stride_2() -> None:
    encoder = smp.Unet("tu-hiera_tiny_224", encoder_weights=None, decoder_channels=(8, 8, 8, 8, 8), **SMALL).encoder
    seen = grid(GRIDS["all"])
    dense, sparse = encoder(images_for(seen, 32).float()), encode_visible(encoder, images_for(seen, 32).float(), seen)
    assert [each.shape for each in sparse] == [each.shape for each in dense]


def test_pre_training_reaches_every_weight_and_becomes_a_u_net() -> None:
    torch.manual_seed(0)
    unet = smp.Unet("tu-hiera_tiny_224", encoder_weights=None, decoder_channels=(8, 8, 8, 8, 8), **SMALL)
    model, images_BCHW = MaskedAutoencoder.from_unet(unet).double(), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    model.loss(images_BCHW, visible=grid(GRIDS["corners"])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    decoded_BCHW = model.decoder(model.forward_encoder(images_BCHW, grid(GRIDS["all"])))
    unet.load_state_dict({**unet.state_dict(), **model.folded_decoder()})
    torch.testing.assert_close(unet.decoder(unet.encoder(images_BCHW)), decoded_BCHW, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("size", "rows", "error", "message"),
    [
        ((64, 96), UNEQUAL, UserError, "equal numbers"),
        ((128, 192), GRIDS["corners"], ValueError, "64 x 96"),
        ((32, 48), GRIDS["corners"], ValueError, "64 x 96"),
    ],
)
def test_refusals(size: tuple[int, int], rows: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_visible(small_hiera(), torch.zeros(2, 3, *size, dtype=torch.float64), grid(rows))


def test_patch_smaller_than_a_mask_unit_is_refused() -> None:
    with pytest.raises(UserError, match="--patch_size 32"):
        encode_visible(small_hiera(), torch.zeros(1, 3, 64, 96).double(), torch.ones(1, 4, 6, dtype=torch.bool))


def test_complete_images_are_refused() -> None:
    with pytest.raises(UserError, match="visible patches alone"):
        encode_densely(small_hiera(), torch.zeros(2, 3, 64, 96).double(), grid(GRIDS["corners"]))


def test_support_is_found_on_the_meta_device() -> None:
    assert not check_encoder("hiera_tiny_224", "hiera").refusal
