"""The sparse engine against two independent references: dense operations alone, and the masked-dense oracle.

In float64, so that a real difference cannot hide behind rounding.
"""

import copy
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.drop import DropPath
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.sparse_parity import (
    GRIDS,
    UNEQUAL,
    Encode,
    Operation,
    assert_operation,
    assert_parity,
    close,
    encoder_of,
    enlarged,
    grid,
    images_for,
    keeps_grid,
    observe,
    per_image,
    unsettle,
)  # fmt: skip
from maeseg.errors import UserError
from maeseg.masking.visible import random_visible
from maeseg.sparse import encode_visible, pack, unpack
from maeseg.sparse.masked_dense import encode_masked_dense
from maeseg.sparse.matmul import linear_rows, matmul_kernel, matmul_transposed

SQUEEZE: dict[str, Any] = {"block_args": {"attn_layer": "se"}}
"""Options of a ResNet with squeeze-and-excitation, whose reductions are per image."""

# Complete encoders against the masked-dense oracle.


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("visible", GRIDS)
def test_encoder_equals_masked_dense(visible: str, training: bool) -> None:
    seen = grid(GRIDS[visible])
    assert_parity(encoder_of("test_resnet", training), images_for(seen, 32), seen)


@pytest.mark.parametrize(("patch", "shape"), [(32, (2, 1, 5)), (64, (2, 2, 3)), (64, (1, 1, 2))])
def test_any_patch_side_and_image_shape(patch: int, shape: tuple[int, int, int]) -> None:
    visible = random_visible(shape[0], shape[1:], 0.5)
    assert_parity(encoder_of("test_resnet"), images_for(visible, patch), visible)


def test_unequal_counts_where_no_reduction_is_per_image() -> None:
    visible = grid(UNEQUAL)
    assert_parity(encoder_of("test_resnet"), images_for(visible, 32), visible)


def test_an_image_with_nothing_visible_gives_zeros() -> None:
    visible = grid(UNEQUAL)
    visible[1] = False
    images = images_for(visible, 32)
    assert_parity(encoder_of("test_resnet"), images, visible)
    assert not any(feature[1].any() for feature in encode_visible(encoder_of("test_resnet"), images, visible))


@pytest.mark.parametrize(
    ("name", "options"), [("test_resnet", SQUEEZE), ("test_efficientnet_gn", {}), ("test_convnext2", {})]
)
def test_unequal_counts_where_reductions_are_per_image(name: str, options: dict[str, Any]) -> None:
    visible = grid(UNEQUAL)
    images = images_for(visible, 32)
    encoder = encoder_of(name, **options)
    assert_parity(encoder, images, visible)
    visible[1] = False
    assert_parity(encoder, images, visible)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_all_visible_is_the_dense_network(training: bool) -> None:
    visible = grid(GRIDS["all"])
    images = images_for(visible, 32)
    encoder = encoder_of("test_resnet", training)
    dense = observe(lambda network, images, _: list(network(images)), copy.deepcopy(encoder), images, visible)
    for encode in (encode_visible, encode_masked_dense):
        actual = observe(encode, copy.deepcopy(encoder), images, visible)
        for name in dense:
            close(actual[name], dense[name])


def test_masked_pixels_may_be_nan() -> None:
    visible = grid(GRIDS["checkerboard"])
    images = images_for(visible, 32)
    hidden = enlarged(visible, 64).expand_as(images) == 0
    encoder = encoder_of("test_resnet", training=False)
    features = encode_visible(encoder, images, visible)
    changed = encode_visible(encoder, images.masked_fill(hidden, float("nan")), visible)
    assert all(torch.equal(feature, other) for feature, other in zip(features, changed, strict=True))


@pytest.mark.parametrize("encode", [encode_visible, encode_masked_dense])
def test_the_encoder_is_left_as_it_was(encode: Encode) -> None:
    visible = grid(GRIDS["random"])
    images = images_for(visible, 32)
    encoder = encoder_of("test_resnet", training=False, **SQUEEZE)

    def inventory() -> list[Any]:
        return [
            (name, type(module), sorted(vars(module)), [*module._forward_hooks], [*module._forward_pre_hooks])
            for name, module in encoder.named_modules()
        ]

    weights, dense, before = copy.deepcopy(encoder.state_dict()), encoder(images), inventory()
    encode(encoder, images, visible)
    assert inventory() == before
    assert [*encoder.state_dict()] == [*weights]
    assert all(torch.equal(encoder.state_dict()[name], weights[name]) for name in weights)
    assert all(torch.equal(a, b) for a, b in zip(encoder(images), dense, strict=True))


def test_autocast_computes_in_its_type() -> None:
    visible = grid(GRIDS["random"])
    encoder = encoder_of("test_resnet").float()
    images = images_for(visible, 32).float()
    runs = []
    for encode, enabled in (
        (encode_masked_dense, False),
        (encode_masked_dense, True),
        (encode_visible, True),
    ):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            features = encode(encoder, images, visible)
        torch.stack([feature.float().square().mean() for feature in features]).sum().backward()
        gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
        runs.append([*features, *gradients])
    for exact, rounded, actual in zip(*runs, strict=True):
        assert actual.dtype == rounded.dtype
        # processors round in orders of their own: both are about as far from the truth, not equally far
        assert (actual.float() - exact).norm() < 3 * (rounded.float() - exact).norm() + 1e-6


# Each rule alone against the dense operation.


def convolution(
    kernel: tuple[int, int],
    padding: tuple[int, int] | str,
    stride: int,
    dilation: int,
    groups: int,
    channels: int,
) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    weight = torch.randn(2 * groups, channels // groups, *kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2 * groups, dtype=torch.float64, requires_grad=True)
    return lambda x: F.conv2d(x, weight, bias, stride, padding, dilation, groups), [weight, bias]


KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (1, 3), (5, 1), (3, 7), (2, 2), (4, 4)]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k[0]}x{k[1]}")
def test_convolution(kernel: tuple[int, int]) -> None:
    """Wide kernels on tiles of 4 pixels, and of 1 or 2 where the halo is many tiles wide."""
    compared = 0
    for stride, dilation, side, (channels, groups) in product(
        (1, 2), (1, 2), (1, 2, 4), ((3, 1), (20, 1), (4, 2), (6, 6))
    ):
        visible = torch.rand(2, 3, 4) < 0.5
        visible[0, 1, 2] = True
        images = images_for(visible, side, channels)
        padding = ((kernel[0] - 1) * dilation // 2, (kernel[1] - 1) * dilation // 2)
        operation, weights = convolution(kernel, padding, stride, dilation, groups, channels)
        if side % stride == 0 and keeps_grid(operation, images, stride):
            assert_operation(operation, images, visible, *weights)
            compared += 1
        else:
            with pytest.raises(UserError):
                encode_visible(Operation(operation), images, visible)
    assert compared >= 8


@settings(max_examples=120, derandomize=True)
@given(data=st.data())
def test_convolution_of_any_geometry_is_exact_or_refused(data: st.DataObject) -> None:
    def draw(*values: Any) -> Any:
        return data.draw(st.sampled_from(values))

    torch.manual_seed(draw(0, 1, 2))
    stride, side, (channels, groups) = draw(1, 2, 4), draw(1, 2, 4), draw((3, 1), (17, 1), (6, 3))
    kernel, padding = (draw(1, 2, 3, 5), draw(1, 3, 4)), (draw(0, 1, 2, 3), draw(0, 1, 2, 3))
    visible = torch.rand(2, draw(1, 2, 3), draw(2, 3)) < 0.5
    visible[1, 0, 1] = True
    images = images_for(visible, side, channels)
    operation, weights = convolution(kernel, padding, stride, draw(1, 2), groups, channels)
    if side % stride == 0 and keeps_grid(operation, images, stride):
        assert_operation(operation, images, visible, *weights)
    else:
        with pytest.raises(UserError):
            encode_visible(Operation(operation), images, visible)


def test_convolution_with_named_padding() -> None:
    visible = grid(GRIDS["random"])
    operation, weights = convolution((3, 5), "same", 1, 2, 1, 20)
    assert_operation(operation, images_for(visible, 4, 20), visible, *weights)


@pytest.mark.parametrize("side", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("max", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        ("max", {"kernel_size": 3, "stride": 1, "padding": 1}),
        ("max", {"kernel_size": (3, 5), "stride": 1, "padding": (1, 2)}),
        ("max", {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1}),
        ("max", {"kernel_size": 3, "stride": 1, "padding": 0}),
        ("max", {"kernel_size": 2}),
        ("average", {"kernel_size": 2}),
        ("average", {"kernel_size": 2, "stride": 2, "ceil_mode": True, "count_include_pad": False}),
        ("average", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("average", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        ("average", {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
        ("average", {"kernel_size": 3, "stride": 2, "ceil_mode": True, "count_include_pad": False}),
        ("average", {"kernel_size": 3, "stride": 1, "padding": 1}),
        ("average", {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
        ("average", {"kernel_size": (3, 5), "stride": 1, "padding": (1, 2), "count_include_pad": False}),
        ("average", {"kernel_size": 3, "stride": 1, "padding": 1, "divisor_override": 2}),
    ],
)
def test_pooling(name: str, options: dict[str, Any], side: int) -> None:
    """On values below zero too, where a masked neighbor (zero) and the border (minus infinity) differ."""
    pool = F.max_pool2d if name == "max" else F.avg_pool2d
    visible = grid(GRIDS["random"])
    images = images_for(visible, side, 5) - 0.5
    stride = options.get("stride", 2)

    def operation(x: Tensor) -> Tensor:
        return pool(x, **options)

    if side % stride == 0 and keeps_grid(operation, images, stride):
        assert_operation(operation, images, visible)
    else:
        with pytest.raises(UserError):
            encode_visible(Operation(operation), images, visible)


def test_max_pooling_reads_zero_at_a_masked_neighbor_and_nothing_outside_the_image() -> None:
    visible = torch.tensor([[[True, False, True, True]]])
    images = torch.full((1, 1, 1, 4), -1.0)
    (pooled,) = encode_visible(Operation(nn.MaxPool2d(3, 1, 1)), images, visible)
    assert pooled.flatten().tolist() == [0, 0, 0, -1]


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.relu(x) + F.silu(x) * torch.sigmoid(x),
        lambda x: F.gelu(x) - x.clamp(-1, 1) / 2,
        lambda x: F.leaky_relu(x, 0.1) * 2 + 1,
        lambda x: torch.cat([x, F.hardswish(x)], dim=1),
        lambda x: torch.cat((x, x), -3),
        lambda x: x.repeat(1, 2, 1, 1) * x.repeat([1, 2, 1, 1]),
        lambda x: x * torch.arange(5, dtype=torch.float64).view(1, 5, 1, 1),
        lambda x: F.conv2d(x.relu_(), torch.ones(1, 5, 3, 3, dtype=torch.float64), padding=1),
    ],
)
def test_position_wise(operation: Callable[[Tensor], Tensor]) -> None:
    visible = grid(UNEQUAL)
    assert_operation(lambda x: operation(x * 1), images_for(visible, 4, 5), visible)


def per_channel(*shape: int) -> Tensor:
    return torch.linspace(-1, 1, 6, dtype=torch.float64).view(*shape)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,), per_channel(6)).permute(0, 3, 1, 2),
        lambda x: F.linear(x.permute(0, 2, 3, 1), torch.eye(4, 6).double()).permute(0, 3, 1, 2),
        lambda x: torch.permute(x, (0, 2, 3, 1)).mul(per_channel(6)).transpose(1, 3).transpose(2, 3),
        lambda x: x.reshape(x.shape[0], 2, 3, *x.shape[2:]).transpose(1, 2).flatten(1, 2),  # channel shuffle
        lambda x: x.unflatten(1, (3, 2)).sum(1),
        lambda x: torch.stack([x, x.relu()], dim=1).softmax(dim=1).unbind(1)[0],
        lambda x: (x.view(2, 2, -1, *x.shape[-2:]) * per_channel(2, 3, 1, 1)).mean(dim=1),
        lambda x: x[:, :4] * x[:, 2:, ...] + x[..., :1, :, :] * x[:, [5]],
        lambda x: x[:, None, 3] - x[:, 0:1, : x.shape[2], :].unsqueeze(0).squeeze(0),
        lambda x: x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() - x.var(dim=1, keepdim=True),
        lambda x: x.norm(dim=1, keepdim=True) - x.amax(1, keepdim=True),
        lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
        lambda x: torch.addcmul(per_channel(1, 6, 1, 1), x, x.exp()) + 2.0**-3 * x.pow(2) - (-x).abs(),
        lambda x: x * torch.arange(96, dtype=torch.float64).view(1, *x.shape[2:]),
        lambda x: F.prelu(x, per_channel(6)),
        lambda x: F.normalize(x, 2.0, 1, 0.5) + per_channel(6, 1, 1).expand_as(x).softmax(1),
        lambda x: F.glu(x, dim=1) + x.chunk(2, dim=1)[1].contiguous(),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.interpolate(x, size=(24, 36), mode="nearest"),
    ],
)  # fmt: skip
def test_permuted_and_regrouped(operation: Callable[[Tensor], Tensor]) -> None:
    visible = grid(UNEQUAL)
    assert_operation(lambda x: operation(x * 1), images_for(visible, 4, 6), visible)


def test_shapes_are_those_of_the_map() -> None:
    visible = grid(GRIDS["random"])
    seen: list[Any] = []

    def operation(x: Tensor) -> Tensor:
        groups = x.permute(0, 2, 3, 1).reshape(2, 8, 12, 3, 2)
        padded = F.pad(x, (1, 2, 3, 4))
        seen.extend([tuple(x.shape), tuple(groups.shape), groups.size(-1), tuple(padded.size()), x.numel(), x.dim()])
        return x

    encode_visible(Operation(operation), images_for(visible, 4, 6), visible)
    assert repr(pack(images_for(visible, 4, 6), visible)) == "Tiles BCHW of a map (2, 6, 8, 12)"
    assert seen == [(2, 6, 8, 12), (2, 8, 12, 3, 2), 2, (2, 6, 15, 15), 1152, 4]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (2, 1, 1), (5, 2, 1), (4, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("side", [2, 4])
def test_padding_ahead_of_the_operation(kernel: int, stride: int, dilation: int, side: int) -> None:
    """TensorFlow's "same" padding, more of it at the end: for convolution dense and grouped, and both poolings."""
    visible = grid(GRIDS["random"])
    total = max(dilation * (kernel - 1) + 1 - stride, 0)
    widths = (total // 2, total - total // 2) * 2

    for channels, groups in ((20, 1), (3, 1), (6, 6)):
        operation, weights = convolution((kernel, kernel), (0, 0), stride, dilation, groups, channels)
        images = images_for(visible, side, channels)
        assert_operation(lambda x, run=operation: run(F.pad(x, widths)), images, visible, *weights)  # type: ignore[misc]
    if dilation == 1:
        images = images_for(visible, side, 5) - 0.5
        for fill in (0.0, -1.0, float("-inf")):
            assert_operation(lambda x: F.max_pool2d(F.pad(x, widths, value=fill), kernel, stride), images, visible)  # noqa: B023
        for count in (True, False):
            assert_operation(
                lambda x: F.avg_pool2d(F.pad(x, widths), kernel, stride, count_include_pad=count),  # noqa: B023
                images, visible,
            )  # fmt: skip


def test_batch_norm_is_over_visible_positions() -> None:
    visible = grid(UNEQUAL)
    images = images_for(visible, 4, 5)
    norm = BatchNormAct2d(5).double()
    values = images.permute(0, 2, 3, 1)[enlarged(visible, 8)[:, 0] == 1]  # (R, C)
    (feature,) = encode_visible(Operation(norm), images, visible)
    expected = F.relu((values - values.mean(0)) / (values.var(0, unbiased=False) + norm.eps).sqrt())
    close(feature.permute(0, 2, 3, 1)[enlarged(visible, 8)[:, 0] == 1], expected)
    assert norm.running_mean is not None and norm.running_var is not None
    close(norm.running_mean, 0.1 * values.mean(0))
    close(norm.running_var, 0.9 + 0.1 * values.var(0))


@pytest.mark.parametrize(
    "module",
    [
        nn.GroupNorm(2, 6),
        nn.InstanceNorm2d(6),
        nn.InstanceNorm2d(6, affine=True),
        SEModule(6, rd_channels=4),
        Operation(lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))),
        Operation(lambda x: x - x.mean((2, 3), keepdim=True)),
        Operation(lambda x: x - x.mean(dim=[-1, -2])[:, :, None, None]),
        Operation(lambda x: x / x.norm(p=2, dim=(2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)),
        Operation(lambda x: x - x.permute(0, 2, 3, 1).std(dim=(1, 2))[:, :, None, None]),
        Operation(lambda x: x - x.permute(2, 3, 1, 0).var((0, 1), True).t()[:, :, None, None]),
        Operation(lambda x: x + x.mean((2, 3), keepdim=True).expand_as(x)),
        Operation(lambda x: x / (x.unflatten(1, (2, 3)).var(dim=(2, 3, 4), keepdim=True) + 1).expand(
            x.shape[0], 2, 3, *x.shape[2:]).reshape(x.shape)),
        GlobalResponseNorm(6, channels_last=False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3), (0, 2, 3)], ids=["two", "one", "unequal counts"])
def test_statistics_per_image(module: nn.Module, shape: tuple[int, int, int]) -> None:
    visible = random_visible(shape[0], shape[1:], 0.6) if shape[0] else grid(UNEQUAL)
    images = images_for(visible, 4, 6).requires_grad_()
    module = module.double()
    unsettle(module)

    def operation(x: Tensor) -> Tensor:
        out = module(x)
        value: Tensor = out[0] if isinstance(out, list) else out
        return value

    expected = per_image(operation, images, visible)
    (actual,) = encode_visible(Operation(operation), images, visible)
    close(actual, expected)
    cotangent = torch.randn_like(images)
    close(*(torch.autograd.grad(out, images, cotangent)[0] for out in (actual, expected)))


def test_drop_path_drops_images() -> None:
    visible = torch.ones(64, 2, 2, dtype=torch.bool)
    drop = DropPath(0.5).train()
    (feature,) = encode_visible(Operation(drop), torch.ones(64, 3, 8, 8), visible)
    values = feature.flatten(1)
    assert (values == values[:, :1]).all()
    assert set(values[:, 0].tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("channels", [2, 17], ids=["few channels", "many channels"])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_convolution_are_the_numerical_ones(channels: int, stride: int) -> None:
    visible = torch.tensor([[[True, False], [True, True]]])
    images = torch.randn(1, channels, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, channels, 3, 3, dtype=torch.float64, requires_grad=True)

    def convolve(images: Tensor, weight: Tensor) -> Tensor:
        return unpack(F.conv2d(pack(images, visible), weight, None, stride, 1))  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(convolve, (images, weight))


def test_gradients_of_pooling_are_the_numerical_ones() -> None:
    visible = torch.tensor([[[True, False], [True, True]]])
    images = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def pool(images: Tensor) -> Tensor:
        tiles = pack(images, visible)
        return unpack(F.max_pool2d(tiles, 3, 2, 1) + F.avg_pool2d(tiles, 3, 2, 1))  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(pool, (images,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 7, 16, 256, 300])
def test_products_of_rows_are_those_of_linear(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows_RC, kernel_DC, bias_D, grad_RD = (
        torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((rows, 5), (3, 5), (3,), (rows, 3))
    )
    torch.testing.assert_close(linear_rows(rows_RC, kernel_DC, bias_D), F.linear(rows_RC, kernel_DC, bias_D))
    torch.testing.assert_close(matmul_kernel(grad_RD, kernel_DC), grad_RD @ kernel_DC)
    torch.testing.assert_close(matmul_transposed(grad_RD, rows_RC), grad_RD.t() @ rows_RC)


def test_unpack_is_the_inverse_of_pack() -> None:
    visible = grid(GRIDS["random"])
    images = images_for(visible, 8)
    seen = enlarged(visible, 16)
    close(unpack(pack(images, visible)), images * seen)
    fill = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    filled = unpack(pack(images, visible), fill)
    close(filled, images * seen + fill[:, None, None] * (1 - seen))
    filled.sum().backward()
    close(fill.grad, (1 - seen).sum().expand(3))  # type: ignore[arg-type]


# Operations that cannot be exact are refused.


def operations_without_rule() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Operations that mix positions, pick some, or depend on the place in the image."""
    kernel = torch.ones(1, 3, 3, 3, dtype=torch.float64)
    yield "fft2", torch.fft.fft2
    yield "flatten", lambda x: x.flatten(2)
    yield "reshape", lambda x: x.reshape(x.shape[0], x.shape[1], -1)
    yield "reshape", lambda x: x.reshape(1, -1, *x.shape[2:])
    yield "view", lambda x: x.view(*x.shape[:2], 2, -1, x.shape[3])
    yield "returns a feature", lambda x: x.permute(0, 1, 3, 2)
    yield "returns a feature", lambda x: x.permute(0, 2, 1, 3)
    yield "returns a feature", lambda x: x.unsqueeze(1)
    yield "returns a feature", lambda x: F.pad(x, (1, 1, 1, 1))
    yield "batch_norm", lambda x: F.batch_norm(x[None], torch.zeros(2).double(), torch.ones(2).double())
    yield "table", lambda x: x[:, torch.zeros(2, 2, dtype=torch.long)]
    yield "expand_as", lambda x: x.expand_as(torch.ones(2, 3, 8, 12))
    yield "conv2d", lambda x: F.conv2d(x.permute(0, 3, 1, 2), kernel)
    yield "softmax", lambda x: x.softmax(dim=-1)
    yield "attention", lambda x: F.scaled_dot_product_attention(x, x, x)
    yield "matmul", lambda x: x @ x
    yield "einsum", lambda x: torch.einsum("bchw,bdhw->bcd", x, x)
    yield "interpolate", lambda x: F.interpolate(x, scale_factor=1.5)
    yield "interpolate", lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")
    yield "interpolate", lambda x: F.interpolate(x, size=(4, 6))
    yield "does not keep", lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel, padding=1)
    yield "padded with", lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), value=2.0), kernel)
    yield "padded already", lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 5, 1, 1)
    yield "on a padded map", lambda x: F.relu(F.pad(x, (1, 1, 1, 1)))
    yield "reflect", lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel)
    yield "negative", lambda x: F.pad(x, (-1, -1, -1, -1))
    yield "batch", lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 0, 1))
    yield "pad", nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect").double()
    yield "flip", lambda x: x.flip(3)
    yield "roll", lambda x: x.roll(1, 2)
    yield "amax", lambda x: x * x.amax(3, keepdim=True)
    yield "sum", lambda x: x / x.sum((0, 2, 3), keepdim=True)
    yield "mean", lambda x: x - x.mean()
    yield "var", lambda x: x.var(unbiased=False)
    yield "layer_norm", lambda x: F.layer_norm(x, x.shape[-1:])
    yield "linear", lambda x: F.linear(x, torch.ones(3, x.shape[-1], dtype=torch.float64))
    yield "images", lambda x: x[0]
    yield "positions", lambda x: x[:, :, ::2, ::2]
    yield "several lists", lambda x: x[:, None, [0, 1]]
    yield "different kinds", lambda x: F.relu(x.transpose(2, 3)) + x
    yield "pixel_shuffle", lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2)
    yield "conv_transpose2d", lambda x: F.conv_transpose2d(x, torch.ones(3, 1, 2, 2).double(), stride=2)
    yield "adaptive", lambda x: F.adaptive_avg_pool2d(x, 2)
    yield "cat", lambda x: torch.cat([x, x], dim=2)
    yield "stack", lambda x: torch.stack([x, torch.ones(2, 3, 8, 12).double()], dim=1)
    yield "different kinds", lambda x: x + x.permute(0, 2, 3, 1)
    yield "different kinds", lambda x: x + F.max_pool2d(x, 2)
    yield "tensor of shape", lambda x: x + torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    yield "tensor of shape", lambda x: x + torch.zeros(3, 3, 1, 1, dtype=torch.float64)
    yield "running statistics", lambda x: F.instance_norm(x, torch.zeros(3).double(), torch.ones(3).double())
    yield "repeat", lambda x: x.repeat(1, 2, 1, 2)
    yield "unequal sides", lambda x: F.max_pool2d(x, (1, 2))
    yield "'T'", lambda x: x.T
    yield "new tensor", lambda x: x.new_empty(x.shape)


@pytest.mark.parametrize(("name", "operation"), list(operations_without_rule()))
def test_an_operation_without_a_rule_is_refused_by_name(name: str, operation: Callable[[Any], Any]) -> None:
    visible = grid(GRIDS["random"])
    with pytest.raises(UserError, match=name) as error:
        encode_visible(Operation(operation), images_for(visible, 4), visible)
    assert "\n" not in str(error.value)


def positions(size: int, *shape: int) -> Tensor:
    """Like a learned position embedding: another value at every place of an image of size x size."""
    return torch.arange(size**2, dtype=torch.float64).view(*shape, size, size)


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize(
    "operation",
    [
        lambda x, size: x + positions(size, 1, 1),
        lambda x, size: x * positions(size, 1),
        lambda x, size: x - positions(size),
        lambda x, size: positions(size)[0] + x,
        lambda x, size: x + positions(size, 1, 1).expand(2, 3, size, size),
        lambda x, size: x * F.avg_pool2d(x, x.shape[2:]),
        lambda x, size: x * F.avg_pool2d(x, x.size(2)),
        lambda x, size: x / x.shape[2],
        lambda x, size: x / x.size(0),
    ],
    ids=["4-d", "3-d", "2-d", "1-d", "batch", "pool by shape", "pool by size", "height", "count"],
)
def test_operations_on_the_complete_image_are_exact_or_refused(
    operation: Callable[[Tensor, int], Tensor], side: int
) -> None:
    """Tiles of one position are the trap: they broadcast to anything."""
    visible = torch.ones(2, 2, 2, dtype=torch.bool)
    images = images_for(visible, side)
    try:
        (actual,) = encode_visible(Operation(lambda x: operation(x, 2 * side)), images, visible)
    except UserError:
        return
    close(actual, operation(images, 2 * side))


@pytest.mark.parametrize(("patch", "shape"), [(16, (1, 2, 2)), (48, (1, 2, 2)), (8, (1, 1, 4))])
def test_a_patch_that_the_stride_does_not_divide_is_refused(patch: int, shape: tuple[int, int, int]) -> None:
    visible = torch.ones(shape, dtype=torch.bool)
    with pytest.raises(UserError, match="multiple of the encoder's"):
        encode_visible(encoder_of("resnet18", training=False), images_for(visible, patch), visible)


@pytest.mark.parametrize(
    "visible",
    [
        torch.ones(3, 2, 2, dtype=torch.bool),  # another batch
        torch.ones(2, 3, 2, dtype=torch.bool),  # does not divide the height
        torch.ones(2, 2, 4, dtype=torch.bool),  # patches not square
        torch.zeros(2, 2, 2, dtype=torch.bool),  # nothing visible
    ],
)
def test_a_grid_that_does_not_fit_is_refused(visible: Tensor) -> None:
    with pytest.raises(UserError, match="visible grid"):
        encode_visible(encoder_of("test_resnet"), torch.randn(2, 3, 64, 64).double(), visible)


class Flat(nn.Module):
    """Ends in a vector per image."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images.mean((2, 3))]


def test_features_that_are_no_maps_are_refused() -> None:
    with pytest.raises(UserError, match="not a map"):
        encode_visible(Flat(), torch.randn(1, 3, 8, 8), torch.ones(1, 2, 2, dtype=torch.bool))
