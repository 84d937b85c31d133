"""Tar shards, and images added to pre-training."""

import io
import json
import os
import pickle
import tarfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.real_data import real_data
from helpers.tar_shards import encoded, special, write_shard
from helpers.tiny_runs import contents as digests
from helpers.tiny_runs import files_in, pretrain, split_of
from maeseg.data.datasets import UnlabeledImages
from maeseg.data.sources.base import Source, open_source
from maeseg.data.sources.joined import Joined
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.sources.tar_shards import TarShards
from maeseg.data.split_options import assign, gather
from maeseg.data.splits import Split
from maeseg.data.transforms import Resize
from maeseg.errors import UserError


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Ten images in two shards, one of them in a subfolder."""
    for number, where in ((0, "a-000.tar"), (1, "deeper/a-001.tar")):
        members = {f"cat_{place}.jpg": encoded(5 * number + place) for place in range(5)}
        write_shard(tmp_path / "shards" / where, members)
    return tmp_path / "shards"


# --- the source


def test_images_of_shards_are_those_that_were_packed(shards: Path) -> None:
    source = open_source(str(shards), labeled=False)
    assert isinstance(source, TarShards) and len(source) == 10
    assert [source.file(index) for index in (0, 9)] == ["a-000.tar/cat_0.jpg", "a-001.tar/cat_4.jpg"]
    for index in (7, 0, 9, 3):
        np.testing.assert_array_equal(np.asarray(source.image(index)), pixels(encoded(index)))
    assert files_in(shards) == {"a-000.tar", "deeper/a-001.tar"}  # nothing is unpacked
    with pytest.raises(ValueError, match="has no labels"):
        source.label(0)


def test_one_shard_is_named_by_its_file(shards: Path) -> None:
    assert len(open_source(str(shards / "a-000.tar"), labeled=False)) == 5


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_what_the_process_itself_reads(shards: Path, start: str) -> None:
    dataset = UnlabeledImages(TarShards(shards), range(10), Resize((32, 32)))
    alone = torch.stack([dataset[position] for position in range(10)])
    loader = DataLoader(dataset, 3, num_workers=2, multiprocessing_context=get_context(start))
    assert torch.equal(torch.cat(list(loader)), alone)
    assert len(pickle.dumps(dataset.source)) < 10_000  # where the bytes lie, not the bytes


def test_one_image_a_sample(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "a.tar",
        {
            "0.jpg": encoded(0), "0.json": b"{}", "0.seg.png": encoded(1, "PNG"), "0.png": encoded(2, "PNG"),
            "deep/0.JPG": encoded(3), "1.cls": b"7", "./2.png": encoded(4, "PNG"),
            "photo.2021.jpg": encoded(5), "photo.2022.jpg": encoded(6),
        },
    )  # fmt: skip
    source = TarShards(tmp_path)
    names = ["0.jpg", "deep/0.JPG", "2.png", "photo.2021.jpg", "photo.2022.jpg"]
    assert [source.file(index) for index in range(len(source))] == [f"a.tar/{name}" for name in names]
    for index, number in enumerate((0, 3, None, 5, 6)):
        if number is not None:
            np.testing.assert_array_equal(np.asarray(source.image(index)), pixels(encoded(number)))


def test_what_is_no_plain_file_inside_is_left_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write_shard(outside / "secret.tar", {"x.jpg": encoded(9)})
    shard = tmp_path / "shards" / "a.tar"
    members: dict[str, bytes | tarfile.TarInfo] = {
        "/absolute.jpg": encoded(1), "../above.jpg": encoded(2), "a/../../above.jpg": encoded(3),
        ".hidden.jpg": encoded(4), "._cat.jpg": encoded(5), ".git/cat.jpg": encoded(6),
        "link.jpg": special("link.jpg", tarfile.SYMTYPE, "../outside/secret.tar"),
        "hard.jpg": special("hard.jpg", tarfile.LNKTYPE, "cat.jpg"),
        "device.jpg": special("device.jpg", tarfile.CHRTYPE),
        "block.jpg": special("block.jpg", tarfile.BLKTYPE),
        "pipe.jpg": special("pipe.jpg", tarfile.FIFOTYPE),
        "folder.jpg": special("folder.jpg", tarfile.DIRTYPE),
        "cat.jpg": encoded(7),
    }  # fmt: skip
    write_shard(shard, members)
    before = files_in(tmp_path)
    source = TarShards(shard.parent)
    assert [source.file(index) for index in range(len(source))] == ["a.tar/cat.jpg"]
    np.testing.assert_array_equal(np.asarray(source.image(0)), pixels(encoded(7)))
    assert files_in(tmp_path) == before


def test_images_beside_shards_win_and_say_so(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    (shards / "one.jpg").write_bytes(encoded(0))
    assert len(open_source(str(shards), labeled=False)) == 1
    assert f"{shards} has images, so its 2 tar files are not read" in caplog.text


def test_shards_have_no_labels(shards: Path) -> None:
    with pytest.raises(UserError, match=r"holds tar shards, and shards have no labels: labeled data is a folder"):
        open_source(str(shards), labeled=True)


def test_shards_without_images(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"readme.txt": b"hello"})
    with pytest.raises(UserError, match=r"no images in 1 tar shards: give images of \.jpg"):
        TarShards(tmp_path)


def spoil(shard: Path, how: str) -> None:
    whole = bytearray(shard.read_bytes())
    if how == "cut":
        whole = whole[: len(whole) // 2]
    elif how == "header":  # of the second member
        with tarfile.open(shard) as archive:
            offset = archive.getmembers()[1].offset
        whole[offset : offset + 40] = b"\xff" * 40
    elif how == "text":
        whole = bytearray(b"this is no tar file " * 100)
    elif how == "empty":
        whole = bytearray()
    shard.write_bytes(whole)


@pytest.mark.parametrize("how", ["cut", "header", "text", "empty", "gz"])
def test_a_damaged_shard_is_named_before_anything_is_read(shards: Path, how: str) -> None:
    shard = shards / "a-000.tar"
    if how == "gz":
        write_shard(shard, {"cat.jpg": encoded(0)}, "w:gz")
    spoil(shard, how)
    with pytest.raises(UserError, match=r"a-000.tar cannot be read as a tar shard \(.*\): give") as e:
        TarShards(shards)
    assert "\n" not in str(e.value)


def test_headers_that_point_backwards_end_in_an_error(tmp_path: Path) -> None:
    """A negative size makes tarfile read the same header forever (CVE-2025-8194)."""
    shard = write_shard(tmp_path / "a.tar", {"a.jpg": encoded(0), "b.jpg": encoded(1)})
    whole = bytearray(shard.read_bytes())
    with tarfile.open(shard) as archive:
        offset = archive.getmembers()[1].offset
    whole[offset + 124 : offset + 136] = (-1024 % 256**12).to_bytes(12, "big")  # the size, in base 256
    whole[offset + 148 : offset + 156] = b" " * 8
    whole[offset + 148 : offset + 156] = f"{sum(whole[offset : offset + 512]):06o}\0 ".encode()
    shard.write_bytes(whole)
    with pytest.raises(UserError, match=r"a.tar cannot be read as a tar shard"):
        TarShards(tmp_path)


def test_a_broken_image_in_a_shard_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"good.jpg": encoded(0), "cut.jpg": encoded(1)[:300], "none.jpg": b""})
    source = TarShards(tmp_path)
    assert source.image(0).size == (24, 20)
    with pytest.raises(UserError, match=r"a.tar/cut.jpg cannot be read as an image"):
        source.image(1)
    with pytest.raises(UserError, match=r"a.tar/none.jpg is empty \(0 bytes\)"):
        source.image(2)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(UserError, match=r"a.tar can no longer be read \(No such file or directory\)"):
        source.image(0)


def test_real_shards() -> None:
    source = TarShards(real_data("caltech101-shards"))
    assert len(source) == 9144
    for index in range(0, 9144, 900):
        assert min(source.image(index).size) <= 128


# --- images added to pre-training


def folder_of_images(root: Path, count: int, first: int = 0) -> Path:
    root.mkdir(parents=True)
    for number in range(first, first + count):
        (root / f"{number:02d}.png").write_bytes(encoded(number, "PNG"))
    return root


def contents(source: Source, indices: tuple[int, ...]) -> set[bytes]:
    return {source.image(index).tobytes() for index in indices}


def with_extra(data: Source, val: int, extra: str | list[str] | None) -> tuple[Source, Split]:
    images = gather(data, val, 0, extra, labeled=False)
    return images.source, assign(images, digests(images.source), val, 0)


def test_extra_images_train_and_the_split_stays(tmp_path: Path, shards: Path) -> None:
    own = open_source(str(folder_of_images(tmp_path / "own", 10, first=50)), labeled=False)
    split = split_of(own, 3)
    source, more = with_extra(own, 3, f"{shards},synthetic:4")
    assert more.val == split.val and more.train[: len(split.train)] == split.train
    assert more.train[len(split.train) :] == tuple(range(10, 24))
    assert source.name == f"{tmp_path / 'own'} + {shards} + synthetic"
    assert contents(source, split.val) == contents(own, split.val)
    np.testing.assert_array_equal(np.asarray(source.image(10)), pixels(encoded(0)))
    np.testing.assert_array_equal(np.asarray(source.image(21)), np.asarray(Synthetic(4).image(1)))
    assert source.file(10) == "a-000.tar/cat_0.jpg" and source.file(21) == Synthetic(4).file(1)
    assert with_extra(own, 3, [str(shards), "synthetic:4"])[1] == more
    assert with_extra(own, 3, None) == (own, split)
    with pytest.raises(IndexError):
        source.image(24)


@pytest.mark.parametrize("how", ["itself", "above", "link", "hard link", "copy", "shard", "through a link", "twice"])
def test_no_validation_image_is_trained_on_by_another_name(tmp_path: Path, how: str) -> None:
    """Files of --data are used once, regardless of their path in --extra."""
    own = folder_of_images(tmp_path / "photos" / "own", 6)
    folder_of_images(tmp_path / "photos" / "other", 2, first=20)
    (tmp_path / "links").mkdir()
    for file in own.iterdir():
        if how == "link":
            (tmp_path / "links" / f"x{file.name}").symlink_to(file)
        elif how == "hard link":
            os.link(file, tmp_path / "links" / f"x{file.name}")
        elif how == "copy":
            (tmp_path / "links" / f"x{file.name}").write_bytes(file.read_bytes())
    if how == "shard":
        write_shard(tmp_path / "links" / "a.tar", {f"x{file.name}": file.read_bytes() for file in own.iterdir()})
    (tmp_path / "way").symlink_to(tmp_path / "photos")
    extra = {
        "itself": str(own), "above": str(tmp_path / "photos"), "link": str(tmp_path / "links"),
        "hard link": str(tmp_path / "links"), "copy": str(tmp_path / "links"), "shard": str(tmp_path / "links"),
        "through a link": str(tmp_path / "way"),
        "twice": f"{tmp_path / 'photos'},{tmp_path / 'photos' / 'other'}",
    }[how]  # fmt: skip
    data = open_source(str(own), labeled=False)
    source, split = with_extra(data, 2, extra)
    assert len(split.train) == 4 + (2 if how in ("above", "through a link", "twice") else 0)
    assert not contents(source, split.train) & contents(data, split.val)


def test_generated_images_are_not_taken_twice() -> None:
    own = split_of(Synthetic(6), 2)
    assert with_extra(Synthetic(6), 2, "synthetic:8")[1] == Split((*own.train, 12, 13), own.val)


def test_shards_that_hold_the_data_are_not_taken_twice(shards: Path) -> None:
    one = open_source(str(shards / "a-000.tar"), labeled=False)
    own = split_of(one, 2)
    assert with_extra(one, 2, str(shards))[1] == Split((*own.train, 10, 11, 12, 13, 14), own.val)


def test_joined_sources_have_labels_if_all_of_them_do(shards: Path) -> None:
    labeled, joined = Joined([Synthetic(2), Synthetic(1, 64)]), Joined([Synthetic(2), TarShards(shards)])
    assert labeled.labeled and labeled.label(2) == Synthetic(1, 64).label(0)
    assert not joined.labeled
    with pytest.raises(ValueError, match="has no labels"):
        joined.label(0)


@pytest.mark.slow
def test_pretrain_on_shards_with_extra_images(tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert pretrain(out, "--extra", shards, "--epochs", 1) == 0
    assert json.loads((out / "run.json").read_text())["images"] == 29  # 19 of 24, and 10
    assert pretrain(tmp_path / "other", "--data", shards, "--epochs", 1, "--batch_size", 4) == 0
    capsys.readouterr()
    assert pretrain(tmp_path / "more", "--data", shards, "--batch_size", 4, "--weights", out) == 2
    assert "was trained on 5 of the 5 images that are to validate" in capsys.readouterr().err
