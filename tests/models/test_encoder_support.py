"""The command ``encoders``, and the table in the documentation that it writes."""

import re
from pathlib import Path

import pytest
import timm

import maeseg
from helpers.tiny_runs import maeseg as command
from maeseg.errors import UserError
from maeseg.models.encoder_support import WORKS, check_encoder, find_encoders, markdown

TABLE = Path(__file__).parents[2] / "docs" / "encoders.md"


def rows() -> dict[str, list[str]]:
    """The documented table: family -> name, stride, parameters, result, models that work."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]
    return {family: rest for family, *rest in cells}


def totals() -> tuple[list[int], str]:
    """The sentence above it: models, working, refused, families, working families; timm's version."""
    found = re.search(
        r"Of (\d+) models (\d+) work and (\d+) .* of (\d+) families (\d+) .*timm (.*)\)", TABLE.read_text("utf-8")
    )
    assert found
    *numbers, version = found.groups()
    return [int(number) for number in numbers], version


def test_the_documented_totals_are_those_of_the_table() -> None:
    counts = [[int(n) for n in row[-1].split(" of ")] for row in rows().values()]
    working, models = (sum(column) for column in zip(*counts, strict=True))
    assert totals()[0] == [models, working, models - working, len(counts), sum(count[0] > 0 for count in counts)]
    assert all((row[3] == WORKS) == (count[0] > 0) for row, count in zip(rows().values(), counts, strict=True))


@pytest.mark.parametrize(
    "family",
    [
        "byobnet",
        "convnext",
        "efficientnet",
        "hrnet",
        "inception_v3",
        "mobilevit",
        "resnet",
        "swin_transformer",
        "nfnet",
    ],
)
def test_documented_rows_are_what_the_engine_says(family: str) -> None:
    if totals()[1] != timm.__version__:
        pytest.skip("the table is of another version of timm")
    name, stride, millions, result, _ = rows()[family]
    found = check_encoder(name, family)
    assert (str(found.stride), f"{(found.parameters or 0) / 1e6:.1f}", found.refusal or WORKS) == (
        stride,
        millions,
        result,
    )


def test_every_family_of_timm_is_documented() -> None:
    if totals()[1] != timm.__version__:
        pytest.skip("the table is of another version of timm")
    assert list(rows()) == timm.list_modules()


def test_the_command_prints_each_model_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "table.md"
    assert command("encoders", "--names", "test_[cv]*t", "--out", file) == 0
    printed = capsys.readouterr().out
    assert "test_convnext: works (stride 32, 0.2 M parameters)" in printed
    assert "test_coatnet: stages_2.blocks.0.attn (Attention2d): this encoder calls 'view'" in printed
    assert printed.splitlines()[-1] == "2 of 3 work, 1 are refused"
    assert "Of 3 models 2 work and 1 are refused; of 3 families 2 have" in file.read_text(encoding="utf-8")
    assert "| convnext | test_convnext | 32 | 0.2 | works | 1 of 1 |" in file.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="exists: give another file or --overwrite"):
        maeseg.encoders(names="test_resnet", out=str(file))


def test_a_family_is_represented_by_its_smallest_member_that_works() -> None:
    checked = [check_encoder(name, family) for name, family in find_encoders("test_*", "maxxvit")]
    assert all(each.refusal for each in checked) and len(checked) == 2
    assert "| maxxvit | test_coatnet |" in markdown(checked)


@pytest.mark.slow
def test_transformers_work_unless_their_tokens_are_more_than_patches() -> None:
    checked = [check_encoder(name, "") for name in ("test_vit", "vit_small_patch16_rope_mixed_224")]
    assert [(each.stride, each.refusal) for each in checked] == [(16, ""), (16, "")]
    assert "distilled head" in check_encoder("deit_tiny_distilled_patch16_224", "deit").refusal
    assert "HybridEmbed" in check_encoder("vit_small_r26_s32_224", "vision_transformer_hybrid").refusal


def test_models_without_feature_maps_say_so() -> None:
    (found,) = [check_encoder(*each) for each in find_encoders("cait_xxs24_224")]
    assert found.refusal
