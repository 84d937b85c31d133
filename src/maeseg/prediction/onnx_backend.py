"""ONNX Runtime on a file that ``maeseg export --format onnx`` made (extra ``onnx``).

``maeseg.exporting.onnx`` describes the file.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from maeseg.errors import UserError, reason
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import NETWORK_SPEC, read_spec
from maeseg.prediction.onnx_graph import LARGEST, check_graph
from maeseg.utils.regular_files import open_regular

NOT_OURS = "give a file of maeseg export --format onnx"


class OnnxBackend:
    """An exported network; see ``maeseg.prediction.backends.Backend``.

    Args:
        session: ONNX Runtime's session: images (B, C, H, W), values 0..1, to logits (B, K, H, W).
        spec: Description of the network.
    """

    def __init__(self, session: Any, spec: NetworkSpec) -> None:
        self.spec = spec
        self.session = session
        self._input = str(session.get_inputs()[0].name)

    def preprocess(self, pixels_CHW: Tensor) -> Tensor:
        """See ``Backend``; values 0..1, as the file normalizes them."""
        resized = F.resize(pixels_CHW, list(self.spec.size), antialias=True)
        result: Tensor = F.to_dtype(resized, torch.float32, scale=True)
        return result

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """See ``Backend``."""
        [found] = self.session.run(None, {self._input: images_BCHW.contiguous().numpy()})
        return torch.from_numpy(found)


def open_onnx(file: Path | bytes, name: str) -> OnnxBackend:
    """Open an exported network.

    Args:
        file: The file, or its content.
        name: Its name in messages.

    Raises:
        UserError: ONNX Runtime is not installed, or the file is missing, damaged or of another kind.
    """
    session = _session(file if isinstance(file, bytes) else _read(file, name), name)
    try:
        spec = read_spec(session.get_modelmeta().custom_metadata_map, name)
    except ValueError as error:
        raise UserError(f"{name} does not describe its network ({error}): {NOT_OURS}") from error
    if spec is None:
        raise UserError(f"{name} does not describe its network (its metadata have no {NETWORK_SPEC}): {NOT_OURS}")
    _check(session, spec, name)
    return OnnxBackend(session, spec)


def _read(file: Path, name: str) -> bytes:
    """Content of a file; ONNX Runtime gets no path, so that it opens nothing itself."""
    try:
        with open_regular(file) as stream:
            if os.fstat(stream.fileno()).st_size > LARGEST:
                raise UserError(f"{name} is larger than 2 GB: {NOT_OURS}")
            return stream.read(LARGEST)
    except FileNotFoundError as error:
        raise UserError(f"{name} does not exist: {NOT_OURS}") from error
    except OSError as error:
        raise UserError(f"{name} cannot be read ({reason(error)}): {NOT_OURS}") from error


def _session(content: bytes, name: str) -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{name} needs ONNX Runtime: pip install 'maeseg[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # each of our threads runs a batch of its own
    options.log_severity_level = 4  # errors are raised, too
    try:
        check_graph(content)
    except ValueError as error:
        raise UserError(f"{name} is not a network that ONNX Runtime can read ({error}): {NOT_OURS}") from error
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen kinds of its own, without a common one
        raise UserError(f"{name} is not a network that ONNX Runtime can read: {NOT_OURS}") from error


def _check(session: Any, spec: NetworkSpec, name: str) -> None:
    """Raise a UserError unless the network maps images as described to logits as described; tried on small images."""
    sides = (spec.stride, 2 * spec.stride)
    try:
        [taken], backend = session.get_inputs(), OnnxBackend(session, spec)
        works = taken.shape[1] == spec.channels
        shape = backend.logits(torch.zeros(2, spec.channels, *sides)).shape
        works = works and tuple(shape) == (2, spec.classes.maps, *sides)
    except Exception as error:
        raise UserError(f"{name} does not segment images: {NOT_OURS}") from error
    if not works:
        raise UserError(f"{name} does not segment images as its metadata say: {NOT_OURS}")
