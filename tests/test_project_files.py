"""Files around the package: continuous integration, pre-commit, citation, dependency bounds, the table of folders."""

import importlib.util
import re
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "maeseg"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = ("config.py", "cli.py", "errors.py")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]


def lowest_versions() -> ModuleType:
    specification = importlib.util.spec_from_file_location("lowest_versions", ROOT / "tools" / "lowest_versions.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_continuous_integration_calls_make_targets() -> None:
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {"newest": ["make lint", "make test", "make demo"], "lowest": ["make test-lowest"]}
    assert {command.removeprefix("make ") for called in commands.values() for command in called} <= make_targets()
    assert jobs["newest"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]


def test_pre_commit_runs_the_tools_of_lint() -> None:
    hooks = [hook for repository in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff", "ruff-format", "mypy", "check-added-large-files"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks if "entry" in hook)


def test_the_citation_is_of_this_version() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]


def test_lowest_versions_cover_every_dependency() -> None:
    lines = list(lowest_versions().lowest(ROOT / "pyproject.toml"))
    bounds = dict(line.split("==") for line in lines)
    optional = chain(*PROJECT["optional-dependencies"].values())
    assert len(bounds) == len([*PROJECT["dependencies"], *optional]) - 1  # `dev` names the other extras of maeseg
    newest = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    newest = {name.lower(): version for name, version in newest.items()}
    assert bounds.keys() >= {"torch", "numpy", "onnx", "pytest"}
    for name, version in bounds.items():
        assert numbers(version) <= numbers(newest[name.lower()]), name


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_a_dependency_without_a_bound_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "x"\ndependencies = ["torch"]\n[project.optional-dependencies]\n')
    with pytest.raises(ValueError, match="torch has no lower bound"):
        list(lowest_versions().lowest(file))


def test_every_folder_is_in_the_table() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w/.]+?)/?` \| (.+) \|$", contributing, re.MULTILINE))
    folders = {file.parent.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")} - {"."}
    modules = {name for name in MODULES if (PACKAGE / name).exists()}
    assert not (folders | modules) - rows.keys()
    assert all(meaning.strip() for meaning in rows.values())
