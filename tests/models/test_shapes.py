"""Networks without values."""

import pytest
import timm
import torch
from torch import nn

from maeseg.models.shapes import outline, without_values


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_an_outline_has_the_names_shapes_and_types_of_the_network(name: str) -> None:
    def described(network: nn.Module) -> list[tuple[object, ...]]:
        parameters = [(key, value.shape, value.dtype, value.requires_grad) for key, value in network.named_parameters()]
        return [*parameters, *((key, value.shape, value.dtype) for key, value in network.named_buffers())]

    assert described(outline(name)) == described(timm.create_model(name))
    assert {value.device.type for value in outline(name).state_dict().values()} == {"meta"}


def test_tensors_with_values_are_computed() -> None:
    with without_values():
        assert torch.ones(3, device="cpu").mul_(2).add_(1).tolist() == [3, 3, 3]
        assert nn.init.constant_(torch.empty(2, device="cpu"), 7).tolist() == [7, 7]
