"""Exports of networks of volumes, loaded by the libraries that they are for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.fake_runs import fake_finetune
from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.exporting.formats import safetensors_export
from maeseg.exporting.model_card import model_card
from maeseg.exporting.networks import check_format_of_volumes, network_of
from maeseg.labels.classes import Classes, default_colors
from maeseg.models.network_spec import NetworkSpec, build
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.models.volume_network import VolumeNetwork
from maeseg.prediction.exported import open_exported
from maeseg.runs.checkpoint import Checkpoint
from maeseg.runs.reader import open_run
from maeseg.runs.training_facts import Pretraining, TrainingData, TrainingFacts
from maeseg.training.initialization import choose_volume_network, read_start, start_unet

CLASSES = Classes(("background", "a", "b"), (0, 1, 2), default_colors(3))


def checkpoint(encoder: str, tmp_path: Path, task: Any = "segmentation") -> Checkpoint:
    """Checkpoint of a network with random weights."""
    by, size = Normalization((0.0, 0.0), (1.0, 1.0)), (32, 32, 32)
    spec = NetworkSpec(task, encoder, (), size, by, CLASSES, spacing=(1.0, 1.0, 2.5))
    options = Pretraining(16, 0.6, True) if task == "reconstruction" else None
    torch.manual_seed(0)
    network = build(spec)
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    facts = TrainingFacts(spec, TrainingData("volumes", 0.2), options)
    return Checkpoint(tmp_path, tmp_path / "best.ckpt", facts, network.state_dict(), 3)


def loaded_by(code: str, variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Network that the code of a card builds."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code, names)
    network: nn.Module = names[variable].eval()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resenc", "vnet"])
def test_the_library_loads_the_file(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = checkpoint(encoder, tmp_path)
    network = network_of(saved)
    made = safetensors_export(saved, network, "net.safetensors")
    (tmp_path / "net.safetensors").write_bytes(made.files["net.safetensors"])
    weights = sum(value.numel() * 4 for value in network.state_dict().values())
    assert len(made.files["net.safetensors"]) < 1.02 * weights + 100_000  # each tensor once
    theirs = loaded_by(made.code, "network", tmp_path, monkeypatch)
    volumes_BCDHW = torch.randn(1, 2, 16, 32, 16)
    with torch.inference_mode():
        assert torch.equal(theirs(volumes_BCDHW), network(volumes_BCDHW))
    start = read_start(str(tmp_path / "net.safetensors"))
    assert choose_volume_network((start,), None) == encoder
    report = start_unet(VolumeMaskedAutoencoder(encoder, channels=2).to_segmentation(3), start, CLASSES)
    assert not report.new
    reopened, spec = open_exported(tmp_path / "net.safetensors")
    assert spec == saved.spec
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in reopened.state_dict().items())


def test_a_card_of_volumes(tmp_path: Path) -> None:
    saved = checkpoint("resenc", tmp_path / "run")
    made = safetensors_export(saved, network_of(saved), "net.safetensors")
    run = open_run(fake_finetune(tmp_path / "run"))
    card = model_card("net", made.what, run, saved, {}, made.code, made.notes)
    assert "1 x 1 x 2.5 mm" in card and "32 x 32 x 32 voxels" in card and "`resenc`" in card
    assert "load_model(network" in card


def test_a_pretrained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = checkpoint("resenc", tmp_path, "reconstruction")
    network = network_of(saved)
    assert isinstance(network, VolumeNetwork)
    made = safetensors_export(saved, network, "net.safetensors")
    (tmp_path / "net.safetensors").write_bytes(made.files["net.safetensors"])
    theirs: Any = loaded_by(made.code, "network", tmp_path, monkeypatch)
    maps = network.encoder(torch.randn(1, 2, 16, 16, 16))
    decoded = network.decoder(maps)
    theirs.decoder.seg_layers[-1] = nn.Identity()
    torch.testing.assert_close(theirs.decoder(maps), decoded)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    saved = checkpoint("resenc", tmp_path)
    for format in ("timm", "smp", "onnx"):
        with pytest.raises(UserError, match=f"--format {format} is for networks of images.*give --format safetensors"):
            check_format_of_volumes(saved, format)
