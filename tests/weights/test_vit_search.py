"""The transformer of a file that does not name it, and files of segmentation networks with a transformer."""

import logging

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from helpers.tiny_runs import WIDTHS
from helpers.transformers_vits import like_test_vit, official_mae
from maeseg.errors import UserError
from maeseg.models.shapes import outline
from maeseg.models.unet import DEFAULT_ENCODER, build_unet
from maeseg.weights.encoder_search import recognize
from maeseg.weights.transfer import load_outside
from maeseg.weights.vit_search import fitting_vits


@pytest.mark.parametrize("layout", ["official", "transformers"])
def test_mae_of_unknown_size(layout: str, caplog: pytest.LogCaptureFixture) -> None:
    content = like_test_vit().state_dict()
    content = official_mae(content) if layout == "official" else content
    with caplog.at_level(logging.INFO):
        assert (
            recognize({f"module.{key}": each for key, each in content.items()}, "there", DEFAULT_ENCODER) == "test_vit"
        )
    assert "it fits test_vit, which is used" in caplog.text
    assert fitting_vits(like_test_vit(hidden_size=32).state_dict()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_base_patch16_224", ["vit_base_patch16_224"]),
        ("vit_large_patch16_224", ["vit_large_patch16_224"]),
        ("vit_huge_patch14_224", ["vit_huge_patch14_224"]),
        ("vit_base_patch16_384", ["vit_base_patch16_384"]),
        ("deit_tiny_patch16_224", ["vit_tiny_patch16_224"]),  # the same network
        ("vit_small_patch14_dinov2", ["vit_small_patch14_dinov2"]),
        ("vit_small_patch14_reg4_dinov2", ["vit_small_patch14_reg4_dinov2"]),
        ("vit_small_patch16_dinov3_qkvb", ["vit_small_patch16_dinov3_qkvb"]),
        ("swin_tiny_patch4_window7_224", None),
        ("resnet18", None),
    ],
)
def test_published_sizes(name: str, expected: list[str] | None) -> None:
    assert fitting_vits(dict(outline(name).state_dict())) == expected


@pytest.mark.slow
def test_transformers_that_a_file_cannot_tell_apart() -> None:
    # the activation is not in a file
    content = dict(outline("vit_base_patch32_clip_224").state_dict())
    with pytest.raises(UserError) as error:
        recognize(content, "there.pth", DEFAULT_ENCODER)
    names = ["there.pth fits several", "vit_base_patch32_clip_224", "vit_base_patch32_clip_quickgelu_224", "--encoder"]
    assert all(name in str(error.value) for name in names) and "\n" not in str(error.value)


def test_a_transformer_for_a_convnet_and_the_reverse() -> None:
    with pytest.raises(UserError, match=r"no weights of the encoder test_resnet .* give --encoder test_vit"):
        load_outside(build_unet("test_resnet", WIDTHS), like_test_vit().state_dict(), "there")
    with pytest.raises(UserError, match="no weights of a vision transformer, as test_vit"):
        load_outside(dpt(), timm.create_model("test_resnet").state_dict(), "there")


def dpt(side: int = 64, classes: int = 1) -> smp.DPT:
    torch.manual_seed(classes)
    return smp.DPT(
        "tu-test_vit", encoder_weights=None, decoder_intermediate_channels=(8, 8, 8, 8), decoder_fusion_channels=8,
        classes=classes, dynamic_img_size=True, img_size=side, num_classes=0,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_dpt_of_smp(prefix: str) -> None:
    other, network = dpt(), dpt()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    content = {f"{prefix}{key}": value for key, value in other.state_dict().items()}
    report = load_outside(network, content, "there", decoder=True)
    assert not report.new and not report.adapted and not report.skipped
    images_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images_BCHW), other(images_BCHW))
    report = load_outside(dpt(96, classes=3), content, "there", decoder=True)
    assert "positions resampled from 4 x 4 to 6 x 6 (pos_embed)" in str(report)
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}
    report = load_outside(network, content, "there")
    assert {key.split(".")[0] for key in report.new} == {"decoder", "segmentation_head"}


def test_a_decoder_of_another_kind_is_left_aside() -> None:
    report = load_outside(dpt(), like_test_vit().state_dict(), "there", decoder=True)
    assert {key.split(".")[0] for key in report.new} == {"decoder", "segmentation_head"}
    assert {key.split(".")[0] for key in report.skipped} == {"decoder"}
