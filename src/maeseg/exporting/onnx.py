"""A fine-tuned network as one ONNX file that needs nothing of maeseg or PyTorch: the contract of that file.

Input ``image``: float32 (batch, channels, height, width), channels in the order of training (3 are red, green, blue),
values 0..1: an 8-bit pixel divided by 255, a 16-bit one by ``largest``, anything else as it was stored in training.
Batch, height and width are free; height and width are multiples of ``stride``. Normalization is inside the graph. The
network was trained at ``image_size`` and is at its best there: resize an image to it, as ``maeseg predict`` does
(bilinearly, antialiased).

Output ``probability``: float32 (batch, maps, height, width), 0..1: of one map the probability of ``classes[1]`` in each
pixel; otherwise a map for each of ``classes``, which sum to 1 (softmax), the most probable being the prediction.

metadata_props, texts, those that are no plain word or number in JSON:

==================  ================================================================================
``classes``         JSON list of names, background first: ``["background", "foreground"]``
``values``          JSON list of what each class is in a label file; with ``colors`` ([red, green, blue] of each) and
                    ``painted`` (whether labels are painted in these); not in a file of foreground and background
``border``          what border pixels counted as in training: background, foreground or ignore
``image_size``      JSON list [height, width] that the network was trained at
``crop``            ``image_size`` again, of a network that was trained on crops of it at native resolution: tiles of
                    that size, and nothing resized; not there otherwise
``trained_on``      JSON list [height, width], the median of the images trained on, before they were resized; not
                    in a file of an older run
``largest``         whole number: the 16-bit value that is fed as 1, 65535 unless the data had fewer bits
``stride``          whole number; height and width of what is fed must be multiples of it
``encoder``         timm's name of the encoder
``maeseg_version``  of the maeseg that wrote the file
==================  ================================================================================

The file tells nothing else: what PyTorch's exporter notes of each operation, such as the paths of source files on the
machine, is left out.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maeseg.data.normalization import Normalization
from maeseg.errors import UserError, first_line
from maeseg.exporting.padding import with_fixed_padding
from maeseg.labels.class_map import squash

INPUT, OUTPUT = "image", "probability"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31 - 2**20
"""Bytes of weights in one file: protobuf ends at 2 GiB."""


class ProbabilityNetwork(nn.Module):
    """What the file computes: images (B, C, H, W), 0..1, to probabilities (B, K, H, W).

    Args:
        unet: Normalized images to logits.
        normalization: Of the channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, unet: smp.Unet, normalization: Normalization) -> None:
        super().__init__()
        self.unet = unet
        for name, values in (("mean", normalization.mean), ("std", normalization.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Normalize, segment, squash."""
        return squash(self.unet((image - self.mean) / self.std))


def check_onnx() -> None:
    """Raise a UserError that names the extra, unless all that is needed is installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            'run pip install "maeseg[onnx]"'
        )


def onnx_bytes(unet: smp.Unet, normalization: Normalization, stride: int, metadata: Mapping[str, str]) -> bytes:
    """A U-Net as the bytes of an ONNX file.

    Args:
        unet: In evaluation mode.
        normalization: Of the channels of its images.
        stride: Its largest.
        metadata: For metadata_props.

    Raises:
        UserError: If PyTorch cannot export the encoder, or the file would be too large.
    """
    name = str(unet.encoder.name)
    network = ProbabilityNetwork(unet, normalization).eval()
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size > LARGEST:
        raise UserError(
            f"--format onnx: with the encoder {name} the weights take {size / 2**30:.1f} GiB, and an ONNX file ends at "
            "2: give --format smp"
        )
    # Sizes that differ, so that none is taken for another, and none that is 1 anywhere, which would become a constant.
    image_BCHW = torch.zeros(2, normalization.channels, 2 * stride, 3 * stride)
    try:
        with _silently(), torch.no_grad():
            program = torch.onnx.export(
                with_fixed_padding(network), (image_BCHW,), dynamo=True, verbose=False, input_names=[INPUT],
                output_names=[OUTPUT], dynamic_shapes={"image": {0: "batch", 2: "height", 3: "width"}},
            )  # fmt: skip
    except Exception as error:  # the exporter passes on whatever a network raises
        raise UserError(
            f"--format onnx: PyTorch cannot export the encoder {name} for images of any size ({_reason(error)}): give "
            "--format smp, or another encoder"
        ) from error
    assert program is not None
    return _cleaned(program.model_proto, metadata)


def open_session(content: bytes) -> Any:
    """ONNX Runtime on an ONNX file's bytes, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, image_BCHW: Tensor) -> NDArray[np.float32]:
    """Probabilities (B, K, H, W) of images (B, C, H, W), 0..1."""
    found: NDArray[np.float32] = session.run([OUTPUT], {INPUT: image_BCHW.numpy()})[0]
    return found


def _cleaned(model: Any, metadata: Mapping[str, str]) -> bytes:
    """Bytes of a model without the exporter's notes, and with ours."""
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
    """Without the exporter's warnings and log: what goes wrong is raised as well."""
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
