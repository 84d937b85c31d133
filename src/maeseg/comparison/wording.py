"""Results of a comparison as sentences; the terminal and the report use the same ones."""

import math
from collections.abc import Iterable, Mapping, Sequence

from maeseg.comparison.label_efficiency import GapClosed, LabelsSaved, labels_saved
from maeseg.comparison.reader import Comparison
from maeseg.comparison.results import SCRATCH, has_unlabeled, with_unlabeled
from maeseg.comparison.run_times import run_times
from maeseg.comparison.statistics import (
    METRICS,
    TYPICAL_SPREAD,
    Estimate,
    PairedDifference,
    Scope,
    Verdict,
    paired_difference,
    paired_differences,
    seeds_half_width,
)
from maeseg.comparison.time_to_target import TimeToTarget, times_to_target

Findings = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Label counts at which an init helped, at which it hurt, and at which there is no evidence."""


def headlines(comparison: Comparison) -> list[str]:
    """Verdict for all numbers of labels; inits with the same verdict share a sentence."""
    equal: dict[tuple[str, Findings], list[str]] = {}
    for init, reference in comparison.pairs:
        action, origin = _change(init, reference, comparison)
        equal.setdefault((action, _findings(init, reference, comparison)), []).append(origin)
    return [
        _headline(f"{action} {_series(origins)}".strip(), findings) for (action, findings), origins in equal.items()
    ]


def _change(init: str, reference: str, comparison: Comparison) -> tuple[str, str]:
    """Difference between an init and its reference in words: the action, and what it is done to."""
    if _adds_unlabeled(init, reference):
        return "adding unlabeled images to", reference
    if _single(comparison):
        return "pre-training", ""
    return "starting", f"from {init}" + ("" if reference == comparison.baseline else f" rather than {reference}")


def _adds_unlabeled(init: str, reference: str) -> bool:
    return not has_unlabeled(reference) and init == with_unlabeled(reference)


def _findings(init: str, reference: str, comparison: Comparison) -> Findings:
    every = [paired_difference(comparison, init, reference, count) for count in comparison.label_counts]

    def counts(verdict: Verdict) -> tuple[int, ...]:
        return tuple(paired.label_count for paired in every if paired.seeds and paired.verdict == verdict)

    return counts("helped"), counts("hurt"), counts("no evidence")


def _headline(subject: str, findings: Findings) -> str:
    helped, hurt, unknown = findings
    if not helped and not hurt:
        if not unknown:
            return f"There is no result for {subject} yet."
        return f"There is no evidence that {subject} helped or hurt with {listed(unknown)}."
    words = zip(("helped", "hurt", "there is no evidence either way"), findings, strict=True)
    return f"{_capital(subject)} {'; '.join(f'{word} with {listed(found)}' for word, found in words if found)}."


def difference_sentence(paired: PairedDifference, comparison: Comparison) -> str:
    """Sentence on a paired difference.

    Returns:
        For example "With 32 labels pre-training helped: IoU 0.534 against 0.513 from scratch (paired difference +0.021,
        95 % interval +0.008 to +0.034 from 3 seeds and 500 images, effect size 2.1)."
    """
    subject = "pre-training" if _single(comparison) else f"starting from {paired.init}"
    if _adds_unlabeled(paired.init, paired.reference):
        subject = f"adding unlabeled images to {paired.reference}"
    condition = f"With {labels(paired.label_count)}"
    if not paired.seeds:
        return (
            f"{condition} there is no result for {subject}: no seed is finished for both {paired.init} and "
            f"{paired.reference}."
        )
    found = {
        "helped": f"{subject} helped",
        "hurt": f"{subject} hurt",
        "no evidence": f"there is no evidence that {subject} helped or hurt",
    }[paired.verdict]
    effect_size = "" if math.isnan(paired.effect_size) else f", effect size {paired.effect_size:z.1f}"
    return (
        f"{condition} {found}: {METRICS[paired.metric]} {paired.ours.mean:.3f} against {paired.theirs.mean:.3f} "
        f"from {paired.reference} (paired difference {paired.difference.mean:+z.3f}, "
        f"{_certainty(paired.difference)}{effect_size})."
    )


def _certainty(difference: Estimate) -> str:
    if difference.scope == "nothing":
        return "one seed gives no interval"
    low, high = difference.interval
    sources: dict[Scope, str] = {
        "seeds and images": f"{difference.n} seeds and {difference.images} images",
        "seeds alone": f"{difference.n} seeds",
        "images alone": f"{difference.images} images and one seed: valid for these two networks only",
    }
    # -0.000 keeps its sign: an end slightly below zero is the reason for "no evidence"
    return f"95 % interval {low:+.3f} to {high:+.3f} from {sources[difference.scope]}"


def labels_saved_sentence(saved: LabelsSaved, comparison: Comparison) -> str:
    """Sentence on the labels that an init saves.

    Returns:
        For example "With 32 labels the pre-trained network reaches IoU 0.534; from scratch that takes about 47 labels,
        1.5 times as many (95 % interval 33 to more than 320)."
    """
    subject = "the pre-trained network" if _single(comparison) else f"the network that started from {saved.init}"
    if math.isinf(saved.needed):
        needed = f"more than the largest number tried, {saved.largest}"
    elif saved.needed <= saved.smallest:
        needed = f"at most {labels(saved.smallest)}, the smallest number tried"
    else:
        needed = f"about {labels(round(saved.needed))}, {saved.needed / saved.label_count:.1f} times as many"
    return (
        f"With {labels(saved.label_count)} {subject} reaches IoU {saved.score:.3f}; from {saved.baseline} that "
        f"takes {needed}{_needed_interval(saved)}."
    )


def _needed_interval(saved: LabelsSaved) -> str:
    low, high = saved.interval
    if math.isnan(low):
        return ""
    if math.isinf(low):
        return f" (95 % interval: more than {saved.largest})"
    if high <= saved.smallest:
        return f" (95 % interval: at most {saved.smallest})"
    if saved.smallest == saved.largest:
        return ""  # with one label count an interval that reaches to both sides of it is empty of information
    lower = f"at most {saved.smallest}" if low <= saved.smallest else f"{low:.0f}"
    upper = f"more than {saved.largest}" if math.isinf(high) else f"{high:.0f}"
    return f" (95 % interval {lower} to {upper})"


def gap_sentence(gap: GapClosed) -> str:
    """Sentence on the share of a gap that an init closes."""
    low, high = gap.interval
    return (
        f"With {labels(gap.label_count)} {gap.init} closes {gap.share:.0%} of the gap in IoU between {gap.baseline} "
        f"and {gap.yardstick} (95 % interval {low:.0%} to {high:.0%})."
    )


def time_sentence(time: TimeToTarget, comparison: Comparison) -> str:
    """Sentence on the time to target of an init.

    Returns:
        For example "With 32 labels pre-trained runs reach the best IoU of scratch (0.497) after 120 steps and 35 s of
        fine-tuning; scratch takes 320 steps and 1 min 45 s."
    """
    subject = "pre-trained runs" if _single(comparison) else f"runs that started from {time.init}"
    target = f"the best {METRICS[time.quantity]} of {time.baseline} ({time.target:.3f})"
    theirs = f"{time.baseline} takes {time.baseline_steps:.0f} steps and {duration(time.baseline_seconds)}"
    condition = f"With {labels(time.label_count)}"
    if time.reached < time.seeds:
        return f"{condition} only {time.reached} of {time.seeds} {subject} reach {target}; {theirs}."
    ours = f"{time.steps:.0f} steps and {duration(time.seconds)} of fine-tuning"
    return f"{condition} {subject} reach {target} after {ours}; {theirs}."


def run_time_sentences(comparison: Comparison) -> list[str]:
    """Sentence on the wall time of a run from each init, for each number of labels.

    Returns:
        For example "With 32 labels a run took 1 min 45 s from scratch; 3 min 9 s from scratch+unlabeled, 1.8 times as
        long."
    """
    times: dict[int, list[str]] = {}
    for time in run_times(comparison):
        factor = "" if math.isnan(time.factor) else f", {time.factor:.1f} times as long"
        times.setdefault(time.label_count, []).append(f"{duration(time.seconds)} from {time.init}{factor}")
    return [f"With {labels(count)} a run took {'; '.join(found)}." for count, found in times.items()]


def cost_sentences(comparison: Comparison) -> list[str]:
    """Cost of each pre-training: its wall time, and the labels and time that it saved. One paragraph for each.

    Inits with unlabeled images are left out: these have a share in what is saved.
    """
    inits = [init for init in comparison.inits[1:] if init in comparison.pretrainings]
    return [_cost(init, comparison) for init in inits if not has_unlabeled(init)]


def _cost(init: str, comparison: Comparison) -> str:
    helped, hurt, unknown = _findings(init, str(comparison.baseline), comparison)
    sentences = [_labels_for_time(init, comparison, helped)]
    if hurt or unknown:
        sentences.append(f"There is no evidence that it saved labels with {_series(map(str, sorted(hurt + unknown)))}.")
    return " ".join([*sentences, *_time_balance(init, comparison, helped)])


def _labels_for_time(init: str, comparison: Comparison, helped: Sequence[int]) -> str:
    """Wall time of a pre-training and the labels that it saved where it helped."""
    subject = "Pre-training" if _single(comparison) else f"The pre-training of {init}"
    teachers = comparison.pretrainings[init].teachers
    taught = f", with the features of {_series(teachers)} as a target," if teachers else ""
    took = f"{subject}{taught} took {duration(comparison.pretrainings[init].seconds)}"
    saved = [_amount(each) for each in labels_saved(comparison) if each.init == init and each.label_count in helped]
    return f"{took} and saved {_series(saved)}." if saved else f"{took}."


def _amount(saved: LabelsSaved) -> str:
    more = saved.needed - saved.label_count
    if math.isinf(more):
        amount = f"more than {labels(saved.largest - saved.label_count)}"
        amount = amount if saved.largest > saved.label_count else "an unknown number of labels"
    else:
        amount = f"about {labels(round(more))}" if more >= 0.5 else "no label"
    return f"{amount} with {saved.label_count}"


def _time_balance(init: str, comparison: Comparison, helped: Sequence[int]) -> list[str]:
    """Comparison of pre-training plus fine-tuning with fine-tuning from the baseline, in wall time."""
    times = [time for time in times_to_target(comparison) if time.init == init]
    sooner = [time.label_count for time in times if time.saved_time]
    later = [time.label_count for time in times if time.reached == time.seeds and not time.saved_time]
    missed = [time.label_count for time in times if time.reached < time.seeds]
    target = f"the best IoU of {comparison.baseline}"
    sentences = []
    if later:
        higher = f", though the final IoU was higher with {listed(helped)}" if helped else ""
        sentences.append(
            f"It saved no time with {listed(later)}: pre-training plus fine-tuning took longer to reach {target} than "
            f"fine-tuning from {comparison.baseline}{higher}."
        )
    if sooner:
        sentences.append(
            f"It saved time with {listed(sooner)}: pre-training plus fine-tuning reached {target} sooner than "
            f"fine-tuning from {comparison.baseline}."
        )
    if missed:
        sentences.append(f"With {listed(missed)} not every run reached {target}.")
    return sentences


def scope_sentence(comparison: Comparison) -> str:
    """Meaning of the intervals and verdicts."""
    covered = "other seeds (initial weights, choice of labels, order)"
    if comparison.images:
        covered += f" and other images of the same kind as the {comparison.images} measured"
    interim = ""
    if comparison.interim_looks:
        known = _series(map(str, comparison.interim_looks))
        interim = f" Seeds were added after interim looks at {known} runs: the intervals are not corrected for that."
    return (
        f"Runs are paired by seed and by image. A 95 % interval covers {covered}. It does not cover other data, "
        "networks, learning rates or numbers of steps. Intervals are not corrected for multiple comparisons. "
        f"A verdict needs two seeds and an interval that excludes zero.{interim}"
    )


def plan_sentence(seeds: Mapping[int, int]) -> str:
    """Smallest differences that a planned comparison can show.

    Args:
        seeds: Number of seeds for each number of labels.

    Returns:
        For example "3 seeds give an interval of \u00b12.5 standard deviations of their paired differences. These were
        0.006 to 0.018 in IoU in maeseg's own comparisons (docs/experiments.md): differences below 0.015 to 0.045 cannot
        be shown."
    """
    source = "These were {} in IoU in maeseg's own comparisons (docs/experiments.md)"
    groups: dict[int, list[int]] = {}
    for label_count, count in seeds.items():
        groups.setdefault(count, []).append(label_count)
    found = {count: _resolution(count, TYPICAL_SPREAD, source) for count in groups}
    if len(groups) == 1:
        return _capital(*found.values())
    return " ".join(f"With {listed(sorted(groups[count]))} {sentence}" for count, sentence in found.items())


def resolution_sentences(comparison: Comparison) -> list[str]:
    """Smallest differences that the seeds of a comparison can show; one sentence for each number of seeds."""
    groups: dict[int, list[float]] = {}
    for paired in paired_differences(comparison):
        if paired.seeds:
            groups.setdefault(len(paired.seeds), []).append(paired.difference.std)
    return [
        _capital(_resolution(count, (min(stds), max(stds)), "These are {} in IoU here"))
        for count, stds in groups.items()
    ]


def _resolution(seeds: int, spread: tuple[float, float], source: str) -> str:
    if seeds == 1:
        return "one seed gives no interval over seeds: differences are valid for these images only."
    half = seeds_half_width(seeds)
    return (
        f"{seeds} seeds give an interval of \u00b1{half:.1f} standard deviations of their paired differences. "
        f"{source.format(_range(*spread))}: differences below {_range(*(half * each for each in spread))} "
        "cannot be shown."
    )


def _range(low: float, high: float) -> str:
    ends = f"{low:.3f}", f"{high:.3f}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def labels(count: int) -> str:
    """Number of labels: ``1 label``, ``32 labels``."""
    return "1 label" if count == 1 else f"{count} labels"


def listed(counts: Sequence[int]) -> str:
    """Numbers of labels: ``1 label``, ``32 labels``, ``8, 32 and 320 labels``."""
    return labels(counts[0]) if len(counts) == 1 else f"{_series(map(str, counts))} labels"


def duration(seconds: float) -> str:
    """Wall time in words: ``42 s``, ``3 min 20 s``, ``1 h 12 min``."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _single(comparison: Comparison) -> bool:
    """True with one init besides scratch, without unlabeled images, which then needs no name."""
    inits = comparison.inits
    return comparison.baseline == SCRATCH and len(inits) == 2 and not has_unlabeled(inits[1])


def _series(parts: Iterable[str]) -> str:
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
