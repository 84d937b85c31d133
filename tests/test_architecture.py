"""The code's shape: one-way imports, light command-line modules, no machine paths."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import maeseg

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

# From low to high; the package itself (maeseg/__init__.py) offers the commands, so it stands above them.
TIERS = (
    ("errors", "types"),
    ("config",),
    ("utils",),
    ("labels", "masking"),
    ("metrics",),
    ("sparse",),
    ("data",),
    ("models",),
    ("weights",),
    ("runs",),
    ("prediction",),
    ("training",),
    ("comparison",),
    ("exporting",),
    ("reporting",),
    ("webapp",),
    ("commands",),
    ("",),
    ("cli", "__main__"),
)
TIER = {name: tier for tier, names in enumerate(TIERS) for name in names}
REPORTING_MAY_NOT = {"data", "models", "weights", "training", "prediction", "exporting"}  # it reads run folders only

MOST_LINES, MOST_ARGUMENTS = 60, 12

LIGHT = ("", "cli", "config", "errors", "types", "commands")
HEAVY = {"torch", "lightning", "timm", "torchvision", "matplotlib", "segmentation_models_pytorch"}
OF_VOLUMES = {"monai", "dynamic_network_architectures", "nibabel"}  # of an extra, and MONAI loads all of its parts

MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work|mnt|media|tmp)/\w|\b[A-Z]:\\Users\\")


def module_name(path: Path) -> str:
    """src/maeseg/data/splits.py -> maeseg.data.splits."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((SOURCE / "maeseg").rglob("*.py"))}


def part_of(module: str) -> str:
    """maeseg.data.splits -> data; maeseg -> ''."""
    return module.split(".")[1] if "." in module else ""


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(module: str) -> Iterator[str]:
    """Every maeseg module that a module imports, at its top or inside a function."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "maeseg")
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, origin] if origin else base)
            if origin.split(".")[0] == "maeseg":
                for alias in node.names:  # `from maeseg.data import splits` names a module, not a value
                    name = f"{origin}.{alias.name}"
                    yield name if name in MODULES else origin


@cache
def imports() -> dict[str, set[str]]:
    """The maeseg modules that each module imports."""
    return {module: set(imported(module)) - {module} for module in MODULES}


def test_every_part_has_its_place() -> None:
    unplaced = {part_of(module) for module in MODULES} - TIER.keys()
    assert not unplaced, f"give {sorted(unplaced)} a place in TIERS"


def faults_of(module: str, name: str) -> Iterator[str]:
    """Reasons why a module may not import another."""
    part, other = part_of(module), part_of(name)
    if name not in MODULES:
        yield f"{module} imports {name}, which is no module"
    elif TIER[other] > TIER[part]:
        yield f"{module} imports {name}, which stands below it"
    if part == "reporting" and other in REPORTING_MAY_NOT:
        yield f"{module} imports {name}: it reads run folders only"


def test_each_module_imports_only_what_stands_above() -> None:
    faults = [fault for module, names in imports().items() for name in names for fault in faults_of(module, name)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        ("maeseg.data.splits", "maeseg.utils.atomic", "which is no module"),
        ("maeseg.data.splits", "maeseg.models.unet", "which stands below it"),
        ("maeseg.reporting.html", "maeseg.data.splits", "reads run folders only"),
    ],
)
def test_a_wrong_import_is_found(module: str, name: str, fault: str) -> None:
    [found] = faults_of(module, name)
    assert fault in found


def test_no_part_has_the_name_of_a_command() -> None:
    # Importing it would put the module in the function's place: maeseg.report() would work once.
    commands = {part_of(module) for module in MODULES if part_of(module)} & set(maeseg.__all__)
    assert not commands


def test_no_import_cycle() -> None:
    TopologicalSorter(imports()).prepare()  # raises CycleError, which names the cycle


def test_the_command_line_is_light() -> None:
    light = [module for module in MODULES if part_of(module) in LIGHT]
    assert "maeseg.errors" in light
    code = f"import sys, {', '.join(light)}; print(sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_libraries_of_volumes_are_imported_at_first_use(module: str) -> None:
    statements = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    names = [each.module or "" for each in statements if isinstance(each, ast.ImportFrom)]
    names += [alias.name for each in statements if isinstance(each, ast.Import) for alias in each.names]
    assert not OF_VOLUMES & {name.split(".")[0] for name in names}


def oversized(tree: ast.Module) -> Iterator[str]:
    """Functions with too many lines, docstring included, and calls with too many arguments.

    The launch of a Triton kernel, ``kernel[grid](...)``, is no call in this sense: sizes and strides are numbers there.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES:
                yield f"{node.lineno}: {node.name} has {lines} lines"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            continue
        elif isinstance(node, ast.Call) and (given := len(node.args) + len(node.keywords)) > MOST_ARGUMENTS:
            yield f"{node.lineno}: {ast.unparse(node.func)} is called with {given} arguments"


def test_functions_and_calls_are_small() -> None:
    found = [f"{module}, line {fault}" for module in MODULES for fault in oversized(tree_of(module))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("def f():\n" + "    g()\n" * (MOST_LINES - 1), 0),
        ("def f():\n" + "    g()\n" * MOST_LINES, 1),
        ("async def f():\n" + "    g()\n" * MOST_LINES, 1),
        (f"f({'x, ' * MOST_ARGUMENTS})", 0),
        (f"f({'x, ' * MOST_ARGUMENTS} y=1)", 1),
    ],
)
def test_large_functions_and_calls_are_found(code: str, count: int) -> None:
    assert len(list(oversized(ast.parse(code)))) == count


def test_no_machine_path_in_any_tracked_file() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, OSError):  # a picture; a file deleted but still tracked
            continue
        found += [f"{name}:{n}: {line}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "is_path"),
    [
        ("open('" + "/home" + "/ann/cats')", True),
        ("see " + "/work" + "/main", True),
        ("C:" + "\\Users\\ann", True),
        ("https://example.org/home/page", False),
        ("a/work/b and ../tmp/x and path/to/images", False),
        ("#!/usr/bin/env bash", False),
    ],
)
def test_machine_paths_are_recognized(line: str, is_path: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is is_path
