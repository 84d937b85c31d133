"""The data contract: transforms, data sets, sampler and loaders."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from helpers.fake_pets import write_fake_pets
from maeseg.data.batch_transforms import BatchTransform
from maeseg.data.datasets import LabeledImages, UnlabeledImages
from maeseg.data.facts import ImageFacts, ProvidedSplit
from maeseg.data.image_reading import pixels_of
from maeseg.data.loaders import (
    MAX_PRETRAIN_VAL,
    PretrainData,
    SegmentData,
    TrainData,
    killed_readers_named,
    start_reading,
)
from maeseg.data.normalization import IMAGENET
from maeseg.data.samplers import EpochSampler
from maeseg.data.sources.base import open_source
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.splits import Split
from maeseg.data.transforms import GeometricTransform, Resize, eval_transform, quarter_turns, to_pictures
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY
from maeseg.types import Augmentation


class Twins:
    """A source whose image is its label in gray: smooth blobs, with a border value."""

    name = "twins"
    labeled = True
    classes = BINARY
    channels = 3
    largest = 65535

    def __init__(self, count: int = 6, size: tuple[int, int] = (96, 64)) -> None:
        self.count = count
        self.size = size

    def __len__(self) -> int:
        return self.count

    def file(self, index: int) -> str:
        return f"{index}.png"

    def places(self, index: int) -> list[tuple[Path, int]]:
        return []

    def split(self, index: int) -> ProvidedSplit | None:
        return None

    def group(self, index: int) -> str | None:
        return None

    def check(self, index: int) -> ImageFacts:
        return ImageFacts(self.file(index), *self.size)

    def nodata(self, index: int) -> None:
        pass

    def label(self, index: int) -> Image.Image:
        height, width = self.size
        label = np.zeros(self.size, np.uint8)
        label[height // 8 : height // 2, width // 4 + index :] = 1
        label[height // 2 : height // 2 + 12, : width // 2] = 255
        return Image.fromarray(label)

    def image(self, index: int) -> Image.Image:
        gray = np.array([0, 128, 255], np.uint8)[np.minimum(np.asarray(self.label(index)), 2)]
        return Image.fromarray(np.stack([gray] * 3, -1))

    def pixels(self, index: int) -> torch.Tensor:
        return pixels_of(self.image(index))


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (130, 100)])
@pytest.mark.parametrize("make", [GeometricTransform, Resize])
def test_labels_stay_classes_and_move_with_the_image(make, size) -> None:  # type: ignore[no-untyped-def]
    dataset = LabeledImages(Twins(), range(6), make(size))
    for position in range(6):
        key = position if make is Resize else (position, 1000 + position)
        image_CHW, label_HW = dataset[key]
        assert (image_CHW.shape, label_HW.shape) == ((3, *size), size)
        assert (image_CHW.dtype, label_HW.dtype) == (torch.uint8, torch.uint8)
        assert set(label_HW.flatten().tolist()) <= {0, 1, 255}
        gray = image_CHW[0] / 255
        near = torch.where(gray < 0.25, 0, torch.where(gray < 0.75, 1, 255))
        assert (near == label_HW).float().mean() > 0.95  # all but the smoothed edges


def test_label_is_not_shifted_against_the_image() -> None:
    """A smooth ramp, as image and as label: after a crop and an enlargement both still say the same place."""
    ramp = torch.arange(100, dtype=torch.uint8).expand(1, 100, 100)
    transform = GeometricTransform((224, 224))
    for seed in range(5):
        torch.default_generator.manual_seed(seed)
        image, label = transform(ramp.expand(3, -1, -1) * 2, ramp)
        shift = (image[0].float() / 2 - label[0].float())[:, 20:-20].mean()
        assert abs(shift) < 0.1  # torchvision's own NEAREST gives 0.12 to 0.21


def test_quarter_turns_move_image_and_label_together_and_every_turn_comes() -> None:
    label = torch.arange(15, dtype=torch.uint8).reshape(1, 3, 5)
    image = label.repeat(3, 1, 1)
    seen: Counter[int] = Counter()
    for seed in range(200):
        torch.default_generator.manual_seed(seed)
        turned, turned_label = quarter_turns(image, label)
        assert torch.equal(turned[2:], turned_label)
        [turns] = [each for each in range(4) if torch.equal(label.rot90(each, (-2, -1)), turned_label)]
        seen[turns] += 1
        torch.default_generator.manual_seed(seed)
        assert torch.equal(quarter_turns(image)[0], turned)  # a function of the seed alone, with a label or without
    assert seen.keys() == {0, 1, 2, 3} and min(seen.values()) > 25


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), {"above"}),
        (("vflip",), {"above", "below"}),
        (("rotate",), {"above", "below", "left", "right"}),
        (("vflip", "rotate"), {"above", "below", "left", "right"}),
    ],
)
def test_where_the_bright_half_of_an_image_can_lie(more: tuple[Augmentation, ...], expected: set[str]) -> None:
    image = torch.zeros(3, 64, 96, dtype=torch.uint8)
    image[:, :32] = 255
    transform, found = GeometricTransform((32, 48), more), set()
    for seed in range(60):
        torch.default_generator.manual_seed(seed)
        one = transform(image)[0][0].float()
        assert one.shape == (32, 48)
        down, right = (one[0] - one[-1]).mean().item(), (one[:, 0] - one[:, -1]).mean().item()
        if abs(down) > abs(right):
            found.add("above" if down > 0 else "below")
        else:
            found.add("left" if right > 0 else "right")
    assert found == expected


def test_augmentation_keeps_a_real_trimaps_values(tmp_path: Path) -> None:
    write_fake_pets(tmp_path)
    source = open_source(f"oxford-pet:{tmp_path}", labeled=True)
    dataset = LabeledImages(source, range(12), GeometricTransform((64, 64)))
    seen = {value for position in range(12) for value in dataset[position, position][1].flatten().tolist()}
    assert seen == {0, 1, 255}


def test_normalized_by_imagenet_and_back() -> None:
    white = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    image = eval_transform((8, 8))(white)
    assert torch.equal(BatchTransform(IMAGENET)(white[None])[0], image)
    torch.testing.assert_close(image[:, 0, 0], torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-4, rtol=0)
    torch.testing.assert_close(to_pictures(image[None]), torch.ones(1, 3, 8, 8))


def test_an_item_depends_on_its_key_alone() -> None:
    dataset = UnlabeledImages(Twins(), (4, 2, 0), GeometricTransform((32, 32)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = dataset[1, 77]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, dataset[1, 77])
    assert not torch.equal(first, dataset[1, 78])
    plain = UnlabeledImages(Twins(), (4, 2, 0), Resize((96, 64)))
    assert torch.equal(plain[1][0], torch.tensor(np.asarray(Twins().image(2))[..., 0]))


def test_size_difference_at_reading(tmp_path: Path) -> None:
    folder = write_fake_pets(tmp_path)
    Image.new("RGB", (9, 5)).save(folder / "images" / "Abyssinian_1.jpg")
    dataset = LabeledImages(open_source(f"oxford-pet:{tmp_path}", labeled=True), range(12), Resize((32, 32)))
    with pytest.raises(UserError, match=r"Abyssinian_1.jpg is 9x5 but its label is 48x40"):
        dataset[0]


def test_labels_of_an_unlabeled_source(tmp_path: Path) -> None:
    write_fake_pets(tmp_path)
    source = open_source(f"oxford-pet:{tmp_path}", labeled=False)
    with pytest.raises(ValueError, match="opened without labels"):
        LabeledImages(source, range(12), Resize((32, 32)))


# --- sampler


def test_sampler_is_a_pure_function_of_seed_and_epoch() -> None:
    one, other = EpochSampler(20, seed=3), EpochSampler(20, seed=3)
    first = list(one)
    one.begin(1)
    second = list(one)
    assert first != second
    other.begin(1)
    assert list(other) == second
    other.begin(0)
    torch.manual_seed(9)
    assert list(other) == list(other) == first
    assert list(EpochSampler(20, seed=4)) != first
    assert sorted(position for position, _ in first) == list(range(20))
    assert len({draw_seed for _, draw_seed in first + second}) == 40


def test_sampler_repeats_a_small_set_evenly() -> None:
    sampler = EpochSampler(5, seed=0, draws=17)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 17
    assert set(Counter(position for position, _ in drawn).values()) == {3, 4}
    assert [position for position, _ in drawn[:5]] != [position for position, _ in drawn[5:10]]
    assert len({draw_seed for _, draw_seed in drawn}) == 17


@pytest.mark.parametrize("draws", [None, 8])
def test_sampler_shards_among_processes(draws: int | None) -> None:
    samplers = [EpochSampler(10, 0, draws, rank, world=3) for rank in range(3)]
    shards = [list(sampler) for sampler in samplers]
    assert [len(shard) for shard in shards] == [len(sampler) for sampler in samplers] == [draws or 4] * 3
    everything = [item for shard in shards for item in shard]
    assert len(set(everything)) == len(everything)
    assert {position for position, _ in everything} == set(range(10))


# --- loaders


class Counting(Synthetic):
    """Counts how often each image is read."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, size)
        self.read: Counter[int] = Counter()

    def image(self, index: int) -> Image.Image:
        self.read[index] += 1
        return super().image(index)


def train_batches(data: TrainData, epoch: int = 0, skipped: int = 0) -> list[Any]:
    """Batches of an epoch, but for the first draws."""
    sampler = data.sampler()
    sampler.begin(epoch, skipped)
    return list(data.train_loader(sampler))


def test_a_loader_goes_on_within_an_epoch_without_reading_what_was_seen() -> None:
    def data(source: Synthetic) -> PretrainData:
        return PretrainData(source, Split(tuple(range(20)), (20,)), (32, 32), batch_size=4, workers=0, seed=0)

    source = Counting(21, 32)
    expected, again = train_batches(data(Synthetic(21, 32)), 3), train_batches(data(source), 3, skipped=2 * 4)
    assert len(expected) == 5 and len(again) == 3
    assert all(torch.equal(one, other) for one, other in zip(expected[2:], again, strict=True))
    assert source.read.total() == 12
    assert not torch.equal(train_batches(data(source), 4)[2], again[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_one_loader_gives_one_epoch_after_another(workers: int) -> None:
    data = segment_data(workers, train=8)
    sampler = data.sampler()
    loader = data.train_loader(sampler)
    for epoch in (2, 0):
        sampler.begin(epoch)
        for one, other in zip(loader, train_batches(segment_data(train=8), epoch), strict=True):
            assert torch.equal(one[0], other[0])


def test_the_images_of_a_batch_are_those_it_was_made_of() -> None:
    data = segment_data(train=9)
    images, _ = train_batches(data, 1)[1]
    listed = data.images_of(data.sampler(), epoch=1, batch=1)
    assert len(listed) == len(images) == 4
    for image_CHW, about in zip(images, listed, strict=True):
        assert about["file"] == data.train_set.source.file(int(about["index"]))
        position = data.train_set.indices.index(int(about["index"]))
        stored_CHW, _, colors_34 = data.train_set[position, int(about["draw_seed"])]
        assert torch.equal(data.transform.images(stored_CHW[None], colors_34[None])[0], image_CHW)


def segment_data(workers: int = 0, train: int = 6, steps: int | None = None) -> SegmentData:
    source, val = Synthetic(40, 32), tuple(range(20, 31))
    return SegmentData(
        source,
        tuple(range(train)),
        val,
        (32, 32),
        batch_size=4,
        workers=workers,
        seed=0,
        steps_per_epoch=steps,
    )


@pytest.mark.parametrize("steps", [None, 3])
def test_equal_draws_with_and_without_workers(steps: int | None) -> None:
    drawn = []
    for workers in (0, 2):
        epochs = []
        for epoch in range(2):
            torch.manual_seed(epoch + workers)
            epochs.append(train_batches(segment_data(workers, steps=steps), epoch))
        assert not torch.equal(epochs[0][0][0], epochs[1][0][0])
        drawn.append(epochs)
    for one, other in zip(*drawn, strict=True):
        assert len(one) == len(other) == (steps or 1)
        for (image_a, label_a), (image_b, label_b) in zip(one, other, strict=True):
            assert torch.equal(image_a, image_b)
            assert torch.equal(label_a, label_b)


def test_loading_leaves_the_global_generator_alone() -> None:
    data = segment_data()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_batches(data)
    list(data.val_loader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_validation_sees_every_image_once_in_order(workers: int) -> None:
    data = segment_data(workers)
    batches = list(data.val_loader())
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    source = Synthetic(40, 32)
    for place, index in enumerate(range(20, 31)):
        torch.testing.assert_close(
            (to_pictures(images[place]) * 255).round().to(torch.uint8),
            torch.tensor(np.asarray(source.image(index))).permute(2, 0, 1),  # (H, W, C) -> (C, H, W)
        )
        np.testing.assert_array_equal(labels[place].numpy(), np.asarray(source.label(index)))


@pytest.mark.parametrize("world", [2, 5])
def test_processes_together_validate_every_image_once(world: int) -> None:
    data = segment_data()
    batches = list(data.val_loader())
    shards = [list(data.val_loader(rank, world)) for rank in range(world)]
    for index, (images, _) in enumerate(batches):
        assert torch.equal(shards[index % world][index // world][0], images)
    assert sum(map(len, shards)) == len(batches)


@pytest.mark.parametrize(
    ("train", "steps", "sizes"),
    [(3, None, [3]), (9, None, [4, 4]), (3, 5, [4] * 5), (9, 2, [4, 4]), (1, 2, [4, 4])],
)
def test_training_batches(train: int, steps: int | None, sizes: list[int]) -> None:
    data = segment_data(train=train, steps=steps)
    assert [len(images) for images, _ in train_batches(data)] == sizes
    assert len(data.train_loader(data.sampler())) == len(sizes)


def test_pretrain_loaders() -> None:
    source = Synthetic(30, 32)
    split = Split(tuple(range(10, 30)), tuple(range(10)))
    data = PretrainData(source, split, (32, 64), batch_size=8, workers=0, seed=0)
    batches = train_batches(data)
    assert [tuple(images.shape) for images in batches] == [(8, 3, 32, 64)] * 2
    seen = torch.cat(list(data.val_loader()))
    assert len(seen) == 10
    assert torch.equal(seen, torch.cat(list(data.val_loader())))


def test_pretrain_validation_is_bounded_and_spread() -> None:
    split = Split(train=tuple(range(8)), val=tuple(range(100, 1400)))
    data = PretrainData(Synthetic(2000, 32), split, (32, 32), batch_size=8, workers=0, seed=0)
    chosen = data.val_set.indices
    assert len(set(chosen)) == MAX_PRETRAIN_VAL == 256
    assert list(chosen) == sorted(chosen)
    assert chosen[0] < 110
    assert chosen[-1] > 1390


def test_fewer_images_than_a_batch() -> None:
    with pytest.raises(UserError, match="batch_size 32: synthetic has only 20 training images"):
        split = Split(tuple(range(10, 30)), tuple(range(10)))
        PretrainData(Synthetic(30, 32), split, (32, 32), batch_size=32, workers=0, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_line_from_a_worker_too(tmp_path: Path, workers: int) -> None:
    folder = write_fake_pets(tmp_path)
    whole = (folder / "images" / "pug_8.jpg").read_bytes()
    (folder / "images" / "pug_8.jpg").write_bytes(whole[:500])
    source = open_source(f"oxford-pet:{tmp_path}", labeled=False)
    data = PretrainData(source, Split(tuple(range(12)), (0,)), (32, 32), batch_size=4, workers=workers, seed=0)
    with pytest.raises(UserError) as caught:
        train_batches(data)
    message = str(caught.value)
    assert message.startswith(str(folder / "images" / "pug_8.jpg"))
    assert message.endswith("remove it or replace it")
    assert "\n" not in message


def test_a_killed_reader_is_named() -> None:
    with pytest.raises(UserError, match="exited unexpectedly"), killed_readers_named():
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    with pytest.raises(RuntimeError, match="another"), killed_readers_named():
        raise RuntimeError("another")


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="other systems have no SIGCHLD")
def test_the_handler_of_dead_children_stays_that_of_the_program() -> None:
    def own(signum: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGCHLD, own)
    try:
        loader: DataLoader[Any] = DataLoader(TensorDataset(torch.zeros(2, 1)), num_workers=1)
        assert len(list(start_reading(loader))) == 2
        assert signal.getsignal(signal.SIGCHLD) is own
    finally:
        signal.signal(signal.SIGCHLD, before)
