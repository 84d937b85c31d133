"""Reading of weights from files and of timm's published weights: tensors only, nothing in a file is executed."""

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
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import read_spec
from maeseg.models.volume_networks import VOLUME_NETWORKS
from maeseg.utils.plain_values import check_extent
from maeseg.utils.regular_files import open_regular, read_text
from maeseg.weights.file_kinds import is_safetensors, other_kind
from maeseg.weights.matching import USUAL
from maeseg.weights.safe_pickle import Inert, read_inertly
from maeseg.weights.weights_option import check_weights

log = logging.getLogger(__name__)

MAY_RUN = re.compile(
    r"(os|posix|nt|sys|subprocess|shutil|socket|importlib|runpy|ctypes|pty|code|webbrowser|_?io)\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|file|__import__|apply|breakpoint|input)"
)
"""Names that no training script needs to save: a file with one of them is refused, although none would run."""
WEIGHTS_IN_FOLDER = "model.safetensors"
"""File of weights in a folder that segmentation-models-pytorch or timm saved."""
MAX_DEPTH = 5
"""Maximum nesting of mappings and lists in the search for a state dict."""


def read_weights_file(path: Path) -> Any:
    """Read a file of safetensors or of ``torch.save``: tensors and plain values, nothing in it is executed.

    Raises:
        UserError: If the file is missing, damaged or of another kind, or refers to functions that can run code.
    """
    check_weights(path)
    try:
        kind = other_kind(path)
        if not kind and (path.suffix == ".safetensors" or is_safetensors(path)) and not is_zipfile(path):
            return safetensors.torch.load_file(path)
        if not kind:
            with (
                warnings.catch_warnings(action="ignore"),
                open_regular(path) as file,
            ):  # not the path: its suffix counts
                content = torch.load(file, map_location="cpu", weights_only=True)
                check_extent(content)
                return content
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a valid weights file: safetensors cannot read it ({error}): copy or download it again"
        ) from error
    except pickle.UnpicklingError as error:
        return read_the_rest(path, error)
    except Exception as error:  # for damaged bytes PyTorch's reader raises IndexError, struct.error and more
        raise damaged(path) from error
    raise UserError(f"{path} is not a valid weights file: {kind}")


def read_the_rest(path: Path, refusal: pickle.UnpicklingError) -> Any:
    """Read a file that PyTorch's reader refuses, without the objects that are not plain values."""
    try:
        content, names = read_inertly(path)
        check_extent(content)
    except Exception as error:  # damaged bytes raise exceptions of many types
        refuse_code(path, refusal)
        raise damaged(path) from error
    if unsafe := next(filter(MAY_RUN.fullmatch, names), None):
        raise not_only_tensors(path, unsafe)
    if names and not isinstance(content, Inert):
        log.info("%s: skipped, as nothing in a file is executed: %s", path, shortened(names))
    return content


def refuse_code(path: Path, error: pickle.UnpicklingError) -> None:
    """Raise a UserError that names the function in a file that PyTorch's reader refused, if it names one."""
    if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
        raise not_only_tensors(path, found[1]) from error


def damaged(path: Path) -> UserError:
    """Error for a file that cannot be read."""
    return UserError(
        f"{path} is not a valid weights file: it is damaged or of another kind: copy it again or give another file"
    )


def not_only_tensors(path: Path, name: str) -> UserError:
    """Error for a file that refers to a function by name."""
    return UserError(
        f"{path} holds more than tensors ({name}), which can run code when it is read: refused; if you trust the file, "
        "save its state dict alone, preferably as .safetensors"
    )


def described_network(path: Path) -> NetworkSpec | None:
    """Network in the metadata of a safetensors file, as in maeseg's exports; None without one that can be built."""
    if not is_safetensors(path):
        return None
    try:
        spec = read_spec(read_metadata(path), str(path))
    except ValueError:
        return None
    return spec if spec and (spec.encoder in VOLUME_NETWORKS or timm.is_model(spec.encoder)) else None


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a sound file of safetensors: texts by name."""
    with safetensors.safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    return metadata


def weights_in_folder(folder: Path) -> tuple[Path, str | None] | None:
    """Weights file in a folder saved by segmentation-models-pytorch or timm, and the name of its encoder.

    None if there is no such file.
    """
    files = [folder / name for name in (WEIGHTS_IN_FOLDER, "pytorch_model.bin") if (folder / name).is_file()]
    if not files:
        return None
    try:
        config = json.loads(read_text(folder / "config.json"))
        encoder = str(config.get("encoder_name") or config.get("architecture")).removeprefix("tu-")
    except (OSError, ValueError, AttributeError):
        return files[0], None
    return files[0], encoder if timm.is_model(encoder) else None


def state_dict_in(content: Any, origin: str) -> dict[str, Tensor]:
    """Find the state dict in the content of a file: the one with the most tensors, at any depth.

    Several with more than half as many (a teacher and a student, an average and the last step) are merged, with the
    place of each as a prefix of its keys: the choice is made when they are matched with an encoder.

    Raises:
        UserError: If there is none; the message lists the content.
    """
    found = dict(state_dicts(content))
    most = max(map(len, found.values()), default=0)
    rivals = {place: tensors for place, tensors in found.items() if len(tensors) > most / 2}
    if len(rivals) == 1:
        return next(iter(rivals.values()))
    if rivals:
        return {f"{place}.{key}": value for place, tensors in rivals.items() for key, value in tensors.items()}
    if model := pickled_model(content):
        raise UserError(
            f"{origin} is a pickled model ({model}), which only its own code can read: if you trust it, save its "
            "weights with torch.save(model.state_dict(), 'weights.pth')"
        )
    if isinstance(content, Mapping):
        raise UserError(f"{origin} has no state dict, only {shortened(content) or 'nothing'}: save model.state_dict()")
    raise UserError(f"{origin} contains a {type(content).__name__}, not a state dict: save model.state_dict()")


def state_dicts(content: Any, place: str = "", depth: int = MAX_DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the mappings with tensors in the content of a file, each with its place."""
    if isinstance(content, list | tuple):
        content = dict(enumerate(content[:8]))
    if not isinstance(content, Mapping):
        return
    tensors = {str(name): value for name, value in content.items() if is_plain(value)}
    if tensors:
        yield place, tensors
    if depth and not any("." in name for name in tensors):  # a state dict does not contain another
        for name, value in content.items():
            yield from state_dicts(value, f"{place}.{name}".lstrip("."), depth - 1)


def pickled_model(content: Any) -> str:
    """Class of a pickled network in the content of a file; empty if there is none under the usual names."""
    usual = [content.get(name) for name in USUAL] if isinstance(content, Mapping) else []
    return next((each.name for each in (content, *usual) if isinstance(each, Inert) and each.name), "")


def shortened(names: Iterable[Any]) -> str:
    """Join the first eight names."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


def is_plain(value: Any) -> bool:
    """Return True for a tensor that can be copied into a network: dense, and of real numbers."""
    return (
        isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_quantized or value.is_complex())
    )


def published_weights(encoder: str) -> dict[str, Tensor]:
    """Load the state dict that timm publishes for a network, from timm's cache or by download.

    Raises:
        UserError: If timm publishes none, or the download fails.
    """
    published = timm.get_pretrained_cfg(encoder)
    if published is None or not published.has_weights:
        raise UserError(
            f"timm publishes no weights of {encoder}: choose another --encoder (timm.list_pretrained() lists them), "
            "or give a weights file"
        )
    log.info("weights: published weights of %s from timm's cache or by download", encoder)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each of many attempts, twice
    try:
        weights: dict[str, Tensor] = timm.create_model(encoder, pretrained=True).state_dict()
    except Exception as error:  # huggingface_hub, httpx and urllib each raise their own
        raise UserError(
            f"the weights of {encoder} cannot be downloaded ({type(error).__name__}): on a machine with network access "
            f"run python -c \"import timm; timm.create_model('{encoder}', pretrained=True)\" and copy its cache here "
            "(~/.cache/huggingface), or give a weights file"
        ) from error
    return weights
