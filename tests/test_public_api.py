"""The public names: frozen, importable, documented, and free of cost until they are used."""

import ast
import inspect
import subprocess
import sys

import pytest

import maeseg

PUBLIC = [
    "CompareConfig",
    "FinetuneConfig",
    "MaskedAutoencoder",
    "NetworkSpec",
    "PretrainConfig",
    "SegmentationLoss",
    "Segmenter",
    "UserError",
    "VolumeMaskedAutoencoder",
    "__version__",
    "app",
    "check",
    "compare",
    "demo",
    "encode_visible",
    "encoders",
    "evaluate",
    "export",
    "finetune",
    "load",
    "predict",
    "pretrain",
    "random_visible",
    "recipe",
    "reconstruct",
    "reconstruction_loss",
    "register_source",
    "report",
    "suggest",
]
OBJECTS = [name for name in PUBLIC if name != "__version__"]


def test_the_public_names_are_frozen() -> None:
    assert maeseg.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(maeseg))
    assert set(maeseg._MODULES) == {*PUBLIC} - {"__version__"}


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(inspect.getsource(maeseg))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: (node.module or "").removeprefix("maeseg.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == maeseg._MODULES


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_name_is_there_with_its_documentation(name: str) -> None:
    value = getattr(maeseg, name)
    assert value.__name__ == name
    assert value.__module__.startswith("maeseg")
    assert (inspect.getdoc(value) or "")[0].isupper()
    assert getattr(maeseg, name) is value


def test_the_version_is_a_text() -> None:
    assert isinstance(maeseg.__version__, str) and maeseg.__version__


def test_a_name_that_is_not_public_is_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        maeseg.pretrian  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import maeseg; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = {name.partition(".")[0] for name in done.stdout.split()}
    assert added - sys.stdlib_module_names == {"maeseg"}
    assert [name for name in done.stdout.split() if name.startswith("maeseg")] == ["maeseg"]
