"""The description of a network: its plain values, what is refused of them, and the networks that it builds."""

import json
from dataclasses import replace
from typing import Any

import pytest
import segmentation_models_pytorch as smp

from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, default_colors
from maeseg.models.architecture import output_maps
from maeseg.models.dpt import DPTMaskedAutoencoder
from maeseg.models.mae import ViTMaskedAutoencoder
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.network_spec import MAX_WIDTH, NetworkSpec, build
from maeseg.models.spec_metadata import NETWORK_SPEC, read_spec, spec_metadata
from maeseg.models.unet import MAX_SIDE
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.models.volume_network import VolumeNetwork

RANGED = Classes(("a", "b"), (0, 7), default_colors(2), members=(((0, 3),), ((7, 9),)), ignored=((4, 4),))
PLAIN = NetworkSpec("segmentation", "test_resnet", (8, 8, 8, 8, 8), (64, 96))
VIT = replace(PLAIN, encoder="test_vit", task="reconstruction", decoder_channels=(), mae_decoder=(32, 2))
DPT = replace(PLAIN, encoder="test_vit")
VOLUMES = NetworkSpec(
    "segmentation", "resenc", (), (16, 24, 32), Normalization((0.0,), (1.0,)), spacing=(1.0, 1.0, 2.5)
)
SPECS = [
    VOLUMES,
    replace(VOLUMES, encoder="vnet", image_size=(16, 32, 48), task="reconstruction"),
    VIT,
    DPT,
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
    assert [(each.architecture, each.stride, each.grid) for each in (PLAIN, DPT, VIT)] == [
        ("unet", 32, None), ("dpt", 32, (4, 6)), ("dpt", 16, (4, 6))
    ]  # fmt: skip
    cropped = replace(PLAIN, native_resolution=True, median_image_size=(500, 600))
    assert (PLAIN.size, PLAIN.crop, PLAIN.stored_size) == ((64, 96), None, (64, 96))
    assert (PLAIN.stride, PLAIN.channels) == (32, 3)
    assert (cropped.crop, cropped.stored_size) == ((64, 96), (500, 600))
    assert NetworkSpec.from_dict(PLAIN.to_dict()).classes == BINARY
    assert NetworkSpec.from_dict({key: value for key, value in PLAIN.to_dict().items() if key != "spacing"}) == PLAIN


def test_a_network_of_volumes() -> None:
    assert (VOLUMES.architecture, VOLUMES.axes, VOLUMES.stride, VOLUMES.grid) == ("resenc", 3, 8, None)
    assert (PLAIN.axes, replace(VOLUMES, encoder="vnet").architecture) == (2, "vnet")
    assert isinstance(build(VOLUMES), VolumeNetwork)
    assert isinstance(build(replace(VOLUMES, task="reconstruction")), VolumeMaskedAutoencoder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", [16, 24]), ("image_size", [16, 24, 20]), ("image_size", [1024, 1024, 1024]),
        ("spacing", None), ("spacing", [1.0, 1.0]), ("spacing", [1.0, 1.0, 0.0]), ("spacing", [1.0, 1.0, 1e9]),
        ("spacing", [1, 1, 1]), ("decoder_channels", [8, 8, 8]), ("native_resolution", True),
        ("architecture", "vnet"), ("encoder", "vnet"), ("encoder", "test_resnet"), ("mae_decoder", [32, 2]),
    ],
)  # fmt: skip
def test_refused_values_of_volumes(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^({key}|image_size|architecture|spacing) "):
        NetworkSpec.from_dict({**VOLUMES.to_dict(), key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spacing", [1.0, 1.0, 1.0]), ("encoder", 7), ("encoder", None),
        ("architecture", "vit"), ("task", "format"), ("task", ["segmentation"]),
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


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (PLAIN, {"architecture": "dpt"}, "architecture is dpt, not unet"),
        (DPT, {"architecture": "unet"}, "architecture is unet, not dpt"),
        (DPT, {"decoder_channels": [8, 8, 8]}, "decoder_channels"),
        (DPT, {"image_size": [48, 64]}, "not multiples of the stride 32"),
        (DPT, {"encoder": "deit_tiny_distilled_patch16_224"}, "cannot be built"),
        (DPT, {"decoder_channels": [], "mae_decoder": [32, 2]}, "mae_decoder is .* for segmentation"),
        (VIT, {"architecture": "unet", "encoder": "test_resnet"}, "mae_decoder"),
        (VIT, {"decoder_channels": [8] * 5}, "decoder_channels"),
        (VIT, {"image_size": [24, 64]}, "not multiples of the stride 16"),
        (VIT, {"mae_decoder": [40, 2]}, "multiple of 16"),
        (VIT, {"mae_decoder": [32, 65]}, "at most 64"),
        (VIT, {"mae_decoder": [32]}, "not a list of 2 numbers"),
        (VIT, {"mae_decoder": [2**20, 2]}, "integers from 1"),
    ],
)
def test_values_that_do_not_suit_each_other(spec: NetworkSpec, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        NetworkSpec.from_dict(spec.to_dict() | changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", [key for key in PLAIN.to_dict() if key != "spacing"])
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
    dpt, mae = build(replace(DPT, classes=RANGED)), build(replace(VIT, normalization=gray))
    assert isinstance(dpt, smp.DPT) and output_maps(dpt) == 2
    assert isinstance(mae, ViTMaskedAutoencoder) and mae.channels == 1
    assert isinstance(build(replace(DPT, task="reconstruction")), DPTMaskedAutoencoder)
    with pytest.raises(UserError, match="not a timm model"):
        build(replace(PLAIN, encoder="hf-hub:somebody/something"))
