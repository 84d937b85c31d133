"""A recipe: the steps of an experiment in one YAML file, each a verb with its options.

    variables:            # what a user may replace, with a default
      imagenet: timm
    steps:                # done in order; OUT is the recipe's folder
      - pretrain: {out: pretrained, encoder: resnet18, epochs: 50}
      - compare: {out: comparison, inits: [scratch, $imagenet, pretrained], labels: [32, 320]}
      - report: {run: comparison}

``data`` is the recipe's own unless a step names another. What an earlier step wrote to (``pretrained``) means that
step's folder; ``$imagenet`` means the variable.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from maeseg.comparison.plan import ENCODER_ONLY
from maeseg.errors import UserError, in_one_line, nearest
from maeseg.models.unet import (
    DECODER_CHANNELS,
    as_size,
    build_unet,
    check_image_size,
    check_patch_size,
    largest_stride,
)
from maeseg.training.options import check_ranges
from maeseg.utils.parsing import typed_options

READS_A_STEP = ("weights", "run", "inits")
"""Options that may name what an earlier step wrote."""


@dataclass(frozen=True)
class Step:
    """One verb of a recipe with all of its options."""

    verb: str
    options: Mapping[str, Any]


def read_recipe(
    file: Path, verbs: Mapping[str, Callable[..., Any]], data: str, out: Path, variables: Mapping[str, Any],
    switches: Mapping[str, bool],
) -> list[Step]:  # fmt: skip
    """Read a recipe and fill in what it leaves open; every option of every step is checked.

    Args:
        file: The YAML file.
        verbs: The verbs that a step may be.
        data: For the steps that take ``data`` and name none.
        out: Folder of all that the steps write.
        variables: Values that replace the defaults of the file.
        switches: Options for every step that has them, such as ``resume``.

    Raises:
        UserError: If the file cannot be read, is not a recipe, or a step's options are wrong.
    """
    content = _load(file)
    known: dict[str, Any] = content.get("variables") or {}
    for name in variables:
        if name not in known:
            raise UserError(f"--variables {name}: {file} has no such variable{nearest(name, known)}")
    values = {**known, **variables}
    steps: list[Step] = []
    written: dict[str, str] = {}
    for number, entry in enumerate(content["steps"], start=1):
        where = f"{file}, step {number}"
        verb, given = _step(where, entry, verbs)
        parameters = inspect.signature(verbs[verb]).parameters
        options = {name: _replaced(where, value, values) for name, value in given.items()}
        for name in READS_A_STEP:
            options |= {name: _written(options[name], written)} if name in options else {}
        if "data" in parameters:
            options.setdefault("data", data)
        if "out" in options:
            folder = str(out / str(options["out"]))
            written[str(options["out"])] = options["out"] = folder
        options |= {name: value for name, value in switches.items() if name in parameters}
        try:
            steps.append(Step(verb, typed_options(verbs[verb], options)))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return steps


def check_network(step: Step) -> None:
    """Check a step's numbers, and that its network exists and takes its images; nothing is computed.

    Raises:
        UserError: As the step itself would, hours later.
    """
    options = step.options
    check_ranges(options)
    widths = options.get("decoder_channels") or DECODER_CHANNELS
    if options.get("encoder"):
        with torch.device("meta"):
            build_unet(options["encoder"], widths)
    if not options.get("decoder_channels") and (options.get("weights") or options.get("inits")):
        return  # an earlier step decides on the strides
    patch = options.get("patch_size") or largest_stride(widths)
    check_patch_size(patch, largest_stride(widths))
    for option in ("image_size", "crop"):
        if options.get(option):
            check_image_size(as_size(options[option], option), patch, option=option)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"--file {file} cannot be read as YAML ({in_one_line(error)})") from error
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list) or not content["steps"]:
        raise UserError(f"--file {file} is not a recipe: it has no list of steps (see recipes/)")
    if spare := set(content) - {"variables", "steps"}:
        raise UserError(f"--file {file}: a recipe has variables and steps, not {', '.join(sorted(map(str, spare)))}")
    if not isinstance(content.get("variables") or {}, dict):
        raise UserError(f"--file {file}: variables must be names with defaults, such as 'imagenet: timm'")
    return content


def _step(where: str, entry: Any, verbs: Mapping[str, Callable[..., Any]]) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError(f"{where} is not one verb with its options, such as 'pretrain: {{out: pretrained}}'")
    [(verb, options)] = entry.items()
    if verb not in verbs:
        raise UserError(
            f"{where}: {verb!r} is not a verb of recipes{nearest(str(verb), verbs)}; use {', '.join(verbs)}"
        )
    if not isinstance(options, dict):
        raise UserError(f"{where}: the options of {verb} must be names with values, such as '{{out: pretrained}}'")
    return verb, options


def _replaced(where: str, value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_replaced(where, each, variables) for each in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value[1:] not in variables:
        raise UserError(f"{where}: {value} is not among the recipe's variables{nearest(value[1:], variables)}")
    return variables[value[1:]]


def _written(value: Any, written: Mapping[str, str]) -> Any:
    """Names of earlier steps' folders as paths; anything else as it is."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_written(each, written) for each in value]
    if not isinstance(value, str):
        return value
    name = value.removesuffix(ENCODER_ONLY)
    return written[name] + value.removeprefix(name) if name in written else value
