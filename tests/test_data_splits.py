from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maeseg.data.splits import Split, label_subset, named_subset, split_indices
from maeseg.errors import UserError


@given(count=st.integers(2, 400), share=st.floats(0.01, 0.6), seed=st.integers(0, 99))
def test_split_is_a_partition(count: int, share: float, seed: int) -> None:
    split = split_indices(count, share, seed)
    assert sorted(split.train + split.val) == list(range(count))
    assert list(split.train) == sorted(split.train)
    assert list(split.val) == sorted(split.val)
    assert len(split.val) == max(1, round(share * count))
    assert split == split_indices(count, len(split.val), seed)


def test_split_is_shuffled_by_the_seed() -> None:
    assert split_indices(100, 0.2, 0) != split_indices(100, 0.2, 1)
    assert split_indices(100, 20).val != tuple(range(80, 100))
    assert split_indices(2, 1) in (Split((0,), (1,)), Split((1,), (0,)))


@pytest.mark.parametrize("val", [0, -1, 10, 11, 0.0, -0.2, 1.0, 3.0, 0.99, float("nan")])
def test_impossible_val(val: float | int) -> None:
    with pytest.raises(UserError, match=f"val {val}: "):
        split_indices(10, val)


@given(count=st.integers(12, 4000), val=st.integers(1, 40), test=st.integers(1, 40), seed=st.integers(0, 99))
def test_what_validates_and_tests_is_what_a_larger_validation_part_held_out(
    count: int, val: int, test: int, seed: int
) -> None:
    assume(val / 100 * count >= 1.5 and test / 100 * count >= 1.5)
    both = split_indices(count, val / 100, seed, test / 100)
    assert sorted(both.train + both.val + both.test) == list(range(count))
    assert both.val == split_indices(count, val / 100, seed).val
    assert both.train == split_indices(count, (val + test) / 100, seed).train
    assert both.measured == both.test
    assert split_indices(count, len(both.val), seed, len(both.test)) == both


def test_without_test_images_the_validation_images_are_measured() -> None:
    split = split_indices(20, 0.3)
    assert split.test == ()
    assert split.measured == split.val


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (3, 0.1, "give two shares, or two numbers"),
        (0.3, 1, "give two shares, or two numbers"),
        (3, -1, "a share or a number of images, or 0"),
        (0.3, 1.5, "a share lies between 0 and 1"),
        (3, 7, "no image to train on"),
        (0.3, 0.7, "no image to train on"),
        (0.3, 0.01, "none to test with"),
    ],
)
def test_impossible_test(val: float | int, test: float | int, message: str) -> None:
    with pytest.raises(UserError, match=f"--test {test}.*{message}"):
        split_indices(10, val, test=test)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=2).map(sorted),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_subsets_are_nested(sizes: list[int], seed: int, data: st.DataObject) -> None:
    train = data.draw(st.permutations(range(100, 160)))
    small, large = (label_subset(train, size, seed) for size in sizes)
    assert set(small) <= set(large) <= set(train)
    assert (len(small), len(large)) == tuple(sizes)
    assert list(large) == sorted(large)
    assert large == label_subset(sorted(train), sizes[1], seed)


def test_share_and_count_agree() -> None:
    train = tuple(range(0, 400, 2))
    assert label_subset(train, 0.25, 5) == label_subset(train, 50, 5)
    assert label_subset(train, 1.0, 5) == train
    assert len(label_subset(train, 0.001, 5)) == len(label_subset(train, 1, 5)) == 1
    assert label_subset(train, 16, 0) != label_subset(train, 16, 1)


@pytest.mark.parametrize("labels", [0, -4, 11, 0.0, -0.5, 1.5])
def test_impossible_labels(labels: float | int) -> None:
    with pytest.raises(UserError, match=f"labels {labels}: "):
        label_subset(range(10), labels, 0)


NAMES = [f"images/{index}.png" for index in range(10)]


@pytest.mark.parametrize(
    "text", ["images/7.png\nimages/2.png\n", "\ufeffimages/2.png\r\n\r\n images/7.png \nimages/2.png"]
)
def test_labels_by_name(text: str, tmp_path: Path) -> None:
    listing = tmp_path / "listing.txt"
    listing.write_text(text, encoding="utf-8", newline="")
    assert named_subset(range(20, 30), NAMES, listing) == (22, 27)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"images/2.png\nimages/99.png", "'images/99.png' is not an image to train on"),
        (b"\n \n", "lists nothing"),
        (b"\xff\xfe\x00", "is no text file that can be read"),
        (None, "is no text file that can be read"),
    ],
)
def test_impossible_lists_of_labels(content: bytes | None, said: str, tmp_path: Path) -> None:
    listing = tmp_path / "listing.txt"
    if content is not None:
        listing.write_bytes(content)
    with pytest.raises(UserError, match=said):
        named_subset(range(10), NAMES, listing)


def test_negative_seed() -> None:
    with pytest.raises(UserError, match="seed -1: "):
        split_indices(10, 2, -1)
