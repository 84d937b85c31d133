"""Small files that claim or unpack to gigabytes, each with the command line that reads it."""

import copy
import io
import json
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from helpers import tiny_runs
from helpers.annotation_files import FORMATS, HEIGHT, WIDTH, coco_content, write_json
from helpers.fake_runs import fake_finetune
from helpers.tar_shards import encoded, write_shard

GIGABYTES = 3 * 2**29
"""Bytes that a compressed bomb unpacks to."""

ALONE = ("--batch_size", 2, "--workers", 0, "--accelerator", "cpu", "--epochs", 1)


@dataclass(frozen=True)
class Bomb:
    """A file to be read.

    Attributes:
        words: Command line that reads it.
        leaves: Path that must not exist after an error.
        file: The bomb itself.
    """

    words: tuple[object, ...]
    leaves: Path
    file: Path


Make = Callable[[Path, Path, Path], Bomb]
"""Writes a bomb: given a finetune run, a pretrain run and an empty folder."""


# --- YAML


def doubling(first: str, levels: int = 30) -> str:
    """YAML aliases: 2 to the power of ``levels`` values from a few hundred bytes."""
    lines = [f"a0: &a0 [{first}, {first}]"]
    lines += [f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]" for level in range(1, levels)]
    return "\n".join(lines) + "\n"


def merging(levels: int = 26) -> str:
    """YAML merge keys: the number of keys that are copied doubles with each level."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}]}}" for level in range(1, levels)]
    return "\n".join(lines) + "\n"


def config(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = write(root / "c.yaml", doubling("x") + "extra: *a29\nencoder: *a29\n")
    return Bomb(("pretrain", "--config", file, "--data", "synthetic:6", "--out", root / "out"), root / "out", file)


def config_in_text(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = write(root / "c.yaml", "epochs: |\n  " + merging().replace("\n", "\n  ").rstrip() + "\n")
    return Bomb(("pretrain", "--config", file, "--data", "synthetic:6", "--out", root / "out"), root / "out", file)


def long_config(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = write(root / "c.yaml", "extra: [" + "1," * 10**6 + "1]\n")
    return Bomb(("pretrain", "--config", file, "--data", "synthetic:6", "--out", root / "out"), root / "out", file)


def option(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    text = "{" + ", ".join(doubling("x").splitlines()) + ", z: *a29}"
    words = ("pretrain", "--extra", text, "--data", "synthetic:6", "--out", root / "out")
    return Bomb(words, root / "out", write(root / "option.txt", text))


def classes(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = write(root / "classes.yaml", doubling("1"))
    return Bomb(("check", pictures(root / "in"), "--classes", file, "--write", root / "o.yaml"), root / "o.yaml", file)


def merged_classes(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = write(root / "classes.yaml", merging())
    return Bomb(("check", pictures(root / "in"), "--classes", file, "--write", root / "o.yaml"), root / "o.yaml", file)


def recipe(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = write(root / "r.yaml", f"variables:\n  {doubling('1').replace(chr(10), chr(10) + '  ')}\n"
                 "steps: [{pretrain: {out: a, extra: *a29}}]\n")  # fmt: skip
    words = ("recipe", "--file", file, "--data", "synthetic:12", "--out", root / "out", "--dry_run")
    return Bomb(words, root / "out", file)


def description(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    pictures(root / "in")
    nested = doubling("1").replace("\n", "\n  ")
    file = write(root / "data.yaml", f"path: in\nclasses:\n  {nested}\nimages: *a29\n")
    return Bomb(("check", file, "--write", root / "o.yaml"), root / "o.yaml", file)


def reported_config(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    run = fake_finetune(root / "run")
    file = write(run / "config.yaml", doubling("1") + "data: *a29\nencoder: *a29\nlabels: *a29\n")
    return Bomb(("report", "--run", run), run / "report.html", file)


def exported_config(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    run = shutil.copytree(finetuned, root / "run")
    file = write(run / "config.yaml", doubling("1") + "data: *a29\nencoder: *a29\nborder: *a29\n")
    return Bomb(
        ("export", "--run", run, "--format", "safetensors", "--out", root / "out.safetensors"),
        root / "out.safetensors",
        file,
    )


def yolo_names(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    FORMATS["yolo"](root / "in")
    for number, name in enumerate("ab"):
        (root / "in" / f"{name}.png").write_bytes(encoded(number, "PNG", (WIDTH, HEIGHT)))
    file = write(root / "in" / "data.yaml", doubling("1") + "names: [*a29, cat]\n")
    return Bomb(("check", root / "in", "--write", root / "o.yaml"), root / "o.yaml", file)


# --- TIFF


def tiff(tags: Mapping[int, tuple[int, int, Any]], data: bytes = b"") -> bytes:
    """A TIFF file of one page: tags as code -> (type, count, number or bytes), and data at offset 8."""
    entries, extra, at = [], b"", 8 + len(data)
    for code, (kind, count, value) in sorted(tags.items()):
        if isinstance(value, bytes):
            entries.append(struct.pack("<HHII", code, kind, count, at + len(extra)))
            extra += value
        else:
            entries.append(struct.pack("<HHII", code, kind, count, value))
    ifd = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", at + len(extra)) + data + extra + ifd


def page(compression: int, data: bytes, side: int = 64, samples: int = 3, described: bytes = b"") -> bytes:
    """A TIFF page of 8 bits and one strip."""
    bits = struct.pack(f"<{samples}H", *[8] * samples)
    tags: dict[int, tuple[int, int, Any]] = {
        256: (4, 1, side), 257: (4, 1, side), 258: (3, samples, bits if samples > 2 else 8), 259: (3, 1, compression),
        262: (3, 1, 2 if samples == 3 else 1), 273: (4, 1, 8), 277: (3, 1, samples), 278: (4, 1, side),
        279: (4, 1, len(data)),
    }  # fmt: skip
    if described:
        tags[270] = (2, len(described) + 1, described + b"\0")
    return tiff(tags, data)


@cache
def deflated() -> bytes:
    """A deflate stream of zeros: one block, flushed, and repeated."""
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)) * (GIGABYTES >> 20)


def strip(compression: int, data: Callable[[], bytes]) -> Make:
    def make(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
        return predicted(finetuned, root, "a.tif", page(compression, data()))

    return make


def tile(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    content = deflated()
    bits = struct.pack("<3H", 8, 8, 8)
    tags: dict[int, tuple[int, int, Any]] = {
        256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 3, bits), 259: (3, 1, 8), 262: (3, 1, 2), 277: (3, 1, 3),
        322: (4, 1, 23_000), 323: (4, 1, 23_000), 324: (4, 1, 8), 325: (4, 1, len(content)),
    }  # fmt: skip
    return predicted(finetuned, root, "a.tif", tiff(tags, content))


def ome(planes: int, file: str = "") -> bytes:
    """OME-XML of one image with many planes, in another file if named."""
    uuid = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{file}">urn:uuid:1</UUID></TiffData>' if file else ""
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        f'<Image ID="Image:0"><Pixels DimensionOrder="XYZCT" ID="Pixels:0" SizeC="1" SizeT="1" SizeX="64" SizeY="64" '
        f'SizeZ="{planes}" Type="int8">{uuid}<TiffData/></Pixels></Image></OME>'
    ).encode()


def signed(described: bytes) -> bytes:
    """A TIFF of signed bytes, which Pillow does not read."""
    tags: dict[int, tuple[int, int, Any]] = {
        256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
        277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096), 339: (3, 1, 2), 270: (2, len(described), described),
    }  # fmt: skip
    return tiff(tags, bytes(4096))


def described_image(text: bytes) -> Make:
    def make(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
        return predicted(finetuned, root, "a.tif", page(1, bytes(3 * 4096), described=text))

    return make


def ome_label(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    return labeled(finetuned, root, "a.tif", signed(ome(2 * 10**8)))


# --- pictures


def png(width: int, height: int, kind: int = 2, bits: int = 8, chunks: bytes = b"") -> bytes:
    """A PNG of zeros, its rows compressed without holding them."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    packer, row = zlib.compressobj(9), bytes(1 + width * samples * bits // 8)
    data = b"".join([packer.compress(row * min(64, height - top)) for top in range(0, height, 64)] + [packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if kind == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def example(kind: str) -> Make:
    def make(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
        run = fake_finetune(root / "run")
        file = run / "examples" / f"00_{kind}.png"
        file.write_bytes(png(13_000, 13_000, 2 if kind == "image" else 0))
        return Bomb(("report", "--run", run), run / "report.html", file)

    return make


def large_palette(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = root / "classes.png"
    file.write_bytes(png(13_000, 13_000, 3))
    return Bomb(("check", pictures(root / "in"), "--classes", file, "--write", root / "o.yaml"), root / "o.yaml", file)


def texts(kind: bytes, start: bytes) -> Make:
    def make(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
        return predicted(finetuned, root, "a.png", png(64, 64, chunks=chunk(kind, start + deflated())))

    return make


def header(name: str, content: bytes) -> Make:
    """A picture whose header claims more pixels than there are data."""

    def make(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
        return predicted(finetuned, root, name, content)

    return make


def small(form: str) -> bytes:
    return encoded(1, form)


def gif() -> bytes:
    content = bytearray(small("GIF"))
    struct.pack_into("<HH", content, 6, 65_535, 65_535)
    return bytes(content)


def bmp() -> bytes:
    content = bytearray(small("BMP"))
    struct.pack_into("<ii", content, 18, 60_000, 60_000)
    return bytes(content)


def jpeg() -> bytes:
    content = bytearray(small("JPEG"))
    at = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, at + 5, 65_000, 65_000)
    return bytes(content)


def webp() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 20)).save(buffer, "WEBP", lossless=True)
    content = bytearray(buffer.getvalue())
    at = content.index(b"VP8L") + 9  # 14 bits of width and of height, less one
    bits = int.from_bytes(content[at : at + 4], "little") & ~(2**28 - 1) | 16_382 << 14 | 16_382
    content[at : at + 4] = bits.to_bytes(4, "little")
    return bytes(content)


# --- arrays and annotations


def npy(shape: str, dtype: str = "<f4") -> bytes:
    """The header of an array, without its values."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + bytes(64)


def array(content: bytes) -> Make:
    def make(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
        (root / "in").mkdir()
        (root / "in" / "a.npy").write_bytes(content)
        for number in range(8):
            np.save(root / "in" / f"{number}.npy", np.full((5, 64, 64), number, np.uint8))
        words = ("pretrain", "--data", root / "in", "--out", root / "out", "--channels", 5, *tiny_runs.NETWORK, *ALONE)
        return Bomb(words, root / "out", root / "in" / "a.npy")

    return make


def mat_label(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    packed = deflated()
    content = b"MATLAB 5.0".ljust(124) + b"\0\x01IM" + struct.pack("<II", 15, len(packed)) + packed
    return labeled(finetuned, root, "a.mat", content)


def array_label(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    return labeled(finetuned, root, "a.npy", npy("(1000000, 1000000)"))


def counts(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    content = coco_content()
    side = 10**9
    content["images"][0] |= {"height": side, "width": side}
    content["annotations"][0]["segmentation"] = {"size": [side, side], "counts": [0, side * side]}
    file = write_json(root / "in" / "coco.json", content)
    for number, name in enumerate("ab"):
        (root / "in" / f"{name}.png").write_bytes(encoded(number, "PNG", (WIDTH, HEIGHT)))
    return Bomb(("check", root / "in", "--sheet", root / "s.png"), root / "s.png", file)


def deep_json(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    (root / "in").mkdir()
    file = write(root / "in" / "a.json", '{"shapes": ' + "[" * 10**6)
    (root / "in" / "a.png").write_bytes(encoded(1, "PNG", (WIDTH, HEIGHT)))
    return Bomb(("check", root / "in", "--sheet", root / "s.png"), root / "s.png", file)


def long_field(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    pictures(root / "in")
    write(root / "groups.csv", f"0.png,{'x' * 131_073}\n")
    file = write(root / "data.yaml", "path: in\ngroups: groups.csv\n")
    words = ("pretrain", "--data", file, "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return Bomb(words, root / "out", root / "groups.csv")


# --- networks


def wide(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    """A few tensors, and a description of a network of 1.5 thousand million parameters."""
    return described_network(finetuned, root, {"decoder_channels": [4096] * 5})


def huge_encoder(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    return described_network(finetuned, root, {"encoder": "convnext_xxlarge"})


def described_network(run: Path, root: Path, spec: dict[str, Any], tensors: Mapping[str, Any] | None = None) -> Bomb:
    run = shutil.copytree(run, root / "run", ignore=shutil.ignore_patterns("tensorboard", "examples", "last.ckpt"))
    file = run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["spec"] |= spec
    content["state_dict"] = dict(tensors or {"x": torch.zeros(3)})
    torch.save({key: content[key] for key in ("epoch", "state_dict", "hyper_parameters")}, file)
    return predicted(run, root, "a.png", encoded(1, "PNG"), file)


def expanded(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    """A tensor of as many values as the network, which is a view of one value."""
    tensors = {"x": torch.zeros(1).expand(2**31)}
    return described_network(finetuned, root, {"decoder_channels": [4096] * 5}, tensors)


def shared_lists(levels: int = 30) -> list[Any]:
    """Lists that contain the previous one twice: a pickle stores each once."""
    value: list[Any] = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def doubling_checkpoint(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    return described_network(finetuned, root, {"encoder": shared_lists()})


def doubling_weights(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file, value = root / "w.pth", {"weight": torch.zeros(2)}
    for _ in range(5):
        value = {f"{number}": value for number in range(60)}  # type: ignore[misc]
    torch.save(value, file)
    words = ("finetune", "--weights", file, "--data", "synthetic:6", "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return Bomb(words, root / "out", file)


def overlapping_checkpoint(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    """An archive whose members lie in the same bytes."""
    run = shutil.copytree(finetuned, root / "run", ignore=shutil.ignore_patterns("tensorboard", "examples"))
    file = run / "checkpoints" / "best.ckpt"
    with zipfile.ZipFile(file, "a") as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        for number in range(1000):
            twin = copy.copy(largest)
            twin.filename = f"archive/data/{10_000 + number}"
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    return predicted(run, root, "a.png", encoded(1, "PNG"), file)


def compressed_checkpoint(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    run = shutil.copytree(finetuned, root / "run", ignore=shutil.ignore_patterns("tensorboard", "examples"))
    file = run / "checkpoints" / "best.ckpt"
    compress_archive(file, GIGABYTES)
    return predicted(run, root, "a.png", encoded(1, "PNG"), file)


def compressed_weights(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    file = root / "w.pth"
    torch.save({"layer1.0.conv1.weight": torch.zeros(4, 4)}, file)
    compress_archive(file, GIGABYTES)
    words = ("finetune", "--weights", file, "--data", "synthetic:6", "--out", root / "out", *tiny_runs.NETWORK, *ALONE)
    return Bomb(words, root / "out", file)


def compress_archive(file: Path, size: int) -> None:
    """Replace the first storage of PyTorch's archive by compressed zeros."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            if name.endswith("data/0"):
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w") as target:
                    for _ in range(size >> 24):
                        target.write(bytes(2**24))
            else:
                archive.writestr(name, content)


def safetensors_file(finetuned: Path, root: Path, content: bytes) -> Bomb:
    file = root / "w.safetensors"
    file.write_bytes(content)
    return predicted(file, root, "a.png", encoded(1, "PNG"), file)


def exported_wide(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    spec = torch.load(finetuned / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]["spec"]
    metadata = {"network_spec": json.dumps(spec | {"decoder_channels": [4096] * 5})}
    listed = {"__metadata__": metadata, "decoder.x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(listed).encode()
    return safetensors_file(finetuned, root, struct.pack("<Q", len(text)) + text + bytes(4))


def long_header(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    return safetensors_file(finetuned, root, struct.pack("<Q", 10**8) + b"{" + b" " * 2**20)


# --- shards


def large_member(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    """A member of 3 GB that takes no space on the disk."""
    (root / "in").mkdir()
    file = write_shard(root / "in" / "a.tar", {f"{number}.png": encoded(number, "PNG") for number in range(8)})
    info = tarfile.TarInfo("a.png")
    info.size = 3 * 2**30
    with tarfile.open(file) as archive:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in archive)
    with file.open("r+b") as stream:
        stream.seek(end)
        stream.write(info.tobuf() + png(64, 64))
        stream.truncate(end + 512 + info.size + 1024)
    return Bomb(
        ("pretrain", "--data", root / "in", "--out", root / "out", *tiny_runs.NETWORK, *ALONE), root / "out", file
    )


def large_file(finetuned: Path, pretrained: Path, root: Path) -> Bomb:
    """A PNG with a chunk of 3 GB that takes no space on the disk."""
    bomb = predicted(finetuned, root, "a.png", b"")
    start = png(64, 64, chunks=chunk(b"tEXt", b"a\0b"))
    with bomb.file.open("wb") as stream:
        stream.write(start[:33] + struct.pack(">I4s", 3 * 2**30, b"unKn"))
        stream.truncate(33 + 12 + 3 * 2**30)
        stream.seek(0, 2)
        stream.write(start[33:])
    return bomb


# --- shared


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def pictures(folder: Path) -> Path:
    """Write a few sound images."""
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.png").write_bytes(encoded(number, "PNG"))
    return folder


def predicted(run: Path, root: Path, name: str, content: bytes, file: Path | None = None) -> Bomb:
    """An image to be segmented."""
    (root / "images").mkdir()
    (root / "images" / name).write_bytes(content)
    words = ("predict", "--run", run, "--images", root / "images", "--out", root / "out")
    return Bomb(words, root / "out", file or root / "images" / name)


def labeled(run: Path, root: Path, name: str, content: bytes) -> Bomb:
    """A label to be evaluated with."""
    for folder in ("images", "masks"):
        (root / "in" / folder).mkdir(parents=True)
    (root / "in" / "images" / "a.png").write_bytes(encoded(1, "PNG", (64, 64)))
    file = root / "in" / "masks" / name
    file.write_bytes(content)
    out = root / "figures.json"
    return Bomb(("evaluate", "--run", run, "--data", root / "in", "--split", "all", "--out", out), out, file)


BOMBS: dict[str, Make] = {
    "YAML aliases, --config": config,
    "YAML merge keys in a text, --config": config_in_text,
    "YAML of a million values, --config": long_config,
    "YAML aliases, an option": option,
    "YAML aliases, --classes": classes,
    "YAML merge keys, --classes": merged_classes,
    "YAML aliases, recipe": recipe,
    "YAML aliases, data.yaml": description,
    "YAML aliases, report": reported_config,
    "YAML aliases, export": exported_config,
    "YAML aliases, YOLO": yolo_names,
    "TIFF, deflate strip": strip(8, deflated),
    "TIFF, LZMA strip": strip(34925, lambda: lzma.compress(bytes(2**26), preset=0) * (GIGABYTES >> 26)),
    "TIFF, PackBits strip": strip(32773, lambda: b"\x81\0" * (GIGABYTES >> 8)),
    "TIFF, deflate tile": tile,
    "TIFF, OME planes, image": described_image(ome(2 * 10**8)),
    "TIFF, OME planes, label": ome_label,
    "TIFF, ImageJ planes": described_image(b"ImageJ=1.53\nimages=200000000\nslices=200000000\n"),
    "TIFF, shaped": described_image(b'{"shape": [200000000, 64, 64, 3]}'),
    "PNG of 13,000 squared, example image": example("image"),
    "PNG of 13,000 squared, example label": example("label"),
    "PNG of 13,000 squared, --classes": large_palette,
    "PNG, zTXt": texts(b"zTXt", b"a\0\0"),
    "PNG, zTXt with EXIF": texts(b"zTXt", b"Raw profile type exif\0\0"),
    "PNG, iTXt": texts(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"),
    "PNG, color profile": texts(b"iCCP", b"a\0\0"),
    "PNG, chunk of 3 GB": large_file,
    "GIF of 65,535 squared": header("a.gif", gif()),
    "BMP of 60,000 squared": header("a.bmp", bmp()),
    "JPEG of 65,000 squared": header("a.jpg", jpeg()),
    "WebP of 16,383 squared": header("a.webp", webp()),
    "NumPy, 1e12 values": array(npy("(1000000, 1000000, 5)")),
    "NumPy, objects": array(npy("(5, 64, 64)", "|O")),
    "NumPy, 1e12 values, label": array_label,
    "MATLAB, compressed label": mat_label,
    "COCO, counts of 1e18 pixels": counts,
    "JSON, a million brackets": deep_json,
    "CSV, field of 131,073 characters": long_field,
    "checkpoint, wide network": wide,
    "checkpoint, huge encoder": huge_encoder,
    "checkpoint, expanded tensors": expanded,
    "checkpoint, shared lists": doubling_checkpoint,
    "weights, shared mappings": doubling_weights,
    "checkpoint, overlapping members": overlapping_checkpoint,
    "checkpoint, compressed": compressed_checkpoint,
    "weights, compressed": compressed_weights,
    "safetensors, wide network": exported_wide,
    "safetensors, header of 100 MB": long_header,
    "tar, member of 3 GB": large_member,
}
"""Every bomb by name."""
