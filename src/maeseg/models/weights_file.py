"""Weights out of files and out of timm's store: tensors only, nothing in a file is ever executed."""

import argparse
import json
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor

from maeseg.errors import UserError

log = logging.getLogger(__name__)

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
"""Where training scripts put the state dict in what they save; an average over training before the last step's."""


def read_weights_file(path: Path) -> Any:
    """Read a file of safetensors (by its suffix), or of ``torch.save``: whatever it holds, tensors and plain values.

    Raises:
        UserError: If it is missing, damaged or of another kind, or if it would run code.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a run folder of maeseg, a file of weights, or timm")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            # A Namespace holds values and runs nothing; many training scripts save their options as one.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refuse_code(path, error)
        raise UserError(f"{path} is not a file of weights: it is damaged or of another kind") from error
    except Exception as error:  # for damaged bytes PyTorch's reader raises IndexError, struct.error and more
        raise UserError(f"{path} is not a file of weights: it is damaged or of another kind") from error


def refuse_code(path: Path, error: pickle.UnpicklingError) -> None:
    """Raise a UserError that names what a file would have run, if that is why it was not read."""
    if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
        raise UserError(
            f"{path} holds more than tensors ({found[1]}), which could run any code when read: refused; save the "
            "state dict alone where you trust the file, best as .safetensors"
        ) from error


def named_encoder(path: Path) -> str | None:
    """The encoder that a file of safetensors says it is of, as maeseg's exports do; None where it does not say."""
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, "pt") as file:
        name = (file.metadata() or {}).get("encoder")
    return name if name and timm.is_model(name) else None


def weights_in_folder(folder: Path) -> tuple[Path, str | None] | None:
    """The file of weights in a folder that segmentation-models-pytorch or timm saved, and the encoder it is of.

    None where there is no such file.
    """
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()]
    if not files:
        return None
    try:
        config = json.loads((folder / "config.json").read_text())
        encoder = str(config.get("encoder_name") or config.get("architecture")).removeprefix("tu-")
    except (OSError, ValueError, AttributeError):
        return files[0], None
    return files[0], encoder if timm.is_model(encoder) else None


def state_dict_in(content: Any, origin: str) -> dict[str, Tensor]:
    """The state dict in what a file holds: at its top, or in one of the usual wrappings.

    Raises:
        UserError: If there is none, listing what was found.
    """
    while isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if is_plain(value)}
        if tensors:
            return tensors
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            names = ", ".join(map(str, list(content)[:8])) or "nothing"
            raise UserError(
                f"{origin} has no state dict where one is looked for ({', '.join(WRAPPERS)}): it has {names}"
            )
        content = inner
    raise UserError(f"{origin} holds a {type(content).__name__}, not a state dict: save model.state_dict()")


def is_plain(value: Any) -> bool:
    """Whether a value is a tensor that can be copied into a network: dense, and of real numbers."""
    return (
        isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_quantized or value.is_complex())
    )


def published_weights(encoder: str) -> dict[str, Tensor]:
    """The state dict that timm publishes for a network, from timm's cache or downloaded into it.

    Raises:
        UserError: If timm publishes none, or it cannot be downloaded.
    """
    published = timm.get_pretrained_cfg(encoder)
    if published is None or not published.has_weights:
        raise UserError(
            f"timm publishes no weights of {encoder}: choose another --encoder (timm.list_pretrained() has the names), "
            "or give a file"
        )
    log.info("weights: what timm publishes of %s, from its cache or downloaded", encoder)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each of many attempts, twice
    try:
        weights: dict[str, Tensor] = timm.create_model(encoder, pretrained=True).state_dict()
    except Exception as error:  # huggingface_hub, httpx and urllib each raise their own
        raise UserError(
            f"the weights of {encoder} cannot be downloaded ({type(error).__name__}): where there is a network, run "
            f"python -c \"import timm; timm.create_model('{encoder}', pretrained=True)\" and copy its cache here "
            "(~/.cache/huggingface), or give a file of weights"
        ) from error
    return weights
