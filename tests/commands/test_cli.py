"""The command line's surface, and what bad input gets: one line that names the thing, exit code 2, nothing lost."""

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.tiny_runs import DATA, NETWORK, TRAINING, files_in, maeseg
from maeseg.commands.printing import PRINTERS
from maeseg.commands.registry import COMMANDS
from maeseg.types import Augmentation
from maeseg.utils.parsing import kind, options_of
from maeseg.utils.system import version_of

HEAVY = {"torch", "lightning", "timm", "torchvision", "matplotlib", "segmentation_models_pytorch", "numpy"}
TRAINING_OPTIONS = ["epochs", "batch_size", "augment", "lr", "layer_decay", "weight_decay", "warmup", "clip"]
RUN_OPTIONS = [
    "workers", "cache", "cache_folder", "precision", "accelerator", "devices", "compile", "save_every",
    "on_nonfinite", "on_bad_image", "download", "resume", "accept_changes", "overwrite",
]  # fmt: skip
SEGMENTATION_OPTIONS = [
    "encoder", "decoder_channels", "network", "spacing", "image_size", "classes", "border", "crop", "test",
    *TRAINING_OPTIONS, "steps_per_epoch", "schedule", "loss", "class_weights", *RUN_OPTIONS,
]  # fmt: skip
UNLABELED_OPTIONS = ["unlabeled", "unlabeled_ratio", "unlabeled_weight", "confidence", "ema"]
OPTIONS = {
    "check": ["data", "add", "classes", "channels", "write", "sheet", "overwrite"],
    "pretrain": [
        "data", "out", "channels", "val", "weights", "seed", "encoder", "decoder_channels", "network", "spacing",
        "image_size", "extra",
        "patch_size", "mask_ratio", "normalize_target", "target", "teacher_encoder", "decoder", "decoder_width",
        "decoder_depth", "decoder_window", "sparse", *TRAINING_OPTIONS, *RUN_OPTIONS,
    ],
    "finetune": [
        "data", "out", "channels", "val", "weights", "seed", "transfer", "labels", *UNLABELED_OPTIONS,
        *SEGMENTATION_OPTIONS,
    ],
    "evaluate": ["run", "data", "split", "border", "checkpoint", "out", "overwrite"],
    "predict": [
        "run", "images", "out", "checkpoint", "tile", "overlap", "flips", "probabilities", "overlays", "precision",
        "on_bad_image", "overwrite",
    ],
    "suggest": ["run", "images", "out", "count", "labeled", "checkpoint", "overwrite"],
    "reconstruct": ["run", "images", "out", "count", "mask_ratio", "seed", "overwrite"],
    "export": ["run", "format", "out", "images", "overwrite"],
    "app": ["runs", "port"],
    "compare": [
        "data", "out", "channels", "val", "inits", "labels", "seeds", "until", "most_epochs", *UNLABELED_OPTIONS,
        *SEGMENTATION_OPTIONS,
    ],
    "report": ["run"],
    "recipe": ["file", "data", "out", "variables", "dry_run", "resume", "accept_changes", "overwrite"],
    "demo": ["out", "volumes", "seed", "overwrite"],
    "encoders": ["names", "family", "out", "overwrite"],
}  # fmt: skip

# --- commands and options


def test_commands_and_options_are_frozen() -> None:
    assert list(COMMANDS) == list(OPTIONS)
    assert {name: list(options_of(command)) for name, command in COMMANDS.items()} == OPTIONS


def test_every_result_is_printed() -> None:
    assert PRINTERS.keys() == COMMANDS.keys() - {"app"}  # which ends by Ctrl-C alone


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in OPTIONS.items():
        with pytest.raises(SystemExit) as stop:
            maeseg(command, "--help")
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        described = inspect.getdoc(COMMANDS[command]) or ""
        for option in options:
            assert f"--{option}" in printed
            assert f"\n    {option}: " in described, f"{command} does not explain --{option}"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["finetune", "--help"], ["--version"], ["pretrian"], ["finetune"]])
def test_nothing_heavy_is_loaded_for_a_word_of_help(words: list[str]) -> None:
    code = (
        f"import sys\nfrom maeseg.cli import main\ntry: main({words!r})\nexcept SystemExit: pass\n"
        f"sys.exit(repr(sorted({HEAVY!r} & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("finetune", "--data", "nowhere", "--out", "out"), "--data nowhere: no such folder"),
        (("pretrain", "--data", DATA, "--out", "."), "--out . is not empty"),
        (("finetune", "--data", DATA, "--out", "out", "--weights", "nowhere"), "nowhere does not exist"),
        (
            ("compare", "--data", DATA, "--out", "out", "--inits", "[scratch, a:encoder]", "--labels", "[4]"),
            "a does not",
        ),
        (("finetune", "--data", DATA, "--out", "out", "--classes", "nowhere"), "--classes nowhere cannot be read"),
        (("pretrain", "--data", DATA, "--out", "out", "--epochs", "0"), "--epochs 0 is out of range"),
        (("pretrain", "--data", DATA, "--out", "out", "--augment", "[up]"), "must be a list of vflip or rotate"),
    ],
)
def test_nothing_heavy_is_loaded_for_an_early_refusal(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    code = (
        f"import sys\nfrom maeseg.cli import main\ncode = main({words!r})\n"
        f"print(code, sorted({HEAVY!r} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 []\n" and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_installed_command_prints_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "maeseg", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == version_of("maeseg")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (int | float, "an integer or a number"),
        (int | list[int], "an integer or a list, such as [1, 2]"),
        (list[str], "a list, such as [name, name]"),
        (str | None, "a text"),
        (list[Augmentation] | None, "a list of vflip or rotate, such as [vflip, rotate]"),
    ],
)
def test_kinds_in_plain_words(annotation: object, words: str) -> None:
    assert kind(annotation) == words


# --- bad input


PRETRAIN = ("pretrain", "--out", "OUT", *NETWORK, *TRAINING, "--epochs", 1)
FINETUNE = ("finetune", "--out", "OUT", "--weights", "PRE", *TRAINING, "--epochs", 1)
COMPARE = ("compare", "--out", "OUT", "--inits", "[scratch, PRE]", "--labels", "[4]", *TRAINING, "--epochs", 1)

BAD_OPTIONS: dict[str, tuple[tuple[object, ...], str]] = {
    "unknown command": (("pretrian",), "'pretrian' is not a command; did you mean pretrain?"),
    "unknown option": ((*PRETRAIN, "--mask-ration", 0.5), "no option --mask_ration; did you mean --mask_ratio"),
    "stray word": ((*PRETRAIN, "please"), "please: not an option"),
    "missing options": (("pretrain",), "missing: --data, --out"),
    "resume without a run": (("pretrain", "--out", "nowhere", "--resume"), "--resume: nowhere holds no run"),
    "text for names with values": (("recipe", "--file", "F", "--out", "OUT", "--variables", "x"), "names with values"),
    "option without value": ((*PRETRAIN, "--epochs"), "--epochs needs a value"),
    "word for number": ((*PRETRAIN, "--epochs", "many"), "--epochs many must be an integer"),
    "share for count": ((*PRETRAIN, "--epochs", 1.5), "--epochs 1.5 must be an integer"),
    "wrong size": ((*PRETRAIN, "--image_size", "big"), "--image_size big must be an integer or a list"),
    "number for list": ((*PRETRAIN, "--decoder_channels", 5), "--decoder_channels 5 must be a list, such as"),
    "word for labels": ((*FINETUNE, "--labels", "few"), "--labels few is not a readable text file"),
    "name for names": ((*COMPARE, "--inits", "scratch"), "--inits scratch must be a list, such as [name, name]"),
    "unknown choice": ((*FINETUNE, "--border", "maybe"), "--border maybe must be one of background, ignore, foregr"),
    "not a switch": ((*FINETUNE, "--resume", "perhaps"), "--resume perhaps must be true or false"),
    "no such config": (("pretrain", "--config", "nowhere.yaml"), "nowhere.yaml"),
    "no data": ((*PRETRAIN, "--data", "nowhere"), "data nowhere: no such folder"),
    "no extra": ((*PRETRAIN, "--extra", "synthetic:9,nowhere"), "--extra nowhere: no such folder"),
    "pets missing": ((*PRETRAIN, "--data", "oxford-pet:nowhere"), "images.tar.gz and annotations.tar.gz"),
    "unknown encoder": ((*PRETRAIN, "--encoder", "resnet19"), "'resnet19' is not a timm model; did you mean resnet18"),
    "transformer": ((*PRETRAIN, "--encoder", "cait_xxs24_224"), "'cait_xxs24_224' cannot be the encoder"),
    "no such model": (("encoders", "--names", "resnot*"), "--names 'resnot*' fits no timm model: use a wildcard"),
    "no such family": (("encoders", "--family", "resnot"), "--family 'resnot' is not one of timm's; did you mean"),
    "two widths": ((*PRETRAIN, "--decoder_channels", "[8, 8]"), "[8, 8] must be three to five widths"),
    "size": ((*PRETRAIN, "--image_size", "[100, 64]"), "[100, 64] is not a multiple of 32 (the patch side): use [96,"),
    "three sides": ((*PRETRAIN, "--image_size", "[64, 64, 64]"), "[64, 64, 64] must be one side or [height, width]"),
    "patch": ((*PRETRAIN, "--patch_size", 48), "--patch_size 48 is not a multiple of the encoder's largest stride 32"),
    "patch of 16": ((*PRETRAIN, "--patch_size", 16), "stride 32 (four --decoder_channels make it 16): use 32 or 64"),
    "size to fine-tune": ((*FINETUNE, "--image_size", 80), "[80, 80] is not a multiple of 32 (the network's largest"),
    "crop": ((*FINETUNE, "--crop", 80), "--crop [80, 80] is not a multiple of 32 (the network's largest stride): use"),
    "no crop": ((*FINETUNE, "--crop", 0), "--crop [0, 0] is not a multiple of 32"),
    "crop of a comparison": ((*COMPARE, "--crop", "[64, 8]"), "--crop [64, 8] is not a multiple of 32"),
    "crop of three sides": ((*FINETUNE, "--crop", "[64, 64, 64]"), "--crop [64, 64, 64] must be one side or [height"),
    "two sizes": ((*FINETUNE, "--crop", 64, "--image_size", 96), "--image_size [96, 96] says another: leave out"),
    "huge crop": ((*FINETUNE, "--crop", 16384), "--crop [16384, 16384] has more than 8192 pixels on a side"),
    "word for crop": ((*FINETUNE, "--crop", "big"), "--crop big must be an integer or a list"),
    "crop in pre-training": ((*PRETRAIN, "--crop", 64), "no option --crop"),
    "one patch": ((*PRETRAIN, "--patch_size", 64), "an image of 1 x 1 patches leaves nothing to hide"),
    "mask ratio": ((*PRETRAIN, "--mask_ratio", 1.5), "--mask_ratio 1.5 is not between 0 and 1"),
    "no window": ((*PRETRAIN, "--decoder_window", 0), "--decoder_window 0 is out of range: give at least 1"),
    "test in another unit": ((*COMPARE, "--val", 0.2, "--test", 2), "test 2: give two shares, or two numbers"),
    "val of all": ((*PRETRAIN, "--val", 24), "val 24: no image to train on"),
    "large batch": ((*PRETRAIN, "--batch_size", 64), "batch_size 64: synthetic has only 19 training images"),
    "no batch": ((*FINETUNE, "--batch_size", 0), "--batch_size 0 is out of range: give at least 1"),
    "no steps": ((*COMPARE, "--steps_per_epoch", 0), "--steps_per_epoch 0 is out of range"),
    "warm-up": ((*FINETUNE, "--warmup", 2), "--warmup 2.0 is out of range: give at least 0 and at most 1"),
    "rate": ((*FINETUNE, "--lr", ".nan"), "--lr nan is out of range"),
    "seed": ((*FINETUNE, "--seed", -1), "--seed -1 is out of range"),
    "never save": ((*PRETRAIN, "--save_every", -1), "--save_every -1.0 is out of range: give at least 0"),
    "nonfinite": ((*FINETUNE, "--on_nonfinite", "go"), "--on_nonfinite go must be one of stop, skip"),
    "labels": ((*FINETUNE, "--labels", 500), "labels 500: only 19 labeled training images"),
    "share of labels": ((*FINETUNE, "--labels", 1.5), "labels 1.5: a share must be above 0 and at most 1"),
    "no accelerator": ((*FINETUNE, "--accelerator", "gup"), "--accelerator gup"),
    "devices": ((*FINETUNE, "--devices", "lots"), "--devices lots"),
    "accelerator of a comparison": ((*COMPARE, "--accelerator", "gup"), "--accelerator gup"),
    "devices of a comparison": ((*COMPARE, "--devices", 0), "--devices 0"),
    "no such weights": ((*FINETUNE, "--weights", "nowhere"), "nowhere does not exist"),
    "other encoder": ((*FINETUNE, "--encoder", "resnet18"), "is of the encoder test_resnet, not resnet18"),
    "other widths": ((*FINETUNE, "--decoder_channels", "[8, 8, 8, 8, 8]"), "has decoder widths [32, 16, 16, 8, 8]"),
    "pretrain from a finetune": ((*PRETRAIN, "--weights", "FINE"), "FINE/checkpoints/best.ckpt is of a finetune run"),
    "no inits": ((*COMPARE, "--inits", "[]"), "--inits is empty"),
    "init twice": ((*COMPARE, "--inits", "[scratch, scratch]"), "--inits names 'scratch' twice"),
    "no such init": ((*COMPARE, "--inits", "[scratch, nowhere]"), "nowhere does not exist"),
    "no labels": ((*COMPARE, "--labels", "[]"), "--labels is empty"),
    "labels twice": ((*COMPARE, "--labels", "[4, 4]"), "--labels [4, 4] names one twice"),
    "labels of a comparison": ((*COMPARE, "--labels", "[4, 400]"), "labels 400: only 19"),
    "seeds": ((*COMPARE, "--seeds", "[1, 2]"), "--seeds [1, 2] must be a number of 1 or more, or one for each"),
    "seen in pre-training": ((*COMPARE, "--val", 7), "was trained on 2 of the 7 images that are to validate or test"),
    "tested in pre-training": ((*COMPARE, "--test", 1), "was trained on 1 of the 6 images that are to validate or te"),
    "evaluate a pretrain": (("evaluate", "--run", "PRE", "--data", DATA), "PRE is a pretrain run and has no checkp"),
    "evaluate no run": (("evaluate", "--run", "HERE", "--data", DATA), "HERE holds no run.json, so it is not a run"),
    "unknown split": (("evaluate", "--run", "FINE", "--data", DATA, "--split", "tset"), "--split tset must be one of"),
    "evaluate to nowhere": (
        ("evaluate", "--run", "FINE", "--data", DATA, "--out", "nowhere/figures.json"),
        "--out nowhere/figures.json cannot be written (No such file or directory)",
    ),
    "predict with a pretrain": (("predict", "--run", "PRE", "--images", "HERE", "--out", "OUT"), "PRE is a pretrain"),
    "predict nothing": (("predict", "--run", "FINE", "--images", "HERE", "--out", "OUT"), "HERE: no images found"),
    "predict nowhere": (("predict", "--run", "FINE", "--images", "nowhere", "--out", "OUT"), "nowhere: no such fold"),
    "reconstruct with a finetune": (
        ("reconstruct", "--run", "FINE", "--images", "PRE", "--out", "OUT"), "is of a finetune run: give a pretrain",
    ),
    "reconstruct all masked": (
        ("reconstruct", "--run", "PRE", "--images", "PRE/examples", "--out", "OUT", "--mask_ratio", 1.0),
        "--mask_ratio 1.0 is not between 0 and 1",
    ),
    "report no run": (("report", "--run", "HERE"), "HERE holds no run.json, so it is not a run folder"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(case: str, refused: Callable[..., str], pretrained: Path, finetuned: Path, tmp_path: Path) -> None:
    places = {"OUT": tmp_path / "out", "PRE": pretrained, "FINE": finetuned, "HERE": tmp_path}

    def filled(word: object) -> str:
        text = str(word)
        for name, place in places.items():
            text = text.replace(name, str(place))
        return text

    words, said = BAD_OPTIONS[case]
    before = files_in(pretrained) | files_in(finetuned)
    assert filled(said) in refused(*map(filled, words))
    assert not list(tmp_path.iterdir())
    assert files_in(pretrained) | files_in(finetuned) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_gpu(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("pretrain", "--out", tmp_path / "run", *NETWORK, *TRAINING, "--accelerator", "gpu")
    assert "--accelerator gpu" in said and "--accelerator auto takes what there is" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: [", "--config is not a YAML file of options"),
        ("- data", "--config is not a YAML file of options"),
        ("data: synthetic\nepocs: 3\n", "--config: pretrain has no option epocs; did you mean epochs?"),
        ("data: synthetic\nepochs: many\n", "--epochs many must be an integer"),
    ],
)
def test_bad_config(refused: Callable[..., str], tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert said in refused("pretrain", "--config", config, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["pretrain", "predict"])
def test_out_is_a_file(refused: Callable[..., str], finetuned: Path, tmp_path: Path, command: str) -> None:
    file = tmp_path / "thesis.tex"
    file.write_text("precious")
    words = {
        "pretrain": ("pretrain", "--out", file, *NETWORK, *TRAINING, "--overwrite"),
        "predict": ("predict", "--out", file, "--run", finetuned, "--images", finetuned, "--overwrite"),
    }
    assert f"--out {file} is a file" in refused(*words[command])
    assert file.read_text() == "precious"


# --- weights that are not maeseg's


class Trap:
    """What a checkpoint from a stranger may hold: code that runs when it is unpickled."""

    def __init__(self, touches: Path) -> None:
        self.touches = touches

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.touches,)


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch", "damaged", "foreign", "half", "empty"])
def test_weights_of_another_kind(refused: Callable[..., str], pretrained: Path, tmp_path: Path, form: str) -> None:
    file, sprung = tmp_path / "last.ckpt", tmp_path / "sprung"
    if form == "pickle":
        file.write_bytes(pickle.dumps(Trap(sprung)))
    elif form == "torch":
        torch.save({"state_dict": {}, "extra": Trap(sprung)}, file)
    elif form == "old torch":
        torch.save(Trap(sprung), file, _use_new_zipfile_serialization=False)
    elif form == "damaged":
        whole = (pretrained / "checkpoints" / "last.ckpt").read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    elif form == "foreign":
        torch.save({"state_dict": {"conv.weight": torch.zeros(1)}, "epoch": 3}, file)
    elif form == "half":
        torch.save({"hyper_parameters": [1], "state_dict": {}, "epoch": 3}, file)
    else:
        file.write_bytes(b"")
    said = refused("finetune", "--out", tmp_path / "run", "--weights", file, *TRAINING)
    assert str(file) in said
    assert not sprung.exists()
    assert not (tmp_path / "run").exists()


def test_weights_of_which_nothing_fits(refused: Callable[..., str], pretrained: Path, tmp_path: Path) -> None:
    content = torch.load(pretrained / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["pretraining"] = None
    content["hyper_parameters"]["spec"]["task"] = "segmentation"
    content["state_dict"] = {f"other.{key}": value for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "last.ckpt")
    said = refused("finetune", "--out", tmp_path / "run", "--weights", tmp_path / "last.ckpt", *TRAINING)
    assert f"{tmp_path / 'last.ckpt'} has no key of this network" in said
    assert not (tmp_path / "run").exists()


# --- data that cannot be used


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve labeled images."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(12):
        picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "images" / f"cat_{number}.png")
        Image.fromarray((picture[..., 0] > 128).astype(np.uint8)).save(root / "masks" / f"cat_{number}.png")
    return root


def cut(file: Path) -> None:
    """Keep the header and half the pixels."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_truncated_image_is_named_before_training(
    refused: Callable[..., str], pretrained: Path, folder: Path, tmp_path: Path, command: str, workers: int
) -> None:
    cut(folder / "images" / "cat_3.png")
    own = NETWORK if command == "pretrain" else ("--weights", pretrained)
    words = (command, "--out", tmp_path / "run", *own, *TRAINING, "--data", folder, "--batch_size", 4)
    said = refused(*words, "--workers", workers, "--epochs", 1)
    assert f"{folder / 'images' / 'cat_3.png'} cannot be read as an image" in said
    assert "Traceback" not in said and "worker" not in said
    assert not (tmp_path / "run").exists()


def test_a_truncated_image_among_those_to_segment(
    refused: Callable[..., str], finetuned: Path, folder: Path, tmp_path: Path
) -> None:
    cut(folder / "images" / "cat_3.png")
    words = ("--run", finetuned, "--images", folder / "images", "--out", tmp_path / "out")
    assert "cat_3.png cannot be read" in refused("predict", *words)
    assert not (tmp_path / "out").exists()


def empty_images(data: Path) -> None:
    for file in (data / "images").iterdir():
        file.unlink()


def lose_an_image(data: Path) -> None:
    (data / "images" / "cat_7.png").unlink()


def misname_the_labels(data: Path) -> None:
    (data / "masks").rename(data / "msaks")


def resize_a_label(data: Path) -> None:
    Image.new("L", (60, 64)).save(data / "masks" / "cat_7.png")


def give_labels_another_value(data: Path) -> None:
    for file in (data / "masks").iterdir():
        Image.new("L", (64, 64), 7).save(file)


def write_text_as_image(data: Path) -> None:
    (data / "images" / "cat_7.png").write_text("meow")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty_images, "no images found"),
        (lose_an_image, "masks/cat_7.png"),
        (misname_the_labels, "has no labels"),
        (resize_a_label, "images/cat_7.png is 64x64 but masks/cat_7.png is 60x64"),
        (give_labels_another_value, "has the values 7"),
        (write_text_as_image, "cat_7.png cannot be read"),
    ],
)
def test_bad_data(
    spoil: Callable[[Path], None],
    said: str,
    refused: Callable[..., str],
    pretrained: Path,
    folder: Path,
    tmp_path: Path,
) -> None:
    spoil(folder)
    words = ("--weights", pretrained, *TRAINING, "--data", folder, "--batch_size", 4, "--epochs", 1)
    assert said in refused("finetune", "--out", tmp_path / "run", *words)
