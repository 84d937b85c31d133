"""Which of timm's networks run on visible patches, found out by running them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import timm
import torch
from timm.models import model_entrypoint
from torch import nn

from maeseg.errors import UserError
from maeseg.sparse import encode_visible

SMALLEST_PATCH = 32


@dataclass(frozen=True)
class EncoderSupport:
    """What became of one network.

    Args:
        name: timm's name.
        family: Module of timm that defines it, such as ``resnet``.
        refusal: Why it cannot run on visible patches; None if it can.
        stride: Its largest stride; None where timm does not tell.
        parameters: How many it has, without a classifier.
    """

    name: str
    family: str
    refusal: str | None
    stride: int | None
    parameters: int


def family_of(name: str) -> str:
    """The module of timm that defines a network."""
    return str(model_entrypoint(name).__module__).rpartition(".")[2]


def build_features(name: str, device: str) -> nn.Module:
    """A timm network that returns its feature maps, with values of no meaning on the ``meta`` device.

    Raises:
        UserError: If timm cannot take this network's feature maps.
    """
    try:
        with torch.device(device):
            network: nn.Module = timm.create_model(name, features_only=True, pretrained=False)
    except (RuntimeError, NotImplementedError) as error:
        if device == "meta" and "meta" in str(error):  # some read a value while they are built
            return build_features(name, "cpu")
        raise UserError(f"timm gives no feature maps of it ({first_line(error)})") from error
    except (AttributeError, AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"timm gives no feature maps of it ({first_line(error)})") from error
    return network


def first_line(error: Exception) -> str:
    """What an error says first."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def check_encoder(name: str) -> EncoderSupport:
    """Build a network without initialising it, and run it on every second patch of a small image."""
    try:
        network = build_features(name, "meta")
    except UserError as error:
        return EncoderSupport(name, family_of(name), str(error), None, 0)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    stride = max(network.feature_info.reduction())  # type: ignore[union-attr, operator]
    patch = max(stride, SMALLEST_PATCH)
    # Untouched memory: what the network computes does not matter here, only whether each of its operations has a rule.
    network = network.to_empty(device="cpu").eval()
    size = fixed_size(name) or (patch, 3 * patch)
    visible_BYX = torch.ones(1, size[0] // patch, size[1] // patch, dtype=torch.bool)
    visible_BYX[..., 1::2] = False
    refusal = None
    try:
        with torch.inference_mode():
            encode_visible(network, torch.zeros(1, 3, *size), visible_BYX)
    except UserError as error:
        refusal = str(error)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError) as error:
        refusal = f"{type(error).__name__}: {first_line(error)}"
    return EncoderSupport(name, family_of(name), refusal, stride, parameters)


def fixed_size(name: str) -> tuple[int, int] | None:
    """Height and width that a network insists on; None where it takes any."""
    config = timm.get_pretrained_cfg(name)
    return (config.input_size[1], config.input_size[2]) if config and config.fixed_input_size else None


def matching(pattern: str) -> list[str]:
    """Names of timm's networks that match a wildcard pattern.

    Raises:
        UserError: If none does.
    """
    names = timm.list_models(pattern)
    if not names:
        raise UserError(f"--names {pattern!r} matches no network of timm: give a wildcard, such as 'resnet*'")
    return names


def smallest_of_each_family(
    names: Sequence[str], progress: Callable[[Sequence[str]], Iterable[str]] = iter
) -> list[str]:
    """The name with the fewest parameters in each family, of those that timm can take feature maps of."""
    smallest: dict[str, tuple[int, str]] = {}
    for name in progress(names):
        try:
            network = build_features(name, "meta")
        except UserError:
            continue
        size = (sum(parameter.numel() for parameter in network.parameters()), name)
        family = family_of(name)
        smallest[family] = min(smallest.get(family, size), size)
    return [name for _, (_, name) in sorted(smallest.items())]


def as_markdown(rows: Sequence[EncoderSupport]) -> str:
    """A table with totals."""
    works = sum(row.refusal is None for row in rows)
    lines = [
        f"{works} work, {len(rows) - works} are refused (timm {timm.__version__}).",
        "",
        "| family | network | stride | parameters | on visible patches |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "works" if row.refusal is None else f"refused: {row.refusal.replace('|', '/')}"
        parameters = f"{row.parameters / 1e6:.1f} M"
        lines.append(f"| {row.family} | `{row.name}` | {row.stride or ''} | {parameters} | {verdict} |")
    return "\n".join(lines) + "\n"
