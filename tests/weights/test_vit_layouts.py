"""Published transformers: files of real tiny networks in every layout, compared with transformers' own code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from helpers import transformers_vits as theirs
from helpers.transformers_vits import DEPTH, HEADS, PATCH, SIDE, WIDTH, State
from maeseg.weights.files import read_weights_file, state_dict_in, weights_in_folder
from maeseg.weights.vit_matching import VitWeights, match_vit

PLAIN: dict[str, Any] = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "patch_size": PATCH, "mlp_ratio": 4}


def network(name: str = "vit_tiny_patch16_224", size: Any = SIDE, **options: Any) -> Any:
    """One of timm's as pre-training builds it, but tiny."""
    sizes = {"img_size": size, "num_classes": 0, "global_pool": "", "dynamic_img_size": True}
    torch.manual_seed(0)
    return timm.create_model(name, **{**PLAIN, **sizes, **options}).eval()


def loaded(vit: Any, content: Any, folder: Path) -> VitWeights:
    """Load a file with this content into a transformer."""
    torch.save(content, folder / "weights.pth")
    found = match_vit(vit, state_dict_in(read_weights_file(folder / "weights.pth"), "there"), "there")
    vit.load_state_dict({**vit.state_dict(), **found.encoder}, strict=True)
    return found


def images(side: int = SIDE) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def assert_same(vit: Any, reference: Any) -> None:
    """All tokens after the last norm agree with those of transformers' network."""
    torch.testing.assert_close(vit.forward_features(images()), reference(images()).last_hidden_state, rtol=0, atol=1e-5)


def visible(reference: Any) -> Callable[[Tensor], Any]:
    """The encoder of ViTMAEForPreTraining with every patch visible, in order."""
    reference.config.mask_ratio = 0.0
    noise = torch.arange((SIDE // PATCH) ** 2).expand(2, -1).float()
    return lambda batch: reference.vit(batch, noise=noise)


@pytest.mark.parametrize("prefix", ["", "module.", "model.encoder."])
@pytest.mark.parametrize("decoder", [False, True])
def test_releases_of_mae(prefix: str, decoder: bool, tmp_path: Path) -> None:
    reference = theirs.mae()
    release = {f"{prefix}{key}": value for key, value in theirs.official_mae(reference.state_dict(), decoder).items()}
    vit = network()
    found = loaded(vit, {"model": release, "epoch": 799}, tmp_path)
    assert_same(vit, visible(reference))
    assert not found.adapted and not found.new
    assert set(found.skipped) == {key for key in release if "decoder_" in key or key.endswith("mask_token")}


def test_fine_tuned_releases_of_mae_have_another_norm(tmp_path: Path) -> None:
    release = theirs.official_mae(theirs.mae().state_dict(), decoder=False)
    for kind in ("weight", "bias"):
        release[f"fc_norm.{kind}"] = release.pop(f"norm.{kind}")
    release |= {"head.weight": torch.zeros(1000, WIDTH), "head.bias": torch.zeros(1000)}
    found = loaded(network(), {"model": release}, tmp_path)
    assert found.new == ("norm.weight", "norm.bias")
    assert set(found.skipped) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize("make", [theirs.vit, theirs.mae])
@pytest.mark.parametrize("form", ["memory", "before 5", "saved"])
def test_transformers_vits(make: Callable[[], Any], form: str, tmp_path: Path) -> None:
    reference = make()
    content: State = reference.state_dict()
    if form == "before 5":
        content = theirs.before_version_5(content)
        assert any("attention.attention.query" in key for key in content)
    if form == "saved":
        reference.save_pretrained(tmp_path)
        folder = weights_in_folder(tmp_path)
        assert folder
        content = read_weights_file(folder[0])
    vit = network()
    found = loaded(vit, content, tmp_path)
    assert_same(vit, visible(reference) if make is theirs.mae else reference)
    assert found.adapted == {
        f"blocks.{number}.attn.qkv.{kind}" for number in range(DEPTH) for kind in ("weight", "bias")
    }
    assert {key.split(".")[0] for key in found.skipped} == {"decoder" if make is theirs.mae else "pooler"}


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("form", ["memory", "before 5", "saved", "official", "official in chunks"])
def test_dinov2(registers: int, gated: bool, form: str, tmp_path: Path) -> None:
    reference = theirs.dinov2(registers, gated)
    content: Any = reference.state_dict()
    if form == "before 5":
        content = theirs.before_version_5(content)
    if form == "saved":
        reference.save_pretrained(tmp_path)
        content = read_weights_file(tmp_path / "model.safetensors")
    if form.startswith("official"):
        content = theirs.official_dinov2(reference, 2 if "chunks" in form else 0)
        content = {"teacher": {f"backbone.{key}": value for key, value in content.items()}}
    name = f"vit_small_patch14_{'reg4_' if registers else ''}dinov2"
    options = {}
    if gated:
        name = name.replace("small", "giant")
        options["mlp_ratio"] = 2 * reference.encoder.layer[0].mlp.gate_proj.out_features / WIDTH
    vit = network(name, **options)
    found = loaded(vit, content, tmp_path)
    assert_same(vit, reference)
    assert [key.split(".")[-1] for key in found.skipped] == ["mask_token"]
    assert ("cls_token" in found.adapted) == bool(registers)


@pytest.mark.parametrize("form", ["memory", "saved", "official"])
@pytest.mark.parametrize("gated", [False, True])
def test_dinov3(form: str, gated: bool, tmp_path: Path) -> None:
    reference = theirs.dinov3(gated)
    content: State = reference.state_dict()
    if form == "saved":
        reference.save_pretrained(tmp_path)
        content = read_weights_file(tmp_path / "model.safetensors")
    if form == "official":
        content = theirs.official_dinov3(reference)
    name = "vit_small_plus_patch16_dinov3_qkvb" if gated else "vit_small_patch16_dinov3_qkvb"
    vit = network(name)
    found = loaded(vit, content, tmp_path)
    assert_same(vit, reference)
    assert not found.new and all(key.endswith(("mask_token", "periods", "bias_mask")) for key in found.skipped)


@pytest.mark.parametrize("form", ["memory", "saved", "OpenAI"])
def test_clip(form: str, tmp_path: Path) -> None:
    reference = theirs.clip()
    content: State = reference.state_dict()
    if form == "saved":
        reference.save_pretrained(tmp_path)
        content = read_weights_file(tmp_path / "model.safetensors")
    if form == "OpenAI":
        content = theirs.official_clip(reference)
    vit = network("vit_base_patch16_clip_224")
    found = loaded(vit, content, tmp_path)
    with torch.no_grad():
        ours, expected = vit.forward_features(images())[:, 0], reference(images()).pooler_output
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert not found.new
    beside = {"visual.proj", "positional_embedding", "transformer.resblocks.0.ln_1.weight"}
    assert set(found.skipped) == (beside if form == "OpenAI" else set())


def test_siglip(tmp_path: Path) -> None:
    reference, vit = theirs.siglip(), network("vit_base_patch16_siglip_224")
    found = loaded(vit, reference.state_dict(), tmp_path)
    assert_same(vit, reference)
    assert not found.new and all("head." in key for key in found.skipped)


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_clip_224",
     "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "vit_base_patch16_siglip_224",
     "deit3_small_patch16_224", "vit_base_patch16_rope_mixed_ape_224", "vit_wee_patch16_reg1_gap_256"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "encoder.model.", "visual.trunk."])
def test_names_of_timm(name: str, prefix: str, tmp_path: Path) -> None:
    options = {"global_pool": timm.create_model(name, **PLAIN).global_pool, "num_classes": 10}
    other = theirs.randomized(network(name, **options))
    vit = network(name)
    content = {f"{prefix}{key}": value for key, value in other.state_dict().items()}
    found = loaded(vit, content, tmp_path)
    assert not found.adapted
    beside = ("head.", "fc_norm.", "attn_pool.")
    assert all(key.removeprefix(prefix).startswith(beside) for key in found.skipped)
    with torch.no_grad():
        ours, expected = (
            each.forward_intermediates(images(), norm="fc_norm.weight" not in content and not found.new)[1]
            for each in (vit, other)
        )
    for mine, its in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, its)


def test_the_last_norm_of_evas_pre_training_is_kept(tmp_path: Path) -> None:
    other = theirs.randomized(network("eva02_tiny_patch14_224"))
    vit = network("eva02_tiny_patch14_224")
    beside = {"mask_token": torch.zeros(1, 1, WIDTH), "lm_head.weight": torch.zeros(5, WIDTH)}
    found = loaded(vit, {**other.state_dict(), **beside}, tmp_path)
    assert set(found.skipped) == set(beside) and not found.new
    with torch.no_grad():
        assert torch.equal(vit.forward_features(images()), other.forward_features(images()))
