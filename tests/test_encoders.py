"""Which of timm's networks run on visible patches: found by running them, and kept as a table in the docs."""

import re
from pathlib import Path

import pytest

from maeseg.errors import UserError
from maeseg.models.support import check_encoder, fixed_size, matching, smallest_of_each_family
from tiny_runs import maeseg

TABLE = Path(__file__).parents[1] / "docs" / "encoders.md"
ROW = re.compile(r"\| (\w+) \| `(\w+)` \| (\d*) \| ([\d.]+) M \| (works|refused: .+) \|")


def rows() -> list[tuple[str, ...]]:
    return [found.groups() for line in TABLE.read_text().splitlines() if (found := ROW.fullmatch(line))]


def test_the_table_has_its_own_totals() -> None:
    verdicts = [row[4] for row in rows()]
    works = verdicts.count("works")
    assert f"{works} work, {len(verdicts) - works} are refused" in TABLE.read_text()
    assert works >= 36 and len(verdicts) >= 90


@pytest.mark.parametrize("family", ["resnet", "convnext", "ghostnet", "hrnet", "edgenext", "swin_transformer", "vgg"])
def test_the_table_says_what_a_run_says(family: str) -> None:
    _, name, stride, parameters, verdict = next(row for row in rows() if row[0] == family)
    found = check_encoder(name)
    assert found.family == family
    assert (found.refusal is None) == (verdict == "works")
    if found.refusal:
        assert verdict == f"refused: {found.refusal}"
    assert (str(found.stride), f"{found.parameters / 1e6:.1f}") == (stride, parameters)


def test_a_refusal_names_the_module_and_the_reason() -> None:
    refusal = check_encoder("edgenext_xx_small").refusal
    assert refusal and refusal.startswith("stages_1.blocks.1 (SplitTransposeBlock): ") and "attention" in refusal


def test_a_network_of_one_size_is_run_at_that_size() -> None:
    assert fixed_size("vit_tiny_patch16_224") == (224, 224)
    assert fixed_size("resnet18") is None


def test_the_smallest_of_each_family() -> None:
    assert smallest_of_each_family(["resnet34", "resnet18", "vgg13", "vgg11"]) == ["resnet18", "vgg11"]


def test_a_pattern_that_matches_nothing_is_said_so() -> None:
    with pytest.raises(UserError, match="matches no network"):
        matching("resnext19*")


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert maeseg("encoders", "--names", "test_resnet*") == 0
    printed = capsys.readouterr().out
    assert "1 work, 0 are refused" in printed and "| `test_resnet` | 32 | " in printed
