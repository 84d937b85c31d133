"""Choice between Triton's kernels and PyTorch's operations."""

import logging
import subprocess
import sys

import pytest
import torch
from torch import nn

from maeseg.sparse import encode_visible, triton_dispatch

STEP = """
import sys, torch, maeseg
from torch import nn
encoder = type("Encoder", (nn.Conv2d,), {"forward": lambda self, images: [nn.Conv2d.forward(self, images)]})
images, visible = torch.randn(1, 20, 8, 8), torch.tensor([[[True, False]] * 2])
maeseg.encode_visible(encoder(20, 4, 3, 1, 1), images, visible)[0].sum().backward()
print(sorted({"maeseg.sparse.triton_kernels", "maeseg.sparse.triton_dispatch"} & sys.modules.keys()))
"""


def test_no_kernel_is_imported_by_a_step_on_the_cpu() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['maeseg.sparse.triton_dispatch']"


def test_double_precision_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", {"cpu"})
    assert triton_dispatch.triton_kernels(torch.zeros(1, dtype=torch.float64)) is None


def test_without_triton_the_engine_runs_and_one_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Encoder(nn.Conv2d):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
            return [super().forward(images), super().forward(images)]

    encoder, images, visible = Encoder(20, 4, 3, 1, 1), torch.randn(1, 20, 4, 4), torch.tensor([[[True, False]] * 2])
    expected = encode_visible(encoder, images, visible)
    monkeypatch.setattr(triton_dispatch, "TRITON_DEVICES", {"cpu"})
    monkeypatch.setitem(sys.modules, "maeseg.sparse.triton_kernels", None)
    triton_dispatch.import_kernels.cache_clear()
    with caplog.at_level(logging.WARNING):
        actual = encode_visible(encoder, images, visible)
    triton_dispatch.import_kernels.cache_clear()
    assert all(torch.equal(got, want) for got, want in zip(actual, expected, strict=True))
    assert len(caplog.records) == 1 and "Triton" in caplog.text
