"""A run that is ended anywhere and resumed ends with the bits of the run that was never ended."""

import csv
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch

from helpers.mishaps import Mishap, suffer
from helpers.tiny_runs import DATA, NETWORK, VAL, curves, files_in, same_weights
from helpers.tiny_vits import MAE, VIT
from maeseg.data.sources.synthetic import Synthetic

COMMON = ("--data", DATA, "--val", VAL, "--batch_size", 4, "--epochs", 2, "--accelerator", "cpu", "--save_every", 0)
STEPS = 4  # in an epoch: 19 images, batches of 4
UNLABELED = ("--labels", 8, "--steps_per_epoch", STEPS, "--unlabeled", "rest", "--confidence", 0.5)


def read_json(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text())
    return content


@pytest.fixture(scope="module")
def verbs(pretrained: Path) -> dict[str, tuple[object, ...]]:
    return {
        "pretrain": ("pretrain", *NETWORK, *COMMON, "--decoder_window", 1),
        "finetune": ("finetune", "--weights", pretrained, *COMMON, "--labels", 17),
        "vit": ("pretrain", *VIT, *COMMON, *MAE),
        "unlabeled": ("finetune", "--weights", pretrained, *COMMON, *UNLABELED),
    }


@pytest.fixture(scope="module")
def unbroken(verbs: dict[str, tuple[object, ...]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a command that nothing happened to."""

    @functools.cache
    def run(verb: str) -> Path:
        out = tmp_path_factory.mktemp("unbroken") / verb
        done = suffer(None, *verbs[verb], "--workers", 0, "--out", out)
        assert done.code == 0, done.errors
        return out

    return run


def assert_same_run(run: Path, other: Path) -> None:
    """The same files with the same content, but for times and places."""
    assert files_in(run) == files_in(other)
    assert curves(run) == curves(other)
    for name in {path.stem for path in (other / "checkpoints").iterdir()}:
        assert same_weights(run, other, name), name
    assert read_json(run / "metrics.json") == read_json(other / "metrics.json")
    about_time = ("started", "seconds")
    facts, others = (
        {name: fact for name, fact in read_json(each / "run.json").items() if name not in about_time}
        for each in (run, other)
    )
    assert facts == others
    for picture in (other / "examples").iterdir():
        assert (run / "examples" / picture.name).read_bytes() == picture.read_bytes()


def steps_saved(run: Path) -> int:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return int(content["global_step"])


@pytest.mark.parametrize(
    ("verb", "moment", "number", "saved", "workers"),
    [
        pytest.param("pretrain", "step", 3, 2, (0, 0), marks=pytest.mark.slow),
        pytest.param("finetune", "step", STEPS + 1, STEPS, (1, 0), marks=pytest.mark.slow),
        pytest.param("pretrain", "step", STEPS + 3, STEPS + 2, (0, 1), marks=pytest.mark.slow),
        pytest.param("finetune", "step", STEPS + 3, STEPS + 2, (0, 2), marks=pytest.mark.slow),
        pytest.param("finetune", "validation", 1, STEPS, (0, 0), marks=pytest.mark.slow),
        pytest.param("unlabeled", "step", STEPS + 3, STEPS + 2, (0, 2), marks=pytest.mark.slow),
        pytest.param("vit", "step", STEPS + 2, STEPS + 1, (0, 1), marks=pytest.mark.slow),
        pytest.param("unlabeled", "step", 2, 1, (1, 0), marks=pytest.mark.slow),
        pytest.param("pretrain", "validation", 4, 2 * STEPS, (1, 1), marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_with_the_same_bits(
    verb: str, moment: str, number: int, saved: int, workers: tuple[int, int],
    verbs: dict[str, tuple[object, ...]], unbroken: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    run, words = tmp_path / "run", (*verbs[verb], "--out", tmp_path / "run")
    killed = suffer(Mishap("kill", moment, number), *words, "--workers", workers[0])  # type: ignore[arg-type]
    assert killed.code == -9, killed.errors
    assert steps_saved(run) == saved
    resumed = suffer(None, *words, "--workers", workers[1], "--resume")
    assert resumed.code == 0, resumed.errors
    assert_same_run(run, unbroken(verb))


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "first"), [("pretrain", 1), ("finetune", 2)])
def test_killed_before_each_renaming_of_a_file(
    verb: str, first: int, verbs: dict[str, tuple[object, ...]], unbroken: Callable[[str], Path], tmp_path: Path
) -> None:
    """Every moment at which what is on the disk changes: half of them with each command, as each takes seconds."""
    for number in count(first, step=2):
        run = tmp_path / str(number)
        words = (*verbs[verb], "--workers", 0, "--out", run, "--resume")
        killed = suffer(Mishap("kill", "rename", number), *words)
        if killed.code == 0:
            break
        assert killed.code == -9, killed.errors
        resumed = suffer(None, *words)
        assert resumed.code == 0, (number, resumed.errors)
        assert_same_run(run, unbroken(verb))
        shutil.rmtree(run)
    assert number > 20  # config.yaml, run.json, last.ckpt after each step, and more


@pytest.mark.slow
def test_a_run_killed_again_and_again(
    verbs: dict[str, tuple[object, ...]], unbroken: Callable[[str], Path], tmp_path: Path
) -> None:
    words = (*verbs["finetune"], "--workers", 0, "--out", tmp_path / "run", "--resume")
    for number in (1, 2, 3, 2):
        killed = suffer(Mishap("kill", "step", number), *words)
        assert killed.code == -9, killed.errors
    assert suffer(None, *words).code == 0
    assert_same_run(tmp_path / "run", unbroken("finetune"))


@pytest.mark.parametrize(
    ("verb", "event", "moment", "number", "code", "saved"),
    [
        pytest.param("pretrain", "interrupt", "step", 3, 130, 3, marks=pytest.mark.slow),
        pytest.param("finetune", "terminate", "step", STEPS, 143, STEPS, marks=pytest.mark.slow),
        pytest.param("finetune", "terminate", "step", STEPS + 2, 143, STEPS + 2, marks=pytest.mark.slow),
        pytest.param("pretrain", "interrupt", "validation", 1, 130, STEPS, marks=pytest.mark.slow),
        pytest.param("pretrain", "terminate", "validation", 2, 143, STEPS, marks=pytest.mark.slow),
        pytest.param("finetune", "interrupt", "validation", 4, 130, 2 * STEPS, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_when_its_state_is_saved(
    verb: str, event: str, moment: str, number: int, code: int, saved: int,
    verbs: dict[str, tuple[object, ...]], unbroken: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    run, words = tmp_path / "run", (*verbs[verb], "--out", tmp_path / "run", "--workers", 0)
    stopped = suffer(Mishap(event, moment, number), *words, "--save_every", 10)  # type: ignore[arg-type]
    assert stopped.code == code, stopped.errors
    assert stopped.errors[-2:] == [
        "stopping after this step, to save it; once more stops at once", "maeseg: stopped; go on with --resume"
    ]  # fmt: skip
    assert steps_saved(run) == saved
    resumed = suffer(None, *words, "--resume", "--save_every", 10)
    assert resumed.code == 0, resumed.errors
    assert_same_run(run, unbroken(verb))


@pytest.mark.slow
def test_a_second_interrupt_ends_a_run_at_once(
    verbs: dict[str, tuple[object, ...]], unbroken: Callable[[str], Path], tmp_path: Path
) -> None:
    run, words = tmp_path / "run", (*verbs["pretrain"], "--out", tmp_path / "run", "--workers", 1)
    stopped = suffer(Mishap("interrupt twice", "step", 3), *words)
    assert stopped.code == 130 and stopped.errors[-1] == "maeseg: stopped; go on with --resume"
    assert steps_saved(run) == 2  # the third was not waited for
    assert suffer(None, *words, "--resume").code == 0
    assert_same_run(run, unbroken("pretrain"))


@pytest.mark.slow
def test_within_an_epoch_it_is_saved_by_the_clock_alone(verbs: dict[str, tuple[object, ...]], tmp_path: Path) -> None:
    words = (*verbs["pretrain"], "--out", tmp_path / "run", "--workers", 0)
    assert suffer(Mishap("kill", "step", 4), *words, "--save_every", 10).code == -9
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert suffer(Mishap("kill", "step", STEPS + 2), *words, "--save_every", 10, "--resume").code == -9
    assert steps_saved(tmp_path / "run") == STEPS


@pytest.mark.slow
def test_two_processes_continue_with_unlabeled_images(verbs: dict[str, tuple[object, ...]], tmp_path: Path) -> None:
    def run(name: str, epochs: int) -> Path:
        constant = ("--schedule", "constant", "--warmup", 0, "--epochs", epochs)  # so that a run can be lengthened
        words = (*verbs["unlabeled"], "--workers", 0, "--devices", 2, *constant, "--out", tmp_path / name, "--resume")
        done = subprocess.run(
            [sys.executable, "-m", "maeseg", *map(str, words)],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    run("parts", 1)
    parts, unbroken = run("parts", 2), run("unbroken", 2)
    assert same_weights(parts, unbroken)
    assert curves(parts) == curves(unbroken)


@pytest.mark.slow
def test_two_processes_with_one_seed_give_the_same_bits(
    verbs: dict[str, tuple[object, ...]], unbroken: Callable[[str], Path], tmp_path: Path
) -> None:
    words = [str(word) for word in (*verbs["pretrain"], "--out", tmp_path / "run", "--workers", 2)]
    code = f"import torch, sys; torch.set_num_threads(1); from maeseg.cli import main; sys.exit(main({words!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", unbroken("pretrain"))
    assert str(read_json(tmp_path / "run" / "run.json")["repeats"]).startswith("the same bits")


@pytest.mark.slow
def test_a_comparison_killed_in_several_runs(pretrained: Path, tmp_path: Path) -> None:
    def words(out: Path) -> tuple[object, ...]:
        return (
            "compare", "--out", out, "--inits", f"[scratch, {pretrained}]", "--labels", "[8]", "--seeds", 1,
            "--epochs", 2, "--steps_per_epoch", 2, "--batch_size", 4, "--data", DATA, "--val", VAL, "--accelerator",
            "cpu",
            "--save_every", 0,
        )  # fmt: skip

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert suffer(None, *words(whole), "--workers", 0).code == 0
    for mishap, workers, code in (
        (Mishap("kill", "step", 2), 0, -9),
        (Mishap("kill", "step", 5), 1, -9),  # the second step of the second run
        (Mishap("terminate", "step", 1), 1, 143),
        (Mishap("kill", "validation", 3), 0, -9),  # that of its second epoch
    ):
        ended = suffer(mishap, *words(broken), "--workers", workers, "--resume")
        assert ended.code == code, ended.errors
    assert suffer(None, *words(broken), "--workers", 0, "--resume").code == 0
    assert files_in(broken) == files_in(whole)
    for run in (whole / "runs").iterdir():
        assert_same_run(broken / "runs" / run.name, run)
    tables = []
    for out in (whole, broken):
        with (out / "results.csv").open(newline="") as file:
            tables.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_seconds_add_up_over_a_kill(verbs: dict[str, tuple[object, ...]], tmp_path: Path) -> None:
    run, words = tmp_path / "run", (*verbs["pretrain"], "--out", tmp_path / "run", "--workers", 0)
    assert suffer(Mishap("kill", "step", STEPS + 2), *words).code == -9
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["table"]["seconds"] += 1000
    torch.save(content, run / "checkpoints" / "last.ckpt")
    assert suffer(None, *words, "--resume").code == 0
    with (run / "metrics.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert 1000 < float(last["seconds"]) < float(str(read_json(run / "run.json")["seconds"]))


@pytest.mark.slow
def test_killed_while_images_are_left_out(tmp_path: Path) -> None:
    """Just before and after the list of them is written: nothing has been trained that it could contradict."""
    (tmp_path / "data").mkdir()
    for number in range(12):
        Synthetic(12).image(number).save(tmp_path / "data" / f"{number:02d}.png")
    (tmp_path / "data" / "03.png").write_bytes(b"")
    words = ("pretrain", *NETWORK, *COMMON, "--data", tmp_path / "data", "--epochs", 1, "--on_bad_image", "skip")
    for number in range(1, 8):
        out = tmp_path / f"run{number}"
        assert suffer(Mishap("kill", "rename", number), *words, "--workers", 0, "--out", out).code == -9
        resumed = suffer(None, *words, "--workers", 0, "--out", out, "--resume")
        assert resumed.code == 0, (number, resumed.errors)
        assert (out / "skipped.csv").read_text().splitlines()[1].startswith("03.png,")
        assert same_weights(out, tmp_path / "run1")
