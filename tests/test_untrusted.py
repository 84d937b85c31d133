"""Files from strangers: nothing in them is executed, and nothing outside of the folders named is read or written."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from helpers.fake_runs import fake_compare, fake_finetune
from helpers.tar_shards import encoded
from helpers.tiny_runs import DATA, maeseg
from maeseg.commands.report import report
from maeseg.errors import UserError
from maeseg.runs.checkpoint import read_checkpoint
from maeseg.runs.reader import read_options
from maeseg.utils.atomic_io import write_json


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.file), "w")


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


def yaml_trap(file: Path) -> str:
    return f"data: !!python/object/apply:builtins.open ['{file}', 'w']\nout: x\nsteps: [1]\n"


def test_yaml_constructs_nothing(tmp_path: Path, sprung: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml_trap(sprung))
    (run / "run.json").write_text('{"verb": "pretrain", "status": "running"}')
    assert maeseg("pretrain", "--config", run / "config.yaml") == 2
    assert maeseg("recipe", "--file", run / "config.yaml", "--data", DATA, "--out", tmp_path / "out") == 2
    assert maeseg("report", "--run", run) == 2
    assert maeseg("pretrain", "--data", DATA, "--out", run, "--resume") == 2
    with pytest.raises(UserError, match=r"config.yaml is not YAML"):
        read_options(run)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("maeseg: ") for line in lines)
    assert not sprung.exists()


@pytest.mark.parametrize("text", ["a: &a [*a]", "data: " + "[" * 5000, "\0", "- 1", "data: [", "steps: &s [*s]"])
def test_odd_yaml_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    assert maeseg("finetune", "--config", tmp_path / "odd.yaml") == 2
    assert maeseg("recipe", "--file", tmp_path / "odd.yaml", "--data", DATA, "--out", tmp_path / "out") == 2
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_a_config_without_a_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.yaml").write_text("warmup: null\nencoder: null\n")
    words = ("pretrain", "--config", tmp_path / "odd.yaml", "--data", DATA, "--out", tmp_path / "out")
    assert maeseg(*words) == 2
    assert capfd.readouterr().err == "maeseg: --warmup null must be a number\n"
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_no_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\x00")
    assert maeseg("finetune", "--config", tmp_path / "odd.yaml") == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_no_checkpoint_runs_code(
    tmp_path: Path, sprung: Path, finetuned: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    for name in ("best", "last"):
        file = run / "checkpoints" / f"{name}.ckpt"
        if form == "torch":
            content = torch.load(file, weights_only=True)
            torch.save(content | {"callbacks": Trap(sprung)}, file)
        else:
            file.write_bytes(pickle.dumps({"state_dict": Trap(sprung)}))
    (tmp_path / "cat.png").write_bytes(encoded(1, "PNG"))
    file = run / "checkpoints" / "best.ckpt"
    capfd.readouterr()
    for words in (
        ("predict", "--run", run, "--images", tmp_path / "cat.png", "--out", tmp_path / "out"),
        ("evaluate", "--run", run, "--data", DATA),
        ("finetune", "--weights", run, "--data", DATA, "--out", tmp_path / "out"),
        ("compare", "--inits", f"[{run}]", "--labels", "[4]", "--data", DATA, "--out", tmp_path / "out"),
        ("pretrain", "--weights", file, "--data", DATA, "--out", tmp_path / "out"),
    ):
        assert maeseg(*words) == 2
        [line] = capfd.readouterr().err.splitlines()
        assert str(file) in line
    assert not sprung.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"encoder": ["resnet18"]}}, {"spec": {"encoder": "hf-hub:somebody/something"}},
        {"spec": {"encoder": "local-dir:/"}}, {"spec": {"decoder_channels": 5}},
        {"spec": {"decoder_channels": [10**9] * 5}}, {"spec": {"image_size": [10**6, 10**6]}},
        {"spec": {"image_size": "big"}}, {"spec": {"task": "format"}}, {"data": {"border": "sideways"}},
        {"data": {"data": 7}}, {"data": {"val": [5]}}, {"pretraining": {"patch_size": 32}},
    ],
)  # fmt: skip
def test_what_a_checkpoint_says_of_itself_is_not_believed(
    tmp_path: Path, finetuned: Path, capfd: pytest.CaptureFixture[str], change: dict[str, dict[str, object]]
) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    file = run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    for part, values in change.items():
        content["hyper_parameters"][part] = (content["hyper_parameters"][part] or {}) | values
    torch.save(content, file)
    capfd.readouterr()
    assert maeseg("evaluate", "--run", run, "--data", DATA) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


# --- run folders: the report shows them


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "metrics.json", "run.json", "examples"])
def test_links_out_of_a_run_are_not_followed(tmp_path: Path, name: str) -> None:
    secret = fake_finetune(tmp_path / "secret")
    run = fake_finetune(tmp_path / "run")
    if (run / name).is_dir():
        shutil.rmtree(run / name)
    else:
        (run / name).unlink()
    (run / name).symlink_to(secret / name)
    with pytest.raises(UserError, match=r"lies outside of the run folder"):
        report(run=str(run))
    assert not (run / "report.html").exists()


def test_a_run_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    run = fake_finetune(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    assert report(run=str(tmp_path / "link")).is_file()


def test_a_link_to_itself_is_one_line(tmp_path: Path) -> None:
    run = fake_finetune(tmp_path / "run")
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to("config.yaml")
    with pytest.raises(UserError, match=r"config.yaml"):
        report(run=str(run))


@pytest.mark.parametrize("where", ["../outside", "/outside", "runs/../../outside"])
def test_a_comparison_reads_no_run_outside_of_it(tmp_path: Path, where: str) -> None:
    comparison = fake_compare(tmp_path / "comparison")
    outside = fake_finetune(tmp_path / "outside")
    table = comparison / "results.csv"
    lines = table.read_text().splitlines()
    first = lines[1].split(",")
    first[lines[0].split(",").index("run")] = where.replace("/outside", str(outside)) if where[0] == "/" else where
    table.write_text("\n".join([lines[0], ",".join(first), *lines[2:]]) + "\n")
    with pytest.raises(UserError, match=r"outside"):
        report(run=str(comparison))


@pytest.mark.slow
def test_an_init_far_away_is_not_shown(tmp_path: Path) -> None:
    comparison = fake_compare(tmp_path / "downloads" / "comparison")
    secret = fake_finetune(tmp_path / "secret")
    facts = json.loads((comparison / "run.json").read_text())
    (comparison / "run.json").write_text(json.dumps(facts | {"inits": {"mine": str(secret)}}))
    page = report(run=str(comparison)).read_text()
    assert "does not lie beside the comparison, so it is not shown" in page


@pytest.mark.parametrize("name", ["report.html", "report.html.tmp"])
def test_the_report_is_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    run = fake_finetune(tmp_path / "run")
    (tmp_path / "mine.txt").write_text("mine")
    (run / name).symlink_to(tmp_path / "mine.txt")
    report(run=str(run))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (run / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.tmp", "evaluation.json.tmp"])
def test_figures_are_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / name).symlink_to(tmp_path / "mine.txt")
    write_json(tmp_path / "evaluation.json", {"iou": 1})
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"), [("seconds", "long"), ("started", 7), ("versions", 3), ("hardware", []), ("inits", 5)]
)
def test_a_run_json_of_another_kind_gives_a_page_or_one_line(tmp_path: Path, key: str, value: object) -> None:
    run = fake_compare(tmp_path / "comparison", labels=(32,), seeds=1)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {key: value}))
    try:
        assert report(run=str(run)).is_file()
    except UserError as error:
        assert str(run) in str(error)
        assert not (run / "report.html").exists()


def test_names_in_a_run_cannot_leave_its_page(tmp_path: Path) -> None:
    run = fake_finetune(tmp_path / "run")
    options = yaml.safe_load((run / "config.yaml").read_text())
    script = "</pre><script>alert(1)</script>"
    (run / "config.yaml").write_text(yaml.safe_dump(options | {"data": script}))
    assert "<script" not in report(run=str(run)).read_text()


def test_reading_a_checkpoint_names_what_it_would_run(tmp_path: Path, sprung: Path) -> None:
    torch.save({"state_dict": {}, "more": Trap(sprung)}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x.ckpt holds more than tensors \((io|_io|builtins)\.open\).*refused"):
        read_checkpoint(tmp_path / "x.ckpt")
    assert not sprung.exists()
