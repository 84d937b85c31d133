"""A small part of the fuzz campaign (make fuzz), and its judge."""

import mmap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fuzz import harness
from fuzz.campaign import try_kind
from fuzz.kinds import KINDS, PICTURES, Seeds, gather_seeds
from fuzz.mutations import Damage, damages, mended
from maeseg.data.image_files import DataError
from maeseg.data.image_reading import open_large, read_pixels
from maeseg.data.pixel_facts import check_pixels

FEW = {"images": 4, "labels": 4, "run folders": 1}


@pytest.fixture(scope="module")
def seeds(pretrained: Path, finetuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    return gather_seeds(pretrained, finetuned, tmp_path_factory.mktemp("seeds"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_input_ends_in_a_result_or_in_one_line(kind: str, seeds: Seeds, tmp_path: Path) -> None:
    endings = try_kind(KINDS[kind][0], FEW.get(kind, 2), seeds, tmp_path)
    assert len(endings) >= FEW.get(kind, 2)
    assert [(ending.wrong, str(folder)) for ending, folder in endings if ending.wrong] == []


@settings(max_examples=150, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(st.sampled_from(sorted(PICTURES)), mended() | damages(), st.sampled_from([3, 1]))
def test_an_image_that_passes_the_check_can_be_read(suffix: str, damage: Damage, channels: int) -> None:
    content = damage(PICTURES[suffix])
    try:
        facts = check_pixels(content, suffix, channels)
    except DataError:
        return
    assert read_pixels(content, suffix, channels).shape == (channels, facts.height, facts.width)
    assert open_large(content, suffix, channels).size == (facts.height, facts.width)


def test_a_campaign_is_large_enough() -> None:
    assert sum(count for _, count in KINDS.values()) >= 2000


def stall(words: list[str]) -> int:
    time.sleep(5)
    return 0


def crash(words: list[str]) -> int:
    raise ValueError("of maeseg's own")


def leave_half(words: list[str]) -> int:
    Path(words[0]).touch()
    return say("maeseg: no\n")(words)


def hog(words: list[str]) -> int:
    with mmap.mmap(-1, 200 * 2**20) as taken:  # a heap may have as much left over from before
        for place in range(0, len(taken), 4096):
            taken[place] = 1
    return 0


def say(text: str, code: int = 2) -> Callable[[list[str]], int]:
    def run(words: list[str]) -> int:
        import sys

        sys.stderr.write(text)
        return code

    return run


@pytest.mark.parametrize(
    ("main", "wrong"),
    [
        (stall, "still going on"),
        (crash, "ValueError: of maeseg's own"),
        (leave_half, "left out behind"),
        (hog, "MB"),
        (say("maeseg: no\nreally\n"), "not one line"),
        (say("Traceback\n"), "not one line"),
        (say("maeseg: \x1b[2J\n"), "control characters"),
        (say("", 1), "exit code 1"),
        (say("maeseg: no\n"), ""),
        (say("anything\n", 0), ""),
    ],
)
def test_the_judge(
    main: Callable[[list[str]], int], wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(harness, "main", main)
    monkeypatch.setattr(harness, "SECONDS", 1 if main is stall else 60)  # a busy machine takes a second for anything
    monkeypatch.setattr(harness, "MEGABYTES", 150)
    found = harness.run([str(tmp_path / "out")], tmp_path / "out").wrong
    assert (wrong in found) if wrong else not found


def test_a_user_error_is_judged_by_the_real_command_line(tmp_path: Path) -> None:
    ending = harness.run(["report", "--run", tmp_path / "nowhere"], tmp_path / "out")
    assert (ending.code, ending.wrong) == (2, "") and ending.line.startswith("maeseg: ")
    assert not issubclass(harness.TooSlow, Exception)  # no reader of files may swallow it
