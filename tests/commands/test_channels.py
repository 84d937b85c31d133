"""Images of other than three channels: how they are read and normalized, what weights become, every command on them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from torch import nn

from helpers.tiny_runs import NETWORK, TRAINING, maeseg, pretrain, split_of
from maeseg.data.image_files import DataError
from maeseg.data.image_reading import ARRAY_SUFFIX, picture_of, read_pixels
from maeseg.data.normalization import IMAGENET, measure_normalization
from maeseg.data.sources.base import open_source
from maeseg.data.sources.folder import ImageFolder
from maeseg.models.channels import adapt_channels, image_channels
from maeseg.models.unet import build_unet
from maeseg.runs.checkpoint import read_checkpoint

CHANNELS = 5
Array = NDArray[np.generic]


def values(channels: int, dtype: str = "uint8", shape: tuple[int, int] = (40, 48), seed: int = 0) -> Array:
    """Random (H, W, C)."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.normal(3, 2, (*shape, channels)).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype=dtype, endpoint=True)


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def tiff(array: Array, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def png(array: Array) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array.squeeze()).save(stream, "PNG")
    return stream.getvalue()


def expected(array: Array) -> torch.Tensor:
    """(C, H, W), as read."""
    plain = array if array.dtype == np.uint8 else array.astype(np.float32) / (65535 if array.dtype == np.uint16 else 1)
    return torch.from_numpy(np.ascontiguousarray(plain.transpose(2, 0, 1)))


FIVE, SIXTEEN, FLOATS, FOUR, ONE = (
    values(5), values(7, "uint16"), values(6, "float32"), values(4), values(1, "uint16"),
)  # fmt: skip
STORED = {
    "array, channels last": (npy(FIVE), FIVE),
    "array, channels first": (npy(SIXTEEN.transpose(2, 0, 1)), SIXTEEN),
    "array of floats": (npy(FLOATS), FLOATS),
    "array of doubles": (npy(FLOATS.astype(np.float64)), FLOATS),
    "array without an axis of channels": (npy(ONE[..., 0]), ONE),
    "tiff, together": (tiff(FIVE, planarconfig="contig", photometric="minisblack"), FIVE),
    "tiff, apart": (tiff(FIVE.transpose(2, 0, 1), planarconfig="separate", photometric="minisblack"), FIVE),
    "tiff, pages": (tiff(SIXTEEN.transpose(2, 0, 1), photometric="minisblack"), SIXTEEN),
    "tiff, deflated": (tiff(FIVE, photometric="minisblack", compression="zlib"), FIVE),
    "tiff of floats": (tiff(FLOATS.transpose(2, 0, 1), photometric="minisblack"), FLOATS),
    "tiff, large": (tiff(FOUR, bigtiff=True, photometric="rgb", extrasamples=["unspecified"]), FOUR),
    "png with a fourth channel": (png(FOUR), FOUR),
    "png, 16 bits": (png(ONE), ONE),
}


@pytest.mark.parametrize(("content", "array"), STORED.values(), ids=STORED)
def test_an_image_is_read_as_it_is_stored(content: bytes, array: Array, tmp_path: Path) -> None:
    channels = array.shape[2]
    file = tmp_path / f"image{ARRAY_SUFFIX}"  # content decides, not the suffix
    file.write_bytes(content)
    for source in (content, file):
        pixels = read_pixels(source, "image", channels)
        assert pixels.dtype in (torch.uint8, torch.float32)
        torch.testing.assert_close(pixels, expected(array))
    picture = picture_of(pixels)
    assert (picture.mode, picture.size) == ("RGB", (48, 40))


def test_the_picture_of_rgb_is_itself() -> None:
    array = values(3)
    assert np.array_equal(np.asarray(picture_of(expected(array))), array)


def odd(change: str) -> bytes:
    if change == "not finite":
        broken = FLOATS[..., :CHANNELS].copy()
        broken[3, 4, 1] = np.nan
        return npy(broken)
    if change == "pickle":
        stream = io.BytesIO()
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        return stream.getvalue()
    if change == "huge":
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 60000, 5), }"
        return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    arrays = {"channels": FOUR, "axes": values(2).reshape(2, 20, 48, 2), "complex": FIVE.astype(np.complex64)}
    return npy(arrays[change])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("channels", "has 4 channels, not 5: give images of 5, or train with --channels 4"),
        ("not finite", "values that are not finite"),
        ("pickle", "cannot be read as an image"),
        ("huge", "has 18000 MB"),
        ("axes", "an array of 4 axes"),
        ("complex", "values of type complex64"),
    ],
)
def test_what_cannot_be_used_is_named(change: str, said: str) -> None:
    with pytest.raises(DataError, match=f"^picture .*{said}"):
        read_pixels(odd(change), "picture", CHANNELS)


@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([content for content, _ in STORED.values()])))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = read_pixels(bytes(content[: data.draw(st.integers(0, len(content)))]), "picture", CHANNELS)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.shape[0] == CHANNELS and pixels.isfinite().all()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labeled images of five channels, arrays and TIFF: foreground where the fourth is high."""
    folder = tmp_path_factory.mktemp("five")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for number in range(12):
        array = values(CHANNELS, "uint16", (64, 64), number)
        array[16:48, 8 + number : 40, 3] = 60000
        content = npy(array) if number % 2 else tiff(array.transpose(2, 0, 1), photometric="minisblack")
        (folder / "images" / f"{number:02d}{ARRAY_SUFFIX if number % 2 else '.tif'}").write_bytes(content)
        label = np.zeros((64, 64), np.uint8)
        label[16:48, 8 + number : 40] = 255
        Image.fromarray(label).save(folder / "masks" / f"{number:02d}.png")
    return folder


def test_statistics_are_those_of_the_training_images(data: Path) -> None:
    source = ImageFolder(data, labeled=True, channels=CHANNELS)
    found = measure_normalization(source, [0, 3, 4])
    pixels = torch.cat([source.pixels(index).flatten(1) for index in (0, 3, 4)], 1).double()
    np.testing.assert_allclose(found.mean, pixels.mean(1), rtol=1e-9)
    np.testing.assert_allclose(found.std, pixels.std(1, correction=0), rtol=1e-6)
    assert measure_normalization(open_source("synthetic:4", labeled=False), [0]) == IMAGENET


@pytest.mark.parametrize("name", ["test_resnet", "vgg11_bn", "test_convnext"])
def test_an_encoder_knows_its_channels(name: str) -> None:
    with torch.device("meta"):
        assert image_channels(build_unet(name, [16, 8, 8], CHANNELS).encoder) == CHANNELS


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_first_convolutions_are_adapted_as_smp_does(channels: int) -> None:
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))
    offered = {key: value.clone() for key, value in reference.state_dict().items()}
    patch_first_conv(reference, channels, 3)
    own = {key: torch.zeros_like(value) for key, value in reference.state_dict().items()}
    adapted, keys = adapt_channels(own, offered, channels)
    assert keys == {"0.weight": 3}
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(adapted[key], value)
    back, keys = adapt_channels(offered, adapted, 3)
    assert keys == {"0.weight": channels} and back["0.weight"].shape == offered["0.weight"].shape


@pytest.mark.slow
def test_every_command_takes_images_of_five_channels(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, fine, compared = tmp_path / "run", tmp_path / "fine", tmp_path / "compared"
    few = ("--data", data, *TRAINING[4:], "--batch_size", 4, "--val", 3)
    assert maeseg("pretrain", "--out", run, *NETWORK, *few, "--epochs", 1, "--channels", CHANNELS) == 0
    by = read_checkpoint(run).spec.normalization
    source = ImageFolder(data, labeled=False, channels=CHANNELS)
    assert by.mean == measure_normalization(source, split_of(source, 3).train).mean
    assert maeseg("finetune", "--out", fine, *few, "--weights", run, "--epochs", 8, "--lr", 3e-3) == 0
    assert read_checkpoint(fine).spec.normalization.std == by.std
    assert maeseg("compare", "--out", compared, *few, "--inits", f"[scratch, {run}]", "--labels", "[4]", "--seeds", 1,
                  "--epochs", 1, "--steps_per_epoch", 1) == 0  # fmt: skip
    assert maeseg("evaluate", "--run", fine, "--data", data, "--split", "all") == 0
    assert maeseg("predict", "--run", fine, "--images", data / "images", "--out", tmp_path / "predicted") == 0
    assert len(list((tmp_path / "predicted" / "labels").iterdir())) == 12
    one = data / "images" / f"01{ARRAY_SUFFIX}"
    assert maeseg("reconstruct", "--run", run, "--images", one, "--out", tmp_path / "reconstructed") == 0
    assert maeseg("report", "--run", compared) == 0
    capsys.readouterr()
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    assert maeseg("predict", "--run", fine, "--images", tmp_path / "photo.png", "--out", tmp_path / "no") == 2
    assert "photo.png has 3 channels, not 5" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_weights_of_rgb_serve_other_channels(data: Path, tmp_path: Path) -> None:
    rgb = tmp_path / "rgb"
    assert pretrain(rgb, "--epochs", 1) == 0
    few = ("--data", data, *TRAINING[4:], "--batch_size", 4, "--val", 3, "--channels", CHANNELS, "--epochs", 1)
    for command, words in (
        ("pretrain", ("--image_size", 64)),
        ("finetune", ()),
        ("finetune", ("--transfer", "encoder")),
    ):
        out = tmp_path / f"{command}{len(words)}"
        assert maeseg(command, "--out", out, *few, "--weights", rgb, *words) == 0
        transfer = json.loads((out / "run.json").read_text())["transfer"]
        assert "; encoder.model.conv1.0.weight repeated and rescaled from 3 to 5 channels" in transfer
        assert read_checkpoint(out).spec.channels == CHANNELS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "synthetic:24", "--channels", 4), "--channels 4: the images of --data synthetic:24 are RGB"),
        (("--data", "DATA", "--channels", 0), "--channels 0 is out of range"),
        (("--data", "DATA", "--channels", 4), "has 5 channels, not 4"),
    ],
)
def test_wrong_channels(
    words: tuple[str, ...], said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(data) if word == "DATA" else word for word in words]
    assert maeseg("pretrain", "--out", tmp_path / "run", *NETWORK, *TRAINING[2:], "--batch_size", 4, *given) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
