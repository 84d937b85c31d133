"""Decoded images: the same values as from the files, found by content, shared by loader processes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from helpers.fake_pets import write_fake_pets
from maeseg.data.image_cache import ImageCache
from maeseg.data.image_files import DataError
from maeseg.data.part import Part
from maeseg.data.sources.base import Source, open_source
from maeseg.data.sources.dataset import DatasetSource
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.survey import survey


def part_of(source: Source) -> Part:
    """All images of a source."""
    found = survey(source)
    assert not found.faults
    return Part(source, range(len(source)), found.facts)


def cached(part: Part, folder: Path | None = None, workers: int = 0) -> tuple[Source, ImageCache]:
    """The source of all images of a part, read from memory or from a file."""
    cache = ImageCache([part])
    if folder:
        cache.write(folder, workers)
        cache.map_file(folder)
    else:
        cache.fill(workers)
    return cache.over(part).source, cache


def assert_same(source: Source, other: Source) -> None:
    """Compare everything that is read of two sources, by the bit."""
    for index in range(len(source)):
        one, two = source.pixels(index), other.pixels(index)
        assert one.dtype == two.dtype and torch.equal(one, two)
        if source.labeled:
            np.testing.assert_array_equal(np.asarray(source.label(index)), np.asarray(other.label(index)))
        mine, theirs = source.nodata(index), other.nodata(index)
        assert (mine is None) == (theirs is None) and (mine is None or np.array_equal(mine, theirs))  # type: ignore[arg-type]


class Sums(Dataset[int]):
    """Sums of the images of a source, computed in loader processes."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> int:
        return int(self.source.pixels(index).long().sum())


@pytest.mark.parametrize("workers", [0, 1])
def test_values_and_labels_are_those_of_the_files(workers: int, tmp_path: Path) -> None:
    write_fake_pets(tmp_path)
    source = open_source(f"oxford-pet:{tmp_path}", labeled=True)
    part = part_of(source)
    (tmp_path / "cache").mkdir()
    for folder in (None, tmp_path / "cache"):
        found, _ = cached(part, folder, workers)
        assert_same(source, found)
    for image in (tmp_path / "oxford-iiit-pet").rglob("*.*g"):
        image.unlink()
    with pytest.raises(DataError):
        source.pixels(0)
    again, cache = ImageCache([part]).over(part).source, ImageCache([part])
    with pytest.raises(DataError):
        again.pixels(0)  # not filled
    cache.write(tmp_path / "cache", workers)  # it is there
    cache.map_file(tmp_path / "cache")
    assert_same(found, cache.over(part).source)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("where", ["ram", "disk"])
def test_loader_processes_read_the_cache(start: str, where: str, tmp_path: Path) -> None:
    source = DatasetSource(Deep(), labeled=False, channels=3)
    found, _ = cached(part_of(source), tmp_path if where == "disk" else None)
    expected = [int(source.pixels(index).long().sum()) for index in range(len(source))]
    loader = DataLoader(Sums(found), batch_size=None, num_workers=1, multiprocessing_context=start)
    assert [int(each) for each in loader] == expected


def test_a_pickled_file_is_opened_again(tmp_path: Path) -> None:
    found, cache = cached(part_of(DatasetSource(Deep(), labeled=False, channels=3)), tmp_path)
    assert len(pickle.dumps(cache._buffer)) < 1000 < cache.size
    assert_same(found, pickle.loads(pickle.dumps(found)))


class Deep(Dataset[np.ndarray]):
    """Images of several sizes and types, one of them twice."""

    def __init__(self, kind: str = "uint8", channels: int = 3) -> None:
        rng = np.random.default_rng(0)
        sizes = ((7, 40), (33, 21), (50, 60))
        images = [rng.random((*size, channels)) for size in sizes]
        top = {"uint8": 255, "uint16": 4000, "float32": 1}[kind]
        self.images = [(image * top).astype(kind) for image in images]
        self.images.append(self.images[1])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]


@pytest.mark.parametrize(
    ("kind", "channels", "bytes_per_value"),
    [("uint8", 3, 1), ("uint8", 5, 1), ("uint16", 3, 1), ("uint16", 5, 2), ("float32", 3, 4), ("float32", 5, 4)],
)
def test_types_of_stored_values(kind: str, channels: int, bytes_per_value: int) -> None:
    source = DatasetSource(Deep(kind, channels), labeled=False, channels=channels)
    source.largest = 4095
    found, cache = cached(part_of(source))
    assert_same(source, found)
    values = sum(source.pixels(index).numel() for index in range(3))  # the copy is stored once
    assert len(cache) == 3
    assert values * bytes_per_value <= cache.size <= values * bytes_per_value + 4 * 64


def test_an_image_that_changes_is_not_read_from_an_old_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "a.png"
    files = set()
    for value in (3, 200):
        Image.new("RGB", (8, 6), (value, 0, 0)).save(image)
        source = ImageFolder(tmp_path / "images", labeled=False)
        found, cache = cached(part_of(source), tmp_path)
        assert found.pixels(0)[0].unique().tolist() == [value]
        files.add(cache.file(tmp_path))
    assert len(files) == 2


def test_another_scale_of_16_bits_is_another_image(tmp_path: Path) -> None:
    source = DatasetSource(Deep("uint16", 5), labeled=False, channels=5)
    part = part_of(source)
    source.largest = 4095
    _, cache = cached(part)
    source.largest = 8191
    other = cache.over(part).source
    assert_same(source, other)
    assert ImageCache([part]).digest != cache.digest


def test_an_image_that_is_not_what_its_check_says_is_read_from_its_source() -> None:
    source = DatasetSource(Deep("uint16", 5), labeled=False, channels=5)
    source.largest = 100  # values above it are clipped, which is stored; those of a mean are not
    part = part_of(source)
    assert_same(source, cached(part)[0])
    source.dataset.images[0] = source.dataset.images[0][:5]
    source._newest = None
    found, _ = cached(part)
    assert found.pixels(0).shape == (5, 5, 40)
    assert_same(source, found)
