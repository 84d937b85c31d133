import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from helpers.tiny_runs import contents
from maeseg.data.data_option import check_data, describe, describe_options
from maeseg.data.datasets import LabeledImages, UnlabeledImages
from maeseg.data.sources.base import Source, described_channels, open_source
from maeseg.data.sources.dataset import DatasetSource
from maeseg.data.split_options import assign, gather
from maeseg.data.survey import survey
from maeseg.data.transforms import Resize
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY


class Photos(Dataset[Any]):
    """Noise with a bright half; every form of image and label."""

    def __init__(self, count: int = 6, form: str = "array", labeled: bool = True, broken: tuple[int, ...] = ()) -> None:
        self.count, self.form, self.labeled, self.broken = count, form, labeled, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index in self.broken:
            raise OSError("no such slide")
        values = np.random.default_rng(index).integers(0, 200, (32, 48, 3)).astype(np.uint8)
        label = np.zeros((32, 48), np.int64)
        label[:, :24] = 1
        image: Any = {
            "array": values, "picture": Image.fromarray(values), "tensor": torch.from_numpy(values).permute(2, 0, 1)
        }[self.form]  # fmt: skip
        return (image, label) if self.labeled else image


class ThreeClasses(Photos):
    class_names = ("background", "left", "right")


def test_a_dataset_is_a_source() -> None:
    source = open_source(Photos(), labeled=True)
    assert isinstance(source, Source)
    assert (source.name, len(source), source.file(3), source.channels) == ("dataset:Photos", 6, "item 3", 3)
    assert source.places(0) == []
    assert source.split(0) is None and source.group(0) is None and source.nodata(0) is None
    found = survey(source)
    assert not found.faults and (found.facts[0].height, found.facts[0].width) == (32, 48)
    assert source.image(0).mode == "RGB" and source.label(0).mode == "L"
    assert np.asarray(source.label(0)).sum() == 32 * 24


def test_content_is_that_of_the_pixels() -> None:
    sources = [open_source(Photos(form=form), labeled=True) for form in ("array", "picture", "tensor")]
    unlabeled = open_source(Photos(labeled=False), labeled=False)
    assert len({contents(source) for source in [*sources, unlabeled]}) == 1
    assert len(set(contents(sources[0]))) == 6


def test_labels_are_left_alone_where_none_are_wanted() -> None:
    images = UnlabeledImages(open_source(Photos(), labeled=False), [1], Resize((32, 32)))
    assert images[0].shape == (3, 32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_give_the_same_batches(workers: int) -> None:
    source = open_source(Photos(), labeled=True)
    items = LabeledImages(source, range(6), Resize((32, 32)))
    for number, (image_BCHW, label_BHW) in enumerate(DataLoader(items, 2, num_workers=workers)):
        assert torch.equal(image_BCHW[1], items[2 * number + 1][0])
        assert torch.equal(label_BHW[0], items[2 * number][1])


def test_a_source_is_sent_to_another_process_without_the_item_it_holds() -> None:
    source = open_source(Photos(), labeled=True)
    source.pixels(0)
    again = pickle.loads(pickle.dumps(source))
    assert again._newest is None
    assert torch.equal(again.pixels(5), source.pixels(5))


def test_classes_are_those_of_the_dataset() -> None:
    source = open_source(ThreeClasses(), labeled=True)
    assert source.classes.names == ("background", "left", "right") and source.classes.maps == 3
    assert open_source(Photos(), labeled=True).classes == BINARY
    with pytest.raises(UserError, match="has the classes background, left, right"):
        other = open_source(type("Other", (Photos,), {"class_names": ["background", "road"]})(), labeled=True).classes
        open_source(ThreeClasses(), labeled=True, classes=other)


@pytest.mark.parametrize(
    ("shape", "channels"), [((8, 9, 3), 3), ((4, 8, 9), 4), ((8, 9, 2), 2), ((8, 9), None), ((1, 8, 9), None)]
)
def test_channels_of_a_dataset(shape: tuple[int, ...], channels: int | None) -> None:
    items = [torch.zeros(shape, dtype=torch.uint8)]
    assert described_channels(items) == channels  # type: ignore[arg-type]
    source = open_source(items, labeled=False, channels=channels or 1)  # type: ignore[arg-type]
    assert len(source.pixels(0)) == (channels or 1)


def test_values_of_16_bits_are_scaled_by_the_largest() -> None:
    source = open_source([np.full((8, 8, 3), 1000, np.uint16)], labeled=False)  # type: ignore[arg-type]
    facts = source.check(0).pixels
    assert facts and (facts.dtype, facts.largest) == ("uint16", 1000)
    source.largest = 1000
    assert (source.pixels(0) == 255).all()


def test_floating_point_has_a_picture() -> None:
    source = open_source([torch.full((3, 8, 8), 0.5)], labeled=False)  # type: ignore[arg-type]
    assert np.asarray(source.image(0)).max() == 128


def test_items_that_cannot_be_used_are_faults() -> None:
    pairs = [*(Photos()[index] for index in range(3)), Photos()[3][0], (np.zeros((9, 9), np.uint8), 4)]
    faults = survey(open_source(pairs, labeled=True)).faults  # type: ignore[arg-type]
    assert faults.keys() == {3, 4}
    assert "item 3 of dataset:list is a ndarray without a label" in faults[3]
    assert "the label of item 4" in faults[4]
    faults = survey(open_source(Photos(broken=(0, 2)), labeled=True)).faults
    assert faults.keys() == {0, 2} and "item 2 of dataset:Photos cannot be read (OSError: no such slide)" in faults[2]


def test_sizes_that_differ_are_a_fault() -> None:
    pairs = [(np.zeros((8, 9, 3), np.uint8), np.zeros((9, 8), np.uint8))]
    assert "is 9x8 but its label is 8x9" in survey(open_source(pairs, labeled=True)).faults[0]  # type: ignore[arg-type]


def test_random_items_are_refused() -> None:
    class Random(Photos):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(3, 8, 8)

    with pytest.raises(UserError, match="another image when it is read again"):
        open_source(Random(), labeled=False)


@pytest.mark.parametrize(("dataset", "said"), [(iter(()), "no length"), ([], "is empty"), (Photos(0), "is empty")])
def test_what_is_no_dataset(dataset: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        DatasetSource(dataset, labeled=False)


def test_a_dataset_has_no_test_split() -> None:
    with pytest.raises(UserError, match="no test split"):
        open_source(Photos(), labeled=True, test=True)


def test_datasets_validate_and_test() -> None:
    data = open_source(Photos(8), labeled=True)
    others = TensorDataset(torch.rand(3, 3, 8, 8), torch.ones(3, 8, 8).int())
    images = gather(data, Photos(2), others, labeled=True)
    split = assign(images, contents(images.source), Photos(2), others)
    assert (split.train, split.val, split.test) == ((2, 3, 4, 5, 6, 7), (8, 9), (10, 11, 12))  # no copy trains


def test_options_are_described() -> None:
    def squared() -> None: ...

    plain = {"data": "photos", "val": 0.2, "crop": None, "augment": ["vflip"]}
    assert describe_options(plain) == plain
    assert describe_options({"data": Photos(), "val": [Photos()[0]], "loss": squared}) == {
        "data": "dataset:Photos",
        "val": "dataset:list",
        "loss": "custom:squared",
    }
    assert describe_options({"loss": torch.nn.MSELoss()}) == {"loss": "custom:MSELoss"}
    check_data(Photos())
    with pytest.raises(UserError, match="Photos is a dataset object"):
        check_data(describe(Photos()))
