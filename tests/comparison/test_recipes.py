"""Recipes: every shipped one parses and dry-runs, one runs for real, and a wrong one says what is wrong."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.tiny_runs import maeseg
from maeseg.commands.pretrain import pretrain
from maeseg.comparison.recipes import read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
HEADER = ("Result:", "Split:", "Border:", "Hardware:", "Wall time:", "Commit:")

TINY = """
variables: {start: scratch, steps: 1}
steps:
  - pretrain: {out: pretrained, encoder: test_resnet, decoder_channels: [16, 8, 8, 8, 8], image_size: 64, epochs: 1,
      batch_size: 8, workers: 0}
  - compare: {out: comparison, inits: ['${start}', pretrained, "pretrained:encoder"], labels: [4], seeds: 2, epochs: 1,
      steps_per_epoch: $steps, batch_size: 4, workers: 0}
  - report: {run: comparison}
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_shipped_recipe_dry_runs(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maeseg("recipe", "--file", file, "--data", "oxford-pet", "--out", tmp_path / "out", "--dry-run") == 0
    assert "every step can be run" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_shipped_recipe_says_what_came_of_it(file: Path) -> None:
    header = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in HEADER:
        assert any(word in line for line in header), f"{file.name} lacks {word}"


def test_recipes_are_shipped() -> None:
    assert RECIPES


@pytest.mark.slow
def test_a_recipe_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ("recipe", "--file", tmp_path / "tiny.yaml", "--data", "synthetic:24", "--out", tmp_path / "out")
    assert maeseg(*command) == 0
    report = tmp_path / "out" / "comparison" / "report.html"
    assert str(report) in capsys.readouterr().out
    rows = (tmp_path / "out" / "comparison" / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2
    before = (tmp_path / "out" / "pretrained" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert maeseg(*command) == 2  # the folder is not empty
    assert maeseg(*command, "--resume") == 0
    assert (tmp_path / "out" / "pretrained" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_a_teacher_may_be_an_earlier_step(tmp_path: Path) -> None:
    targets = {"pixels": "pixels", "taught": "teacher:pixels", "other": "teacher:other.pth", "last": "pixels"}
    steps = [{"pretrain": {"out": out, "target": target}} for out, target in targets.items()]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"steps": steps}))
    found = read_recipe(tmp_path / "recipe.yaml", {"pretrain": pretrain}, "synthetic:24", tmp_path / "out", {}, {})
    assert [step.options["target"] for step in found] == [
        "pixels", f"teacher:{tmp_path}/out/pixels", "teacher:other.pth", "pixels"
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "starter",
    [("-m", "maeseg"), ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "maeseg")],
    ids=["the first starts the second", "torchrun"],
)
def test_two_processes_follow_a_recipe_together(starter: tuple[str, ...], tmp_path: Path) -> None:
    together = {"accelerator": "cpu", "devices": 2}
    content = yaml.safe_load(TINY)
    content["steps"] = [
        {command: {**options, **together} if command in ("pretrain", "compare") else options}
        for step in content["steps"]
        for command, options in step.items()
    ]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    out = tmp_path / "out" / "comparison"

    def follow(*more: str) -> list[dict[str, str]]:
        words = ("recipe", "--file", tmp_path / "tiny.yaml", "--data", "synthetic:24", "--out", tmp_path / "out", *more)
        done = subprocess.run(
            [sys.executable, *starter, *map(str, words)],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("step 1 of 3") == done.stdout.count("report.html") == 1  # one speaks
        with (out / "results.csv").open() as file:
            return [{**row, "seconds": ""} for row in csv.DictReader(file)]

    first = follow()
    assert len(first) == 3 * 2
    shutil.rmtree(out / "runs" / "pretrained-4-seed1")
    assert follow("--resume") == first  # only that run is trained again, by both


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": []}, "is not a recipe"),
        ({"steps": [{"pretrain": {}}], "more": 1}, "variables and steps, not more"),
        ({"steps": [{"fly": {}}]}, "'fly' is not a command of recipes"),
        (
            {"steps": [{"pretrain": {"out": "a", "epoch": 3}}]},
            "step 1: pretrain has no option epoch; did you mean epochs",
        ),
        ({"steps": [{"pretrain": {"out": "a", "epochs": "many"}}]}, "--epochs many must be an integer"),
        ({"steps": [{"pretrain": {"epochs": 3}}]}, "missing: --out"),
        ({"steps": [{"pretrain": {"out": "a", "weights": "$start"}}]}, "step 1: $start is not among the recipe's vari"),
        (
            {"steps": [{"pretrain": {"out": "a", "weights": "w/${at}.pt"}}]},
            "step 1: $at is not among the recipe's vari",
        ),
        (
            {"steps": [{"pretrain": {"out": "a", "encoder": "resnet81"}}]},
            "step 1: --encoder 'resnet81' is not",
        ),
        ({"steps": [{"pretrain": {"out": "a", "image_size": 100}}]}, "--image_size [100, 100] is not a multiple of 32"),
        ({"steps": [{"pretrain": {"out": "a", "patch_size": 16}}]}, "--patch_size 16 is not a multiple of the"),
        ({"steps": [{"pretrain": {"out": "a", "epochs": 0}}]}, "step 1: --epochs 0 is out of range"),
        ({"steps": [{"pretrain": {"out": "/elsewhere"}}]}, "step 1: out: '/elsewhere' is not a path below --out"),
        ({"steps": [{"pretrain": {"out": "a/../../b"}}]}, "step 1: out: 'a/../../b' is not a path below --out"),
        ({"steps": [{"pretrain": {"out": "."}}]}, "step 1: out: '.' is not a path below --out"),
        ({"steps": [{"evaluate": {"run": "a", "out": "../a.json"}}]}, "step 1: out: '../a.json' is not a path below"),
        (
            {"variables": {"at": "/elsewhere"}, "steps": [{"pretrain": {"out": "$at"}}]},
            "step 1: out: '/elsewhere' is not a path below --out",
        ),
        ({"steps": [{"report": {"run": "/elsewhere/run"}}]}, "step 1: run: /elsewhere/run lies outside of --out"),
        ({"steps": [{"evaluate": {"run": "/elsewhere/run"}}]}, "step 1: run: /elsewhere/run lies outside of --out"),
    ],
)
def test_a_wrong_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], words: str
) -> None:
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(change))
    out = tmp_path / "out"
    assert maeseg("recipe", "--file", tmp_path / "wrong.yaml", "--data", "synthetic:24", "--out", out) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_a_step_does_not_write_through_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"steps": [{"pretrain": {"out": "link/run"}}]}))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    words = ("recipe", "--file", tmp_path / "recipe.yaml", "--data", "synthetic:24", "--out", tmp_path / "out")
    assert maeseg(*words) == 2
    assert "'link/run' leads through a link to outside of --out" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ("{stard: x}", "did you mean start?"),
        ("{steps: 0}", "--steps_per_epoch 0 is out of range"),
        ("{steps: few}", "--steps_per_epoch few must be an integer"),
    ],
)
def test_a_wrong_variable(tmp_path: Path, capsys: pytest.CaptureFixture[str], variables: str, words: str) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ("recipe", "--file", tmp_path / "tiny.yaml", "--data", "synthetic:24", "--out", tmp_path / "out")
    assert maeseg(*command, "--variables", "{steps: 3}", "--dry-run") == 0
    assert maeseg(*command, "--variables", variables) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_recipe_for_a_gpu_runs_on_a_processor_with_small_numbers(tmp_path: Path) -> None:
    small = {
        "first": "test_resnet", "second": "test_resnet", "image_size": 64, "val": 5, "pretrain_epochs": 1,
        "pretrain_batch": 8, "few": 4, "many": 6, "seeds": 1, "epochs": 1, "most_epochs": 2, "steps": 1, "batch": 2,
        "precision": "32-true", "workers": 0,
    }  # fmt: skip
    [file] = [each for each in RECIPES if each.stem == "gpu-pets"]
    variables = yaml.safe_dump(small, default_flow_style=True, width=10**6).strip()
    command = ("recipe", "--file", file, "--data", "synthetic:24", "--out", tmp_path / "out", "--variables", variables)
    assert maeseg(*command) == 0
    for name in ("comparison-first", "comparison-second"):
        rows = (tmp_path / "out" / name / "results.csv").read_text().splitlines()
        assert len(rows) == 1 + 2 * 4 * 2  # at equal steps, and trained out
        assert (tmp_path / "out" / name / "report.html").is_file()
