"""Plan of a comparison: names of inits with unlabeled images, their options, and what may be added later."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maeseg.comparison.plan import (
    GROWS,
    Cell,
    Init,
    may_grow,
    name_inits,
    plan_cells,
    planned_before,
    settle_unlabeled,
    unlabeled_options,
)
from maeseg.config import CompareConfig, UnlabeledOptions, options_of
from maeseg.errors import UserError


def config_of(*inits: str, **more: Any) -> CompareConfig:
    return CompareConfig(data="synthetic", out="out", inits=[*inits], labels=[4], **more)


def test_an_init_with_unlabeled_images_has_the_weights_and_another_name(tmp_path: Path) -> None:
    (tmp_path / "resnet.pth").touch()
    given = ["scratch", "scratch+unlabeled", f"{tmp_path}/resnet.pth+unlabeled", "a/run.one:encoder+unlabeled"]
    assert name_inits(given) == [
        Init("scratch"),
        Init("scratch+unlabeled"),
        Init("resnet+unlabeled", f"{tmp_path}/resnet.pth"),
        Init("run.one-encoder+unlabeled", "a/run.one", "encoder"),
    ]
    assert [init.unlabeled for init in name_inits(given)] == [False, True, True, True]
    assert Cell(name_inits(given)[1], 4, 0).folder == "runs/scratch+unlabeled-4-seed0"


@pytest.mark.parametrize(
    "given",
    [
        ["+unlabeled"],
        [""],
        ["a+unlabeled:encoder"],
        ["scratch+unlabeled+unlabeled"],
        ["a+unlabeled/"],
        ["a+unlabeled", "b/a+unlabeled"],
    ],
)
def test_names_with_another_meaning_are_refused(given: list[str]) -> None:
    with pytest.raises(UserError, match="--inits"):
        name_inits(given)


def test_rest_is_the_default_where_an_init_needs_unlabeled_images() -> None:
    assert settle_unlabeled(config_of("scratch")).unlabeled is None
    assert settle_unlabeled(config_of("scratch", "a+unlabeled")).unlabeled == "rest"
    assert settle_unlabeled(config_of("a+unlabeled", unlabeled="photos")).unlabeled == "photos"


def test_only_runs_with_unlabeled_images_have_options_on_them() -> None:
    config = config_of("scratch", "scratch+unlabeled", unlabeled="rest", ema=0.5, confidence=0.7)
    plain, more = (unlabeled_options(config, init) for init in name_inits(config.inits))
    assert plain == UnlabeledOptions().as_dict()
    assert more == {**plain, "unlabeled": "rest", "ema": 0.5, "confidence": 0.7}


def test_options_on_unlabeled_images_may_be_added_while_no_run_has_them() -> None:
    plain = Cell(Init("scratch"), 4, 0)
    assert set(may_grow([plain])) == {*GROWS, *options_of(UnlabeledOptions)}
    assert may_grow([plain, replace(plain, init=Init("scratch+unlabeled"))]) == GROWS


def test_with_all_labels_there_is_no_run_on_the_rest_of_the_images() -> None:
    inits, labels = name_inits(["scratch", "scratch+unlabeled"]), [32, 1.0]
    cells = list(plan_cells(inits, labels, 1, "rest"))
    assert [(cell.init.name, cell.labels) for cell in cells] == [
        ("scratch", 32), ("scratch+unlabeled", 32), ("scratch", 1.0)
    ]  # fmt: skip
    assert len(list(plan_cells(inits, labels, 1, ["rest", "photos"]))) == 4
    options = {"inits": ["scratch", "scratch+unlabeled"], "labels": labels, "seeds": 1, "unlabeled": "rest"}
    assert planned_before(options) == cells
