"""Kinds of hostile input: each damages real files and says which command is to read them."""

import csv
import gzip
import io
import json
import os
import shutil
import stat
import string
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image

from fuzz.mutations import Damage, damages, mended, odd_values
from helpers import tiny_runs
from helpers.annotation_files import FORMATS, HEIGHT, WIDTH
from helpers.bombs import BOMBS
from helpers.bright_volumes import THREE, volume_spec, write_run
from helpers.fake_runs import fake_compare, fake_finetune, fake_pretrain
from helpers.folders import scene, write_pairs
from helpers.label_encodings import ASKED, RIGHT
from helpers.pictures import deep_png
from helpers.tar_shards import write_shard
from helpers.volume_folders import write_volumes
from maeseg.models.volume_networks import build_volume_network
from maeseg.runs.training_facts import TrainingData, TrainingFacts

ALONE = ("--batch_size", 2, "--workers", 0, "--accelerator", "cpu", "--epochs", 1)
_NIFTI_HEADER = 348  # bytes
Case = tuple[tuple[object, ...], Path | None]
"""A command line, and what it must not leave behind if it fails; None if it must not fail."""


@dataclass(frozen=True)
class Seeds:
    """What is damaged: sound runs and files.

    Attributes:
        pretrained: A pretrain run.
        finetuned: A finetune run.
        volumes: A finetune run of volumes with three classes.
        reports: A run folder of each verb, without weights.
    """

    pretrained: Path
    finetuned: Path
    volumes: Path
    reports: tuple[Path, ...]


def make_seeds(root: Path) -> Seeds:
    """Train two tiny networks and write what else is damaged."""
    pretrained, finetuned = root / "pretrained", root / "finetuned"
    assert tiny_runs.pretrain(pretrained, "--epochs", 1) == 0
    assert tiny_runs.finetune(finetuned, pretrained, "--epochs", 1) == 0
    return gather_seeds(pretrained, finetuned, root)


def gather_seeds(pretrained: Path, finetuned: Path, root: Path) -> Seeds:
    """Write the runs that are not trained beside two tiny ones that are."""
    classes = replace(THREE, values=(0, 1, 2))  # those of the labels
    network = build_volume_network("resenc", maps=classes.maps)
    facts = TrainingFacts(volume_spec((8, 16, 8), classes=classes), TrainingData("volumes", 1))
    volumes = write_run(root / "volumes", network, facts)
    reports = fake_pretrain(root / "a"), fake_finetune(root / "b"), fake_compare(root / "c", labels=(32,), seeds=2)
    return Seeds(pretrained, finetuned, volumes, reports)


def picture(form: str, mode: str, number: int = 0) -> bytes:
    """An image file's bytes."""
    pixels = np.random.default_rng(number).integers(0, 255, (40, 56, 3), np.uint8)
    pixels = np.repeat(np.repeat(pixels[::8, ::8], 8, 0), 8, 1)
    buffer, image = io.BytesIO(), Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    (deep if mode == "16" else image.convert(mode)).save(buffer, form, **({"exif": exif} if form == "JPEG" else {}))
    return buffer.getvalue()


def encoded(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    """An array as a TIFF file's bytes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def compressed(array_CHW: np.ndarray[Any, Any], **options: Any) -> bytes:
    """An array as the bytes of a TIFF file with a codec that rasterio decodes."""
    count, height, width = array_CHW.shape
    with warnings.catch_warnings(action="ignore"), rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", height=height, width=width, count=count, dtype=array_CHW.dtype, **options
        ) as target:
            target.write(array_CHW)
        content: bytes = file.read()
    return content


def arrays() -> dict[str, bytes]:
    """Files of five channels by a suffix that tells them apart."""
    bands = np.random.default_rng(1).integers(0, 4096, (5, 40, 56), np.uint16)
    buffer, no_data = io.BytesIO(), [(42113, "s", 0, "0", True)]
    np.save(buffer, bands.astype(">f4"))
    return {
        "npy": buffer.getvalue(),
        "bands.tif": encoded(bands.transpose(1, 2, 0), photometric="minisblack", extratags=no_data),
        "pages.tif": encoded(bands, photometric="minisblack", compression="zlib"),
        "lzw.tif": compressed(bands, compress="lzw", predictor=2, interleave="band"),
        "zstd.tif": compressed(bands.astype(np.float32), compress="zstd", predictor=3, nodata=np.nan, tiled=True,
                               blockxsize=16, blockysize=16),
    }  # fmt: skip


FORMS = {
    "jpg": ("JPEG", "RGB"), "jpeg": ("JPEG", "CMYK"), "png": ("PNG", "RGBA"), "PNG": ("PNG", "P"),
    "tif": ("TIFF", "16"), "tiff": ("TIFF", "RGB"), "webp": ("WEBP", "RGB"), "bmp": ("BMP", "RGB"),
}  # fmt: skip
PICTURES = {suffix: picture(*form) for suffix, form in FORMS.items()}
DEEP = np.random.default_rng(2).integers(0, 4096, (40, 56, 3), np.uint16)
PICTURES |= {
    "deep.tif": compressed(DEEP.transpose(2, 0, 1), compress="lzw", nodata=0),
    "big.tif": encoded(DEEP, photometric="rgb", bigtiff=True, byteorder=">", tile=(16, 16), compression="zlib"),
    "palette.tif": encoded(DEEP[..., 0].astype(np.uint8), photometric="palette", colormap=np.resize(DEEP, (3, 256))),
    "white.tif": encoded(DEEP[..., 0], photometric="miniswhite", extratags=[(274, "H", 1, 6, True)]),
    "deep.png": deep_png(DEEP.transpose(2, 0, 1)),
    "gif": picture("GIF", "P"),
    **({"avif": picture("AVIF", "RGB")} if find_spec("PIL._avif") else {}),
}
ARRAYS = arrays()
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), max_size=20)


@st.composite
def images(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """One damaged image under any name, to be segmented."""
    suffix = draw(st.sampled_from(sorted(PICTURES)))
    named = draw(st.sampled_from(sorted(PICTURES)) if draw(st.booleans()) else st.just(suffix))
    name = draw(NAMES)[:20].encode()[:200].decode(errors="ignore").lstrip(".")
    (root / "in").mkdir()
    (root / "in" / f"x{name}.{named}").write_bytes(draw(damages())(PICTURES[suffix]))
    return ("predict", "--run", seeds.finetuned, "--images", root / "in", "--out", root / "out"), root / "out"


@st.composite
def left_out(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """Sound images and two damaged ones, half of these with right checksums: what the check passes can be read."""
    (root / "in").mkdir()
    (root / "in" / "sound.png").write_bytes(PICTURES["png"])
    for number in range(2):
        suffix = draw(st.sampled_from(sorted(PICTURES)))
        content = draw(mended() if draw(st.booleans()) else damages())(PICTURES[suffix])
        (root / "in" / f"{number}.{suffix}").write_bytes(content)
    words = ("predict", "--run", seeds.finetuned, "--images", root / "in", "--out", root / "out")
    return (*words, "--on_bad_image", "skip"), None


@st.composite
def training_images(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """Two damaged images among twelve to pre-train on."""
    (root / "in").mkdir()
    for number in range(12):
        suffix = draw(st.sampled_from(sorted(PICTURES))) if number < 2 else "png"
        content = draw(damages())(PICTURES[suffix]) if number < 2 else picture("PNG", "RGB", number)
        (root / "in" / f"{number}.{suffix}").write_bytes(content)
    policy = draw(st.sampled_from(["fail", "skip"]))
    words = ("pretrain", "--data", root / "in", "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return (*words, "--on_bad_image", policy), root / "out"


@st.composite
def channels(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged image of five channels among twelve to pre-train on."""
    (root / "in").mkdir()
    for number in range(12):
        suffix = draw(st.sampled_from(sorted(ARRAYS))) if number == 0 else "npy"
        unlike = ARRAYS["npy"][:-4] + np.float32(number).astype(">f4").tobytes()  # a copy would not train
        content = draw(damages())(ARRAYS[suffix]) if number == 0 else unlike
        (root / "in" / f"{number}.{suffix}").write_bytes(content)
    words = ("pretrain", "--data", root / "in", "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return (*words, "--channels", 5), root / "out"


@st.composite
def labels(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged label, or one of any values and kind, to be evaluated with."""
    for name in ("images", "masks"):
        (root / "in" / name).mkdir(parents=True)
    (root / "in" / "images" / "a.png").write_bytes(PICTURES["png"])
    suffix = draw(st.sampled_from(["png", "tif", "bmp"]))
    mode = draw(st.sampled_from(["L", "1", "P", "RGB", "I;16"]))
    values = np.array(draw(st.lists(st.sampled_from([0, 1, 2, 128, 254, 255]), min_size=1, max_size=3)), np.uint8)
    size = draw(st.sampled_from([(40, 56), (40, 56), (56, 40), (1, 1)]))
    label = Image.fromarray(np.resize(values, size))
    deep = Image.fromarray(np.resize(values, size).astype(np.uint16))
    buffer = io.BytesIO()
    (deep if mode == "I;16" and suffix != "bmp" else label.convert("L" if mode == "I;16" else mode)).save(
        buffer, {"png": "PNG", "tif": "TIFF", "bmp": "BMP"}[suffix]
    )
    content = draw(damages())(buffer.getvalue()) if draw(st.booleans()) else buffer.getvalue()
    (root / "in" / "masks" / f"a.{suffix}").write_bytes(content)
    out = root / "figures.json"
    return ("evaluate", "--run", seeds.finetuned, "--data", root / "in", "--split", "all", "--out", out), out


def write_damaged_volumes(draw: st.DrawFn, root: Path) -> None:
    """NIfTI volumes and labels, one file of them damaged in its header, its values or its compression."""
    write_volumes(root, 2, image="{}.nii", label="{}.nii")
    file = draw(st.sampled_from(sorted(root.rglob("*.nii"))))
    content, damage = file.read_bytes(), draw(damages())
    if draw(st.booleans()):
        content = damage(content[:_NIFTI_HEADER]) + content[_NIFTI_HEADER:]
    elif draw(st.booleans()):
        content = damage(content)
    if draw(st.booleans()):
        file.unlink()
        file = file.with_suffix(".nii.gz")
        content = gzip.compress(content)
        content = damage(content) if draw(st.booleans()) else content
    file.write_bytes(content)


@st.composite
def volumes(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """Volumes and labels, one of them damaged, to be looked at."""
    write_damaged_volumes(draw, root / "in")
    return ("check", root / "in", "--sheet", root / "sheet.png"), root / "sheet.png"


@st.composite
def used_volumes(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """Volumes and labels, one of them damaged, to be segmented or evaluated with."""
    write_damaged_volumes(draw, root / "in")
    out = root / "out.json"
    if draw(st.booleans()):
        return ("predict", "--run", seeds.volumes, "--images", root / "in" / "images", "--out", out), out
    return ("evaluate", "--run", seeds.volumes, "--data", root / "in", "--split", "all", "--out", out), out


@st.composite
def label_folders(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """Labels in the encodings that people have, some of them of another kind or damaged, to be looked at."""
    write_pairs(root / "in", 3)
    kinds = draw(st.lists(st.sampled_from(sorted(RIGHT | ASKED)), min_size=1, max_size=3))
    for number, kind in enumerate(kinds):
        write, suffix, *_ = (RIGHT | ASKED)[kind]
        (root / "in" / "masks" / f"im_{number:02d}.png").unlink()
        write(root / "in" / "masks" / f"im_{number:02d}.{suffix}", scene(number)[1])
    if draw(st.booleans()):
        file = draw(st.sampled_from(sorted((root / "in" / "masks").iterdir())))
        file.write_bytes(draw(damages())(file.read_bytes()))
    return ("check", root / "in", "--write", root / "data.yaml"), root / "data.yaml"


@st.composite
def descriptions(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged description of a data set."""
    write_pairs(root / "in", 3)
    described = {
        "path": "in", "images": "images", "masks": "masks", "pairing": "{name}", "ignore": 255, "threshold": 128,
        "classes": {"background": 0, "foreground": "1-255"}, "reading": "values", "orientation": "applied",
        "resize_masks": True, "val": "val.txt", "groups": "im_(\\d+)", "channels": 3,
    }  # fmt: skip
    (root / "val.txt").write_text("im_00\n")
    kept = draw(st.lists(st.sampled_from(sorted(described)), unique=True))
    lines = {"path": "in", **{name: described[name] for name in kept}}
    (root / "data.yaml").write_bytes(_broken_text(draw, lines))
    out = root / "out.yaml"
    return ("check", root / "data.yaml", "--write", out), out


@st.composite
def annotations(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """Damaged annotations of a labeling tool."""
    (root / "in").mkdir()
    FORMATS[draw(st.sampled_from(sorted(FORMATS)))](root / "in")
    files = sorted(path for path in (root / "in").rglob("*") if path.is_file())
    for number, name in enumerate("ab"):
        Image.fromarray(scene(number, (HEIGHT, WIDTH))[0]).save(root / "in" / f"{name}.png")
    file = draw(st.sampled_from(files))
    file.write_bytes(draw(damages())(file.read_bytes()))
    return ("check", root / "in", "--sheet", root / "sheet.png"), root / "sheet.png"


@st.composite
def checkpoints(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A run whose checkpoint is damaged, or sound but says something odd."""
    run = shutil.copytree(seeds.finetuned, root / "run", ignore=shutil.ignore_patterns("tensorboard", "examples"))
    file = run / "checkpoints" / "best.ckpt"
    if draw(st.booleans()):
        file.write_bytes(draw(damages())(file.read_bytes()))
    else:
        content = torch.load(file, weights_only=True)
        facts = content["hyper_parameters"]
        described = [facts, facts["spec"], facts["spec"]["normalization"], facts["spec"]["classes"], facts["data"]]
        target, name = draw(
            st.sampled_from([(part, name) for part in described for name in part])
            | st.sampled_from([(content, name) for name in ("epoch", "state_dict", "hyper_parameters")])
            | st.sampled_from([(content["state_dict"], name) for name in sorted(content["state_dict"])])
        )
        target[name] = draw(odd_values() | st.just(torch.zeros(3)))
        torch.save(content, file)
    (root / "x.png").write_bytes(PICTURES["png"])
    return ("predict", "--run", run, "--images", root / "x.png", "--out", root / "out"), root / "out"


@st.composite
def broken_networks(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A run with a tensor of values that make its prediction not finite, or may."""
    run = shutil.copytree(seeds.finetuned, root / "run", ignore=shutil.ignore_patterns("tensorboard", "examples"))
    file = run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    state = content["state_dict"]
    names = sorted(name for name, values in state.items() if values.is_floating_point())
    name, value = draw(st.sampled_from(names)), draw(st.sampled_from([np.nan, np.inf, -1.0, 1e35, -1e35]))
    state[name] = torch.full_like(state[name], value)
    torch.save(content, file)
    (root / "x.png").write_bytes(PICTURES["png"])
    return ("predict", "--run", run, "--images", root / "x.png", "--out", root / "out"), root / "out"


@st.composite
def weights(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged file of weights from elsewhere, to be fine-tuned."""
    from safetensors.torch import save_file

    name = draw(st.sampled_from(["w.pth", "w.safetensors"]))
    state = torch.load(seeds.pretrained / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    encoder = {
        key.partition("encoder.model.")[2]: value.contiguous()
        for key, value in state.items()
        if "encoder.model." in key
    }
    if draw(st.integers(0, 3)) == 0:
        encoder[draw(st.sampled_from(sorted(encoder)))] = torch.full((2, 2), draw(st.floats(width=32)))
    file = root / name
    save_file(encoder, file) if name.endswith("safetensors") else torch.save(encoder, file)
    file.write_bytes(draw(damages())(file.read_bytes()))
    words = ("finetune", "--weights", file, "--data", "synthetic:6", "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return words, root / "out"


@st.composite
def shards(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged tar shard, to be pre-trained on."""
    names = [draw(st.sampled_from(["a", "../b", "/c", "d/e", ".f"])) + f"{number}.jpg" for number in range(3)]
    members = {name: picture("JPEG", "RGB", place) for place, name in enumerate([*names, "sound.jpg", "too.jpg"])}
    shard = write_shard(root / "in" / "a.tar", members)
    shard.write_bytes(draw(damages())(shard.read_bytes()))
    words = ("pretrain", "--data", shard.parent, "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return (*words, "--on_bad_image", draw(st.sampled_from(["fail", "skip"]))), root / "out"


def _broken_text(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    """A mapping written as YAML with one odd value, or with damaged bytes."""
    if draw(st.booleans()):
        return draw(damages())(yaml.safe_dump(value, sort_keys=False).encode())
    names = st.sampled_from(sorted(value)) | st.text(string.ascii_lowercase, min_size=1, max_size=6)
    return yaml.safe_dump({**value, draw(names): draw(odd_values())}, sort_keys=False, allow_unicode=True).encode()


@st.composite
def configs(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged ``--config`` of a run; what decides how long it takes is given on the command line."""
    options = yaml.safe_load((seeds.pretrained / "config.yaml").read_text())
    (root / "config.yaml").write_bytes(_broken_text(draw, options))
    small = ("--data", "synthetic:6", "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return (
        "pretrain",
        "--config",
        root / "config.yaml",
        *small,
        "--extra",
        "[]",
        "--seed",
        0,
        "--val",
        2,
    ), root / "out"


@st.composite
def recipes(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A damaged recipe, to be tried without running it."""
    step = {"out": "pretrained", "encoder": "test_resnet", "epochs": 3, "image_size": 64, "mask_ratio": 0.6}
    compare = {"out": "comparison", "inits": ["scratch", "$start", "pretrained"], "labels": [4, 0.5], "seeds": 2}
    step_or_compare = [step, compare][draw(st.integers(0, 1))]
    step_or_compare[draw(st.sampled_from(sorted(step_or_compare)))] = draw(odd_values())
    recipe = {
        "variables": {"start": "timm"},
        "steps": [{"pretrain": step}, {"compare": compare}, {"report": {"run": "comparison"}}],
    }
    (root / "recipe.yaml").write_bytes(
        _broken_text(draw, recipe) if draw(st.booleans()) else yaml.safe_dump(recipe).encode()
    )
    words = ("recipe", "--file", root / "recipe.yaml", "--data", "synthetic:12", "--out", root / "out", "--dry_run")
    return words, root / "out"


@st.composite
def run_folders(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A run folder with one damaged file, to be reported on."""
    run = shutil.copytree(draw(st.sampled_from(seeds.reports)), root / "run")
    file = draw(st.sampled_from(sorted(path for path in run.rglob("*") if path.is_file() and path.suffix != ".ckpt")))
    damage: Damage = draw(damages())
    if file.suffix == ".json" and draw(st.booleans()):
        content = json.loads(file.read_text())
        content[draw(st.sampled_from(sorted(content)))] = draw(odd_values())
        file.write_text(json.dumps(content))
    elif file.suffix == ".csv" and draw(st.booleans()):
        rows = list(csv.reader(file.read_text().splitlines()))
        row = rows[draw(st.integers(0, len(rows) - 1))]
        row[draw(st.integers(0, len(row) - 1))] = str(draw(odd_values()))
        with file.open("w", newline="", errors="replace") as lines:
            csv.writer(lines).writerows(rows)
    else:
        file.write_bytes(damage(file.read_bytes()))
    return ("report", "--run", run), run / "report.html"


@st.composite
def special_files(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A case of another kind, one of whose files is a pipe, a socket, an endless device or a folder."""
    makers = (
        images, training_images, labels, used_volumes, descriptions, annotations, checkpoints, weights, shards, configs,
        recipes,
    )  # fmt: skip
    case: Case = draw(draw(st.sampled_from((*makers, run_folders)))(seeds, root))
    file = draw(st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file())))
    file.unlink()
    kind = draw(st.sampled_from(["pipe", "socket", "device", "folder"]))
    if kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        os.mknod(file, 0o600 | (stat.S_IFIFO if kind == "pipe" else stat.S_IFSOCK))
    return case


@st.composite
def bombs(draw: st.DrawFn, seeds: Seeds, root: Path) -> Case:
    """A small file that claims or unpacks to gigabytes, as it is or damaged further."""
    bomb = BOMBS[draw(st.sampled_from(sorted(BOMBS)))](seeds.finetuned, seeds.pretrained, root)
    if draw(st.booleans()) and bomb.file.stat().st_size < 2**24:
        bomb.file.write_bytes(draw(damages())(bomb.file.read_bytes()))
    return bomb.words, bomb.leaves


KINDS: dict[str, tuple[Callable[[Seeds, Path], st.SearchStrategy[Case]], int]] = {
    "images": (images, 900),
    "images left out": (left_out, 300),
    "images in training": (training_images, 100),
    "channels": (channels, 150),
    "labels": (labels, 450),
    "label folders": (label_folders, 150),
    "volumes": (volumes, 200),
    "volumes in use": (used_volumes, 200),
    "descriptions": (descriptions, 150),
    "annotations": (annotations, 100),
    "checkpoints": (checkpoints, 300),
    "broken networks": (broken_networks, 100),
    "weights": (weights, 120),
    "shards": (shards, 150),
    "configs": (configs, 150),
    "recipes": (recipes, 200),
    "run folders": (run_folders, 130),
    "special files": (special_files, 200),
    "bombs": (bombs, 200),
}
"""Every kind, with how many of it a whole campaign tries: 4,250 in all."""
