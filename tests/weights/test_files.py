"""Files of weights as people have them: wrappings, extras, other kinds of file, and deeper encoders than asked for."""

import argparse
import builtins
import collections
import enum
import functools
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor

from helpers.tiny_runs import WIDTHS
from maeseg.errors import UserError
from maeseg.models.shapes import LeaveUnset, outline
from maeseg.models.unet import build_unet
from maeseg.training.initialization import Start, choose_network, start_unet
from maeseg.weights.encoder_search import beyond, families_like, fits, fitting_encoders, series
from maeseg.weights.files import read_weights_file, state_dict_in
from maeseg.weights.matching import match_encoder
from maeseg.weights.safe_pickle import Inert, read_inertly
from maeseg.weights.transfer import load_outside

ENCODER = "test_resnet"
State = dict[str, Tensor]


@functools.cache
def state_of(name: str) -> State:
    torch.manual_seed(0)
    state: State = timm.create_model(name).state_dict()
    return state


def shapes_of(name: str) -> State:
    """A state dict without values."""
    return dict(outline(name).state_dict())


def under(prefix: str, add: float = 0) -> State:
    return {f"{prefix}{key}": value + add for key, value in state_of(ENCODER).items()}


def read(path: Path) -> State:
    return state_dict_in(read_weights_file(path), str(path))


# --- wrappings


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"epoch": 3, "model_state_dict": under(""), "optimizer_state_dict": {"state": {0: {"m": torch.ones(2)}}}}, ""),
        ({"network_weights": under(""), "current_epoch": 5, "init_args": {}}, ""),
        ((under(""),), ""),
        ([under(""), {"lr": 0.1}], ""),
        ({"state_dict": under("module.encoder_q.") | {"module.queue": torch.zeros(4, 4)}}, ""),
        (under("_orig_mod."), ""),
        ({"meta": {}, "state_dict": under("backbone.") | {"decode_head.conv_seg.weight": torch.zeros(2, 4, 1, 1)}}, ""),
        ({"pytorch-lightning_version": "2.0", "state_dict": under("net.encoder.")}, ""),
        ({"a": {"b": {"c": under("")}}}, ""),
        (
            {"student": under("module.backbone.", 1), "teacher": under("backbone."), "epoch": 1},
            "teacher.backbone.* used, student.module.backbone.* skipped",
        ),
        (under("m.encoder_q.") | under("m.encoder_k.", 1), "m.encoder_q.* used, m.encoder_k.* skipped"),
        (under("momentum_encoder.", 1) | under("base_encoder."), "base_encoder.* used, momentum_encoder.* skipped"),
        ({"state_dict": under("", 1), "state_dict_ema": under("")}, "state_dict_ema.* used, state_dict.* skipped"),
        ({"best_state": under("", 1), "model": under("")}, "model.* used, best_state.* skipped"),
    ],
)  # fmt: skip
def test_wrappings(content: Any, expected: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    unet = build_unet(ENCODER, WIDTHS)
    report = load_outside(unet, read(tmp_path / "w.pth"), "w.pth")
    for key, value in unet.encoder.model.state_dict().items():
        assert torch.equal(value, state_of(ENCODER)[key])
    assert str(report).partition("; of several encoders ")[2] == expected
    assert len(report.loaded) == len(unet.encoder.state_dict())


def test_two_encoders_of_equal_priority_are_refused() -> None:
    with pytest.raises(UserError, match=r"there has two encoders, left\.\* and right\.\*: save one of them"):
        load_outside(build_unet(ENCODER, WIDTHS), under("left.") | under("right."), "there")


def test_the_decoder_is_of_the_unet_whose_encoder_is_used() -> None:
    theirs = smp.Unet(f"tu-{ENCODER}", encoder_weights=None, decoder_channels=WIDTHS).state_dict()
    other = {key: value + 1 for key, value in theirs.items()}
    offered = state_dict_in({"state_dict": other, "state_dict_ema": theirs}, "there")
    unet = build_unet(ENCODER, WIDTHS)
    load_outside(unet, offered, "there", decoder=True)
    assert all(torch.equal(value, theirs[key]) for key, value in unet.state_dict().items())


def test_half_precision_is_taken_and_nan_is_not(tmp_path: Path) -> None:
    unet = build_unet(ENCODER, WIDTHS)
    load_outside(unet, {key: value.half() for key, value in state_of(ENCODER).items()}, "there")
    weight = unet.encoder.model.state_dict()["layer1.0.conv1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state_of(ENCODER)["layer1.0.conv1.weight"].half().float())
    odd = state_of(ENCODER) | {"layer1.0.conv1.weight": torch.full_like(weight, float("nan"))}
    with pytest.raises(UserError, match=r"layer1\.0\.conv1\.weight has values that are not finite"):
        load_outside(unet, odd, "there")


# --- deeper encoders, and others that hold all of a smaller one


def without_values(encoder: str) -> smp.Unet:
    """A U-Net of shapes alone."""
    with torch.device("meta"), LeaveUnset():
        return build_unet(encoder, WIDTHS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "theirs", "first"),
    [
        ("resnet18", "resnet34", "layer1.2.conv1.weight"),
        ("efficientnet_b0", "efficientnet_b1", "blocks.0.1.conv_dw.weight"),
        ("convnext_tiny", "convnext_small", "stages.2.blocks.9.gamma"),
    ],
)  # fmt: skip
def test_weights_of_a_deeper_encoder_are_refused(asked: str, theirs: str, first: str) -> None:
    offered = {f"backbone.{key}": value for key, value in shapes_of(theirs).items()}
    with pytest.raises(UserError) as error:
        match_encoder(without_values(asked).encoder, offered, "there.pth")
    assert f"there.pth is of a deeper encoder than {asked} (" in str(error.value)
    assert f"{first} first): it fits {theirs}: give --encoder {theirs}" in str(error.value)


def test_weights_of_a_deeper_encoder_in_other_layouts_are_refused() -> None:
    with torch.device("meta"), LeaveUnset():
        deeper = smp.encoders.get_encoder("efficientnet-b1", weights=None).state_dict()
        unet = smp.Unet("resnet34", encoder_weights=None, decoder_channels=WIDTHS).state_dict()
    with pytest.raises(UserError, match=r"does not fit the encoder efficientnet_b0: .* it fits efficientnet_b1: give"):
        match_encoder(without_values("efficientnet_b0").encoder, deeper, "there")
    with pytest.raises(UserError, match=r"there is of a deeper encoder than resnet18 .* it fits resnet34"):
        match_encoder(without_values("resnet18").encoder, unet, "there")


def test_weights_beside_the_blocks_are_skipped_and_reported() -> None:
    beside = {
        "fc.0.weight": torch.zeros(4, 4), "projection_head.0.weight": torch.zeros(4, 4), "queue": torch.zeros(4, 4),
        "aux_classifier.0.weight": torch.zeros(4, 4, 3, 3), "decoder.0.weight": torch.zeros(4, 4),
        "layer5.0.weight": torch.zeros(4),
        "layer1.0.total_ops": torch.zeros(1), "layer1.0.attn_mask": torch.zeros(4, 4),
        "layer1.0.relative_position_index": torch.zeros(4, 4, dtype=torch.long),
    }  # fmt: skip
    body = {key: value for key, value in state_of(ENCODER).items() if not key.startswith("fc.")}
    report = load_outside(build_unet(ENCODER, WIDTHS), body | beside, "there")
    assert set(report.skipped) == beside.keys()
    assert beyond({"layer1.0.other.weight": torch.zeros(4)}, outline(ENCODER), list(body)) == ["layer1.0.other.weight"]


def test_the_search() -> None:
    r18, r34 = shapes_of("resnet18"), shapes_of("resnet34")
    assert fitting_encoders({f"m.{key}": value for key, value in r34.items()}, "resnet18") == ["resnet34"]
    assert fits("resnet18", r18) and not fits("resnet18", r34) and not fits("resnet34", r18)
    assert not fits("resnet18", shapes_of("seresnet18"))
    wide = r18 | {"conv1.weight": torch.zeros(64, 13, 7, 7)}
    assert fits("resnet18", wide)  # images of thirteen channels
    assert not fits("resnet18", wide | {"conv1.weight": torch.zeros(64, 3, 3, 3)})
    assert series("resnet18") == series("resnet152") != series("seresnet18")
    assert series("convnext_tiny") == series("convnext_xlarge") != series("convnextv2_tiny")
    assert fitting_encoders({f"part{number}": torch.zeros(2) for number in range(50)}, "resnet18") == []


def test_an_encoder_that_is_not_named_is_found_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    deeper, usual = Start("w.pth", tensors=shapes_of("resnet34")), Start("w.pth", tensors=shapes_of("resnet18"))
    with caplog.at_level("INFO"):
        assert choose_network([deeper], None, WIDTHS) == ("resnet34", WIDTHS)
    [line] = caplog.messages
    assert line.startswith("w.pth does not name its encoder (--encoder): it fits resnet34")
    caplog.clear()
    assert choose_network([usual], None, WIDTHS) == ("resnet18", WIDTHS)
    assert choose_network([deeper], "resnet18", WIDTHS)[0] == "resnet18"  # a misfit is refused later
    assert not caplog.messages
    with pytest.raises(UserError, match="give --encoder resnet34"):
        start_unet(without_values("resnet18"), deeper)


@pytest.mark.slow
def test_a_family_of_other_names_is_found() -> None:
    with torch.device("meta"), LeaveUnset():
        features = timm.create_model("convnext_tiny", features_only=True).state_dict()
    assert "stem_0.weight" in features
    assert families_like(features)[0] == families_like(shapes_of("convnext_tiny"))[0] == "convnext"
    assert fits("convnext_tiny", features)
    assert families_like({"_conv_stem.weight": torch.zeros(2)}) == ["efficientnet"]


# --- what else is in a file: left unread, and never run


class Color(enum.Enum):
    RED = "red"


class Settings(dict[str, Any]):
    """A project's own mapping, with attributes."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.note = "kept apart"


class Plain:
    """An object of a project."""

    def __init__(self) -> None:
        self.values = [1, 2]


EXTRAS = {
    "scalar": np.float64(0.91), "array": np.arange(5.0), "rng": np.random.RandomState(0).get_state(),
    "color": Color.RED, "args": argparse.Namespace(out=pathlib.PurePosixPath("x")),
    "log": collections.defaultdict(list, loss=[1.0]),
    "settings": Settings(lr=0.1), "object": Plain(), "type": Plain, "bound": "x".upper,
    "set": {Color.RED}, "slice": slice(3),
    "dtype": torch.float16, "size": torch.Size([2]), "odd": np.dtype("f4"), "deque": collections.deque([1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("extra", [*EXTRAS, "all"])
def test_harmless_extras_are_left_unread(extra: str, legacy: bool, tmp_path: Path) -> None:
    state = state_of(ENCODER)
    content = {**(EXTRAS if extra == "all" else {extra: EXTRAS[extra]}), "state_dict": state}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    found = read(tmp_path / "w.pth")
    assert list(found) == list(state) and all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_read_as_pytorch_reads_them(legacy: bool, tmp_path: Path) -> None:
    x = torch.arange(12.0).view(3, 4)
    tensors = {
        "t": x.t(), "part": x[1:, 2:], "parameter": torch.nn.Parameter(x), "empty": torch.empty(0, 3), "none": x[:0],
        "scalar": torch.tensor(3), "wide": x.expand(2, 3, 4), "fortran": x.bfloat16(), "half": x.half(),
        "double": x.double(), "int": x.int(), "short": x.short(), "byte": x.byte(), "char": x.char(), "bool": x > 3,
    }  # fmt: skip
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    found, names = read_inertly(tmp_path / "w.pth")
    assert not names and found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert torch.equal(found[key], value) and found[key].dtype == value.dtype
        assert found[key].stride() == value.stride()
    assert found["t"].data_ptr() == found["wide"].data_ptr()  # what shares memory does so still


class Calling:
    """Pickled, it calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.call = (function, given)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def make(folder: str) -> None:
    """Code of a project, as harmful as any."""
    Path(folder).mkdir()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "given", "harmful"),
    [
        (os.system, "mkdir {}", True),
        (builtins.exec, "import os; os.mkdir({!r})", True),
        (builtins.eval, "__import__('os').mkdir({!r})", True),
        (os.mkdir, "{}", True),
        (make, "{}", False),  # a project's own, for all one knows: left unread like any other
    ],
)
def test_nothing_in_a_file_is_ever_run(
    function: Callable[..., Any], given: str, harmful: bool, legacy: bool, tmp_path: Path
) -> None:
    made, file = tmp_path / "made", tmp_path / "w.pth"
    trap = Calling(function, given.format(str(made)))
    pickle.loads(pickle.dumps(trap))
    assert made.exists()  # it works
    made.rmdir()
    torch.save({"state_dict": state_of(ENCODER), "x": trap}, file, _use_new_zipfile_serialization=not legacy)
    assert list(read_inertly(file)[0]["state_dict"]) == list(state_of(ENCODER))
    if harmful:
        with pytest.raises(UserError, match=r"w\.pth holds more than tensors \([\w.]+\), .* save its state dict alone"):
            read(file)
    else:
        assert list(read(file)) == list(state_of(ENCODER))
    assert not made.exists()


def test_a_stand_in_reaches_nothing_outside_of_its_file(tmp_path: Path) -> None:
    # the state {"name": "evil"} for a class by itself, and a call of what a call gave
    build = b"\x80\x02cmaeseg.models.inert\nInert\n}X\x04\x00\x00\x00nameX\x04\x00\x00\x00evilsb."
    call = b"\x80\x02cbuiltins\ngetattr\n(X\x01\x00\x00\x00atR(tR."
    with pytest.raises(TypeError):
        read_inertly(archive_of(build, tmp_path))
    assert read_inertly(archive_of(call, tmp_path)) == ({}, ("builtins.getattr",))
    assert Inert.name == Inert().name == ""


def archive_of(program: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    return folder / "w.pth"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02" + b"]" * 3000 + b"a" * 2999 + b".",
        b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(40)) + b".",  # 2 to the 40
    ],
)  # fmt: skip
def test_hostile_nesting_ends(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read(archive_of(data, tmp_path))


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4), "x": Plain()}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:4] if name.endswith("data/0") else content)
    with pytest.raises(UserError, match=r"w\.pth (is not a valid weights file|holds more than tensors)"):
        read(tmp_path / "w.pth")


def test_a_pickled_model_is_named(tmp_path: Path) -> None:
    for content in (timm.create_model(ENCODER), {"model": timm.create_model(ENCODER), "epoch": 3}):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"is a pickled model \(timm\.models\.resnet\.ResNet\).*state_dict"):
            read(tmp_path / "w.pth")


# --- other kinds of file


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("w.pth", b"", "it is empty"),
        ("w.safetensors", b"", "it is empty"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
        ("w.pth", b"\n<!DOCTYPE html><html>", "a web page"),
        ("w.pt", b'{"error": "not found"}', "a JSON response"),
        ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, as from Keras"),
        ("w.onnx", b"whatever", "an ONNX model"),
        ("w.bin", b"\x08\x09\x12\x07pytorch\x1a", "an ONNX model"),
        ("saved_model.pb", b"whatever", "a TensorFlow graph"),
        ("w.tflite", b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
        ("w.tar.gz", b"\x1f\x8b\x08", "a compressed archive"),
        ("w.npy", b"\x93NUMPY\x01", "a NumPy array"),
        ("w.safetensors", b"\xff" * 50, "safetensors cannot read it"),
        ("w.safetensors", (40).to_bytes(8, "little") + b"{" + b" " * 39, "safetensors cannot read it"),
        ("w.pkl", pickle.dumps({"model": {"w": [1.0]}}), "damaged or of another kind"),
    ],
)  # fmt: skip
def test_other_kinds_of_file_are_named(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_weights_file(tmp_path / name)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / name} is not a valid weights file: ") and expected in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("w/constants.pkl", "a TorchScript program"),
        ("model.weights.h5", "a Keras model"),
        ("w/archive_format", "an exported program of torch.export"),
        ("weights/w.pth", "an archive of other files: unpack it"),
    ],
)
def test_other_kinds_of_archive_are_named(member: str, expected: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl" if member.endswith(".pkl") else "other", b"")
        archive.writestr(member, b"")
    with pytest.raises(UserError, match=rf"w\.pt is not a valid weights file: it is {expected}"):
        read_weights_file(tmp_path / "w.pt")


def test_safetensors_are_recognized_by_content(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.ones(2)}
    safetensors.torch.save_file(state, tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert torch.equal(read(tmp_path / name)["conv1.weight"], torch.ones(2))
