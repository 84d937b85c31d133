"""The page of a comparison: did pre-training pay?"""

import math
from html import escape
from pathlib import Path

from maeseg.comparison.contrasts import Contrast, read_list
from maeseg.comparison.label_efficiency import gaps_closed, label_savings
from maeseg.comparison.reader import Comparison, read_comparison
from maeseg.comparison.statistics import (
    LOWER_IS_BETTER,
    METRICS,
    Estimate,
    PairedDifference,
    paired_difference,
    paired_differences,
    summarize,
)
from maeseg.comparison.time_to_target import Quantity, paces
from maeseg.comparison.wording import (
    difference_sentence,
    duration,
    gap_sentence,
    headlines,
    labels,
    prices,
    resolution_sentences,
    saving_sentence,
    scope_sentence,
)
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, classes_of
from maeseg.metrics.scores import Reliability, class_figures
from maeseg.reporting.figures import label_differences, label_efficiency, paired_dots, reliability_diagram
from maeseg.reporting.page import (
    NOTHING,
    drawing,
    folded_parts,
    number,
    page,
    pair,
    paragraph,
    section,
    subheading,
    table,
    tone,
    verdicts,
)
from maeseg.reporting.sections import (
    about,
    calibration_note,
    calibration_table,
    confusion_drawing,
    contrast_pictures,
    fine_tuning_curves,
    picture_legend,
    pretraining_curve,
    provenance,
    reconstruction_pictures,
    segmentation_pictures,
)
from maeseg.runs.layout import CONTRASTS
from maeseg.runs.reader import RunFolder, open_run, own_file, read_examples
from maeseg.runs.validation import Confusion, read_confusion, read_reliability

_METRIC_HEADS = [f"{words}\u00a0\u2193" if metric in LOWER_IS_BETTER else words for metric, words in METRICS.items()]


def comparison_page(folder: RunFolder) -> str:
    """The page of a compare folder, finished or not."""
    comparison = read_comparison(folder.path)
    body = [_progress(folder, len(comparison.rows)), *_verdict(comparison)]
    if comparison.rows:
        classes = classes_of(folder.info)
        of_classes = _classes(folder.path, comparison)
        body += [
            section("Results", _means(comparison, folder), *_differences(comparison)),
            *([section("Classes", *of_classes)] if of_classes else []),
            section("Labels and IoU", *_label_figures(comparison)),
            section("Time", *_time(comparison)),
            section("Training", *_curves(comparison)),
            section("Where the networks differ most", *_contrasts(folder.path, classes)),
            section("Predictions", picture_legend(classes), *_predictions(folder.path, comparison, classes)),
            section("Calibration", *_calibration(folder.path, comparison, classes)),
        ]
    body += [section("Pre-training", *_pretraining(folder)), provenance(folder)]
    return page("maeseg comparison", "Did pre-training pay?", about(folder), body)


def _progress(folder: RunFolder, done: int) -> str:
    if folder.finished:
        return ""
    planned = folder.info.get("planned")
    of = f"{done} of {planned}" if planned else str(done)
    return paragraph(f"This comparison is not finished: {of} runs are done. What follows may still change.", "notice")


def _verdict(comparison: Comparison) -> list[str]:
    if not comparison.rows:
        return [paragraph("No run is finished yet.", "lede")]
    if not comparison.pairs:
        only = f"Only runs from {comparison.baseline} are finished, so there is nothing to compare yet."
        return [paragraph(only, "lede")]
    differences = [paired for paired in paired_differences(comparison) if paired.seeds]
    gaps = [paragraph(gap_sentence(gap)) for gap in gaps_closed(comparison)]
    return [
        *(paragraph(headline, "lede") for headline in headlines(comparison)),
        *(paragraph(price) for price in prices(comparison)),
        verdicts((paired.verdict, difference_sentence(paired, comparison)) for paired in differences),
        paragraph(" ".join((*resolution_sentences(comparison), scope_sentence(comparison))), "note"),
        subheading("Labels saved"),
        *(paragraph(saving_sentence(saving, comparison)) for saving in label_savings(comparison)),
        paragraph(
            "By mean IoU, interpolated linearly over the logarithm of the number of labels; the interval is the middle "
            "95 % of what other seeds and images could have given.",
            "note",
        ),
        *([subheading("Gap closed"), *gaps] if gaps else []),
    ]


def _means(comparison: Comparison, folder: RunFolder) -> str:
    means = {metric: summarize(comparison, metric) for metric in METRICS}
    lines = []
    for count in comparison.label_counts:
        present = [init for init in comparison.inits if (init, count) in means["iou"]]
        lines += [
            [
                str(count) if init == present[0] else "",
                escape(init),
                str(means["iou"][init, count].n),
                *(_spread(means[metric][init, count]) for metric in METRICS),
            ]
            for init in present
        ]
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in comparison.rows}))
    borders = ", ".join(sorted({row.border for row in comparison.rows}))
    sizes, split = folder.info.get("split"), ""
    chosen_on = "the same validation images that the figures are from"
    if isinstance(sizes, dict):
        parts = f"{sizes.get('val')} validation images"
        if sizes.get("test"):
            parts += f", {sizes['test']} test images"
            chosen_on = "the validation images; the figures are from the test images"
        split = f"; {parts} of {folder.options.get('data')}"
    return table(
        ["labels", "init", "seeds", *_METRIC_HEADS],
        lines,
        f"Mean \u00b1 standard deviation over the seeds ({seeds}), at each run's best epoch, chosen on "
        f"{chosen_on}, for every init alike. \u2193: lower is better. "
        f"Border pixels: {borders}{split}.",
    )


def _differences(comparison: Comparison) -> list[str]:
    parts = []
    for init, reference in comparison.pairs:
        lines = []
        for count in comparison.label_counts:
            every = [paired_difference(comparison, init, reference, count, metric) for metric in METRICS]
            size = every[list(METRICS).index("iou")].effect_size
            seeds = str(len(every[0].seeds))
            lines.append([str(count), seeds, *map(_difference, every), number(size, "z.1f")])
        parts += [
            subheading(f"Difference: {init} \u2212 {reference}"),
            table(
                ["labels", "seeds", *_METRIC_HEADS, "effect size of IoU"],
                lines,
            ),
        ]
    if not parts:
        return [paragraph("There is nothing to compare yet.", "note")]
    note = (
        "Mean paired difference and its 95 % interval. Green: the interval says better; orange: it says worse; gray: "
        "no evidence; with one seed the interval is of the images alone. Effect size: mean over standard deviation of "
        "the seeds' differences, with Hedges' correction; from three seeds on."
    )
    return [*parts, paragraph(note, "note")]


def _spread(figure: Estimate) -> str:
    if math.isnan(figure.std):
        return number(figure.mean)
    return f"{number(figure.mean)}<small> \u00b1 {number(figure.std)}</small>"


def _difference(paired: PairedDifference) -> str:
    if not paired.seeds:
        return NOTHING
    low, high = paired.difference.interval
    ends = "one seed" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"  # -0.000 keeps its sign, as in sentences
    return f'<span class="tone {tone(paired.verdict)}">{paired.difference.mean:+z.3f}</span><br><small>{ends}</small>'


def _label_figures(comparison: Comparison) -> list[str]:
    curve = drawing(
        label_efficiency(comparison),
        "IoU against the number of labels. Line: mean over seeds; bar: its 95 % interval; small marks: single runs. "
        "How hard the images are moves all means together, so these intervals overlap sooner than differences vanish.",
    )
    if not comparison.pairs:
        return [curve]
    differences = drawing(
        label_differences(comparison), "Paired difference in IoU and its 95 % interval: free of what two runs share."
    )
    dots = drawing(
        paired_dots(comparison),
        "Every run; a line joins the runs of one seed, which had the same labels in the same order.",
        "wide" if len(comparison.label_counts) * len(comparison.inits) < 8 else "",
    )
    return [pair(curve, differences), subheading("Seed by seed"), dots]


def _time(comparison: Comparison) -> list[str]:
    quantities: tuple[Quantity, ...] = ("iou", "accuracy")
    every = [pace for quantity in quantities for pace in paces(comparison, quantity)]
    if not every:
        return [paragraph("There is nothing to compare yet.", "note")]
    several = len(comparison.inits) > 2
    goals = [f"{METRICS[pace.quantity]} {pace.target:.3f}" for pace in every]
    lines = [
        [
            "" if before == goal else goal,
            f"{labels(pace.label_count)}{', ' + escape(pace.init) if several else ''}",
            number(pace.baseline_steps, ".0f"),
            number(pace.steps, ".0f") if pace.reached == pace.seeds else f"{pace.reached} of {pace.seeds} runs",
            _time_cell(pace.baseline_seconds),
            _time_cell(pace.seconds),
            _time_cell(pace.total_seconds),
        ]
        for pace, goal, before in zip(every, goals, ["", *goals], strict=False)
    ]
    baseline = str(comparison.baseline)
    return [
        table(
            [
                "to reach", "with", f"steps from\u00a0{baseline}", "steps", f"time from\u00a0{baseline}", "fine-tuning",
                "with pre-training",
            ],
            lines,
            f"Until a run's validation first reaches what the run of its seed from {baseline} reached at its best; "
            "means over seeds. Wall time of training with its validations, on this machine.",
        ),
    ]  # fmt: skip


def _time_cell(seconds: float) -> str:
    return NOTHING if math.isnan(seconds) else duration(seconds)


def _contrasts(compare: Path, classes: Classes) -> list[str]:
    contrasts = read_list(compare)
    if not contrasts:
        return [paragraph("The pictures are made when all runs are finished.", "note")]
    parts = [
        paragraph(
            "The images whose IoU differs most between two runs of one seed: the largest gains, then the "
            "largest losses. They are extremes, chosen to learn from, not to judge by.",
            "note",
        ),
        picture_legend(classes),
    ]
    groups: dict[str, list[Contrast]] = {}
    for each in contrasts:
        heading = f"{each.init} against {each.reference}, {labels(each.label_count)}, seed {each.seed}"
        groups.setdefault(heading, []).append(each)
    for place, (heading, group) in enumerate(groups.items()):
        parts.append(
            folded_parts(heading, contrast_pictures(own_file(compare, CONTRASTS), group, classes), opened=place == 0)
        )
    return parts


def _classes(compare: Path, comparison: Comparison) -> list[str]:
    """Of classes of the user's own each one's IoU under every init, and which is taken for which."""
    names: tuple[str, ...] = ()
    lines: list[list[str]] = []
    matrices: list[str] = []
    for count in comparison.label_counts:
        drawn: list[str] = []
        for init in comparison.inits:
            read = [read_confusion(compare / row.run) for row in comparison.runs(init, count).values()]
            found = [each for each in read if each]
            names = names or (found[0].names if found else ())
            found = [each for each in found if each.names == names]
            if not found:
                continue
            every = [[each["iou"] for each in class_figures(confusion.pixels_KK)] for confusion in found]
            there = [[iou for iou in of_class if iou is not None] for of_class in zip(*every, strict=True)]
            spreads = [_spread(Estimate(tuple(ious))) if ious else NOTHING for ious in there]
            lines.append(["" if drawn else str(count), escape(init), str(len(found)), *spreads])
            together = sum((each.pixels_KK for each in found[1:]), found[0].pixels_KK)
            drawn.append(confusion_drawing(Confusion(names, together), init))
        if drawn:
            matrices.append(folded_parts(labels(count).capitalize(), pair(*drawn), opened=not matrices))
    if not lines:
        return []
    caption = "IoU of each class over all pixels of the set; mean \u00b1 standard deviation over seeds."
    heading = subheading("Which class is taken for which, over all seeds")
    return [table(["labels", "init", "seeds", *names], lines, caption), heading, *matrices]


def _calibration(compare: Path, comparison: Comparison, classes: Classes) -> list[str]:
    drawings, lines = [], []
    for count in comparison.label_counts:
        bins: dict[str, Reliability] = {}
        for init in comparison.inits:
            read = [read_reliability(compare / row.run) for row in comparison.runs(init, count).values()]
            found = [each for each in read if each]
            if found:
                bins[init] = sum(found[1:], found[0])
                errors = Estimate(tuple(each.error for each in found))
                lines.append(["" if len(bins) > 1 else str(count), escape(init), str(errors.n), _spread(errors)])
        if bins:
            what = "foreground" if classes == BINARY else "what is right"
            caption = f"{labels(count).capitalize()}: share of {what} among pixels of one predicted probability."
            drawings.append(drawing(reliability_diagram(bins, classes != BINARY), caption))
    if not drawings:
        return [paragraph("The runs left no calibration.csv.", "note")]
    return [calibration_note(classes), pair(*drawings), calibration_table(lines, classes)]


def _curves(comparison: Comparison) -> list[str]:
    parts = []
    for count in comparison.label_counts:
        runs = {
            init: [comparison.curves.get(row.run, {}) for row in comparison.runs(init, count).values()]
            for init in comparison.inits
        }
        parts += [subheading(labels(count)), fine_tuning_curves(runs)]
    note = (
        "Solid: validation; dashed: training. Line: mean over seeds; band: lowest to highest seed. "
        "The training curves are taken on augmented images while the network learns."
    )
    return [paragraph(note, "note"), *parts]


def _predictions(compare: Path, comparison: Comparison, classes: Classes) -> list[str]:
    parts = []
    for count in comparison.label_counts:
        by_init = {init: comparison.runs(init, count) for init in comparison.inits}
        seed = min(min(runs) for runs in by_init.values() if runs)
        runs = {init: read_examples(compare / runs[seed].run) for init, runs in by_init.items() if seed in runs}
        parts += [subheading(f"{labels(count)}, seed {seed}"), segmentation_pictures(runs, classes)]
    return parts


def _pretraining(folder: RunFolder) -> list[str]:
    inits = folder.info.get("inits")
    sources = {name: path for name, path in inits.items() if path} if isinstance(inits, dict) else {}
    if not sources:
        return [paragraph("No init of this comparison is pre-trained.", "note")]
    parts = []
    for name, path in sources.items():
        parts.append(subheading(str(name)))
        # A stranger's run.json may name any folder; those that lie beside the comparison came with it.
        there = Path(str(path)).resolve()
        if there.exists() and not there.is_relative_to(folder.path.resolve().parent):
            note = f"Its folder, {path}, does not lie beside the comparison, so it is not shown."
            parts.append(paragraph(note, "note"))
            continue
        try:
            source = open_run(Path(str(path)))
        except UserError:  # moved or removed since; the comparison itself stands
            parts.append(paragraph(f"Its folder, {path}, is no longer there.", "note"))
            continue
        parts += [
            pretraining_curve(source),
            reconstruction_pictures(source),
        ]
    return parts
