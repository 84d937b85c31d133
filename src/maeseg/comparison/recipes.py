"""A recipe: the steps of an experiment in one YAML file, each a command with its options.

    variables:            # a user may replace them; each has a default
      imagenet: timm
    steps:                # done in order; OUT is the recipe's folder
      - pretrain: {out: pretrained, encoder: resnet18, epochs: 50}
      - compare: {out: comparison, inits: [scratch, "${imagenet}", pretrained], labels: [32, 320]}
      - report: {run: comparison}

``data`` is the recipe's own unless a step names another. The name of an earlier step's folder (``pretrained``) means
that folder; ``${imagenet}`` or ``$imagenet`` means the variable, inside of a text too, and ``$$`` a dollar sign.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from maeseg.comparison.plan import ENCODER_ONLY
from maeseg.comparison.results import without_unlabeled
from maeseg.config import CONFIGS
from maeseg.errors import UserError, in_one_line, nearest
from maeseg.models.architecture import Design, build_segmentation_network, default_widths
from maeseg.models.shapes import without_values
from maeseg.models.unet import DEFAULT_ENCODER, as_size, as_volume_size, check_image_size
from maeseg.models.volume_networks import AXES, DEFAULT_VOLUME_NETWORK
from maeseg.runs.working_folder import path_in
from maeseg.types import TEACHER
from maeseg.utils.parsing import options_of, typed_options
from maeseg.utils.plain_yaml import read_yaml
from maeseg.utils.regular_files import read_text

READS_A_STEP = ("weights", "run", "inits")
"""Options that may name what an earlier step wrote; so may ``target``, after ``teacher:``."""


@dataclass(frozen=True)
class Step:
    """One step of a recipe with all of its options, checked."""

    command: str
    options: Mapping[str, Any]


def read_recipe(
    file: Path, commands: Mapping[str, Callable[..., Any]], data: str, out: Path, variables: Mapping[str, Any],
    switches: Mapping[str, bool],
) -> list[Step]:  # fmt: skip
    """Read a recipe and fill in options that it leaves open; every option and network of every step is checked.

    Args:
        file: The YAML file.
        commands: The commands that a step may be.
        data: Data of the steps that take ``data`` and name none.
        out: Folder of all that the steps write.
        variables: Values that replace the defaults of the file.
        switches: Options for every step that has them, such as ``resume``.

    Raises:
        UserError: The file cannot be read, is not a recipe, or a step's options are wrong.
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
        try:
            command, given = _step(entry, commands)
            options = {name: _replaced(value, values) for name, value in given.items()}
            options = _settled(commands[command], options, data, out, written, switches)
            step = Step(command, _checked(command, typed_options(commands[command], options)))
            _check_network(step)
        except UserError as error:
            raise UserError(f"{file}, step {number}: {error}") from error
        steps.append(step)
    return steps


def _settled(
    command: Callable[..., Any], options: dict[str, Any], data: str, out: Path, written: dict[str, str],
    switches: Mapping[str, bool],
) -> dict[str, Any]:  # fmt: skip
    """Options with the folders of earlier steps, the recipe's data and switches; adds the step's folder to those."""
    known = options_of(command)
    options |= {name: _written(options[name], written) for name in READS_A_STEP if name in options}
    if teacher := path_in("target", options.get("target")):
        options["target"] = f"{TEACHER}{_written(teacher, written)}"
    if "data" in known:
        options.setdefault("data", data)
    if "out" in options:
        name = str(options["out"])
        written[name] = options["out"] = str(_below(out, name))
    elif "run" in options and not _is_below(out, Path(str(options["run"]))):  # report and evaluate write into it
        raise UserError(f"run: {options['run']} lies outside of --out {out}: name the folder of an earlier step")
    return options | {name: value for name, value in switches.items() if name in known}


def _below(out: Path, name: str) -> Path:
    """Path of what a step writes.

    Raises:
        UserError: It does not lie below the recipe's folder.
    """
    given = Path(name)
    if given.is_absolute() or ".." in given.parts or not given.parts:
        raise UserError(f"out: {name!r} is not a path below --out: give a relative one without '..'")
    if not _is_below(out, out / given):
        raise UserError(f"out: {name!r} leads through a link to outside of --out {out}: replace the link by a folder")
    return out / given


def _is_below(out: Path, path: Path) -> bool:
    """True if a path lies below a folder, after links."""
    try:
        return out.resolve() in path.resolve().parents
    except (OSError, RuntimeError, ValueError):  # a link to itself
        return False


def _checked(command: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options whose numbers are in their ranges."""
    return CONFIGS[command](**options).as_dict() if command in CONFIGS else options


def _load(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml(read_text(file))
    except FileNotFoundError as error:
        raise UserError(f"--file {file} does not exist: give a recipe, such as those in recipes/") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--file {file} cannot be read as YAML ({in_one_line(error)}): correct it") from error
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list) or not content["steps"]:
        raise UserError(f"--file {file} is not a recipe: it has no list of steps (see recipes/)")
    if spare := set(content) - {"variables", "steps"}:
        raise UserError(f"--file {file}: a recipe has variables and steps, not {', '.join(sorted(map(str, spare)))}")
    if not isinstance(content.get("variables") or {}, dict):
        raise UserError(f"--file {file}: variables must be names with defaults, such as 'imagenet: timm'")
    return content


def _step(entry: Any, commands: Mapping[str, Callable[..., Any]]) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError("not one command with its options, such as 'pretrain: {out: pretrained}'")
    [(command, options)] = entry.items()
    if command not in commands:
        raise UserError(
            f"{command!r} is not a command of recipes{nearest(str(command), commands)}; use {', '.join(commands)}"
        )
    if not isinstance(options, dict):
        raise UserError(f"the options of {command} must be names with values, such as '{{out: pretrained}}'")
    return command, options


def _replaced(value: Any, variables: Mapping[str, Any]) -> Any:
    """A value with its variables replaced; one that is a variable alone gets its type too, such as a number."""
    if isinstance(value, list):
        return [_replaced(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    names = Template(value).get_identifiers()
    for name in names:
        if name not in variables:
            raise UserError(f"${name} is not among the recipe's variables{nearest(name, variables)}")
    if len(names) == 1 and value in (f"${names[0]}", f"${{{names[0]}}}"):
        return variables[names[0]]
    return Template(value).safe_substitute(variables)


def _written(value: Any, written: Mapping[str, str]) -> Any:
    """Names of earlier steps' folders as paths; anything else as it is."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_written(each, written) for each in value]
    if not isinstance(value, str):
        return value
    name = without_unlabeled(value).removesuffix(ENCODER_ONLY)
    return written[name] + value.removeprefix(name) if name in written else value


def _check_network(step: Step) -> None:
    """Check that a step's network exists and takes its images; nothing is computed.

    Raises:
        UserError: The network does not exist or does not take the step's images; the step would find that hours later.
    """
    options = step.options
    encoder = options.get("encoder") or _default_network(options)
    design = Design(encoder, tuple(options.get("decoder_channels") or default_widths(encoder)))
    least = (design.stride,) * design.axes
    if options.get("encoder"):
        with without_values():
            build_segmentation_network(encoder, design.decoder_channels, least)
    if not options.get("decoder_channels") and (options.get("weights") or options.get("inits")):
        return  # an earlier step decides on the strides
    patch = design.choose_patch(options.get("patch_size"), least)
    for option in ("image_size", "crop"):
        if options.get(option):
            sides = options[option]
            size = as_size(sides, option) if design.axes == 2 else as_volume_size(sides)
            check_image_size(size, patch, option=option)


def _default_network(options: Mapping[str, Any]) -> str:
    """Network of a step that names no encoder: one of volumes if it is named, or the size has three sides."""
    sides = options.get("image_size")
    if not options.get("network") and not (isinstance(sides, list) and len(sides) == AXES):
        return DEFAULT_ENCODER
    return str(options.get("network") or DEFAULT_VOLUME_NETWORK)
