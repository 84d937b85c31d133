"""The formats that a run is exported to: the files, and how each is loaded without maeseg."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import segmentation_models_pytorch as smp
from torch import Tensor

from maeseg.data.image_reading import RGB
from maeseg.exporting.networks import HEAD, encoder_export, unet_tensors
from maeseg.exporting.onnx import onnx_bytes, open_session
from maeseg.exporting.parity import largest_difference
from maeseg.models.unet import largest_stride
from maeseg.runs.checkpoint import Checkpoint
from maeseg.utils.system import version_of


@dataclass(frozen=True)
class Export:
    """What is written.

    Args:
        what: It is, in words.
        files: Content by name.
        code: Python that loads it.
        notes: For the model card, a line each.
    """

    what: str
    files: Mapping[str, bytes]
    code: str
    notes: tuple[str, ...]


def describe(saved: Checkpoint) -> dict[str, str]:
    """What a file says of itself: as ``exports.onnx`` has it."""
    about = saved.about
    found = {
        "image_size": json.dumps(about["image_size"]),
        "stride": str(largest_stride(about["decoder_channels"])),
        "encoder": about["encoder"],
        "largest": str(saved.normalization.largest),
        "maeseg_version": version_of("maeseg"),
    }
    if about["verb"] == "finetune":
        classes = saved.classes
        found |= {"classes": json.dumps(classes.names), "border": about["border"]}
        if classes.maps > 1:
            told = classes.about["classes"]
            found |= {key: json.dumps(told[key]) for key in ("values", "colors", "painted")}
    if "trained_on" in about:
        found["trained_on"] = json.dumps(about["trained_on"])
    if saved.crop:
        found["crop"] = json.dumps(saved.crop)
    return found


def timm_export(saved: Checkpoint, unet: smp.Unet, name: str) -> Export:
    """The encoder alone, in one file of safetensors.

    Args:
        saved: The run.
        unet: Its network.
        name: Of the file.
    """
    encoder = encoder_export(unet)
    options = "".join(f", {option}={value!r}" for option, value in encoder.options.items())
    code = f"""
import timm

encoder = timm.create_model("{encoder.name}", features_only=True{options}, checkpoint_path={_quoted(name)})
"""
    plain = (
        f'Without `features_only`, `timm.create_model("{encoder.name}", num_classes=0{options}, '
        f"checkpoint_path={_quoted(name)})` takes the same file, strictly."
        if encoder.plain
        else "timm's plain network (without `features_only`) has other weights or calls them otherwise: it does not "
        "take this file."
    )
    notes = (f"timm {version_of('timm')} takes the file strictly, key by key.", plain, _normalized(saved))
    return Export("The encoder", {name: _safetensors(encoder.tensors, saved, {})}, code, notes)


def smp_export(saved: Checkpoint, unet: smp.Unet, name: str) -> Export:
    """The U-Net as segmentation-models-pytorch saves it: ``config.json`` and ``model.safetensors`` in a folder."""
    maps = saved.classes.maps
    code = f"""
import segmentation_models_pytorch as smp

unet = smp.from_pretrained({_quoted(name)}).eval()  # normalized images (B, C, H, W) to logits (B, {maps}, H, W)
"""
    config = json.dumps({**unet.config, "_model_class": type(unet).__name__}, indent=2, sort_keys=True)
    files = {
        "model.safetensors": _safetensors(unet_tensors(unet), saved, {}),
        "config.json": config.encode(),
    }
    return Export("The U-Net", files, code, (_normalized(saved),))


def safetensors_export(saved: Checkpoint, unet: smp.Unet, name: str) -> Export:
    """The U-Net's state dict in one file, a pretrain run's without the head."""
    tensors, strict = unet_tensors(unet), ""
    notes = ["`maeseg pretrain` and `maeseg finetune` take the file as `--weights`.", _normalized(saved)]
    if saved.about["verb"] == "pretrain":
        tensors = {key: value for key, value in tensors.items() if not key.startswith(HEAD)}
        strict = ", strict=False"
        notes.insert(0, "The segmentation head is missing, as pre-training has none: it stays as new.")
    widths, channels = list(saved.about["decoder_channels"]), saved.normalization.channels
    options = f"encoder_depth={len(widths)}, decoder_channels={widths}, in_channels={channels}"
    if saved.classes.maps > 1:
        options += f", classes={saved.classes.maps}"
    code = f"""
import segmentation_models_pytorch as smp
from safetensors.torch import load_file

unet = smp.Unet("{unet.config["encoder_name"]}", encoder_weights=None, {options})
unet.load_state_dict(load_file({_quoted(name)}){strict})
"""
    content = _safetensors(tensors, saved, {"decoder_channels": json.dumps(widths)})
    return Export("The U-Net", {name: content}, code, tuple(notes))


def onnx_export(saved: Checkpoint, unet: smp.Unet, name: str, images: Sequence[Path]) -> tuple[Export, float]:
    """The U-Net for ONNX Runtime and the like; and by how much its probabilities differ from PyTorch's at most.

    Args:
        saved: The run.
        unet: Its network.
        name: Of the file.
        images: What it is checked on.

    Raises:
        UserError: If PyTorch cannot export the network, or the file does not compute what PyTorch does.
    """
    normalization, maps = saved.normalization, saved.classes.maps
    stride = largest_stride(saved.about["decoder_channels"])
    content = onnx_bytes(unet, normalization, stride, describe(saved))
    height, width = saved.about["image_size"]
    session = open_session(content)
    difference = largest_difference(unet, session, images, (height, width), stride, normalization)
    if normalization.channels == RGB:
        sized = f"resize(({width}, {height}), Image.Resampling.BILINEAR)"
        if saved.crop:  # a tile of it
            sized = f"crop((0, 0, {width}, {height}))"
        reading = (
            f'image = Image.open("photo.jpg").convert("RGB").{sized}\n'
            "pixels_BCHW = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255"
        )
    else:
        reading = 'pixels_BCHW = np.load("image.npy").astype(np.float32)[None]  # (C, H, W) before, values 0..1'
    result = 'probability_HW = session.run(None, {"image": pixels_BCHW})[0][0, 0]'
    if maps > 1:
        result = 'probability_KHW = session.run(None, {"image": pixels_BCHW})[0][0]  # its argmax(0) is the class'
    code = f"""
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession({_quoted(name)})
{reading}
{result}
"""
    what = "probabilities of foreground" if maps == 1 else "probabilities of the classes, in their order"
    notes = (
        f"Any number of images of any size whose sides are multiples of {stride}, as float32 (B, C, H, W), 0..1; they "
        f"are normalized inside. Out come {what}, (B, {maps}, H, W).",
        f"Checked against PyTorch on {len(images)} images: probabilities differ by at most {difference:.1e}.",
    )
    return Export("The U-Net", {name: content}, code, notes), difference


def _safetensors(tensors: Mapping[str, Tensor], saved: Checkpoint, more: Mapping[str, str]) -> bytes:
    normalization = {key: json.dumps(value) for key, value in saved.normalization.as_dict().items()}
    metadata = {"format": "pt", **describe(saved), **normalization, **more}
    content: bytes = safetensors.torch.save(dict(tensors), metadata)
    return content


def _quoted(name: str) -> str:
    """A name as Python writes it, in double quotes."""
    return json.dumps(name)


def _normalized(saved: Checkpoint) -> str:
    by = saved.normalization
    mean, std = ([round(value, 6) for value in values] for values in (by.mean, by.std))
    scaled = f"8-bit pixels / 255, 16-bit ones / {by.largest}"
    return f"Feed it values of 0..1 ({scaled}), less the mean {mean}, divided by the deviation {std}."
