"""A network whose answer is known, as PyTorch and as an exported file."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import NETWORK_SPEC
from maeseg.prediction.backends import TorchBackend
from maeseg.prediction.segmenter import Segmenter

WEIGHT = 3.0
RED_MEAN, RED_STD = IMAGENET.mean[0], IMAGENET.std[0]


class Red(nn.Module):
    """The logit is three times the normalized red channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(WEIGHT))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.shapes.append(tuple(images_BCHW.shape))
        return images_BCHW[:, :1] * self.weight


def spec_of(
    size: tuple[int, int] = (32, 32), *, classes: Classes = BINARY, crop: bool = False,
    stored: tuple[int, int] | None = None, normalization: Normalization = IMAGENET,
) -> NetworkSpec:  # fmt: skip
    """A description of a segmentation network; encoder and widths do not matter where it is not built."""
    return NetworkSpec("segmentation", "test_resnet", (8, 8, 8, 8, 8), size, normalization, classes, crop, stored)


def segmenter_with(network: nn.Module, spec: NetworkSpec) -> Segmenter:
    """A segmenter of a network of PyTorch."""
    return Segmenter(TorchBackend(network, spec))


def red_segmenter(side: int = 32, stored: tuple[int, int] | None = None) -> tuple[Segmenter, Red]:
    """A segmenter of the red network."""
    model = Red()
    return segmenter_with(model, spec_of((side, side), stored=stored)), model


def expected_red(pixels_CHW: Tensor) -> Tensor:
    """What it says of each pixel of an image at the network's size: the probability (H, W)."""
    red_HW = pixels_CHW[0].double() / 255
    return (WEIGHT * (red_HW - RED_MEAN) / RED_STD).sigmoid()


def write_red_onnx(file: Path, spec: NetworkSpec | None = None, metadata: dict[str, str] | None = None) -> Path:
    """The same network as ``maeseg export --format onnx`` writes one.

    Args:
        file: The file to write.
        spec: Its description.
        metadata: Metadata in place of the description.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    def constant(name: str, values: list[int] | list[float], dtype: type) -> TensorProto:
        return numpy_helper.from_array(np.array(values, dtype), name)

    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", "first", "second", "axis"], ["red"]),
            helper.make_node("Mul", ["red", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["logits"]),
        ],
        "red",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, "height", "width"])],
        [
            constant("first", [0], np.int64),
            constant("second", [1], np.int64),
            constant("axis", [1], np.int64),
            constant("scale", [WEIGHT / RED_STD], np.float32),
            constant("shift", [-WEIGHT * RED_MEAN / RED_STD], np.float32),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    described = {NETWORK_SPEC: json.dumps((spec or spec_of()).to_dict())}
    helper.set_model_props(model, described if metadata is None else metadata)
    checker.check_model(model)
    save(model, file)
    return file
