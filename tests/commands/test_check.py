"""``maeseg check``: content, label encoding, faults, and the written description."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import maeseg
from helpers.folders import scene, write_pairs
from helpers.label_encodings import instances, jpeg, soft
from maeseg.cli import main
from maeseg.data.sources.base import open_source
from maeseg.errors import UserError


def test_what_a_folder_holds(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", 4)
    write_pairs(tmp_path / "in", 1, first=4, size=(30, 40))
    Image.fromarray(scene(0)[0]).save(tmp_path / "in" / "images" / "copy.png")
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "in" / "masks" / "im_03.png")
    (tmp_path / "in" / "masks" / "im_02.png").write_bytes(b"cut")
    found = maeseg.check(data=str(tmp_path / "in"))
    assert found.lines["images"] == "5 (5 .png), 3 channels"
    assert found.lines["labeled"] == "5 of 6 images; pretrain can use the other 1"
    assert found.lines["size"] == "32 to 40 x 24 to 30 pixels, median 32 x 24"
    assert found.lines["labels"].startswith("5 labels: 0 background, 255 foreground; ")
    assert found.lines["no foreground"] == "1 labels: images/im_03.png"
    assert found.lines["cannot be used"] == "1 of 5" and "im_02.png cannot be read" in found.faults[0]
    assert found.lines["next"].startswith(
        f"maeseg pretrain --data {tmp_path / 'in'} --out runs/pretrained --on_bad_image skip, then maeseg"
    )
    assert found.question is None and not list(tmp_path.glob("*.yaml"))


def test_copies_and_splits_are_reported(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val")):
        write_pairs(tmp_path / part, 2, first=number)
    lines = maeseg.check(data=str(tmp_path)).lines
    assert lines["splits"] == "2 train, 2 val"
    assert lines["duplicates"] == ("1 images are copies of others: train/images/im_01.png = val/images/im_01.png")


@pytest.mark.parametrize(
    ("write", "suffix", "add"),
    [
        (jpeg, "jpg", None),
        (soft, "tif", "{threshold: 0.5}"),
        (instances, "png", "{classes: {background: 0, foreground: 1-255}}"),
    ],
)
def test_the_description_that_is_written_reads_the_same(
    write: object, suffix: str, add: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "in", 4, mask=f"im_{{:02d}}.{suffix}", write=write)  # type: ignore[arg-type]
    words = ["check", str(tmp_path / "in"), "--write", str(tmp_path / "data.yaml")]
    if add:
        assert main(words) == 2
        refused = capsys.readouterr().err
        assert add[1:-1] in refused and not (tmp_path / "data.yaml").exists()
        assert not (tmp_path / "data.png").exists()
        words += ["--add", add]
    assert main(words) == 0
    with Image.open(tmp_path / "data.png") as sheet:
        assert sheet.width > 500
    source = open_source(str(tmp_path / "data.yaml"), labeled=True)
    again = open_source(str(tmp_path / "data.yaml"), labeled=True)
    for index in range(4):
        label = np.asarray(source.label(index))
        assert (label == np.asarray(again.label(index))).all()
        assert abs(label.mean() - scene(index)[1].mean()) < 0.05
    assert main(["check", str(tmp_path / "data.yaml"), "--write", str(tmp_path / "again.yaml")]) == 0
    first, second = (yaml.safe_load((tmp_path / name).read_text()) for name in ("data.yaml", "again.yaml"))
    assert first == second


def test_nothing_is_replaced_unasked_and_names_are_checked(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", 2)
    (tmp_path / "data.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"data.yaml exists: give another file or --overwrite"):
        maeseg.check(data=str(tmp_path / "in"), write=str(tmp_path / "data.yaml"))
    with pytest.raises(UserError, match=r"--write .*data.txt: .*name it data.yaml"):
        maeseg.check(data=str(tmp_path / "in"), write=str(tmp_path / "data.txt"))
    with pytest.raises(UserError, match="needs no description"):
        maeseg.check(data="synthetic:4", write=str(tmp_path / "other.yaml"))
    with pytest.raises(UserError, match="no such folder"):
        maeseg.check(data=str(tmp_path / "nowhere"))


def test_images_alone_and_generated_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(scene(number)[0]).save(tmp_path / "in" / f"[b]{number}.png")
    assert maeseg.check(data=str(tmp_path / "in")).lines["next"].startswith("maeseg pretrain")
    assert main(["check", "--data", "synthetic:5", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "maeseg finetune --data synthetic:5" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").exists()


def test_what_was_sound_by_another_description_is_looked_at_again(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2, write=lambda path, mask: Image.fromarray(mask[::2, ::2]).save(path))
    (tmp_path / "data.yaml").write_text("resize_masks: true")
    assert not maeseg.check(data=str(tmp_path / "data.yaml")).faults
    (tmp_path / "data.yaml").write_text("resize_masks: false")
    assert len(maeseg.check(data=str(tmp_path / "data.yaml")).faults) == 2


def test_annotations_that_change_are_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(scene(0)[0]).save(tmp_path / "images" / "a.png")
    for right, share in ((0.5, "25.0 %"), (1, "50.0 %")):
        (tmp_path / "labels" / "a.txt").write_text(f"0 0 0 {right} 0 {right} 0.5 0 0.5")
        assert f"; {share} foreground" in maeseg.check(data=str(tmp_path)).lines["labels"]


def test_the_next_command_has_the_channels_that_no_description_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        np.save(tmp_path / "in" / f"{number}.npy", np.full((8, 8, 5), number, np.uint8))
    data = str(tmp_path / "in")
    assert maeseg.check(data=data, channels=5).lines["next"].endswith("--channels 5")
    written = str(tmp_path / "data.yaml")
    assert "--channels" not in maeseg.check(data=data, channels=5, write=written).lines["next"]
    assert "--channels" not in maeseg.check(data=written).lines["next"]
