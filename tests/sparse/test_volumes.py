"""The sparse engine on volumes against dense operations and the masked-dense oracle, in float64."""

import copy
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.sparse_parity import (
    Operation,
    assert_no_leak,
    assert_operation,
    assert_parity,
    close,
    images_for,
    keeps_grid,
    observe,
    per_image,
    unsettle,
)
from maeseg.errors import UserError
from maeseg.masking.visible import random_visible
from maeseg.sparse import encode_visible, pack, unpack
from maeseg.sparse.masked_dense import encode_masked_dense
from maeseg.sparse.visible_grid import Axis, VisibleGrid, Window

SHAPE = (2, 3, 2)
"""Blocks along each axis: no cube."""


def blocks(kind: str = "random") -> Tensor:
    """Grids of two volumes."""
    visible = random_visible(2, SHAPE, 0.5, torch.Generator().manual_seed(3))
    if kind == "unequal":
        visible[1] = False
        visible[1, 0, 2, 1] = True
    return visible | (kind == "all")


class Levels(nn.Module):
    """The maps after each of some levels, as an encoder gives them."""

    def __init__(self, *levels: nn.Module) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: Tensor) -> list[Tensor]:
        found = []
        for level in self.levels:
            maps = level(maps)
            found.append(maps)
        return found


def resenc() -> nn.Module:
    """nnU-Net's residual encoder, three narrow stages of stride 4."""
    encoders = pytest.importorskip("dynamic_network_architectures.building_blocks.residual_encoders")
    encoder: nn.Module = encoders.ResidualEncoder(
        2, 3, [4, 6, 8], nn.Conv3d, 3, [1, 2, 2], [1, 2, 1], True, nn.InstanceNorm3d, {"affine": True}, None, None,
        nn.LeakyReLU, {"inplace": True}, return_skips=True, stem_channels=4,
    )  # fmt: skip
    return encoder


def vnet(act: Any = ("elu", {"inplace": True})) -> nn.Module:
    """The blocks of MONAI's V-Net's encoder, three narrow levels of stride 4, the last one with dropout."""
    blocks = pytest.importorskip("monai.networks.nets.vnet")
    return Levels(
        blocks.InputTransition(3, 2, 4, act),
        blocks.DownTransition(3, 4, 1, act),
        blocks.DownTransition(3, 8, 2, act, dropout_prob=0.5),
    )


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "resenc": resenc, "vnet": vnet, "vnet with prelu": partial(vnet, "prelu"),
}  # fmt: skip


def encoder_named(name: str, training: bool = True) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS[name]().double().train(training)
    unsettle(encoder)
    return encoder


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "patch"), [("random", 8), ("random", 4), ("unequal", 4)])
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_equals_masked_dense(name: str, kind: str, patch: int, training: bool) -> None:
    visible = blocks(kind)
    assert_parity(encoder_named(name, training), images_for(visible, patch, 2), visible, 1e-11)


@pytest.mark.parametrize("name", ENCODERS)
def test_all_visible_is_the_dense_network(name: str) -> None:
    visible = blocks("all")
    volumes, encoder = images_for(visible, 4, 2), encoder_named(name)
    dense = observe(lambda network, volumes, _: list(network(volumes)), copy.deepcopy(encoder), volumes, visible)
    for encode in (encode_visible, encode_masked_dense):
        actual = observe(encode, copy.deepcopy(encoder), volumes, visible)
        for key in dense:
            close(actual[key], dense[key])


@pytest.mark.parametrize("name", ENCODERS)
def test_no_masked_voxel_reaches_a_feature(name: str) -> None:
    visible = blocks()
    assert_no_leak(encoder_named(name), images_for(visible, 4, 2), visible)


# Each rule alone against the dense operation.


@pytest.mark.parametrize("kernel", [(1, 1, 1), (2, 2, 2), (3, 3, 3), (5, 5, 5), (1, 3, 5)], ids=str)
def test_convolution(kernel: tuple[int, int, int]) -> None:
    """Tiles of 1, 2 and 4 voxels: below 4 a product of gathered rows, few or many, from 4 on tiles with a halo."""
    compared, visible = 0, blocks()
    for stride, side, (channels, groups) in product((1, 2), (1, 2, 4), ((3, 1), (17, 1), (4, 2), (4, 4))):
        volumes = images_for(visible, side, channels)
        D = 40 if channels == 17 else 2 * groups
        weight = torch.randn(D, channels // groups, *kernel, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(D, dtype=torch.float64, requires_grad=True)
        padding = tuple((k - 1) // 2 for k in kernel)

        def operation(x: Tensor) -> Tensor:
            return F.conv3d(x, weight, bias, stride, padding, 1, groups)  # noqa: B023

        if side % stride == 0 and keeps_grid(operation, volumes, stride):
            assert_operation(operation, volumes, visible, weight, bias)
            compared += 1
        else:
            with pytest.raises(UserError):
                encode_visible(Operation(operation), volumes, visible)
    assert compared >= 8


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (2, 1, 1), (3, 1, 2)])
def test_padding_ahead_of_the_convolution(kernel: int, stride: int, dilation: int, side: int) -> None:
    """More padding at the end, and dilation: windows that are not symmetric."""
    visible, total = blocks(), dilation * (kernel - 1) + 1 - stride
    widths = (total // 2, total - total // 2) * 3
    weight = torch.randn(2, 3, *[kernel] * 3, dtype=torch.float64, requires_grad=True)
    assert_operation(
        lambda x: F.conv3d(F.pad(x, widths), weight, None, stride, 0, dilation), images_for(visible, side), visible,
        weight,
    )  # fmt: skip


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (F.max_pool3d, {"kernel_size": 2}),
        (F.max_pool3d, {"kernel_size": 3, "stride": 2, "padding": 1}),
        (F.avg_pool3d, {"kernel_size": 2, "stride": 2}),
        (F.avg_pool3d, {"kernel_size": 3, "stride": 2, "padding": 1}),
        (F.avg_pool3d, {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
    ],
)
def test_pooling(pool: Any, options: dict[str, Any], side: int) -> None:
    visible = blocks()
    assert_operation(lambda x: pool(x, **options), images_for(visible, side, 5) - 0.5, visible)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.elu(x * 1, inplace=True) + F.leaky_relu(x * 1, 0.1, inplace=True),
        lambda x: F.prelu(x, torch.linspace(-1, 1, 6).double()),
        lambda x: torch.add(x.repeat([1, 2, 1, 1, 1]), torch.cat([x, x.relu()], 1)),
        lambda x: F.layer_norm(x.permute(0, 2, 3, 4, 1), (6,)).permute(0, 4, 1, 2, 3),
        lambda x: x.reshape(x.shape[0], 2, 3, *x.shape[2:]).transpose(1, 2).flatten(1, 2),
        lambda x: x * torch.arange(8 * 12 * 8).double().view(8, 12, 8) + torch.ones(6, 1, 1, 1).double(),
        lambda x: F.dropout3d(x, 0.5, training=False) + F.dropout(x, 0.0),
        lambda x: F.interpolate(x, scale_factor=2),
    ],
)
def test_position_wise(operation: Callable[[Tensor], Tensor]) -> None:
    visible = blocks("unequal")
    assert_operation(operation, images_for(visible, 4, 6), visible)


@pytest.mark.parametrize(
    "module",
    [
        nn.InstanceNorm3d(6),
        nn.InstanceNorm3d(6, affine=True),
        nn.GroupNorm(2, 6),
        Operation(lambda x: x * torch.sigmoid(F.adaptive_avg_pool3d(x, 1))),
        Operation(lambda x: x - x.mean((2, 3, 4), keepdim=True)),
    ],
)
@pytest.mark.parametrize("kind", ["random", "unequal"])
def test_statistics_of_each_volume(module: nn.Module, kind: str) -> None:
    visible, module = blocks(kind), module.double()
    unsettle(module)
    volumes = images_for(visible, 2, 6).requires_grad_()

    def operation(x: Tensor) -> Tensor:
        out = module(x)
        value: Tensor = out[0] if isinstance(out, list) else out
        return value

    (actual,) = encode_visible(Operation(operation), volumes, visible)
    expected = per_image(operation, volumes, visible)
    close(actual, expected)
    cotangent = torch.randn_like(volumes)
    close(*(torch.autograd.grad(out, volumes, cotangent)[0] for out in (actual, expected)))


def test_an_instance_of_one_voxel_is_its_bias() -> None:
    visible = torch.tensor([[[[True, False]]], [[[True, True]]]])
    norm = nn.InstanceNorm3d(3, affine=True).double()
    unsettle(norm)
    volumes = images_for(visible, 1)
    for encode in (encode_visible, encode_masked_dense):
        (feature,) = encode(Operation(norm), volumes, visible)
        close(feature[0, :, 0, 0, 0], norm.bias)


def test_batch_norm_is_over_visible_positions() -> None:
    visible, norm = blocks("unequal"), nn.BatchNorm3d(5).double()
    volumes = images_for(visible, 4, 5)
    seen = visible.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    (feature,) = encode_visible(Operation(norm), volumes, visible)
    values = volumes.movedim(1, -1)[seen]  # (R, C)
    expected = (values - values.mean(0)) / (values.var(0, unbiased=False) + norm.eps).sqrt()
    close(feature.movedim(1, -1)[seen], expected)
    assert norm.running_mean is not None
    close(norm.running_mean, 0.1 * values.mean(0))


def test_dropout_drops_channels_of_volumes() -> None:
    visible = torch.ones(16, 2, 1, 2, dtype=torch.bool)
    (feature,) = encode_visible(Operation(lambda x: F.dropout3d(x, 0.5)), torch.ones(16, 8, 4, 2, 4), visible)
    values = feature.flatten(2)
    assert (values == values[..., :1]).all()
    assert set(values[..., 0].flatten().tolist()) == {0.0, 2.0}
    assert 0 < values[0, :, 0].sum() < 16


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("conv_transpose3d", lambda x: F.conv_transpose3d(x, torch.ones(3, 1, 2, 2, 2).double(), stride=2)),
        ("unequal sides.*--spacing", lambda x: F.max_pool3d(x, (1, 2, 2))),
        ("repeat", lambda x: x.repeat(1, 1, 1, 1, 2)),
        ("mean", lambda x: x - x.mean((2, 3), keepdim=True)),
        ("flatten", lambda x: x.flatten(2)),
        ("running statistics", nn.InstanceNorm3d(3, track_running_stats=True).double()),
        ("does not keep", lambda x: F.conv3d(x, torch.ones(1, 3, 3, 3, 3).double())),
        ("returns a feature", lambda x: x.transpose(2, 4)),
    ],
)
def test_an_operation_without_a_rule_is_refused_by_name(name: str, operation: Callable[[Any], Any]) -> None:
    visible = blocks()
    with pytest.raises(UserError, match=name):
        encode_visible(Operation(operation), images_for(visible, 4), visible)


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 2, 2, 2), (2, 2, 2, 4), (2, 3, 2, 2)])
def test_a_grid_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="visible grid"):
        pack(torch.randn(2, 1, 8, 8, 8), torch.ones(shape, dtype=torch.bool))


def test_unpack_is_the_inverse_of_pack() -> None:
    visible = blocks()
    volumes = images_for(visible, 4)
    seen = visible[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    close(unpack(pack(volumes, visible)), volumes * seen)
    fill = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    close(unpack(pack(volumes, visible), fill), torch.where(seen, volumes, fill.view(-1, 1, 1, 1)))


@pytest.mark.parametrize(
    "window",
    [
        Window(2, (Axis(2, 3, -1), Axis(2, 3, -1), Axis(2, 1, 0))),
        Window(2, (Axis(1, 3, -1, 2), Axis(1, 5, -2, 2), Axis(1, 3, -2, 2, 2))),
        Window(1, (Axis(1, 3, -1), Axis(1, 5, -2), Axis(1, 3, 0))),
    ],
)
def test_table_is_that_of_a_convolution(window: Window) -> None:
    """A window reads what a convolution with one weight of 1 reads: here through the positions' own numbers."""
    visible = blocks()
    grid = VisibleGrid(visible)
    sides = grid.sides(window.side)
    numbers = torch.full((2, *sides), grid.tiles * window.area)
    numbers.view(-1)[grid.positions(window.side)] = torch.arange(grid.tiles * window.area)
    most = max(axis.kernel * axis.dilation for axis in window.axes)
    padded = F.pad(numbers, [most] * 6, value=grid.tiles * window.area + 1)
    found = []
    for cell in visible.nonzero().tolist():
        starts = [most + place * window.side for place in cell[1:]]
        offsets = [torch.tensor(axis.offsets()).flatten() for axis in window.axes]
        reads = [start + offset for start, offset in zip(starts, offsets, strict=True)]
        cut = padded[cell[0]][torch.meshgrid(*reads, indexing="ij")]
        parts = [size for axis in window.axes for size in (axis.outputs, axis.kernel)]
        found.append(cut.view(parts).permute(0, 2, 4, 1, 3, 5))
    assert torch.equal(grid.table(window).long(), torch.stack(found))


@pytest.mark.parametrize("name", ["resenc", "vnet"])
def test_autocast_computes_in_the_type_of_the_dense_network(name: str) -> None:
    visible = blocks("all")
    encoder = encoder_named(name, training=False).float()
    volumes = images_for(visible, 4, 2).float()
    with torch.no_grad():
        exact = list(encoder(volumes))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, actual = list(encoder(volumes)), encode_visible(encoder, volumes, visible)
    torch.stack([each.float().square().mean() for each in actual]).sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in encoder.parameters())
    for truth, dense, own in zip(exact, rounded, actual, strict=True):
        assert own.dtype == dense.dtype
        # both round in orders of their own: they are about as far from the truth, not equally far
        assert (own.float() - truth).norm() < 3 * (dense.float() - truth).norm() + 1e-6
