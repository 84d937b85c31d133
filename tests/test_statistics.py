import math
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from fake_runs import result_row
from maeseg.errors import UserError
from maeseg.experiments.results import RESULT_COLUMNS, ResultRow, append_result, read_results
from maeseg.experiments.statistics import (
    LabelSaving,
    init_names,
    interval,
    label_counts,
    label_savings,
    labels_needed,
    paired_difference,
    paired_differences,
    saving_sentence,
    sentence,
    spread,
    summarise,
    verdict,
)


def rows_of(scores: dict[tuple[str, int], list[float]]) -> list[ResultRow]:
    """Rows with the given IoU for each (init, label count), one value per seed."""
    return [
        result_row(init, count, seed, iou=iou)
        for (init, count), values in scores.items()
        for seed, iou in enumerate(values)
    ]


class TestResults:
    def test_columns_are_the_documented_ones(self) -> None:
        assert ",".join(RESULT_COLUMNS) == (
            "init,labels,label_count,seed,epochs,steps,best_epoch,accuracy,iou,iou_per_image,dice,dice_loss,"
            "boundary_f1,border,seconds,run"
        )

    def test_rows_survive_the_file_exactly(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        rows = [
            result_row(iou=0.1 + 0.2),
            result_row('odd, "name"\n', 1, seed=1, labels=1),
            result_row("all", 1, seed=2, labels=1.0),
        ]
        for row in rows:
            append_result(file, row)
        assert read_results(file) == rows
        assert [type(row.labels) for row in read_results(file)] == [int, int, float]
        assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
        assert file.read_text().splitlines()[0] == ",".join(RESULT_COLUMNS)

    def test_a_repeated_run_replaces_its_row(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        for row in (result_row(iou=0.3), result_row(seed=1), result_row(iou=0.4)):
            append_result(file, row)
        assert [(row.seed, row.iou) for row in read_results(file)] == [(1, 0.5), (0, 0.4)]

    def test_a_missing_figure_is_an_empty_cell(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        append_result(file, replace(result_row(), boundary_f1=math.nan))
        assert "nan" not in file.read_text()
        assert math.isnan(read_results(file)[0].boundary_f1)

    def test_errors_name_file_and_place(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        with pytest.raises(UserError, match=r"results\.csv cannot be read"):
            read_results(file)
        file.write_text("init,seed\nscratch,0\n")
        with pytest.raises(UserError, match=r"lacks the column.*labels, label_count"):
            read_results(file)
        file.unlink()
        append_result(file, result_row())
        file.write_text(file.read_text().replace("0.5", "half", 1))
        with pytest.raises(UserError, match=r"line 2 .*half"):
            read_results(file)


class TestSpread:
    def test_hand_computed(self) -> None:
        assert spread([0.1, 0.2, 0.6]).mean == pytest.approx(0.3)
        assert spread([0.1, 0.2, 0.6]).std == pytest.approx(math.sqrt(0.07))
        assert spread([0.1, 0.2, 0.6]).n == 3

    def test_one_value_has_no_deviation_and_none_no_mean(self) -> None:
        assert (spread([0.4]).mean, spread([0.4]).n) == (0.4, 1)
        assert math.isnan(spread([0.4]).std)
        assert math.isnan(spread([]).mean)

    def test_summary_groups_by_init_and_label_count_and_leaves_out_missing_values(self) -> None:
        rows = rows_of({("scratch", 8): [0.1, 0.3], ("a", 8): [0.4, math.nan], ("a", 16): [math.nan]})
        summary = summarise(rows, "iou")
        sizes = {group: each.n for group, each in summary.items()}
        assert sizes == {("scratch", 8): 2, ("a", 8): 1, ("a", 16): 0}
        assert summary["scratch", 8].mean == pytest.approx(0.2)

    def test_scratch_comes_first_and_counts_ascend(self) -> None:
        rows = [result_row("b", 64), result_row("a", 8), result_row("scratch", 8)]
        assert init_names(rows) == ["scratch", "b", "a"]
        assert label_counts(rows) == [8, 64]


class TestInterval:
    @pytest.mark.parametrize("differences", [[0.01, 0.02, 0.04], [-0.3, 0.1], [0.02, 0.01, 0.03, 0.025, -0.01]])
    def test_is_the_t_interval_of_scipy(self, differences: list[float]) -> None:
        expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
        assert interval(differences) == pytest.approx((expected.low, expected.high))

    def test_hand_computed(self) -> None:
        # mean 0.02, deviation 0.01, n 3: half = 4.302653 * 0.01 / sqrt(3)
        assert interval([0.01, 0.02, 0.03]) == pytest.approx((0.02 - 0.0248414, 0.02 + 0.0248414), abs=1e-7)

    @pytest.mark.parametrize("differences", [[], [0.1]])
    def test_needs_two_pairs(self, differences: list[float]) -> None:
        assert all(math.isnan(end) for end in interval(differences))


class TestVerdict:
    @pytest.mark.parametrize(
        ("differences", "expected"),
        [
            ([0.02, 0.021, 0.022], "helped"),
            ([-0.02, -0.021, -0.022], "hurt"),
            ([0.01, 0.02, 0.03], "no evidence"),  # its interval reaches below zero: see above
            ([0.0, 0.0, 0.0], "no evidence"),
            ([0.5], "no evidence"),
            ([], "no evidence"),
        ],
    )
    def test_follows_the_interval(self, differences: list[float], expected: str) -> None:
        assert verdict(differences) == expected

    def test_a_lower_loss_is_help(self) -> None:
        rows = [
            result_row(init, 8, seed, dice_loss=loss + 0.001 * seed * (init == "a"), iou=0.5)
            for init, loss in (("scratch", 0.6), ("a", 0.5))
            for seed in range(3)
        ]
        paired = paired_difference(rows, "a", 8, "dice_loss")
        assert paired.mean == pytest.approx(-0.099)
        assert paired.interval[1] < 0
        assert paired.verdict == "helped"


class TestPairedDifference:
    def test_pairs_by_seed_whatever_the_order(self) -> None:
        rows = [
            result_row("a", 8, 2, iou=0.42),
            result_row("scratch", 8, 0, iou=0.1),
            result_row("a", 8, 0, iou=0.13),
            result_row("scratch", 8, 2, iou=0.4),
        ]
        paired = paired_difference(rows, "a", 8)
        assert paired.seeds == (0, 2)
        assert paired.differences == pytest.approx((0.03, 0.02))

    def test_drops_seeds_without_a_partner_or_a_value(self) -> None:
        rows = rows_of({("scratch", 8): [0.1, 0.2, math.nan], ("a", 8): [0.2, 0.3, 0.4, 0.5]})
        assert paired_difference(rows, "a", 8).seeds == (0, 1)

    def test_every_pretrained_init_at_every_count(self) -> None:
        rows = rows_of({(init, count): [0.5] for count in (16, 8) for init in ("a", "scratch", "b")})
        assert [(each.label_count, each.init) for each in paired_differences(rows)] == [
            (8, "a"),
            (8, "b"),
            (16, "a"),
            (16, "b"),
        ]


class TestSentence:
    def test_helped(self) -> None:
        rows = rows_of({("scratch", 32): [0.512, 0.514, 0.513], ("a", 32): [0.533, 0.536, 0.533]})
        assert sentence(paired_difference(rows, "a", 32)) == (
            "With 32 labels pre-training helped: IoU 0.534 against 0.513 from scratch "
            "(paired difference +0.021, 95 % interval +0.019 to +0.023, 3 seeds)."
        )

    def test_hurt_and_named(self) -> None:
        rows = rows_of({("scratch", 1): [0.5, 0.52], ("a", 1): [0.4, 0.42]})
        assert sentence(paired_difference(rows, "a", 1), name_init=True).startswith(
            "With 1 label pre-training (a) hurt: IoU 0.410 against 0.510 from scratch (paired difference -0.100,"
        )

    def test_no_evidence(self) -> None:
        rows = rows_of({("scratch", 32): [0.5, 0.5], ("a", 32): [0.4, 0.7]})
        assert sentence(paired_difference(rows, "a", 32)).startswith(
            "With 32 labels there is no evidence that pre-training helped or hurt: IoU 0.550 against 0.500"
        )

    def test_one_seed_says_why(self) -> None:
        rows = rows_of({("scratch", 32): [0.5], ("a", 32): [0.7]})
        assert sentence(paired_difference(rows, "a", 32)) == (
            "With 32 labels there is no evidence that pre-training helped or hurt: IoU 0.700 against 0.500 "
            "from scratch (paired difference +0.200, one seed gives no interval)."
        )

    def test_no_pair(self) -> None:
        assert "nothing can be said" in sentence(paired_difference([result_row("a", 32)], "a", 32))


class TestLabelSaving:
    COUNTS = (10, 100, 1000)
    SCORES = (0.2, 0.4, 0.8)

    @pytest.mark.parametrize(
        ("target", "needed"),
        [
            (0.3, 10**1.5),  # half of the way in score is half of the way in log10
            (0.4, 100),
            (0.5, 10**2.25),
            (0.8, 1000),
            (0.1, 10),
            (0.81, math.inf),
        ],
    )
    def test_interpolates_over_the_logarithm(self, target: float, needed: float) -> None:
        assert labels_needed(self.COUNTS, self.SCORES, target) == pytest.approx(needed)

    def test_a_dip_in_the_curve_counts_for_scratch(self) -> None:
        assert labels_needed((10, 100, 1000), (0.5, 0.3, 0.7), 0.5) == 10

    def test_from_rows(self) -> None:
        rows = rows_of({
            ("scratch", 10): [0.1, 0.3],
            ("scratch", 1000): [0.6],
            ("a", 10): [0.4],
            ("a", 1000): [0.7],
            ("a", 5000): [math.nan],
        })  # fmt: skip
        savings = label_savings(rows)
        assert [(each.label_count, each.smallest, each.largest) for each in savings] == [
            (10, 10, 1000),
            (1000, 10, 1000),
        ]
        assert [each.needed for each in savings] == pytest.approx([100, math.inf])

    def test_nothing_from_scratch(self) -> None:
        assert label_savings([result_row("a")]) == []

    @pytest.mark.parametrize(
        ("needed", "end"),
        [
            (47.2, "from scratch that takes about 47 labels (1.5 times as many)."),
            (math.inf, "from scratch that takes more than the largest tried, 256."),
            (16.0, "from scratch that takes at most 16 labels, the smallest tried."),
        ],
    )
    def test_sentence(self, needed: float, end: str) -> None:
        saving = LabelSaving("a", 32, 0.534, needed, 16, 256)
        assert saving_sentence(saving) == f"With 32 labels the pre-trained network reaches IoU 0.534; {end}"
        assert "the network pre-trained by a reaches" in saving_sentence(saving, name_init=True)
