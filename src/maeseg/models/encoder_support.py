"""Support of timm's encoders on visible patches, found by a trial without computation.

Weights and images are on PyTorch's meta device, which has shapes only: the largest network takes a
second and no memory.
"""

import fnmatch
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from maeseg.errors import UserError, first_line, nearest
from maeseg.models.architecture import architecture_of
from maeseg.models.shapes import NO_NETWORK, without_values
from maeseg.models.vit import ADVICE, encode_tokens, patch_side, transformer_outline
from maeseg.sparse import encode_tiles, pack

WORKS = "works"


@dataclass(frozen=True)
class Support:
    """Result of the trial of one encoder."""

    name: str
    family: str
    """Module of timm, such as ``convnext``."""
    stride: int | None
    """Largest stride, or a transformer's patch side; None if timm has no feature maps of this encoder."""
    parameters: int | None
    """Number of parameters, without the classifier."""
    refusal: str = ""
    """Reason in one line; empty if the encoder works."""


def find_encoders(pattern: str = "*", family: str | None = None) -> list[tuple[str, str]]:
    """Find models of timm by name, each with its family.

    Args:
        pattern: Wildcard for names, such as ``convnext*``.
        family: Wildcard for families (timm's modules), such as ``efficientnet``.

    Raises:
        UserError: If no model or family matches.
    """
    families = [each for each in timm.list_modules() if family is None or fnmatch.fnmatch(each, family)]
    if not families:
        raise UserError(f"--family {family!r} is not one of timm's{nearest(str(family), timm.list_modules())}")
    found = [(name, each) for each in families for name in timm.list_models(pattern, module=each)]
    if not found:
        where = f" of family {family}" if family else ""
        raise UserError(f"--names {pattern!r} fits no timm model{where}: use a wildcard, such as 'convnext*'")
    return found


def check_encoder(name: str, family: str) -> Support:
    """Run an encoder on a grid with one masked patch, a convnet at up to three image sizes."""
    if architecture_of(name) == "dpt":
        return check_transformer(name, family)
    stride: int | None = None
    parameters: int | None = None
    try:
        with warnings.catch_warnings(), without_values():
            warnings.simplefilter("ignore")  # timm's deprecated names
            encoder: Any = timm.create_model(name, features_only=True).eval()
            parameters = sum(parameter.numel() for parameter in encoder.parameters())
            stride = int(max(encoder.feature_info.reduction()))
    except NO_NETWORK as error:
        return Support(name, family, stride, parameters, f"timm has no feature maps of it ({first_line(error)})")
    own = timm.get_pretrained_cfg(name)
    refusal = ""
    # two patches; four; the size of the published weights, as some encoders accept no other
    for size in [(stride, 2 * stride), (2 * stride, 2 * stride), own.input_size[1:] if own else (224, 224)]:
        refusal, final = try_size(encoder, stride, size)
        if final:
            break
    return Support(name, family, stride, parameters, refusal)


def check_transformer(name: str, family: str) -> Support:
    """Run a vision transformer on a grid of 2 x 2 patches, one of them masked."""
    try:
        transformer = transformer_outline(name)
        side = patch_side(transformer)
        images_BCHW = torch.empty(1, 3, 2 * side, 2 * side, device="meta")
        with torch.no_grad():
            encode_tokens(transformer, images_BCHW, torch.tensor([[[True, True], [True, False]]]))
    except UserError as error:
        return Support(
            name, family, None, None, str(error).removeprefix(f"--encoder {name!r} ").removesuffix(f": {ADVICE}")
        )
    return Support(name, family, side, sum(each.numel() for each in transformer.parameters()))


def try_size(encoder: nn.Module, stride: int, size: Sequence[int]) -> tuple[str, bool]:
    """Reason for which an encoder refuses an image size, empty if it does not, and True if it holds for every size."""
    height, width = size
    visible_BYX = torch.ones(1, max(1, height // stride), max(1, width // stride), dtype=torch.bool)
    visible_BYX[0, -1, -1] = False
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encode_tiles(encoder, pack(torch.empty(1, 3, height, width, device="meta"), visible_BYX))
    except UserError as error:
        return str(error).removesuffix(": choose another encoder, such as resnet18"), True
    except Exception as error:  # networks raise many types for an unsupported image size
        return f"does not accept images of {height} x {width} ({first_line(error)})", False
    return "", True


def markdown(checked: Sequence[Support]) -> str:
    """Table of families in Markdown: a representative with its result, and the number of models that work.

    The representative is the smallest member that works, or the smallest of all if none does.
    """
    rows = []
    for family in dict.fromkeys(each.family for each in checked):
        members = [each for each in checked if each.family == family]
        chosen = min(members, key=lambda each: (bool(each.refusal), each.parameters or float("inf"), each.name))
        working = sum(not each.refusal for each in members)
        rows.append((family, chosen, working, len(members)))
    works, families = sum(not each.refusal for each in checked), sum(working > 0 for _, _, working, _ in rows)
    lines = [
        f"Of {len(checked)} models {works} work and {len(checked) - works} are refused; of {len(rows)} families "
        f"{families} have a model that works (timm {timm.__version__}).",
        "",
        "| family | smallest member | stride | parameters (millions) | result | models that work |",
        "|---|---|---:|---:|---|---:|",
    ]
    for family, chosen, working, total in rows:
        size = "" if chosen.parameters is None else f"{chosen.parameters / 1e6:.1f}"
        result = chosen.refusal.replace("|", "/") or WORKS
        lines.append(f"| {family} | {chosen.name} | {chosen.stride or ''} | {size} | {result} | {working} of {total} |")
    return "\n".join(lines) + "\n"
