"""Values of the page of a comparison: verdict, tables, figures and pictures."""

from dataclasses import dataclass
from pathlib import Path

from maeseg.comparison.collapse_wording import collapse_sentences
from maeseg.comparison.contrasts import Contrast, read_list
from maeseg.comparison.label_efficiency import gaps_closed, labels_saved
from maeseg.comparison.reader import Comparison, read_comparison
from maeseg.comparison.results import without_unlabeled
from maeseg.comparison.statistics import Estimate, Verdict, paired_differences
from maeseg.comparison.wording import (
    cost_sentences,
    difference_sentence,
    gap_sentence,
    headlines,
    labels,
    labels_saved_sentence,
    resolution_sentences,
    run_time_sentences,
    scope_sentence,
)
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, classes_of
from maeseg.metrics.scores import Reliability, class_figures
from maeseg.reporting.comparison_overview import Overview, make_overview, read_predictions
from maeseg.reporting.comparison_tables import (
    calibration_table,
    class_iou_table,
    difference_tables,
    means_table,
    time_table,
)
from maeseg.reporting.elements import NOTHING, Cell, Drawing, PictureGrid, Row, Swatch, Table, draw, spread
from maeseg.reporting.equal_steps import EqualSteps, equal_steps
from maeseg.reporting.examples import contrast_grid, picture_legend, segmentation_grid
from maeseg.reporting.figures import label_differences, label_efficiency, paired_dots, reliability_diagram
from maeseg.reporting.frame import Frame, make_frame
from maeseg.reporting.training import Pretraining, confusion_drawing, describe_pretraining, fine_tuning_curves
from maeseg.runs.layout import CONTRASTS
from maeseg.runs.reader import RunFolder, open_run, own_file
from maeseg.runs.validation import Confusion, read_confusion, read_reliability


@dataclass(frozen=True)
class VerdictSummary:
    """Sentences on the differences.

    Attributes:
        headlines: Verdict for all numbers of labels.
        times: Wall time of a run from each init.
        costs: Cost of each pre-training.
        differences: Verdict and sentence for each paired difference.
        scope: Meaning of the intervals.
        labels_saved: Labels saved, for each number of labels and init.
        gaps: Gaps closed; none without weights from elsewhere.
    """

    headlines: list[str]
    times: list[str]
    costs: list[str]
    differences: list[tuple[Verdict, str]]
    scope: str
    labels_saved: list[str]
    gaps: list[str]


@dataclass(frozen=True)
class LabelFigures:
    """Figures against the number of labels; the last two are None where there is nothing to compare."""

    means: Drawing
    differences: Drawing | None = None
    dots: Drawing | None = None


@dataclass(frozen=True)
class ClassComparison:
    """IoU of each class, and a heading and confusion matrices for each number of labels."""

    table: Table
    confusions: list[tuple[str, list[Drawing]]]


@dataclass(frozen=True)
class Calibration:
    """Reliability diagrams, one for each number of labels, and the expected calibration errors."""

    drawings: list[Drawing]
    table: Table


@dataclass(frozen=True)
class Results:
    """Results of the finished runs.

    Attributes:
        means: Means over seeds.
        differences: Heading and table for each pair of inits.
        equal_steps: Results at equal steps, where the others are trained out; None where there is one length.
        classes: Figures of each class; None for foreground and background.
        label_figures: Figures against the number of labels.
        times: Time to target; None where there is nothing to compare.
        curves: Heading and training curves for each number of labels.
        contrasts: Heading and pictures where two networks differ most; none before all runs are finished.
        legend: Legend of the pictures.
        predictions: Heading and example pictures for each number of labels.
        calibration: Calibration; None where no run measured it.
    """

    means: Table
    differences: list[tuple[str, Table]]
    equal_steps: EqualSteps | None
    classes: ClassComparison | None
    label_figures: LabelFigures
    times: Table | None
    curves: list[tuple[str, list[Drawing]]]
    contrasts: list[tuple[str, PictureGrid]]
    legend: list[Swatch]
    predictions: list[tuple[str, PictureGrid | None]]
    calibration: Calibration | None


@dataclass(frozen=True)
class PretrainingSource:
    """Pre-training of an init, or the reason why it is not shown."""

    name: str
    pretraining: Pretraining | None = None
    missing: str = ""


@dataclass(frozen=True)
class ComparisonPage:
    """Page of a comparison, ``comparison.html``.

    Attributes:
        frame: Heading and provenance.
        progress: Number of runs that are done, in words; empty where all are.
        collapses: Sentences on runs whose teacher collapsed.
        binary: True for foreground and background.
        baseline: Reference of the comparison; None before a run is finished.
        overview: Table and pictures of the first screen; None before a run is finished.
        verdict: Sentences on the differences; None where there is nothing to compare.
        results: Results; None before a run is finished.
        pretrainings: Pre-training of each init that has one.
    """

    frame: Frame
    progress: str
    collapses: list[str]
    binary: bool
    baseline: str | None
    overview: Overview | None
    verdict: VerdictSummary | None
    results: Results | None
    pretrainings: list[PretrainingSource]


def comparison_page(folder: RunFolder) -> ComparisonPage:
    """Page of a compare folder, finished or not."""
    comparison = read_comparison(folder.path)
    classes = classes_of(folder.info)
    return ComparisonPage(
        frame=make_frame(folder, "maeseg comparison", "Which start pays?"),
        progress=_progress(folder, comparison),
        collapses=collapse_sentences(comparison),
        binary=classes == BINARY,
        baseline=comparison.baseline,
        overview=make_overview(folder.path, comparison, classes) if comparison.rows else None,
        verdict=_verdict(comparison) if comparison.pairs else None,
        results=_results(folder, comparison, classes) if comparison.rows else None,
        pretrainings=_pretrainings(folder),
    )


def _progress(folder: RunFolder, comparison: Comparison) -> str:
    if folder.finished:
        return ""
    done, planned = len(comparison.rows), folder.info.get("planned")
    runs = f"{done} of {planned} runs" if planned else f"{done} runs"
    if comparison.lengthened:
        return f"{runs} are trained out"
    return f"{runs} are done" + (" at equal steps" if folder.options.get("until") == "converged" else "")


def _verdict(comparison: Comparison) -> VerdictSummary:
    differences = [paired for paired in paired_differences(comparison) if paired.seeds]
    return VerdictSummary(
        headlines=headlines(comparison),
        times=run_time_sentences(comparison),
        costs=cost_sentences(comparison),
        differences=[(paired.verdict, difference_sentence(paired, comparison)) for paired in differences],
        scope=" ".join((*resolution_sentences(comparison), scope_sentence(comparison))),
        labels_saved=[labels_saved_sentence(saved, comparison) for saved in labels_saved(comparison)],
        gaps=[gap_sentence(gap) for gap in gaps_closed(comparison)],
    )


def _results(folder: RunFolder, comparison: Comparison, classes: Classes) -> Results:
    return Results(
        means=means_table(comparison, folder),
        differences=difference_tables(comparison),
        equal_steps=equal_steps(folder, comparison),
        classes=_classes(folder.path, comparison),
        label_figures=_label_figures(comparison),
        times=time_table(comparison),
        curves=_curves(comparison),
        contrasts=_contrasts(folder.path, classes) if folder.finished else [],  # pictures may be of shorter runs
        legend=picture_legend(classes),
        predictions=_predictions(folder.path, comparison, classes),
        calibration=_calibration(folder.path, comparison, classes == BINARY),
    )


def _label_figures(comparison: Comparison) -> LabelFigures:
    means = draw(
        label_efficiency(comparison),
        "IoU against the number of labels. Line: mean over seeds; bar: its 95 % interval; small marks: single runs. "
        "Overlapping intervals do not rule out a difference: hard images lower all means together.",
    )
    if not comparison.pairs:
        return LabelFigures(means)
    differences = draw(
        label_differences(comparison),
        "Paired difference in IoU and its 95 % interval, free of the variation that two runs share.",
    )
    dots = draw(
        paired_dots(comparison),
        "Single runs. A line joins the runs of one seed, which used the same labels in the same order.",
        "wide" if len(comparison.label_counts) * len(comparison.inits) < 8 else "",
    )
    return LabelFigures(means, differences, dots)


def _contrasts(compare: Path, classes: Classes) -> list[tuple[str, PictureGrid]]:
    groups: dict[str, list[Contrast]] = {}
    for each in read_list(compare):
        heading = f"{each.init} against {each.reference}, {labels(each.label_count)}, seed {each.seed}"
        groups.setdefault(heading, []).append(each)
    return [(heading, contrast_grid(own_file(compare, CONTRASTS), group, classes)) for heading, group in groups.items()]


def _classes(compare: Path, comparison: Comparison) -> ClassComparison | None:
    """IoU of each class under every init, and confusion matrices; None for foreground and background."""
    found = _confusions(compare, comparison)
    if not found:
        return None
    rows: list[Row] = []
    drawings: dict[int, list[Drawing]] = {}
    for (count, init), confusions in found.items():
        drawn = drawings.setdefault(count, [])
        rows.append(["" if drawn else str(count), init, str(len(confusions)), *_class_ious(confusions)])
        total = sum((each.pixels_KK for each in confusions[1:]), confusions[0].pixels_KK)
        drawn.append(confusion_drawing(Confusion(confusions[0].names, total), init))
    names = next(iter(found.values()))[0].names
    matrices = [(labels(count).capitalize(), drawn) for count, drawn in drawings.items()]
    return ClassComparison(class_iou_table(names, rows), matrices)


def _confusions(compare: Path, comparison: Comparison) -> dict[tuple[int, str], list[Confusion]]:
    """Confusion of each run, by number of labels and init; runs with other classes than the first are left out."""
    groups = {
        (count, init): [read_confusion(compare / row.run) for row in comparison.runs(init, count).values()]
        for count in comparison.label_counts
        for init in comparison.inits
    }
    names = next((each.names for group in groups.values() for each in group if each), ())
    kept = {key: [each for each in group if each and each.names == names] for key, group in groups.items()}
    return {key: group for key, group in kept.items() if group}


def _class_ious(confusions: list[Confusion]) -> list[Cell]:
    every = [[each["iou"] for each in class_figures(confusion.pixels_KK)] for confusion in confusions]
    known = [tuple(iou for iou in of_class if iou is not None) for of_class in zip(*every, strict=True)]
    return [spread(Estimate(ious)) if ious else Cell(NOTHING) for ious in known]


def _calibration(compare: Path, comparison: Comparison, binary: bool) -> Calibration | None:
    drawings: list[Drawing] = []
    rows: list[Row] = []
    share = "foreground" if binary else "correct pixels"
    for count in comparison.label_counts:
        bins: dict[str, Reliability] = {}
        for init in comparison.inits:
            read = [read_reliability(compare / row.run) for row in comparison.runs(init, count).values()]
            found = [each for each in read if each]
            if found:
                bins[init] = sum(found[1:], found[0])
                errors = Estimate(tuple(each.error for each in found if each.pixels.any()))
                rows.append(["" if len(bins) > 1 else str(count), init, str(errors.n), spread(errors)])
        if bins:
            caption = f"{labels(count).capitalize()}: share of {share} against predicted probability."
            drawings.append(draw(reliability_diagram(bins, not binary), caption))
    return Calibration(drawings, calibration_table(rows, binary)) if drawings else None


def _curves(comparison: Comparison) -> list[tuple[str, list[Drawing]]]:
    parts = []
    for count in comparison.label_counts:
        runs = {
            init: [comparison.curves.get(row.run, {}) for row in comparison.runs(init, count).values()]
            for init in comparison.inits
        }
        parts.append((labels(count), fine_tuning_curves(runs)))
    return parts


def _predictions(compare: Path, comparison: Comparison, classes: Classes) -> list[tuple[str, PictureGrid | None]]:
    parts = []
    for count in comparison.label_counts:
        seed, runs = read_predictions(compare, comparison, count)
        parts.append((f"{labels(count)}, seed {seed}", segmentation_grid(runs, classes)))
    return parts


def _pretrainings(folder: RunFolder) -> list[PretrainingSource]:
    inits = folder.info.get("inits")
    named = {name: path for name, path in inits.items() if path} if isinstance(inits, dict) else {}
    # inits with and without unlabeled images have one pre-training
    sources = {without_unlabeled(str(name)): path for name, path in named.items()}
    return [_pretraining(str(name), str(path), folder.path.resolve().parent) for name, path in sources.items()]


def _pretraining(name: str, path: str, beside: Path) -> PretrainingSource:
    """Pre-training of an init, if its folder lies in the one that holds the comparison.

    The run.json of a comparison from elsewhere may name any folder; only one beside it came with it.
    """
    resolved = Path(path).resolve()
    if resolved.exists() and not resolved.is_relative_to(beside):
        return PretrainingSource(
            name, missing=f"Its folder, {path}, does not lie beside the comparison, so it is not shown."
        )
    try:
        source = open_run(Path(path))
    except UserError:  # moved or removed since; the comparison itself stands
        return PretrainingSource(name, missing=f"Its folder, {path}, is missing.")
    return PretrainingSource(name, describe_pretraining(source))
