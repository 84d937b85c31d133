"""Triton's kernels against the engine's operations of PyTorch: values and gradients.

Without a GPU they run under Triton's interpreter, which tests/conftest.py chooses.
"""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.sparse_parity import GRIDS, UNEQUAL, encoder_of, grid, images_for, observe
from maeseg.sparse import encode_visible, triton_dispatch, unpack
from maeseg.sparse.gather import Gather, geometry
from maeseg.sparse.rules_neighborhood import FEW_CHANNELS, gather_visible
from maeseg.sparse.tiles import channels_last, from_rows, plain, to_rows
from maeseg.sparse.visible_grid import Axis, VisibleGrid, Window

kernels: Any = pytest.importorskip("maeseg.sparse.triton_kernels", reason="Triton is not installed")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def window_of(side: int, kernel: tuple[int, ...], stride: int = 1, dilation: int = 1, shift: int = 0) -> Window:
    """Window of a convolution that keeps the grid, padded at the start by ``shift`` less than at the end."""
    axes = (Axis(side // stride, k, shift - (k - 1) * dilation // 2, stride, dilation) for k in kernel)
    return Window(side, tuple(axes))


WINDOWS = {
    "1 x 1": window_of(2, (1, 1)),
    "1 x 1, stride 2": window_of(4, (1, 1), stride=2),
    "2 x 2, stride 2": window_of(4, (2, 2), stride=2),
    "2 x 2, padded at the end": window_of(2, (2, 2)),
    "3 x 3": window_of(4, (3, 3)),
    "3 x 3, tiles of one position": window_of(1, (3, 3)),
    "3 x 3, stride 2": window_of(4, (3, 3), stride=2),
    "3 x 3, stride 2, tiles of two positions": window_of(2, (3, 3), stride=2),
    "3 x 3, stride 2, padded at the end": window_of(4, (3, 3), stride=2, shift=1),
    "3 x 3, dilated": window_of(2, (3, 3), dilation=2),
    "3 x 3, dilated, stride 2": window_of(2, (3, 3), stride=2, dilation=2),
    "5 x 5": window_of(2, (5, 5)),
    "5 x 5, stride 2": window_of(2, (5, 5), stride=2),
    "7 x 7": window_of(1, (7, 7)),
    "7 x 7, stride 2": window_of(2, (7, 7), stride=2),
    "1 x 9": window_of(1, (1, 9)),
    "9 x 1": window_of(1, (9, 1)),
}
"""Windows of the convolutions of every encoder in docs/encoders.md; those of few channels are gathers."""

MANY = 12
"""Kernel positions above which the interpreter is slow; such windows occur in depthwise and grouped convolutions."""

GATHERS = {
    "3 x 3, stride 2": window_of(4, (3, 3), stride=2),
    "7 x 7, stride 2": Window(4, (Axis(1, 9, -3), Axis(1, 9, -3))),
    "of a tile of one position": Window(1, (Axis(1, 13, -6), Axis(1, 13, -6))),
    "rectangle": Window(2, (Axis(1, 4, -1), Axis(1, 5, -2))),
}
"""Windows of pooling and of convolutions of few channels: tiles with a halo."""

CHANNELS = {
    "dense": (20, 24, 1),
    "several blocks": (70, 130, 1),
    "groups": (24, 10, 2),
    "depthwise": (21, 21, 21),
    "multiplier": (3, 6, 3),
}
"""Channels in and out, and groups."""


@pytest.mark.parametrize("window", WINDOWS)
def test_depthwise_convolution_of_each_window(window: str) -> None:
    compare_convolution(WINDOWS[window], CHANNELS["depthwise"], grid(GRIDS["random"]), torch.float64)


@pytest.mark.parametrize("window", [name for name in WINDOWS if WINDOWS[name].kernel_positions <= MANY])
def test_convolution_of_each_window(window: str) -> None:
    compare_convolution(WINDOWS[window], CHANNELS["dense"], grid(GRIDS["random"]), torch.float64)


@pytest.mark.parametrize("channels", CHANNELS)
def test_convolution_of_any_channels(channels: str) -> None:
    visible = grid(UNEQUAL)
    visible[1] = False  # an image without rows
    compare_convolution(window_of(4, (1, 3)), CHANNELS[channels], visible, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("channels", ["groups", "depthwise"])
def test_convolution_of_each_type(channels: str, dtype: torch.dtype) -> None:
    compare_convolution(WINDOWS["3 x 3, stride 2"], CHANNELS[channels], grid(GRIDS["corners"]), dtype)


@pytest.mark.parametrize("window", [window_of(2, (2, 2, 2), stride=2), window_of(1, (3, 1, 3))], ids=["2", "3"])
def test_convolution_of_volumes(window: Window) -> None:
    visible = torch.tensor([[[[1, 0, 1], [0, 1, 1]]], [[[0, 1, 1], [1, 0, 0]]]], dtype=torch.bool)
    compare_convolution(window, CHANNELS["groups"], visible, torch.float32)


def compare_convolution(window: Window, channels: tuple[int, int, int], visible: Tensor, dtype: torch.dtype) -> None:
    """Compare with the dense convolution of the map in double precision, values and gradients."""
    (C, D, groups), seen = channels, VisibleGrid(visible, DEVICE)
    rows = torch.randn(seen.tiles * window.area, C, device=DEVICE, dtype=dtype).requires_grad_()
    weight = torch.randn(D, C // groups, *(axis.kernel for axis in window.axes), device=DEVICE, dtype=dtype)
    weight = channels_last(weight).requires_grad_()
    actual = kernels.TableConvolution.apply(rows, weight, seen, window, groups)
    cotangent = torch.randn_like(actual)
    found = [actual, *torch.autograd.grad(actual, (rows, weight), cotangent)]
    exact = [each.detach().double().requires_grad_() for each in (rows, weight)]
    expected = convolve_map(exact[0], exact[1], seen, window, groups)
    wanted = [expected, *torch.autograd.grad(expected, exact, cotangent.double())]
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == dtype
        close(got, want)


def convolve_map(rows: Tensor, weight: Tensor, seen: VisibleGrid, window: Window, groups: int) -> Tensor:
    """Rows of the dense convolution of the map, zero where masked."""
    around = []
    for axis in reversed(window.axes):  # F.pad begins with the last dimension
        last = axis.start + (axis.outputs - 1) * axis.stride + (axis.kernel - 1) * axis.dilation
        around += [-axis.start, last + 1 - window.side]
    padded = F.pad(unpack(from_rows(rows * 1, seen, window.side)), around)
    strides, _, dilations = geometry(window)
    convolve = F.conv2d if len(window.axes) == 2 else F.conv3d
    values = convolve(padded, weight, None, strides, 0, dilations, groups)
    return to_rows(plain(gather_visible(values, seen, window.axes[0].outputs)))


def close(got: Tensor, want: Tensor) -> None:
    scale = max(1.0, float(want.detach().abs().max()))
    torch.testing.assert_close(got.double(), want, rtol=0, atol=TOLERANCE[got.dtype] * scale)


@pytest.mark.parametrize("channels", ["dense", "depthwise"])
def test_a_kernel_gradient_is_summed_in_parts(channels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (C, D, groups), seen = CHANNELS[channels], VisibleGrid(torch.ones(1, 6, 6, dtype=torch.bool), DEVICE)
    table = kernels.flat_table(seen, window_of(2, (1, 2)))
    rows, grad = (torch.randn(len(table), width, dtype=torch.float64, device=DEVICE) for width in (C, D))
    parted = kernels.kernel_gradient(rows, grad, table, groups)
    assert kernels.split(len(table), 3, 32) == (2, 128)
    monkeypatch.setattr(kernels, "PROGRAMS", 1)
    assert kernels.split(len(table), 3, 32) == (1, 256)
    close(parted, kernels.kernel_gradient(rows, grad, table, groups))


@pytest.mark.parametrize("outside", [0.0, float("-inf")])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("window", GATHERS)
def test_gather_and_its_gradient(
    window: str, dtype: torch.dtype, outside: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = VisibleGrid(grid(UNEQUAL), DEVICE)
    rows = torch.randn(seen.tiles * GATHERS[window].side ** 2, 11, device=DEVICE, dtype=dtype).requires_grad_()
    runs = []
    for devices in (set(), {DEVICE.type}):
        monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", devices)
        monkeypatch.setattr(triton_dispatch, "TRITON_TYPES", tuple(TOLERANCE))
        gathered = Gather.apply(rows, seen, GATHERS[window], outside)
        (gradient,) = torch.autograd.grad(gathered, rows, torch.ones_like(gathered))
        runs.append((gathered, gradient))
    for want, got in zip(*runs, strict=True):
        assert torch.equal(got, want)  # sums of few ones


class Small(nn.Module):
    """Each way that the engine convolves and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.wide = nn.Conv2d(24, 20, 3, 1, 1, groups=1)
        self.deep = nn.Conv2d(20, 20, 3, 2, 1, groups=20)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = F.max_pool2d(self.stem(images), 3, 2, 1)
        return [maps, self.deep(self.wide(maps.relu()))]


def test_encoder_equals_that_on_operations_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    compare_encoder(Small().double(), images_for(torch.ones(1, 1, 3), 8), monkeypatch)


@pytest.mark.slow
def test_windows_of_every_encoder_are_among_the_tested() -> None:
    tested = {
        (*(axis.kernel for axis in window.axes), window.axes[0].stride, window.axes[0].dilation)
        for window in WINDOWS.values()
    }  # fmt: skip
    table = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| [^|]+ \| (\w+) \|[^|]+\|[^|]+\| works \|", table, re.MULTILINE)
    assert len(names) > 30
    for name in names:
        for module in timm.create_model(name, features_only=True).modules():
            if isinstance(module, nn.Conv2d) and (module.groups > 1 or module.in_channels >= FEW_CHANNELS):
                shape = (*module.kernel_size, module.stride[0], module.dilation[0])
                assert shape in tested, f"{name} has a convolution of {shape}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet"])
def test_encoders_of_timm_equal_those_on_operations_of_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_encoder(encoder_of(name), images_for(torch.ones(1, 1, 3), 32), monkeypatch)


def compare_encoder(encoder: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    visible, encoder, images = grid([[[1, 0, 1]]]), encoder.to(DEVICE), images.to(DEVICE)
    runs = []
    for devices in (set(), {DEVICE.type}):
        monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", devices)
        monkeypatch.setattr(triton_dispatch, "TRITON_TYPES", tuple(TOLERANCE))
        runs.append(observe(encode_visible, copy.deepcopy(encoder), images, visible))
    for key, want in runs[0].items():
        scale = max(1e-3, float(want.abs().max()))
        torch.testing.assert_close(runs[1][key], want, rtol=0, atol=1e-9 * scale)
    assert any(not torch.equal(runs[1][key], want) for key, want in runs[0].items())  # sums of another order
