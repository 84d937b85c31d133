"""Weights out of files and out of timm's store: tensors only, nothing in a file is ever executed."""

import json
import logging
import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import safetensors.torch
import timm
import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.weights.file_kinds import is_safetensors, other_kind
from maeseg.weights.matching import USUAL
from maeseg.weights.safe_pickle import Inert, read_inertly
from maeseg.weights.weights_option import check_weights

log = logging.getLogger(__name__)

MAY_RUN = re.compile(
    r"(os|posix|nt|sys|subprocess|shutil|socket|importlib|runpy|ctypes|pty|code|webbrowser|_?io)\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|file|__import__|apply|breakpoint|input)"
)
"""Names that no training script has a reason to save: a file with one is refused, though nothing of it would run."""
DEPTH = 5
"""Mappings and lists within each other in which a state dict is looked for."""


def read_weights_file(path: Path) -> Any:
    """Read a file of safetensors or of ``torch.save``: tensors and plain values, nothing in it is executed.

    Raises:
        UserError: If it is missing, damaged or of another kind, or if it is made to run code.
    """
    check_weights(path)
    try:
        kind = other_kind(path)
        if not kind and (path.suffix == ".safetensors" or is_safetensors(path)) and not is_zipfile(path):
            return safetensors.torch.load_file(path)
        if not kind:
            with warnings.catch_warnings(action="ignore"), path.open("rb") as file:  # a path is read by its suffix
                return torch.load(file, map_location="cpu", weights_only=True)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a file of weights: safetensors cannot read it ({error}): copy or download it again"
        ) from error
    except pickle.UnpicklingError as error:
        return read_the_rest(path, error)
    except Exception as error:  # for damaged bytes PyTorch's reader raises IndexError, struct.error and more
        raise UserError(f"{path} is not a file of weights: it is damaged or of another kind") from error
    raise UserError(f"{path} is not a file of weights: {kind}")


def read_the_rest(path: Path, refusal: pickle.UnpicklingError) -> Any:
    """Read a file that PyTorch's reader refuses, leaving out what are no plain values."""
    try:
        content, names = read_inertly(path)
    except Exception as error:  # for damaged bytes it raises much
        refuse_code(path, refusal)
        raise UserError(f"{path} is not a file of weights: it is damaged or of another kind") from error
    if harm := next(filter(MAY_RUN.fullmatch, names), None):
        raise UserError(
            f"{path} holds more than tensors ({harm}), which could run any code when read: refused; save the "
            "state dict alone where you trust the file, best as .safetensors"
        )
    if names and not isinstance(content, Inert):
        log.info("%s: left unread in it, as nothing in a file is executed: %s", path, shortened(names))
    return content


def refuse_code(path: Path, error: pickle.UnpicklingError) -> None:
    """Raise a UserError that names what a file would have run, if that is why it was not read."""
    if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
        raise UserError(
            f"{path} holds more than tensors ({found[1]}), which could run any code when read: refused; save the "
            "state dict alone where you trust the file, best as .safetensors"
        ) from error


def named_encoder(path: Path) -> str | None:
    """The encoder that a file of safetensors says it is of, as maeseg's exports do; None where it does not say."""
    if not is_safetensors(path):
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
    """The state dict in what a file holds: the one with the most tensors, wherever it is.

    Of several with about as many (a teacher and a student, an average and the last step's) all are returned, with
    where they were found before their keys: which is taken is settled when they are matched with an encoder.

    Raises:
        UserError: If there is none, listing what was found.
    """
    found = dict(state_dicts(content))
    most = max(map(len, found.values()), default=0)
    rivals = {place: tensors for place, tensors in found.items() if len(tensors) > most / 2}
    if len(rivals) == 1:
        return next(iter(rivals.values()))
    if rivals:
        return {f"{place}.{key}": value for place, tensors in rivals.items() for key, value in tensors.items()}
    if model := whole_model(content):
        raise UserError(
            f"{origin} is a whole pickled model ({model}), which only its own code can read: where you trust it, save "
            "what is in it with torch.save(model.state_dict(), 'weights.pth')"
        )
    if isinstance(content, Mapping):
        raise UserError(f"{origin} has no state dict: it has {shortened(content) or 'nothing'}")
    raise UserError(f"{origin} holds a {type(content).__name__}, not a state dict: save model.state_dict()")


def state_dicts(content: Any, place: str = "", depth: int = DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Mappings with tensors in what a file holds, each with where it is."""
    if isinstance(content, list | tuple):
        content = dict(enumerate(content[:8]))
    if not isinstance(content, Mapping):
        return
    tensors = {str(name): value for name, value in content.items() if is_plain(value)}
    if tensors:
        yield place, tensors
    if depth and not any("." in name for name in tensors):  # within a state dict there is no other
        for name, value in content.items():
            yield from state_dicts(value, f"{place}.{name}".lstrip("."), depth - 1)


def whole_model(content: Any) -> str:
    """The class of a pickled network in what a file holds; empty if there is none where one is usual."""
    usual = [content.get(name) for name in USUAL] if isinstance(content, Mapping) else []
    return next((each.name for each in (content, *usual) if isinstance(each, Inert) and each.name), "")


def shortened(names: Iterable[Any]) -> str:
    """The first of some names."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


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
