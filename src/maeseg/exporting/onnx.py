"""A fine-tuned network as one ONNX file that needs nothing of maeseg or PyTorch: the contract of that file.

Input ``image``: float32 (batch, channels, height, width), channels in the order of training (3 are red, green, blue),
values 0..1: an 8-bit pixel divided by 255, a 16-bit one by the ``largest`` of ``normalization``, anything else as it
was stored in training. Batch, height and width are free; height and width are multiples of ``stride``. Normalization is
inside the graph. The network was trained at ``image_size`` and is at its best there: resize an image to it, as ``maeseg
predict`` does (bilinearly, antialiased), or with ``native_resolution`` cut tiles of that size.

Output ``logits``: float32 (batch, maps, height, width). With one map its sigmoid is the probability of the second
class, the foreground; otherwise there is a map for each class, their softmax gives probabilities, and the largest is
the prediction.

Metadata (metadata_props): ``maeseg.models.spec_metadata`` describes, writes and reads them. The file holds nothing
else: PyTorch's exporter notes paths of source files at each operation, and these are removed.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from maeseg.data.normalization import Normalization
from maeseg.errors import UserError, first_line
from maeseg.exporting.padding import with_fixed_padding
from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import spec_metadata

INPUT, OUTPUT = "image", "logits"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31 - 2**20
"""Bytes of weights in one file: protobuf ends at 2 GiB."""


class NormalizedNetwork(nn.Module):
    """Graph of the file: images (B, C, H, W), 0..1, to logits (B, K, H, W).

    Args:
        unet: Normalized images to logits.
        normalization: Mean and deviation of the channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, unet: SegmentationNetwork, normalization: Normalization) -> None:
        super().__init__()
        self.unet = unet
        for name, values in (("mean", normalization.mean), ("std", normalization.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Normalize and segment."""
        logits: Tensor = self.unet((image - self.mean) / self.std)
        return logits


def check_onnx() -> None:
    """Raise a UserError that names the extra, unless all that is needed is installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            'run pip install "maeseg[onnx]"'
        )


def onnx_bytes(unet: SegmentationNetwork, spec: NetworkSpec) -> bytes:
    """A segmentation network as the bytes of an ONNX file.

    Args:
        unet: The network, in evaluation mode.
        spec: Description of the network.

    Raises:
        UserError: PyTorch cannot export the encoder, or the file would be too large.
    """
    name = str(unet.encoder.name)
    network = NormalizedNetwork(unet, spec.normalization).eval()
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size > LARGEST:
        raise UserError(
            f"--format onnx: with the encoder {name} the weights take {size / 2**30:.1f} GiB, and an ONNX file ends at "
            "2: give --format smp"
        )
    # Sizes that differ, so that none is taken for another, and none that is 1 anywhere, which would become a constant.
    image_BCHW = torch.zeros(2, spec.channels, 2 * spec.stride, 3 * spec.stride)
    try:
        with _silently(), torch.no_grad():
            program = torch.onnx.export(
                with_fixed_padding(network), (image_BCHW,), dynamo=True, verbose=False, input_names=[INPUT],
                output_names=[OUTPUT], dynamic_shapes={"image": {0: "batch", 2: "height", 3: "width"}},
            )  # fmt: skip
    except Exception as error:  # the exporter passes on any error of a network
        raise UserError(
            f"--format onnx: PyTorch cannot export the encoder {name} for images of any size ({_reason(error)}): give "
            "--format smp, or another encoder"
        ) from error
    assert program is not None
    return _cleaned(program.model_proto, spec)


def _cleaned(model: Any, spec: NetworkSpec) -> bytes:
    """Bytes of a model with a network's metadata in place of the exporter's notes."""
    metadata = spec_metadata(spec)
    model.producer_name, model.producer_version = "maeseg", metadata["maeseg_version"]
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Suppress the exporter's warnings and log: each error is raised as well."""
    with warnings.catch_warnings(action="ignore"):
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def _reason(error: BaseException) -> str:
    """The first line of the message of the first error in a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
