"""Place of decoded images: the same run with and without them, sizes that do not fit, and the files that are left."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.tiny_runs import DATA, NETWORK, files_in, finetune, maeseg, pretrain, same_weights
from maeseg.config import PretrainConfig
from maeseg.data.part import Part
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.survey import survey
from maeseg.errors import UserError
from maeseg.training import cached_images
from maeseg.training.cached_images import plan_cache

COMPARE = (
    "compare", "--data", DATA, "--val", 5, "--inits", "[scratch, scratch+unlabeled]", "--labels", "[4]", "--seeds", 1,
    "--encoder", "test_resnet", "--image_size", 64, "--decoder_channels", "[32, 16, 16, 8, 8]", "--epochs", 1,
    "--steps_per_epoch", 2, "--batch_size", 4, "--accelerator", "cpu",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("where", ["ram", "disk", "off"])
def test_the_cache_changes_no_bit(where: str, pretrained: Path, finetuned: Path, tmp_path: Path) -> None:
    assert pretrain(tmp_path / "again", "--cache", where) == 0
    assert same_weights(pretrained, tmp_path / "again")
    assert finetune(tmp_path / "tuned", pretrained, "--cache", where) == 0
    assert same_weights(finetuned, tmp_path / "tuned")
    assert files_in(tmp_path / "again") == files_in(pretrained)
    assert files_in(tmp_path / "tuned") == files_in(finetuned)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["ram", "disk"])
def test_the_runs_of_a_comparison_share_their_images(where: str, tmp_path: Path) -> None:
    for name, cache in (("plain", "off"), ("cached", where)):
        assert maeseg(*COMPARE, "--workers", 0, "--out", tmp_path / name, "--cache", cache) == 0
    runs = [path.name for path in (tmp_path / "plain" / "runs").iterdir()]
    assert len(runs) == 2
    for run in runs:
        assert same_weights(tmp_path / "plain" / "runs" / run, tmp_path / "cached" / "runs" / run)
    assert files_in(tmp_path / "plain") == files_in(tmp_path / "cached")


def test_a_named_folder_keeps_the_images_for_later_runs(pretrained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoded" / "synthetic"
    for name in ("one", "two"):
        assert pretrain(tmp_path / name, "--cache", "disk", "--cache_folder", folder) == 0
        [file] = folder.iterdir()
        if name == "one":
            written = file.stat().st_mtime_ns
    assert file.stat().st_mtime_ns == written
    assert same_weights(pretrained, tmp_path / "two")


def parts(count: int = 4) -> list[Part]:
    """Some synthetic images of 64 x 64 pixels."""
    source = Synthetic(count, 64)
    return [Part(source, range(count), survey(source).facts)]


def config(**more: object) -> PretrainConfig:
    """Options of a run."""
    return PretrainConfig(data="synthetic", out="run", **more)  # type: ignore[arg-type]


def test_small_images_are_kept_in_memory_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    size = plan_cache(config(), parts()).images.size
    assert size == 64 + 4 * 64 * 64 * (3 + 1)  # flags, images and labels
    assert plan_cache(config(), parts()).where == "ram"
    monkeypatch.setattr(cached_images, "available_memory", lambda: 4 * size - 1)
    assert plan_cache(config(), parts()).where == "off"
    monkeypatch.setattr(cached_images, "available_memory", lambda: 4 * size)
    assert plan_cache(config(), parts()).where == "ram"
    assert plan_cache(config(devices=2), parts()).where == "off"  # each process has its own
    monkeypatch.setattr(cached_images, "MOST_UNASKED", size - 1)
    monkeypatch.setattr(cached_images, "available_memory", lambda: None)
    assert plan_cache(config(), parts()).where == "off"


def test_more_than_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_images, "available_memory", lambda: 80_000)
    with pytest.raises(UserError, match=r"--cache ram: 4 images \(65\.6 kB\) do not fit .* 80\.0 kB .*--cache disk"):
        plan_cache(config(cache="ram"), parts())
    assert plan_cache(config(cache="ram"), parts(3)).where == "ram"


def test_more_than_the_disk(tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9))
    line = refused("pretrain", "--data", DATA, "--out", tmp_path / "run", "--cache", "disk", "--epochs", 1)
    assert "--cache disk: " in line and "9 bytes left" in line and "--cache_folder" in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "file").write_text("")
    line = refused(
        "pretrain", "--data", DATA, "--out", tmp_path / "run", *NETWORK, "--epochs", 1, "--batch_size", 8, "--cache",
        "disk", "--cache_folder", tmp_path / "file" / "decoded",
    )  # fmt: skip
    assert f"{tmp_path / 'file' / 'decoded'} cannot be written" in line


def test_a_folder_without_a_file(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("pretrain", "--data", DATA, "--out", tmp_path / "run", "--cache_folder", tmp_path)
    assert "--cache_folder" in line and "--cache disk" in line
