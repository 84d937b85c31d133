"""The page of a comparison: did pre-training pay?"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import get_args

from maeseg.errors import UserError
from maeseg.experiments.results import ResultRow, read_results
from maeseg.experiments.statistics import (
    LOWER_IS_BETTER,
    METRICS,
    SCRATCH,
    PairedDifference,
    Spread,
    Verdict,
    init_names,
    label_counts,
    label_savings,
    paired_difference,
    paired_differences,
    saving_sentence,
    sentence,
    summarise,
)
from maeseg.report.figures import label_efficiency
from maeseg.report.folder import RunFolder, open_run, own_file, read_curves, read_examples
from maeseg.report.page import (
    NOTHING,
    drawing,
    number,
    page,
    paragraph,
    section,
    subheading,
    table,
    tone,
    verdicts,
)
from maeseg.report.sections import (
    about,
    fine_tuning_curves,
    picture_legend,
    pretraining_curve,
    provenance,
    reconstruction_pictures,
    segmentation_pictures,
)

_METRIC_HEADS = [f"{words}\u00a0\u2193" if metric in LOWER_IS_BETTER else words for metric, words in METRICS.items()]


def comparison_page(folder: RunFolder) -> str:
    """The page of a compare folder, finished or not."""
    file = folder.path / "results.csv"
    rows = read_results(file) if file.is_file() else []
    body = [_progress(folder, len(rows)), *_verdict(rows)]
    if rows:
        body += [
            section("Results", _means(rows, folder), subheading("Difference from scratch"), _differences(rows)),
            section(
                "Labels and IoU",
                drawing(
                    label_efficiency(rows),
                    "IoU against the number of labels. Line: mean over seeds; band: lowest to highest seed; "
                    "small marks: single runs.",
                    "wide",
                ),
            ),
            section("Training", *_curves(folder.path, rows)),
            section("Predictions", picture_legend(), *_predictions(folder.path, rows)),
        ]
    body += [section("Pre-training", *_pretraining(folder)), provenance(folder)]
    return page("maeseg comparison", "Did pre-training pay?", about(folder), body)


def _progress(folder: RunFolder, done: int) -> str:
    if folder.finished:
        return ""
    planned = folder.info.get("planned")
    of = f"{done} of {planned}" if planned else str(done)
    return paragraph(f"This comparison is not finished: {of} runs are done. What follows may still change.", "notice")


def _verdict(rows: Sequence[ResultRow]) -> list[str]:
    differences = paired_differences(rows)
    if not rows:
        return [paragraph("No run is finished yet.", "lede")]
    if SCRATCH not in init_names(rows):
        return [paragraph("Nothing was trained from scratch, so there is nothing to compare with.", "lede")]
    if not differences:
        return [paragraph("No pre-trained run is finished yet.", "lede")]
    inits = list(dict.fromkeys(paired.init for paired in differences))
    several = len(inits) > 1
    savings = label_savings(rows)
    headlines = [
        _headline(
            [paired for paired in differences if paired.init == init],
            f"pre-training ({init})" if several else "pre-training",
        )
        for init in inits
    ]
    return [
        *(paragraph(headline, "lede") for headline in headlines),
        verdicts((paired.verdict, sentence(paired, name_init=several)) for paired in differences),
        subheading("Labels saved"),
        *(paragraph(saving_sentence(saving, name_init=several)) for saving in savings),
        paragraph(
            "Runs are paired by seed. Interval: Student's t over the seeds, each for itself, on one set of "
            "images; a verdict needs an interval that excludes zero. Labels saved: mean IoU, interpolated "
            "linearly over the logarithm of the number of labels.",
            "note",
        ),
    ]


def _headline(differences: Sequence[PairedDifference], subject: str) -> str:
    """One sentence on one init: what was found with which numbers of labels."""
    counts = {
        name: _listed([paired.label_count for paired in differences if paired.verdict == name])
        for name in get_args(Verdict)
    }
    if not counts["helped"] and not counts["hurt"]:
        return f"There is no evidence that {subject} helped or hurt, with {counts['no evidence']}."
    words = {"helped": "helped", "hurt": "hurt", "no evidence": "there is no evidence either way"}
    parts = [f"{words[name]} with {found}" for name, found in counts.items() if found]
    return f"P{subject[1:]} {'; '.join(parts)}."


def _listed(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    *others, last = map(str, counts)
    return f"{', '.join(others)} and {last} labels" if others else _labels(counts[0])


def _means(rows: Sequence[ResultRow], folder: RunFolder) -> str:
    summaries = {metric: summarise(rows, metric) for metric in METRICS}
    lines = []
    for count in label_counts(rows):
        present = [init for init in init_names(rows) if (init, count) in summaries["iou"]]
        lines += [
            [
                str(count) if init == present[0] else "",
                escape(init),
                str(summaries["iou"][init, count].n),
                *(_spread(summaries[metric][init, count]) for metric in METRICS),
            ]
            for init in present
        ]
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in rows}))
    borders = ", ".join(sorted({row.border for row in rows}))
    sizes = folder.info.get("split")
    split = f"; {sizes.get('val')} validation images of {folder.options.get('data')}" if isinstance(sizes, dict) else ""
    return table(
        ["labels", "init", "seeds", *_METRIC_HEADS],
        lines,
        f"Mean \u00b1 standard deviation over the seeds ({seeds}), at each run's best epoch, chosen on the same "
        "validation images that the figures are from, for every init alike. \u2193: lower is better. "
        f"Border pixels: {borders}{split}.",
    )


def _differences(rows: Sequence[ResultRow]) -> str:
    inits = [init for init in init_names(rows) if init != SCRATCH]
    if not inits or SCRATCH not in init_names(rows):
        return paragraph("There is nothing to compare with scratch yet.", "note")
    lines = [
        [
            str(count) if init == inits[0] else "",
            escape(init),
            *(_difference(paired_difference(rows, init, count, metric)) for metric in METRICS),
        ]
        for count in label_counts(rows)
        for init in inits
    ]
    return table(
        ["labels", "init", *_METRIC_HEADS],
        lines,
        "Mean paired difference, init minus scratch, and its 95 % interval. Green: the interval says better; "
        "orange: it says worse; grey: no evidence.",
    )


def _spread(spread: Spread) -> str:
    if math.isnan(spread.std):
        return number(spread.mean)
    return f"{number(spread.mean)}<small> \u00b1 {number(spread.std)}</small>"


def _difference(paired: PairedDifference) -> str:
    if not paired.seeds:
        return NOTHING
    low, high = paired.interval
    ends = "one seed" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"
    return f'<span class="tone {tone(paired.verdict)}">{paired.mean:+.3f}</span><br><small>{ends}</small>'


def _curves(compare: Path, rows: Sequence[ResultRow]) -> list[str]:
    parts = []
    for count in label_counts(rows):
        runs = {
            init: [
                read_curves(own_file(compare, row.run)) for row in rows if (row.init, row.label_count) == (init, count)
            ]
            for init in init_names(rows)
        }
        parts += [subheading(_labels(count)), fine_tuning_curves(runs)]
    note = (
        "Solid: validation; dashed: training. Line: mean over seeds; band: lowest to highest seed. "
        "The training curves are taken on augmented images while the network learns."
    )
    return [paragraph(note, "note"), *parts]


def _predictions(compare: Path, rows: Sequence[ResultRow]) -> list[str]:
    parts = []
    for count in label_counts(rows):
        seed = min(row.seed for row in rows if row.label_count == count)
        runs = {
            init: read_examples(own_file(compare, row.run))
            for init in init_names(rows)
            for row in rows
            if (row.init, row.label_count, row.seed) == (init, count, seed)
        }
        parts += [subheading(f"{_labels(count)}, seed {seed}"), segmentation_pictures(runs)]
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
        if not Path(str(path)).resolve().is_relative_to(folder.path.resolve().parent):
            parts.append(
                paragraph(f"Its folder, {path}, does not lie beside the comparison, so it is not shown.", "note")
            )
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


def _labels(count: int) -> str:
    return "1 label" if count == 1 else f"{count} labels"
