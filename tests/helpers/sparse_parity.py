"""What the tests of the sparse engine share: grids, encoders, and the comparison with the oracle."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from maeseg.sparse import encode_visible
from maeseg.sparse.masked_dense import encode_masked_dense

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
    """The grid as 0.0 and 1.0, (B, 1, height, ...); that of a volume has three axes."""
    sides = [height // visible_BYX.shape[1]] * (visible_BYX.dim() - 1)
    return visible_BYX[:, None].double().kron(torch.ones(1, 1, *sides, dtype=torch.float64))


def images_for(visible_BYX: Tensor, patch: int, channels: int = 3) -> Tensor:
    B, *cells = visible_BYX.shape
    return torch.randn(B, channels, *(count * patch for count in cells), dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10 * scale)


def encoder_of(name: str, training: bool = True, **options: Any) -> nn.Module:
    """A timm encoder in float64 whose every parameter and buffer is away from its telling initial value."""
    encoder = timm.create_model(name, features_only=True, **options).double().train(training)
    assert isinstance(encoder, nn.Module)
    unsettle(encoder)
    return encoder


def unsettle(encoder: nn.Module) -> None:
    """Move what starts at zero or one: the last norm of a block, layer scales, biases, running statistics."""
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.dim() <= 1 or not parameter.abs().max() > 1e-3:
                parameter.normal_(std=0.3)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.abs_().add_(0.5)
        for name, buffer in encoder.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                buffer.normal_(std=0.3)


def observe(encode: Encode, encoder: nn.Module, images: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Features, gradients of the images and of every parameter, and the buffers after the pass."""
    images = images.clone().requires_grad_()
    torch.default_generator.manual_seed(2)  # drop-path
    features = [feature for feature in encode(encoder, images, visible) if feature.shape[1]]
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


def assert_parity(encoder: nn.Module, images: Tensor, visible: Tensor, tolerance: float = 1e-9) -> None:
    """Values, gradients and buffers equal those of the oracle, relative to the largest of each."""
    expected = observe(encode_masked_dense, copy.deepcopy(encoder), images, visible)
    actual = observe(encode_visible, copy.deepcopy(encoder), images, visible)
    assert actual.keys() == expected.keys()
    for name in expected:
        scale = max(1e-3, float(expected[name].abs().max()))
        torch.testing.assert_close(
            actual[name], expected[name], rtol=0, atol=tolerance * scale, msg=partial("{}: {}".format, name)
        )


def assert_no_leak(encoder: nn.Module, images: Tensor, visible: Tensor) -> None:
    """Noise in the masked pixels changes no feature, and no masked pixel gets a gradient."""
    images = images.clone().requires_grad_()
    hidden = enlarged(visible, images.shape[2]).expand_as(images) == 0
    torch.default_generator.manual_seed(2)
    features = encode_visible(copy.deepcopy(encoder), images, visible)
    noisy = torch.where(hidden, 1e3 * torch.randn_like(images), images.detach())
    torch.default_generator.manual_seed(2)
    changed = encode_visible(copy.deepcopy(encoder), noisy, visible)
    for feature, other in zip(features, changed, strict=True):
        assert torch.equal(feature, other)
        outside = enlarged(visible, feature.shape[2]).expand_as(feature) == 0
        assert not feature[outside].any()
        assert feature[~outside].any() or not feature.shape[1]
    torch.cat([feature.flatten() for feature in features]).square().sum().backward()
    assert images.grad is not None
    assert not images.grad[hidden].any()
    assert images.grad[~hidden].any()


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


def per_image(operation: Callable[[Tensor], Tensor], images: Tensor, visible: Tensor) -> Tensor:
    """Apply a dense operation to each image's visible positions in a row, (1, C, n, 1), by hand."""
    seen, axes = enlarged(visible, images.shape[2])[:, 0] == 1, visible.dim() - 1
    results = []
    for image, where in zip(images, seen, strict=True):
        values = operation(image[:, where].view(1, len(image), -1, *[1] * (axes - 1))).flatten(2)[0]
        results.append(torch.zeros_like(image).masked_scatter(where, values))
    return torch.stack(results)
