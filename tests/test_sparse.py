"""The sparse engine against two independent references: dense operations alone, and the masked-dense oracle.

In float64, so that a real difference cannot hide behind rounding.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn
from torch.nn import functional as F

from maeseg.errors import UserError
from maeseg.masking import random_visible
from maeseg.sparse import encode_visible, pack, unpack
from maeseg.sparse.product import multiply, multiply_by_columns, multiply_transposed
from maeseg.sparse.reference import encode_masked_dense

GRIDS = {
    "random": [[[1, 0, 1], [0, 1, 1]], [[0, 1, 0], [1, 1, 1]]],
    "one patch each": [[[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]],
    "a row": [[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]],
    "corners": [[[1, 0, 1], [1, 0, 1]], [[1, 0, 1], [1, 0, 1]]],
    "checkerboard": [[[1, 0, 1], [0, 1, 0]], [[0, 1, 0], [1, 0, 1]]],
    "all": [[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]],
}
UNEQUAL = [[[1, 0, 1], [1, 1, 1]], [[0, 0, 0], [0, 1, 0]]]

Encode = Callable[[nn.Module, Tensor, Tensor], list[Tensor]]


def grid(rows: list[list[list[int]]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def enlarged(visible_BYX: Tensor, height: int) -> Tensor:
    """The grid as 0.0 and 1.0, (B, 1, height, ...)."""
    side = height // visible_BYX.shape[1]
    return visible_BYX[:, None].double().kron(torch.ones(1, 1, side, side, dtype=torch.float64))


def images_for(visible_BYX: Tensor, patch: int, channels: int = 3) -> Tensor:
    B, Y, X = visible_BYX.shape
    return torch.randn(B, channels, Y * patch, X * patch, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10 * scale)


# Whole encoders against the masked-dense oracle.


def encoder_of(name: str, training: bool = True, **options: Any) -> nn.Module:
    """A timm encoder in float64 whose every parameter and buffer is away from its telling initial value."""
    encoder = timm.create_model(name, features_only=True, **options).double().train(training)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts the last one of a block at zero: no gradient
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
    assert isinstance(encoder, nn.Module)
    return encoder


def observe(encode: Encode, encoder: nn.Module, images: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Features, gradients of the images and of every parameter, and the buffers after the pass."""
    images = images.clone().requires_grad_()
    features = encode(encoder, images, visible)
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64)
    for feature in features:
        loss = loss + (feature * torch.randn(feature.shape, generator=generator, dtype=torch.float64)).mean()
    loss.backward()
    assert images.grad is not None
    seen = {f"feature {i}": feature.detach() for i, feature in enumerate(features)}
    seen["gradient of the images"] = images.grad
    for name, parameter in encoder.named_parameters():
        seen[f"gradient of {name}"] = torch.zeros(()) if parameter.grad is None else parameter.grad
    return seen | {f"buffer {name}": buffer.clone() for name, buffer in encoder.named_buffers()}


def assert_parity(encoder: nn.Module, images: Tensor, visible: Tensor) -> None:
    expected = observe(encode_masked_dense, copy.deepcopy(encoder), images, visible)
    actual = observe(encode_visible, encoder, images, visible)
    assert actual.keys() == expected.keys()
    for name in expected:
        scale = max(1e-3, float(expected[name].abs().max()))
        torch.testing.assert_close(
            actual[name], expected[name], rtol=0, atol=1e-9 * scale, msg=partial("{}: {}".format, name)
        )


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("visible", GRIDS)
def test_encoder_equals_masked_dense(visible: str, training: bool) -> None:
    seen = grid(GRIDS[visible])
    assert_parity(encoder_of("test_resnet", training), images_for(seen, 32), seen)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("resnet18d", {}),  # deep stem, average-pooled shortcuts
        ("resnet50", {}),
        ("seresnet18", {}),  # reduces over each image
        ("resnet18", {"output_stride": 16}),  # dilated
        ("resnet18", {"in_chans": 5}),
        ("regnety_002", {}),  # grouped convolutions, fused norm and activation
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value)),
)
def test_encoder_family_equals_masked_dense(name: str, options: dict[str, Any]) -> None:
    seen = torch.tensor([[[True, False], [True, True]], [[False, True], [True, True]]])
    images = images_for(seen, 32, options.get("in_chans", 3))
    assert_parity(encoder_of(name, **options), images, seen)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "name",
    [
        "resnet50d",
        "resnext26ts",
        "regnetx_002",
        "mobilenetv2_100",
        "densenet121",
        "vgg11_bn",
        "dla34",
        "darknet53",
        "efficientnet_b0",
        "mobilenetv3_small_050",
    ],
)
def test_more_encoders_equal_masked_dense(name: str, training: bool) -> None:
    seen = grid(GRIDS["random"])
    encoder = encoder_of(name, training)
    assert_parity(encoder, images_for(seen, 32), seen)


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


def test_a_reduction_per_image_refuses_unequal_counts() -> None:
    visible = grid(UNEQUAL)
    with pytest.raises(UserError, match="same number of visible patches"):
        encode_visible(encoder_of("seresnet18"), images_for(visible, 32), visible)


def test_encoder_of_segmentation_models_pytorch() -> None:
    visible = grid(GRIDS["random"])
    encoder = smp.encoders.get_encoder("resnet18", weights=None).double()
    assert_parity(encoder, images_for(visible, 32), visible)


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


def test_masked_pixels_leak_nowhere() -> None:
    visible = grid(GRIDS["checkerboard"])
    images = images_for(visible, 32).requires_grad_()
    hidden = enlarged(visible, 64).expand_as(images) == 0
    encoder = encoder_of("test_resnet", training=False)
    features = encode_visible(encoder, images, visible)
    changed = encode_visible(encoder, images.detach().masked_fill(hidden, float("nan")), visible)
    for feature, other in zip(features, changed, strict=True):
        assert torch.equal(feature, other)
        outside = enlarged(visible, feature.shape[2]).expand_as(feature) == 0
        assert not feature[outside].any()
    torch.cat([feature.flatten() for feature in features]).sum().backward()
    assert images.grad is not None
    assert not images.grad[hidden].any()
    assert images.grad[~hidden].any()


@pytest.mark.parametrize("encode", [encode_visible, encode_masked_dense])
def test_the_encoder_is_left_as_it_was(encode: Encode) -> None:
    visible = grid(GRIDS["random"])
    images = images_for(visible, 32)
    encoder = encoder_of("seresnet18", training=False)

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


def test_the_oracle_removes_its_hooks_when_it_fails() -> None:
    encoder = encoder_of("seresnet18")
    with pytest.raises(ValueError, match="same number"):
        encode_masked_dense(encoder, images_for(grid(UNEQUAL), 32), grid(UNEQUAL))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


def test_autocast_computes_in_its_type() -> None:
    visible = grid(GRIDS["random"])
    encoder = encoder_of("resnet18").float()
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
        assert (actual.float() - exact).norm() < 1.5 * (rounded.float() - exact).norm() + 1e-6


# Each rule alone against the dense operation.


class Operation(nn.Module):
    """An "encoder" of one operation."""

    def __init__(self, operation: Callable[[Any], Any]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.operation(images)]


def assert_operation(operation: Callable[[Tensor], Tensor], images: Tensor, visible: Tensor, *weights: Tensor) -> None:
    """Values and gradients equal those of the dense operation on zeroed images."""
    sources = [images.requires_grad_(), *weights]
    expected = operation(images * enlarged(visible, images.shape[2]))
    expected = expected * enlarged(visible, expected.shape[2])
    (actual,) = encode_visible(Operation(operation), images, visible)
    close(actual, expected)
    cotangent = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, sources, cotangent)
    for got, want in zip(torch.autograd.grad(actual, sources, cotangent), wanted, strict=True):
        close(got, want)


def keeps_grid(operation: Callable[[Tensor], Tensor], images: Tensor, stride: int) -> bool:
    try:
        size = operation(images).shape[2:]
    except RuntimeError:  # the kernel is larger than the padded image
        return False
    return size == torch.Size(extent // stride for extent in images.shape[2:])


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


@settings(max_examples=120, deadline=None, derandomize=True)
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
        ("average", {"kernel_size": 3, "stride": 1, "padding": 1}),
        ("average", {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
        ("average", {"kernel_size": (3, 5), "stride": 1, "padding": (1, 2), "count_include_pad": False}),
        ("average", {"kernel_size": 3, "stride": 1, "padding": 1, "divisor_override": 2}),
    ],
)
def test_pooling(name: str, options: dict[str, Any], side: int) -> None:
    """On values below zero too, where a masked neighbour (zero) and the border (minus infinity) differ."""
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


def test_max_pooling_reads_zero_at_a_masked_neighbour_and_nothing_outside_the_image() -> None:
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
        lambda x: x * torch.arange(5, dtype=torch.float64).view(1, 5, 1, 1),
        lambda x: F.conv2d(x.relu_(), torch.ones(1, 5, 3, 3, dtype=torch.float64), padding=1),
    ],
)
def test_position_wise(operation: Callable[[Tensor], Tensor]) -> None:
    visible = grid(UNEQUAL)
    assert_operation(lambda x: operation(x * 1), images_for(visible, 4, 5), visible)


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


def per_image(operation: Callable[[Tensor], Tensor], images: Tensor, visible: Tensor) -> Tensor:
    """Apply a dense operation to each image's visible positions in a row, (1, C, n, 1), by hand."""
    seen = enlarged(visible, images.shape[2])[:, 0] == 1
    results = []
    for image, where in zip(images, seen, strict=True):
        values = operation(image[:, where][None, :, :, None])[0, :, :, 0]
        results.append(torch.zeros_like(image).masked_scatter(where, values))
    return torch.stack(results)


@pytest.mark.parametrize(
    "module",
    [
        nn.GroupNorm(2, 6),
        SEModule(6, rd_channels=4),
        Operation(lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))),
        Operation(lambda x: x - x.mean((2, 3), keepdim=True)),
        Operation(lambda x: x - x.mean(dim=[-1, -2])[:, :, None, None]),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3)])
def test_statistics_per_image(module: nn.Module, shape: tuple[int, int, int]) -> None:
    visible = random_visible(shape[0], shape[1:], 0.6)
    images = images_for(visible, 4, 6).requires_grad_()
    module = module.double()

    def operation(x: Tensor) -> Tensor:
        out = module(x)
        value: Tensor = out[0] if isinstance(out, list) else out
        return value

    expected = per_image(operation, images, visible)
    (actual,) = encode_visible(Operation(operation), images, visible)
    close(actual, expected)
    cotangent = torch.randn_like(images)
    close(*(torch.autograd.grad(out, images, cotangent)[0] for out in (actual, expected)))


def test_drop_path_drops_whole_images() -> None:
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
    torch.testing.assert_close(multiply(rows_RC, kernel_DC, bias_D), F.linear(rows_RC, kernel_DC, bias_D))
    torch.testing.assert_close(multiply_by_columns(grad_RD, kernel_DC), grad_RD @ kernel_DC)
    torch.testing.assert_close(multiply_transposed(grad_RD, rows_RC), grad_RD.t() @ rows_RC)


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


# What cannot be exact is refused.


def whole_image_operations() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Operations that mix positions, reinterpret them, or depend on the place in the image."""
    yield "fft2", torch.fft.fft2
    yield "flatten", lambda x: x.flatten(2)
    yield "reshape", lambda x: x.reshape(x.shape[0], x.shape[1], -1)
    yield "permute", lambda x: x.permute(0, 2, 3, 1)
    yield "softmax", lambda x: x.softmax(dim=-1)
    yield "attention", lambda x: F.scaled_dot_product_attention(x, x, x)
    yield "matmul", lambda x: x @ x
    yield "einsum", lambda x: torch.einsum("bchw,bdhw->bcd", x, x)
    yield "interpolate", lambda x: F.interpolate(x, scale_factor=2.0)
    yield "pad", lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1)), torch.ones(1, 3, 3, 3, dtype=torch.float64))
    yield "pad", nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect").double()
    yield "flip", lambda x: x.flip(3)
    yield "roll", lambda x: x.roll(1, 2)
    yield "amax", lambda x: x * x.amax((2, 3), keepdim=True)
    yield "sum", lambda x: x / x.sum((2, 3), keepdim=True)
    yield "mean", lambda x: x - x.mean()
    yield "getitem", lambda x: x[:, :, ::2, ::2]
    yield "transpose", lambda x: x.transpose(2, 3)
    yield "pixel_shuffle", lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2)
    yield "conv_transpose2d", lambda x: F.conv_transpose2d(x, torch.ones(3, 1, 2, 2).double(), stride=2)
    yield "adaptive", lambda x: F.adaptive_avg_pool2d(x, 2)
    yield "concatenate", lambda x: torch.cat([x, x], dim=2)
    yield "tensor of shape", lambda x: x + torch.zeros(2, 3, 8, 12, dtype=torch.float64)
    yield "instance_norm", lambda x: F.instance_norm(x)


@pytest.mark.parametrize(("name", "operation"), list(whole_image_operations()))
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
def test_what_depends_on_the_whole_image_is_exact_or_refused(
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
