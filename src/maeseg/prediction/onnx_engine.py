"""A network that ``maeseg export --format onnx`` wrote, run by ONNX Runtime (extra ``onnx``).

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from maeseg.data.normalization import is_largest
from maeseg.data.pixel_conversion import FULL
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, classes_of
from maeseg.runs.checkpoint import MAX_SIDE

NOT_OURS = "give a file that maeseg export --format onnx wrote"


class OnnxEngine:
    """An exported network; see ``maeseg.prediction.engines.Engine``.

    Takes an input (B, C, H, W) of values 0..1, and gives the probability of foreground (B, 1, H, W), or of each class
    (B, K, H, W). Its metadata has ``image_size``, [height, width], and may have ``trained_on``, ``crop``, which is
    ``image_size`` again, and ``largest``, the value of 16 bits that is 1; with several classes ``classes``, ``values``,
    ``colors`` and ``painted``.

    Args:
        file: The file.

    Raises:
        UserError: If ONNX Runtime is not installed, or the file is missing, damaged or of another kind.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise UserError(f"--run {file} does not exist: {NOT_OURS}")
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"--run {file} needs ONNX Runtime: pip install 'maeseg[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # each of our threads runs a batch of its own
        options.log_severity_level = 4  # what goes wrong is said once, below
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen kinds of its own, without a common one
            raise UserError(f"--run {file} is not a network that ONNX Runtime can read: {NOT_OURS}") from error
        about = self._session.get_modelmeta().custom_metadata_map
        try:
            self.size = _sides(about["image_size"])
            self.trained_on = _sides(about["trained_on"]) if "trained_on" in about else self.size
            self.crop = self.size if "crop" in about else None
            self.largest = _largest(json.loads(about.get("largest", str(FULL))))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"--run {file} does not say what size it was trained at: {NOT_OURS}") from error
        try:
            [taken] = self._session.get_inputs()
            self._input, (_, self.channels, *_) = taken.name, taken.shape
            _, maps, *sides = self.logits(torch.zeros(2, self.channels, *self.size)).shape
            self.classes = BINARY if maps == 1 else _classes(about, str(file))
            works = (maps, *sides) == (self.classes.maps, *self.size)
        except Exception as error:
            raise UserError(f"--run {file} does not segment images: {NOT_OURS}") from error
        if not works:
            raise UserError(f"--run {file} does not give a map of foreground, or one of each class: {NOT_OURS}")

    def prepare(self, pixels_CHW: Tensor) -> Tensor:
        """Resize to ``size``, values 0..1; normalization is in the file."""
        resized = F.resize(pixels_CHW, list(self.size), antialias=True)
        result: Tensor = F.to_dtype(resized, torch.float32, scale=True)
        return result

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Prepared images to logits, (B, K, H, W); those of several classes are logarithms of probabilities."""
        [found] = self._session.run(None, {self._input: images_BCHW.contiguous().numpy()})
        probability_BKHW = torch.from_numpy(found)
        if probability_BKHW.shape[1] == 1:
            return torch.logit(probability_BKHW, eps=1e-7)
        return probability_BKHW.clamp(min=1e-12).log()


def _classes(about: dict[str, str], file: str) -> Classes:
    told = {key: json.loads(about[key]) for key in ("values", "colors", "painted")}
    return classes_of({"classes": {"names": json.loads(about["classes"]), **told}}, file)


def _largest(value: Any) -> int:
    if not is_largest(value):
        raise ValueError(value)
    return value


def _sides(text: Any) -> tuple[int, int]:
    height, width = json.loads(text)
    if not (type(height) is type(width) is int and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError(text)
    return height, width
