"""Parity with MAE: loss, reconstruction and gradients of transformers' ViTMAEForPreTraining for the same weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.transformers_vits import DECODER_DEPTH, DECODER_WIDTH, State, like_test_vit, official_mae
from maeseg.errors import UserError
from maeseg.masking.patches import patchify, reconstruction_loss
from maeseg.models.mae import ViTMaskedAutoencoder
from maeseg.weights.transfer import load_outside
from maeseg.weights.vit_fit import fit_vit
from maeseg.weights.vit_layouts import encoder_in, find_vit_layout

SIDE = 64


def ours(size: tuple[int, int] = (SIDE, SIDE), channels: int = 3, **options: Any) -> ViTMaskedAutoencoder:
    torch.manual_seed(0)
    sizes = {"decoder_width": DECODER_WIDTH, "decoder_depth": DECODER_DEPTH} | options
    return ViTMaskedAutoencoder("test_vit", size, channels=channels, **sizes)


def images(channels: int = 3) -> Tensor:
    return torch.randn(3, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def noise() -> Tensor:
    return torch.rand(3, 16, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("layout", ["official", "transformers"])
def test_loss_reconstruction_and_gradients(channels: int, normalize: bool, layout: str) -> None:
    reference = like_test_vit(num_channels=channels, norm_pix_loss=normalize)
    content = reference.state_dict()
    network = ours(channels=channels)
    report = load_outside(network, official_mae(content) if layout == "official" else content, "there", decoder=True)
    assert not report.new and not report.skipped

    expected = reference(images(channels), noise=noise())
    visible_BYX = expected.mask.view(3, 4, 4) == 0
    assert int(visible_BYX.sum()) == 3 * 4
    predicted_BLP = network.forward_patches(images(channels), visible_BYX)
    loss = network.loss(images(channels), visible=visible_BYX, normalize_target=normalize)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(predicted_BLP, expected.logits, rtol=0, atol=1e-5)

    loss.backward()
    expected.loss.backward()
    theirs = {key: each.grad for key, each in reference.named_parameters()}
    fixed = {key for key, value in theirs.items() if value is None}
    assert fixed == {"vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"}
    grads = official_mae({key: torch.zeros(0) if value is None else value for key, value in theirs.items()})
    for part in ("encoder", "decoder"):
        for key, parameter in network.get_submodule(part).named_parameters():
            if not key.endswith("pos_embed"):
                assert parameter.grad is not None
                torch.testing.assert_close(parameter.grad, grads.pop(key), rtol=1e-4, atol=1e-5)
    assert grads.keys() == {"pos_embed", "decoder_pos_embed"}


def test_the_loss_is_the_formula_of_the_published_code() -> None:
    # forward_loss of facebookresearch/mae: unbiased variance, 1e-6 inside the root, mean over removed patches
    predicted_BCHW, images_BCHW = images(), images().flip(0)
    visible_BYX = noise().view(3, 4, 4) < 0.3
    target_BLP, predicted_BLP = patchify(images_BCHW, 16), patchify(predicted_BCHW, 16)
    variance_BL1 = target_BLP.var(dim=-1, keepdim=True)
    target_BLP = (target_BLP - target_BLP.mean(dim=-1, keepdim=True)) / (variance_BL1 + 1.0e-6) ** 0.5
    error_BL = ((predicted_BLP - target_BLP) ** 2).mean(dim=-1)
    mask_BL = (~visible_BYX).flatten(1).float()
    expected = (error_BL * mask_BL).sum() / mask_BL.sum()
    torch.testing.assert_close(reconstruction_loss(predicted_BCHW, images_BCHW, visible_BYX, 16), expected)


def test_fixed_positions_of_a_new_decoder_are_those_of_the_published_code() -> None:
    reference = like_test_vit()
    reference.decoder.initialize_weights(16)
    torch.testing.assert_close(ours().decoder.decoder_pos_embed, reference.decoder.decoder_pos_embed)


# --- positions of another grid, and images of other channels


def resampled(positions_1LD: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """Bicubic interpolation with antialiasing, by PyTorch."""
    patches_1DYX = positions_1LD[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    patches_1DYX = nn.functional.interpolate(patches_1DYX, grid, mode="bicubic", antialias=True)
    return torch.cat([positions_1LD[:, :1], patches_1DYX.flatten(2).transpose(1, 2)], dim=1)


@pytest.mark.parametrize(("size", "grid"), [((48, 80), (3, 5)), ((96, 96), (6, 6)), ((32, 128), (2, 8))])
def test_positions_are_resampled(size: tuple[int, int], grid: tuple[int, int]) -> None:
    content = like_test_vit().state_dict()
    network = ours(size)
    report = load_outside(network, content, "there", decoder=True)
    line = f"positions resampled from 4 x 4 to {grid[0]} x {grid[1]} (pos_embed, decoder_pos_embed)"
    assert line in str(report) and not report.new
    expected = resampled(content["vit.embeddings.position_embeddings"], 4, grid)
    torch.testing.assert_close(network.encoder.pos_embed, expected)
    expected = resampled(content["decoder.decoder_pos_embed"], 4, grid)
    torch.testing.assert_close(network.decoder.decoder_pos_embed, expected)
    images_BCHW = torch.randn(2, 3, *size)
    assert network.loss(images_BCHW).isfinite()


def test_a_file_of_a_known_grid_keeps_its_positions() -> None:
    # 2 x 8 positions could be 4 x 4, which they are in published files
    content = {f"encoder.{key}": each for key, each in ours((32, 128)).encoder.state_dict().items()}
    report = load_outside(ours((32, 128)), content, "there", grid=(2, 8))
    assert not report.positions and not report.adapted
    report = load_outside(ours((48, 80)), content, "there", grid=(2, 8))
    assert report.positions == {"pos_embed": ((2, 8), (3, 5))}
    content = {f"encoder.{key}": each for key, each in ours((48, 80)).encoder.state_dict().items()}
    assert not load_outside(ours((48, 80)), content, "there").positions


def test_images_of_other_channels() -> None:
    content = like_test_vit().state_dict()
    network = ours(channels=4)
    report = load_outside(network, content, "there", decoder=True)
    assert report.channels == {"encoder.patch_embed.proj.weight": (3, 4)}
    assert set(report.new) == {"decoder.decoder_pred.weight", "decoder.decoder_pred.bias"}
    kernel = content["vit.embeddings.patch_embeddings.projection.weight"]
    torch.testing.assert_close(network.encoder.patch_embed.proj.weight, kernel[:, [0, 1, 2, 0]] * 0.75)


# --- what does not fit


@pytest.fixture(scope="module")
def network() -> ViTMaskedAutoencoder:
    """One that nothing is loaded into."""
    return ours()


@pytest.fixture(scope="module")
def content() -> State:
    """Weights that fit it; read only."""
    return dict(like_test_vit().state_dict())


def misfit(network: ViTMaskedAutoencoder, content: State) -> str:
    """Reason for which weights do not fit, without the advice, which takes seconds to find."""
    found = find_vit_layout(content)
    assert found
    return fit_vit(network.encoder, encoder_in(content, found[0], "vit.", network.encoder).tensors)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        ({"hidden_size": 32}, {}, ["cls_token is (1, 1, 32) there and (1, 1, 64) here"]),
        ({"patch_size": 8}, {}, ["patch_embed.proj.weight is (64, 3, 8, 8) there and (64, 3, 16, 16) here"]),
        ({"num_hidden_layers": 4}, {}, ["lacks 24 of", "blocks.4.norm1.weight of (64,) first"]),
        ({"num_hidden_layers": 8}, {}, ["24 more weights, blocks.6."]),
        ({"intermediate_size": 64}, {}, ["blocks.0.mlp.fc1.weight is (64, 64) there and (192, 64) here"]),
        ({}, {"decoder_width": 64}, ["mask_token is (1, 1, 32) there and (1, 1, 64) here", "--decoder_width 32"]),
        ({}, {"decoder_depth": 1}, ["decoder_blocks.1.", "--decoder_depth 2"]),
        ({}, {"decoder_depth": 3}, ["lacks 12 of", "decoder_blocks.2.", "--decoder_depth 2"]),
    ],
)  # fmt: skip
def test_weights_of_another_network(options: dict[str, Any], change: dict[str, Any], words: list[str]) -> None:
    content = like_test_vit(**options).state_dict()
    network = ours(**change)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_outside(network, content, "there.pth", decoder=True)
    assert all(word in str(error.value) for word in ["there.pth", *words]) and "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "key",
    ["vit.layers.3.attention.q_proj.weight", "vit.layers.3.attention.k_proj.weight",
     "vit.layers.3.attention.k_proj.bias", "vit.layers.5.mlp.fc2.bias", "vit.embeddings.cls_token",
     "vit.embeddings.position_embeddings", "vit.layernorm.weight", "decoder.mask_token",
     "decoder.decoder_layers.1.attention.v_proj.weight", "decoder.decoder_pred.bias"],
)  # fmt: skip
@pytest.mark.parametrize("broken", [None, torch.zeros(()), torch.zeros(3, 5), torch.zeros(0)])
def test_every_weight_is_needed(key: str, broken: Tensor | None, network: ViTMaskedAutoencoder, content: State) -> None:
    others = {name: value for name, value in content.items() if name != key}
    changed = others if broken is None else {**others, key: broken}
    if key.startswith("decoder"):
        with pytest.raises(UserError, match="there has a decoder that does not fit"):
            load_outside(network, changed, "there", decoder=True)
    else:
        assert misfit(network, changed)


def test_positions_without_a_grid(network: ViTMaskedAutoencoder, content: State) -> None:
    key = "vit.embeddings.position_embeddings"
    reason = misfit(network, {**content, key: content[key][:, :16]})
    assert "pos_embed is (1, 16, 64) there and (1, 17, 64) here" in reason
