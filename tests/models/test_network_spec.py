"""The description of a network: its plain values, what is refused of them, and the networks that it builds."""

import json
from dataclasses import replace
from typing import Any

import pytest
import segmentation_models_pytorch as smp

from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, default_colors
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.network_spec import MAX_WIDTH, NetworkSpec, build
from maeseg.models.spec_metadata import NETWORK_SPEC, read_spec, spec_metadata
from maeseg.models.unet import MAX_SIDE

RANGED = Classes(("a", "b"), (0, 7), default_colors(2), members=(((0, 3),), ((7, 9),)), ignored=((4, 4),))
PLAIN = NetworkSpec("segmentation", "test_resnet", (8, 8, 8, 8, 8), (64, 96))
SPECS = [
    PLAIN,
    replace(PLAIN, task="reconstruction"),
    replace(PLAIN, decoder_channels=(16, 8, 8), image_size=(24, 40), native_resolution=True),
    replace(PLAIN, median_image_size=(1000, 2000), classes=RANGED),
    replace(PLAIN, normalization=Normalization((0.1, 1e-3), (2.0, 1e-6), 4095)),
]


@pytest.mark.parametrize("spec", SPECS)
def test_plain_values_give_the_same_description(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert read_spec(spec_metadata(spec), "") == spec


def test_properties() -> None:
    cropped = replace(PLAIN, native_resolution=True, median_image_size=(500, 600))
    assert (PLAIN.size, PLAIN.crop, PLAIN.stored_size) == ((64, 96), None, (64, 96))
    assert (PLAIN.stride, PLAIN.channels) == (32, 3)
    assert (cropped.crop, cropped.stored_size) == ((64, 96), (500, 600))
    assert NetworkSpec.from_dict(PLAIN.to_dict()).classes == BINARY


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "vit"), ("task", "format"), ("task", ["segmentation"]), ("encoder", 7), ("encoder", None),
        ("decoder_channels", 5), ("decoder_channels", [8, 8]), ("decoder_channels", [8] * 6),
        ("decoder_channels", [8, 8, 0]), ("decoder_channels", [8, 8, MAX_WIDTH + 1]), ("decoder_channels", [8, 8, 8.0]),
        ("image_size", "64"), ("image_size", [64]), ("image_size", [64, 64, 64]), ("image_size", [64, MAX_SIDE + 32]),
        ("image_size", [64, 65]), ("image_size", [True, 64]), ("native_resolution", 1), ("native_resolution", None),
        ("median_image_size", [0, 1]), ("median_image_size", 5), ("normalization", None), ("normalization", [1]),
        ("normalization", {"mean": [0.5], "std": [0.0], "largest": 255}),
        ("normalization", {"mean": [0.5], "std": [0.5, 0.5], "largest": 255}),
        ("normalization", {"mean": [float("nan")], "std": [0.5], "largest": 255}),
        ("normalization", {"mean": [0.5], "std": [0.5], "largest": 65536}),
        ("normalization", {"mean": [], "std": [], "largest": 255}),
        ("normalization", {"mean": [0.5] * 2000, "std": [0.5] * 2000, "largest": 255}),
        ("normalization", {"mean": [10**400], "std": [0.5], "largest": 255}),
        ("classes", None), ("classes", "cat"), ("classes", {"names": ["a"], "values": [0]}),
        ("classes", {"names": ["a", "../b"], "values": [0, 1], "colors": [[0, 0, 0], [1, 1, 1]], "painted": False}),
    ],
)  # fmt: skip
def test_malformed_values_are_refused_in_one_line(key: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:  # each with words of its own
        NetworkSpec.from_dict(PLAIN.to_dict() | {key: value})
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("key", list(PLAIN.to_dict()))
def test_each_value_must_be_there(key: str) -> None:
    values = PLAIN.to_dict()
    del values[key]
    with pytest.raises(ValueError, match=f"{key} is missing"):
        NetworkSpec.from_dict(values)


@pytest.mark.parametrize("values", [None, 5, "spec", [], {}])
def test_values_that_are_no_mapping(values: Any) -> None:
    with pytest.raises(ValueError, match="is missing"):
        NetworkSpec.from_dict(values)


@pytest.mark.parametrize("content", ["", "{", "[" * 10**5, " " * 2**21, "null"])
def test_malformed_metadata(content: str) -> None:
    with pytest.raises(ValueError, match=r"network_spec|is missing"):
        read_spec({NETWORK_SPEC: content}, "")
    assert read_spec({"encoder": "resnet18"}, "") is None


def test_an_image_that_takes_all_memory_is_refused() -> None:
    large = replace(PLAIN, image_size=(MAX_SIDE, MAX_SIDE))
    assert NetworkSpec.from_dict(large.to_dict()) == large
    many = replace(large, normalization=Normalization((0.5,) * 5, (0.5,) * 5))
    with pytest.raises(ValueError, match="too large for 5 channels"):
        NetworkSpec.from_dict(many.to_dict())


def test_networks_are_built_as_described() -> None:
    unet = build(replace(PLAIN, classes=RANGED))
    assert isinstance(unet, smp.Unet) and unet.segmentation_head[0].out_channels == 2
    assert isinstance(build(PLAIN), smp.Unet)
    gray = Normalization((0.5,), (0.5,))
    autoencoder = build(replace(PLAIN, task="reconstruction", normalization=gray))
    assert isinstance(autoencoder, MaskedAutoencoder) and autoencoder.head[0].out_channels == 1
    with pytest.raises(UserError, match="not a timm model"):
        build(replace(PLAIN, encoder="hf-hub:somebody/something"))
