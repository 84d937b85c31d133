import numpy as np
import pytest

from maeseg.data.sources.base import open_source
from maeseg.data.sources.synthetic import Synthetic


def pixels(source: Synthetic, index: int) -> np.ndarray:
    return np.asarray(source.image(index))


def test_defaults() -> None:
    source = open_source("synthetic", labeled=True)
    assert (len(source), source.name, source.labeled, source.file(7)) == (
        700,
        "synthetic",
        True,
        "creature_00007.png",
    )
    assert (source.image(0).mode, source.image(0).size) == ("RGB", (128, 128))
    assert (source.label(0).mode, source.label(0).size) == ("L", (128, 128))
    assert len(open_source("synthetic:31", labeled=False)) == 31


def test_an_image_depends_on_seed_and_index_alone() -> None:
    first, second = Synthetic(5, 64, seed=3), Synthetic(9, 64, seed=3)
    backwards = [pixels(second, index) for index in (4, 3, 2)][::-1]
    for index, image in zip((2, 3, 4), backwards, strict=True):
        np.testing.assert_array_equal(image, pixels(first, index))
        np.testing.assert_array_equal(np.asarray(first.label(index)), np.asarray(second.label(index)))
    assert (pixels(first, 0) != pixels(first, 1)).any()
    assert (pixels(first, 0) != pixels(Synthetic(5, 64, seed=4), 0)).any()


def test_test_images_are_others() -> None:
    train, test = (
        open_source("synthetic:6", labeled=True),
        open_source("synthetic:6", labeled=True, test=True),
    )
    seen = {train.image(i).tobytes() for i in range(6)}
    assert not seen & {test.image(i).tobytes() for i in range(6)}
    assert train.file(0) != test.file(0)


@pytest.mark.parametrize("size", [64, 128])
def test_labels_are_binary_and_of_fair_size(size: int) -> None:
    source = Synthetic(size=size)
    for index in range(60):
        label = np.asarray(source.label(index))
        assert set(np.unique(label)) == {0, 1}
        assert 0.05 <= label.mean() <= 0.6


def test_label_follows_the_creature() -> None:
    """Image gradients along the outline are steeper than elsewhere."""
    source = Synthetic()
    along, elsewhere = [], []
    for index in range(40):
        gray = np.asarray(source.image(index).convert("L")).astype(float)
        label = np.asarray(source.label(index))
        step = np.abs(np.diff(gray, axis=1))
        edge = np.diff(label.astype(int), axis=1) != 0
        along.append(step[edge].mean())
        elsewhere.append(step[~edge].mean())
    assert np.mean(along) > 1.3 * np.mean(elsewhere)


def test_color_alone_does_not_tell_the_creature() -> None:
    """Even the best threshold of each image on one color channel finds little of it."""
    source = Synthetic()
    overlaps = []
    for index in range(40):
        image, label = pixels(source, index), np.asarray(source.label(index)).astype(bool)
        best = 0.0
        for channel in image.transpose(2, 0, 1):
            for threshold in range(20, 240, 20):
                for found in (channel > threshold, channel <= threshold):
                    best = max(best, (found & label).sum() / (found | label).sum())
        overlaps.append(best)
    assert np.mean(overlaps) < 0.5
