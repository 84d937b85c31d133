"""BatchNorm with the activation after it as Triton kernels, against PyTorch's two operations.

Without a GPU they run under Triton's interpreter, which tests/conftest.py chooses.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.sparse_parity import UNEQUAL, grid
from maeseg.errors import UserError
from maeseg.sparse import Tiles, encode_visible, pack, triton_dispatch
from maeseg.sparse.rules_batch_norm import NormalizedTiles

kernels: Any = pytest.importorskip("maeseg.sparse.triton_norm", reason="Triton is not installed")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda values: values,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
}


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the kernels on this machine's device, in double precision too."""
    monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", {DEVICE.type})
    monkeypatch.setattr(triton_dispatch, "TRITON_TYPES", tuple(TOLERANCE))


def close(got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    scale = max(1.0, float(want.detach().abs().max()))
    torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=TOLERANCE[dtype] * scale)


def compare(rows: Tensor, activation: str) -> None:
    """Compare values, gradients and running statistics with double precision, at a weight and bias of its own."""
    C, dtype = rows.shape[1], rows.dtype
    shared = torch.float64 if dtype == torch.float64 else torch.float32  # of a network under autocast
    weight, bias, mean, var = (torch.rand(C, dtype=shared, device=DEVICE) * 3 for _ in range(4))
    given = [each.requires_grad_() for each in (rows, weight - 1, bias - 1)]
    exact = [each.detach().double().requires_grad_() for each in given]
    mean_64, var_64 = mean.double(), var.double()
    found = kernels.NormalizeActivate.apply(
        *given, *kernels.statistics(rows.detach(), mean, var, 0.3, 1e-3), activation
    )
    expected = ACTIVATIONS[activation](F.batch_norm(exact[0], mean_64, var_64, exact[1], exact[2], True, 0.3, 1e-3))
    cotangent = torch.randn_like(found)
    gradients = torch.autograd.grad(found, given, cotangent)
    exact_gradients = torch.autograd.grad(expected, exact, cotangent.double())
    assert [each.dtype for each in (found, *gradients, mean, var)] == [dtype, dtype, *[shared] * 4]
    for got, want in zip((found, *gradients, mean, var), (expected, *exact_gradients, mean_64, var_64), strict=True):
        close(got, want, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation(activation: str) -> None:
    compare(3 * torch.randn(70, 11, dtype=torch.float64, device=DEVICE), activation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_each_type(dtype: torch.dtype) -> None:
    compare(torch.randn(70, 11, dtype=dtype, device=DEVICE), "silu")


@pytest.mark.parametrize(("R", "C"), [(2, 1), (31, 130), (33, 128), (513, 3)])
def test_sizes_that_fill_no_block(R: int, C: int) -> None:
    compare(torch.randn(R, C, dtype=torch.float64, device=DEVICE), "relu")


def test_statistics_of_several_parts_and_of_values_far_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(700, 5, dtype=torch.float64, device=DEVICE) + torch.tensor([0, 1e6, -1e6, 1e3, 0], device=DEVICE)
    variances, means = torch.var_mean(rows, 0, correction=0)
    for programs in (1024, 1):
        monkeypatch.setattr("maeseg.sparse.triton_kernels.PROGRAMS", programs)
        mean, rstd = kernels.statistics(rows, None, None, 0.1, 1e-9)
        torch.testing.assert_close(mean, means, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(rstd, (variances + 1e-9).rsqrt(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("activation", ["relu", "relu6", "hardswish"])
def test_corners_and_what_is_not_a_number(activation: str) -> None:
    corners = torch.tensor([0.0, 6.0, 3.0, -3.0, float("nan"), -1.0], dtype=torch.float64, device=DEVICE)
    rows, ones, zeros = corners[:, None].expand(6, 2).clone().requires_grad_(), *torch.tensor([[1.0] * 2, [0.0] * 2])
    found = kernels.NormalizeActivate.apply(
        rows, ones.double().to(DEVICE), zeros.double().to(DEVICE), zeros.double().to(DEVICE), ones.double().to(DEVICE),
        activation,
    )  # fmt: skip
    torch.testing.assert_close(found, ACTIVATIONS[activation](rows.detach()), equal_nan=True)


class Normed(nn.Module):
    """Ways to read the result of BatchNorm."""

    def __init__(self, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.after = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), after

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.after(self.norm(self.conv(images)))]


def in_place_twice(maps: Tensor) -> Tensor:
    F.relu(maps, inplace=True)
    return maps + 1


def of_one_after_the_other(maps: Tensor) -> Tensor:
    return F.silu(maps) + F.relu(maps) * maps.sigmoid()


AFTER: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda maps: maps,
    "an activation": nn.ReLU(),
    "an activation in place": nn.ReLU(inplace=True),
    "in place, the map read again": in_place_twice,
    "bounds of relu6": nn.ReLU6(),
    "other bounds": nn.Hardtanh(-1, 1),
    "an activation without a kernel": nn.GELU(),
    "several": of_one_after_the_other,
    "a sum": lambda maps: maps + maps,
    "a convolution": nn.Conv2d(6, 4, 3, padding=1).double(),
    "a list": lambda maps: torch.cat([maps, maps], 1),
}


@pytest.mark.parametrize("after", AFTER)
def test_whatever_follows_reads_the_normalized_map(after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visible, runs = grid(UNEQUAL), []
    encoder = Normed(AFTER[after]).double().to(DEVICE)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64, device=DEVICE)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    for devices in (set(), {DEVICE.type}):
        monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", devices)
        monkeypatch.setattr(triton_dispatch, "TRITON_TYPES", tuple(TOLERANCE))
        encoder.load_state_dict(state)
        encoder.zero_grad()
        [maps] = encode_visible(encoder, images, visible)
        maps.square().sum().backward()
        gradients = [each.grad.clone() for each in encoder.parameters() if each.grad is not None]
        runs.append([maps.detach(), *gradients, *(each.double().clone() for each in encoder.buffers())])
    for want, got in zip(*runs, strict=True):
        close(got, want, torch.float64)


def tiles_and_normed() -> tuple[Tiles, Tensor]:
    tiles = pack(torch.randn(2, 3, 8, 12, dtype=torch.float64, device=DEVICE), grid(UNEQUAL))
    ones = torch.ones(3, dtype=torch.float64, device=DEVICE)
    return tiles, F.batch_norm(tiles, None, None, ones, ones, training=True)


def test_batch_norm_waits_only_where_kernels_run(triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _, waiting = tiles_and_normed()
    assert isinstance(waiting, NormalizedTiles)
    assert not isinstance(F.relu(waiting), NormalizedTiles)
    assert waiting.shape == (2, 3, 8, 12)
    monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", set())
    assert not isinstance(tiles_and_normed()[1], NormalizedTiles)


def test_a_map_that_is_changed_after_batch_norm_is_refused(triton: None) -> None:
    tiles, normed = tiles_and_normed()
    tiles.add_(1)
    with pytest.raises(UserError, match="in place after BatchNorm"):
        F.relu(normed)


def test_evaluation_reads_running_statistics(triton: None) -> None:
    encoder = Normed(nn.ReLU()).double().to(DEVICE).eval()
    images = torch.randn(1, 3, 8, 12, dtype=torch.float64, device=DEVICE)
    visible = torch.ones(1, 2, 3, dtype=torch.bool)
    [want], [got] = encoder(images), encode_visible(encoder, images, visible)
    close(got, want, torch.float64)
