"""Complete encoders, at least one of each family: the engine against the masked-dense oracle, leaks and refusals.

In float64, values and gradients. The fast tests take timm's tiny test models, the slow ones a member of each family.
"""

import copy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from helpers.sparse_parity import (
    GRIDS,
    assert_no_leak,
    assert_parity,
    close,
    encoder_of,
    grid,
    images_for,
    observe,
    unsettle,
)
from maeseg.errors import UserError
from maeseg.sparse import encode_tiles, encode_visible, pack
from maeseg.sparse.gather import Gather, GatherMatmul
from maeseg.sparse.tiles import plain
from maeseg.sparse.visible_grid import Axis, VisibleGrid, Window

TINY = [
    "test_byobnet",
    "test_convnext",  # LayerNorm over channels
    "test_convnext2",  # the same, channels last, with response normalization
    "test_convnext3",
    "test_efficientnet",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "test_efficientnet_evos",
    "test_mambaout",  # returns channels-last features
    "test_nfnet",
    "test_resnet",
]
FAMILIES = [
    "resnet18", "resnet18d", "seresnet18", "resnext26ts", "resnet50_gn", "resnetv2_18", "ecaresnet26t", "skresnet18",
    "resnest14d", "res2next50", "regnetx_002", "regnety_002", "densenet121", "vgg11_bn", "efficientnet_b0",
    "tf_efficientnet_b0", "tf_efficientnet_lite0", "efficientnetv2_rw_t", "mobilenetv2_050", "mobilenetv3_small_050",
    "mobilenetv4_conv_small_035", "mnasnet_050", "mixnet_s", "tf_mixnet_s", "ghostnet_050", "ghostnetv2_100",
    "convnext_zepto_rms", "convnextv2_atto", "inception_next_atto", "hgnetv2_b0", "hgnet_tiny", "cspresnet50",
    "cs3darknet_focus_s", "darknet53", "dla46x_c", "repvgg_a0", "nfnet_l0", "fasternet_t0", "fastvit_t8",
    "starnet_s050", "repghostnet_050", "tinynet_e", "fbnetc_100", "lcnet_035", "hardcorenas_b", "rexnet_100",
    "selecsls42", "hrnet_w18_small", "dpn48b", "ese_vovnet19b_slim_dw", "repvit_m1", "poolformerv2_s12",
    "xception41p", "focalnet_tiny_srf", "mobileone_s0", "spnasnet_100",
]  # fmt: skip
"""One small member of each family."""

CHAOTIC = {
    "test_efficientnet_evos": 1e-5,  # its statistics are always in single precision
    "resnest14d": 1e-7,  # BatchNorm over one value per image, of two images: rounding grows in its gradient
    "skresnet18": 1e-7,
    "rexnet_100": 1e-7,
    "mobileone_s0": 1e-7,
}
REFUSED = {
    "test_vit": ("model (VisionTransformer)", "'view'"),
    "test_coatnet": ("stages_2.blocks.0.attn (Attention2d)", "mixes positions"),
    "mobilevit_xxs": ("stages_2.1 (MobileVitBlock)", "mixes positions"),
    "edgenext_xx_small": ("stages_1.blocks.1 (SplitTransposeBlock)", "mixes positions"),
    "efficientvit_b0": ("stages_2.blocks.1.context_module.main (LiteMLA)", "mixes positions"),
    "halonet_h1": ("stages_0.0.self_attn (HaloAttn)", "mixes positions"),
    "pvt_v2_b0": ("stages_0 (PyramidVisionTransformerStage)", "mixes positions"),
    "gcresnext26ts": ("stages_0.0.attn (GlobalContext)", "mixes positions"),
    "resnetblur18": ("maxpool.1 (BlurPool2d)", "reflect padding"),
    "inception_v3": ("Conv2d_1a_3x3.conv (Conv2d)", "does not keep the patch grid"),
    "nasnetalarge": ("body.conv0.conv (Conv2d)", "does not keep the patch grid"),
}
LARGE = {"nasnetalarge"}  # it takes seconds to build, and is refused for the same reason as inception_v3
SEEN = [[[1, 0, 1], [0, 1, 1]], [[0, 1, 1], [1, 0, 1]]]


def tolerance(name: str) -> float:
    return CHAOTIC.get(name, 1e-9)


@pytest.mark.parametrize(("visible", "training"), [("random", True), ("one patch each", True), ("a row", False)])
@pytest.mark.parametrize("name", TINY)
def test_tiny_encoder_equals_masked_dense(name: str, visible: str, training: bool) -> None:
    assert_tiny(name, visible, training)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("visible", "training"),
    [("random", False), ("one patch each", False), ("a row", True), ("corners", True), ("corners", False)],
)
@pytest.mark.parametrize("name", TINY)
def test_tiny_encoder_equals_masked_dense_on_more_grids(name: str, visible: str, training: bool) -> None:
    assert_tiny(name, visible, training)


def assert_tiny(name: str, visible: str, training: bool) -> None:
    seen = grid(GRIDS[visible])
    assert_parity(encoder_of(name, training), images_for(seen, 32), seen, tolerance(name))


@pytest.mark.parametrize("name", TINY)
def test_all_visible_is_the_dense_network(name: str) -> None:
    visible = grid(GRIDS["all"])
    encoder, images = encoder_of(name), images_for(visible, 32)
    dense = observe(channels_first, copy.deepcopy(encoder), images, visible)
    actual = observe(encode_visible, encoder, images, visible)
    for key in dense:
        scale = max(1e-3, float(dense[key].abs().max()))
        torch.testing.assert_close(actual[key], dense[key], rtol=0, atol=tolerance(name) * scale)


def channels_first(network: nn.Module, images: Tensor, visible: Tensor) -> list[Tensor]:
    """The dense network's features, whichever order it returns them in."""
    features = list(network(images))
    last = features[0].shape[1:3] == (images.shape[2] // 4, images.shape[3] // 4)
    return [feature.permute(0, 3, 1, 2) if last else feature for feature in features]


@pytest.mark.parametrize("name", TINY)
def test_masked_pixels_leak_nowhere(name: str) -> None:
    visible = grid(GRIDS["checkerboard"])
    assert_no_leak(encoder_of(name), images_for(visible, 32), visible)


def test_tensorflow_padding() -> None:
    visible = grid(SEEN)
    assert_parity(encoder_of("tf_mobilenetv3_small_minimal_100"), images_for(visible, 32), visible)


@pytest.mark.parametrize(
    ("name", "options"), [("test_resnet", {"output_stride": 16}), ("test_resnet", {"in_chans": 5}), ("regnety_002", {})]
)
def test_options_of_an_encoder(name: str, options: dict[str, Any]) -> None:
    visible = grid([[[1, 0], [1, 1]], [[0, 1], [1, 1]]])
    assert_parity(encoder_of(name, **options), images_for(visible, 32, options.get("in_chans", 3)), visible)


def test_drop_path_draws_for_the_same_images() -> None:
    visible = grid(SEEN).repeat(2, 1, 1)
    assert_parity(encoder_of("test_convnext", drop_path_rate=0.5), images_for(visible, 32), visible)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", FAMILIES)
def test_family_equals_masked_dense(name: str, training: bool) -> None:
    visible = grid(SEEN)
    encoder, images = encoder_of(name, training), images_for(visible, 32)
    assert_parity(encoder, images, visible, tolerance(name))
    if not training:
        assert_no_leak(encoder, images, visible)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family_all_visible_is_dense(name: str) -> None:
    visible = torch.ones(1, 1, 2, dtype=torch.bool)
    encoder, images = encoder_of(name, training=False), images_for(visible, 32)
    for actual, expected in zip(encode_visible(encoder, images, visible), encoder(images), strict=True):
        close(actual, expected)


# Encoders of segmentation-models-pytorch, whose first feature is the input.


@pytest.mark.parametrize("name", ["resnet18", "tu-test_convnext2", "tu-test_mambaout"])
def test_encoder_of_segmentation_models_pytorch(name: str) -> None:
    assert_smp(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnext50_32x4d", "dpn68", "vgg11", "se_resnet50", "densenet121", "efficientnet-b0", "mobilenet_v2",
        "xception", "tu-efficientnet_b0", "tu-tf_efficientnet_lite0", "mobileone_s0", "tu-convnext_atto",
        "tu-hrnet_w18_small",
    ],
)  # fmt: skip
def test_more_encoders_of_segmentation_models_pytorch(name: str) -> None:
    assert_smp(name)


def assert_smp(name: str) -> None:
    visible = grid(SEEN)
    encoder = smp.encoders.get_encoder(name, weights=None).double().train()
    unsettle(encoder)
    images = images_for(visible, 32)
    assert_parity(encoder, images, visible, tolerance(name))
    assert_no_leak(encoder, images, visible)


# Refusals name the module and the reason.


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in REFUSED]
)
def test_a_refusal_names_the_module(name: str) -> None:
    visible = grid(SEEN)
    encoder = timm.create_model(name, features_only=True)
    where, why = REFUSED[name]
    with pytest.raises(UserError) as error:
        encode_visible(encoder, images_for(visible, 32).float(), visible)
    message = str(error.value)
    assert message.startswith(where) and why in message and "\n" not in message


def test_attention_of_segformer_is_refused() -> None:
    encoder = smp.encoders.get_encoder("mit_b0", weights=None)
    with pytest.raises(UserError, match=r"^patch_embed1.norm \(LayerNorm\): .* as attention does"):
        encode_visible(encoder, torch.randn(2, 3, 64, 96), grid(SEEN))


# Any device, any type of number.


@pytest.mark.parametrize("name", [*TINY, "tf_efficientnet_lite0", "hrnet_w18_small", "poolformerv2_s12"])
def test_no_rule_is_bound_to_a_device(name: str) -> None:
    """On PyTorch's meta device: a map made elsewhere would show itself in the result."""
    visible = grid(SEEN)
    with torch.device("meta"), torch.no_grad():
        encoder = timm.create_model(name, features_only=True)
        features = encode_tiles(encoder, pack(torch.empty(2, 3, 64, 96), visible))
    assert {plain(feature).device.type for feature in features} == {"meta"}


@pytest.mark.parametrize("stride", [1, 2])
def test_no_backward_is_bound_to_a_device(stride: int) -> None:
    seen = VisibleGrid(grid(SEEN), torch.device("meta"))
    axis = Axis(4 // stride, 3, -1, stride)
    window = Window(4, (axis, axis))
    rows = torch.empty(seen.tiles * 16, 5, device="meta", requires_grad=True)
    weight = torch.empty(7, 5, 3, 3, device="meta", requires_grad=True)
    gathered = Gather.apply(rows, seen, window, 0.0)
    convolved = GatherMatmul.apply(rows, weight, seen, window)
    (gathered.sum() + convolved.sum()).backward()
    assert gathered.shape == (seen.tiles, 4 // stride, 4 // stride, 3, 3, 5)
    assert convolved.shape == (seen.tiles * (4 // stride) ** 2, 7)
    assert rows.grad is not None and weight.grad is not None
    assert {t.device.type for t in (gathered, convolved, rows.grad, weight.grad)} == {"meta"}


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_zepto_rms"])
@pytest.mark.parametrize("patch", [16, 48])
def test_a_patch_that_the_stride_does_not_divide_is_refused(name: str, patch: int) -> None:
    visible = torch.ones(1, 2, 2, dtype=torch.bool)
    with pytest.raises(UserError, match="multiple of the encoder's largest stride") as error:
        encode_visible(timm.create_model(name, features_only=True), torch.randn(1, 3, 2 * patch, 2 * patch), visible)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext2", "test_efficientnet_gn", "tf_efficientnet_lite0"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """As near to double precision as the dense network in half precision is, where nothing is hidden."""
    visible = grid(GRIDS["all"])
    encoder, images = encoder_of(name, training=False), images_for(visible, 32)
    exact = encoder(images)
    half = copy.deepcopy(encoder).to(dtype)
    dense, actual = half(images.to(dtype)), encode_visible(half, images.to(dtype), visible)
    torch.stack([feature.float().square().mean() for feature in actual]).sum().backward()
    for want, rounded, got in zip(exact, dense, actual, strict=True):
        assert got.dtype == dtype
        # processors round in orders of their own: both are about as far from the truth, not equally far
        assert (got - want).norm() < 3 * (rounded - want).norm() + 1e-3 * want.norm()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in half.parameters())
