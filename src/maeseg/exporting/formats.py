"""Formats of export: the files, and the code that loads each without maeseg."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from maeseg.data.image_reading import RGB
from maeseg.errors import UserError
from maeseg.exporting.construction import arguments, construction
from maeseg.exporting.networks import EncoderExport, encoder_export, network_tensors, new_parts
from maeseg.exporting.onnx import INPUT, OUTPUT, onnx_bytes
from maeseg.exporting.parity import largest_difference
from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import spec_metadata
from maeseg.models.volume_networks import AXES
from maeseg.runs.checkpoint import Checkpoint
from maeseg.utils.system import version_of
from maeseg.weights.files import WEIGHTS_IN_FOLDER


@dataclass(frozen=True)
class Export:
    """An exported network.

    Attributes:
        what: Name of the network in the model card.
        files: Content by name.
        code: Python that loads it.
        notes: Lines of the model card.
        largest_difference: Largest difference of a probability from PyTorch's, 0..1; None without a comparison.
    """

    what: str
    files: Mapping[str, bytes]
    code: str
    notes: tuple[str, ...]
    largest_difference: float | None = None


def timm_export(saved: Checkpoint, unet: SegmentationNetwork, name: str) -> Export:
    """The encoder alone, in one file of safetensors.

    Args:
        saved: Checkpoint of the run.
        unet: Network of the run.
        name: Name of the file.
    """
    encoder = encoder_export(unet)
    features = {"features_only": True} if encoder.features_only else {}
    options = arguments({**features, **encoder.options})
    code = f"""
import timm

encoder = timm.create_model("{encoder.name}"{options}, checkpoint_path={_quoted(name)})
"""
    strictly = f"timm {version_of('timm')} takes the file strictly, key by key."
    notes = (strictly, _other_use(encoder, name), _normalized(saved))
    return Export("The encoder", {name: _safetensors(encoder.tensors, saved)}, code, notes)


def _other_use(encoder: EncoderExport, name: str) -> str:
    """Sentence on the other use of an encoder's file."""
    if not encoder.features_only:
        return "The positions are for images of `img_size`; other sizes that can be cut into patches are taken too."
    if encoder.plain:
        return (
            f'Without `features_only`, `timm.create_model("{encoder.name}", num_classes=0'
            f"{arguments(encoder.options)}, checkpoint_path={_quoted(name)})` takes the same file, strictly."
        )
    return (
        "timm's plain network (without `features_only`) has other weights or calls them otherwise: it does not take "
        "this file."
    )


def smp_export(saved: Checkpoint, unet: Any, name: str) -> Export:
    """The network as segmentation-models-pytorch saves it: ``config.json`` and ``model.safetensors`` in a folder.

    Raises:
        UserError: Its class builds another decoder.
    """
    maps, built = saved.spec.classes.maps, construction(unet, saved.spec)
    if not built.plain:
        raise UserError(
            "--format smp: segmentation-models-pytorch's DPT builds another decoder for the patches of "
            f"{saved.spec.encoder}: give --format safetensors or onnx"
        )
    loaded = f"{built.variable} = smp.from_pretrained({_quoted(name)}).eval()"
    code = f"""
import segmentation_models_pytorch as smp

{loaded}  # normalized images (B, C, H, W) to logits (B, {maps}, H, W)
"""
    config = json.dumps({**unet.config, "_model_class": type(unet).__name__}, indent=2, sort_keys=True)
    files = {
        WEIGHTS_IN_FOLDER: _safetensors(network_tensors(unet), saved),
        "config.json": config.encode(),
    }
    return Export(built.what, files, code, (_normalized(saved),))


def safetensors_export(saved: Checkpoint, unet: SegmentationNetwork, name: str) -> Export:
    """The network's state dict in one file, a pretrain run's without the head."""
    tensors, strict = network_tensors(unet), True
    notes = ["`maeseg pretrain` and `maeseg finetune` take the file as `--weights`.", _normalized(saved)]
    if saved.verb == "pretrain":
        missing = new_parts(saved.spec)
        tensors = {key: value for key, value in tensors.items() if not key.startswith(tuple(missing))}
        strict = False
        notes.insert(0, f"Not in the file, as pre-training has none: {', '.join(missing.values())}; it stays as new.")
    built = construction(unet, saved.spec)
    code = built.loading(_quoted(name), strict)
    return Export(built.what, {name: _safetensors(tensors, saved)}, code, tuple(notes))


def onnx_export(saved: Checkpoint, unet: SegmentationNetwork, name: str, images: Sequence[Path]) -> Export:
    """The network for ONNX Runtime and its like, compared with PyTorch.

    Args:
        saved: Checkpoint of the run.
        unet: Network of the run.
        name: Name of the file.
        images: Images that both are run on.

    Raises:
        UserError: PyTorch cannot export the network, or the file does not compute what PyTorch does.
    """
    spec = saved.spec
    content = onnx_bytes(unet, spec)
    difference = largest_difference(unet, spec, content, images)
    code = _onnx_code(spec, name)
    maps = spec.classes.maps
    what = "logits of foreground" if maps == 1 else "logits of the classes, in their order"
    squash = "sigmoid" if maps == 1 else "softmax over them"
    notes = (
        f"Any number of images of any size whose sides are multiples of {spec.stride}, as float32 (B, C, H, W), 0..1; "
        f"normalization is inside. The output `{OUTPUT}` has {what}, (B, {maps}, H, W); {squash} gives probabilities.",
        f"Checked against PyTorch on {len(images)} images: probabilities differ by at most {difference:.1e}.",
    )
    return Export(construction(unet, spec).what, {name: content}, code, notes, difference)


def _onnx_code(spec: NetworkSpec, name: str) -> str:
    """Python that runs an ONNX file on an image."""
    height, width = spec.size
    reading = 'pixels_BCHW = np.load("image.npy").astype(np.float32)[None]  # (C, H, W) before, values 0..1'
    if spec.channels == RGB:
        sized = f"resize(({width}, {height}), Image.Resampling.BILINEAR)"
        if spec.crop:  # a tile of it
            sized = f"crop((0, 0, {width}, {height}))"
        reading = (
            f'image = Image.open("photo.jpg").convert("RGB").{sized}\n'
            "pixels_BCHW = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255"
        )
    run = f'session.run(["{OUTPUT}"], {{"{INPUT}": pixels_BCHW}})[0][0]'
    result = f"logits_HW = {run}[0]\nprobability_HW = 1 / (1 + np.exp(-logits_HW))"
    if spec.classes.maps > 1:
        result = f"logits_KHW = {run}\nclass_HW = logits_KHW.argmax(0)"
    return f"""
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession({_quoted(name)})
{reading}
{result}
"""


def _safetensors(tensors: Mapping[str, Tensor], saved: Checkpoint) -> bytes:
    metadata = {"format": "pt", **spec_metadata(saved.spec)}
    content: bytes = safetensors.torch.save(dict(tensors), metadata)
    return content


def _quoted(name: str) -> str:
    """A name as Python writes it, in double quotes."""
    return json.dumps(name)


def _normalized(saved: Checkpoint) -> str:
    if saved.spec.axes == AXES:
        return (
            "Feed it volumes at the spacing below, each channel clipped at its percentiles 0.5 and 99.5 and brought to "
            "mean 0 and deviation 1."
        )
    by = saved.spec.normalization
    mean, std = ([round(value, 6) for value in values] for values in (by.mean, by.std))
    scaled = f"8-bit pixels / 255, 16-bit ones / {by.largest}"
    return f"Feed it values of 0..1 ({scaled}), less the mean {mean}, divided by the deviation {std}."
