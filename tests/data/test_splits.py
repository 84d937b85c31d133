"""Split of each image by its content, and nested subsets of labels."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maeseg.data.splits import Split, check_held_out_part, draw_split, label_subset, named_subset, place_of
from maeseg.errors import UserError

KEYS = st.lists(st.integers(0, 40), min_size=2, max_size=60).map(
    lambda numbers: {7 * place + 3: f"image {number}" for place, number in enumerate(numbers)}
)
"""Keys, some of them equal, by index."""


def keys(count: int) -> dict[int, str]:
    return {index: f"image {index}" for index in range(count)}


@given(keys=KEYS, val=st.floats(0.01, 0.6), test=st.floats(0.01, 0.3))
def test_a_split_is_a_partition_that_keeps_one_key_together(keys: dict[int, str], val: float, test: float) -> None:
    split = draw_split_or_none(keys, val, test)
    assume(split)
    assert split
    assert sorted(split.train + split.val + split.test) == sorted(keys)
    assert all(list(part) == sorted(part) for part in (split.train, split.val, split.test))
    assert split.val and split.test
    parts = [{keys[index] for index in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set(keys.values()))


@given(keys=KEYS, more=KEYS, val=st.floats(0.05, 0.5), test=st.floats(0.05, 0.3))
def test_no_image_moves_when_others_come_or_go(
    keys: dict[int, str], more: dict[int, str], val: float, test: float
) -> None:
    """Indices change with the folder; a key's split does not, while the share gives each split an image."""
    everything = dict(enumerate([*more.values(), *keys.values()]))
    before, after = draw_split_or_none(keys, val, test), draw_split_or_none(everything, val, test)
    assume(before and after)
    assert before and after
    for part in ("train", "val", "test"):
        of_before = {keys[index] for index in getattr(before, part)}
        of_after = {everything[index] for index in getattr(after, part)}
        assert of_before <= of_after


def draw_split_or_none(keys: dict[int, str], val: float, test: float) -> Split | None:
    """The split, if the share gives each part an image."""
    places = [place_of(key) for key in keys.values()]
    filled = min(places) < val and any(val <= place < val + test for place in places) and max(places) >= val + test
    return draw_split(keys, val, test) if filled else None


def test_a_share_is_met_within_what_chance_allows() -> None:
    split = draw_split(keys(4000), 0.2, 0.1)
    assert abs(len(split.val) / 4000 - 0.2) < 0.02 and abs(len(split.test) / 4000 - 0.1) < 0.02
    assert all(place_of(f"image {index}") < 0.2 for index in split.val)


@given(count=st.integers(12, 400), val=st.integers(1, 5), test=st.integers(0, 5))
def test_a_number_is_met_exactly_by_the_lowest_places(count: int, val: int, test: int) -> None:
    split = draw_split(keys(count), val, test)
    assert (len(split.val), len(split.test)) == (val, test)
    order = sorted(range(count), key=lambda index: place_of(f"image {index}"))
    assert set(split.val) == set(order[:val]) and set(split.test) == set(order[val : val + test])


def test_one_image_more_moves_at_most_one_where_a_number_is_asked_for() -> None:
    for new in range(100, 140):
        before, after = draw_split(keys(100), 20), draw_split({**keys(100), new: f"image {new}"}, 20)
        assert len(set(before.val) - set(after.val)) <= 1 and not set(after.val) - set(before.val) - {new}


@given(count=st.integers(40, 400), val=st.integers(1, 40), test=st.integers(1, 40))
def test_what_validates_and_tests_is_what_a_larger_validation_part_held_out(count: int, val: int, test: int) -> None:
    shares = draw_split_or_none(keys(count), val / 100, test / 100)
    assume(shares is not None)
    assert shares
    assert shares.train == draw_split(keys(count), (val + test) / 100).train
    assert shares.val == draw_split(keys(count), val / 100).val and shares.measured == shares.test
    if val + test < count:
        numbers = draw_split(keys(count), val, test)
        assert numbers.train == draw_split(keys(count), val + test).train


def test_complete_groups_are_held_out_until_the_number_is_reached() -> None:
    groups = {index: f"video {index // 4}" for index in range(40)}
    split = draw_split(groups, 5, 2)
    assert (len(split.val), len(split.test), len(split.train)) == (8, 4, 28)
    assert not {groups[index] for index in split.val} & {groups[index] for index in (*split.train, *split.test)}


def test_a_part_that_was_wanted_has_at_least_one_image() -> None:
    split = draw_split(keys(10), 1e-6, 1e-6)
    order = sorted(range(10), key=lambda index: place_of(f"image {index}"))
    assert (split.val, split.test) == ((order[0],), (order[1],))
    assert draw_split(keys(2), 1).measured == draw_split(keys(2), 1).val


@pytest.mark.parametrize("val", [10, 11, 1 - 1e-9])
def test_nothing_left_to_train_on(val: float | int) -> None:
    with pytest.raises(UserError, match=rf"--val {val}: .*no image to train on remains of 10"):
        draw_split(keys(10), val)
    with pytest.raises(UserError, match=r"--val 3 --test 7: .*no image to train on"):
        draw_split(keys(10), 3, 7)
    with pytest.raises(UserError, match=r"of 6, in 1 groups or sets of copies"):
        draw_split(dict.fromkeys(range(6), "one image"), 2)


@pytest.mark.parametrize("val", [0, -1, 0.0, -0.2, 1.0, 3.0, float("nan")])
def test_impossible_val(val: float | int) -> None:
    with pytest.raises(UserError, match=f"val {val}: "):
        check_held_out_part(val, 0)


def test_a_share_and_a_number_are_refused() -> None:
    for val, test in ((3, 0.1), (0.3, 1)):
        with pytest.raises(UserError, match=f"--val {val} --test {test}: give two shares, or two numbers"):
            draw_split(keys(10), val, test)


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (3, -1, "a share or a number of images, or 0"),
        (0.3, 1.5, "between 0 and 1"),
    ],
)
def test_impossible_test(val: float | int, test: float | int, message: str) -> None:
    with pytest.raises(UserError, match=f"--test {test}.*{message}"):
        check_held_out_part(val, test)


CONTENTS = [f"content {index}" for index in range(400)]


@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=2).map(sorted),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_subsets_are_nested(sizes: list[int], seed: int, data: st.DataObject) -> None:
    train = data.draw(st.permutations(range(100, 160)))
    small, large = (label_subset(train, CONTENTS, size, seed) for size in sizes)
    assert set(small) <= set(large) <= set(train)
    assert (len(small), len(large)) == tuple(sizes)
    assert list(large) == sorted(large)
    assert large == label_subset(sorted(train), CONTENTS, sizes[1], seed)


@given(count=st.integers(20, 60), labels=st.integers(1, 19), seed=st.integers(0, 99), new=st.integers(0, 19))
def test_one_image_more_changes_at_most_one_label(count: int, labels: int, seed: int, new: int) -> None:
    """It is inserted between the others, so that their indices change."""
    more = [*CONTENTS[:new], "new", *CONTENTS[new:]]
    before = {CONTENTS[index] for index in label_subset(range(count), CONTENTS, labels, seed)}
    after = {more[index] for index in label_subset(range(count + 1), more, labels, seed)}
    assert len(before - after) <= 1 and after - before <= {"new"}


def test_share_and_count_agree() -> None:
    train = tuple(range(0, 400, 2))
    assert label_subset(train, CONTENTS, 0.25, 5) == label_subset(train, CONTENTS, 50, 5)
    assert label_subset(train, CONTENTS, 1.0, 5) == train
    assert len(label_subset(train, CONTENTS, 0.001, 5)) == len(label_subset(train, CONTENTS, 1, 5)) == 1
    assert label_subset(train, CONTENTS, 16, 0) != label_subset(train, CONTENTS, 16, 1)


@pytest.mark.parametrize("labels", [0, -4, 11, 0.0, -0.5, 1.5])
def test_impossible_labels(labels: float | int) -> None:
    with pytest.raises(UserError, match=f"labels {labels}: "):
        label_subset(range(10), CONTENTS, labels, 0)


NAMES = [f"images/{index}.png" for index in range(10)]


@pytest.mark.parametrize(
    "text", ["images/7.png\nimages/2.png\n", "\ufeffimages/2.png\r\n\r\n images/7.png \nimages/2.png"]
)
def test_labels_by_name(text: str, tmp_path: Path) -> None:
    listing = tmp_path / "listing.txt"
    listing.write_text(text, encoding="utf-8", newline="")
    assert named_subset(range(20, 30), NAMES, listing) == (22, 27)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"images/2.png\nimages/99.png", "'images/99.png' is not a training image"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe\x00", "is not a readable text file"),
        (None, "is not a readable text file"),
    ],
)
def test_impossible_lists_of_labels(content: bytes | None, expected: str, tmp_path: Path) -> None:
    listing = tmp_path / "listing.txt"
    if content is not None:
        listing.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        named_subset(range(10), NAMES, listing)
