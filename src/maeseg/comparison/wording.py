"""What a comparison found, in words; the terminal and the report say the same."""

import math
from collections.abc import Iterable, Mapping, Sequence

from maeseg.comparison.label_efficiency import GapClosed, LabelSaving, label_savings
from maeseg.comparison.reader import Comparison
from maeseg.comparison.results import SCRATCH
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
from maeseg.comparison.time_to_target import Pace, paces

Findings = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Numbers of labels with which something helped, with which it hurt, and of which there is no evidence."""


def headlines(comparison: Comparison) -> list[str]:
    """The verdict: with which numbers of labels pre-training helped or hurt; inits of one verdict share a sentence."""
    alike: dict[Findings, list[str]] = {}
    for init, reference in comparison.pairs:
        rather = "" if reference == comparison.baseline else f" rather than {reference}"
        alike.setdefault(_findings(init, reference, comparison), []).append(f"from {init}{rather}")
    return [
        _headline("pre-training" if _single(comparison) else f"starting {_series(origins)}", findings)
        for findings, origins in alike.items()
    ]


def _findings(init: str, reference: str, comparison: Comparison) -> Findings:
    every = [paired_difference(comparison, init, reference, count) for count in comparison.label_counts]

    def counts(verdict: Verdict) -> tuple[int, ...]:
        return tuple(paired.label_count for paired in every if paired.seeds and paired.verdict == verdict)

    return counts("helped"), counts("hurt"), counts("no evidence")


def _headline(subject: str, findings: Findings) -> str:
    helped, hurt, unknown = findings
    if not helped and not hurt:
        if not unknown:
            return f"Nothing can be said of {subject} yet."
        return f"There is no evidence that {subject} helped or hurt, with {listed(unknown)}."
    words = zip(("helped", "hurt", "there is no evidence either way"), findings, strict=True)
    return f"{_capital(subject)} {'; '.join(f'{word} with {listed(found)}' for word, found in words if found)}."


def difference_sentence(paired: PairedDifference, comparison: Comparison) -> str:
    """Say a paired difference.

    Returns:
        For example "With 32 labels pre-training helped: IoU 0.534 against 0.513 from scratch (paired difference +0.021,
        95 % interval +0.008 to +0.034 from 3 seeds and 500 images, effect size 2.1)."
    """
    subject, start = _subject(paired.init, comparison), f"With {labels(paired.label_count)}"
    if not paired.seeds:
        return (
            f"{start} nothing can be said of {subject}: no seed is finished both with it and from {paired.reference}."
        )
    found = {
        "helped": f"{subject} helped",
        "hurt": f"{subject} hurt",
        "no evidence": f"there is no evidence that {subject} helped or hurt",
    }[paired.verdict]
    size = "" if math.isnan(paired.effect_size) else f", effect size {paired.effect_size:z.1f}"
    return (
        f"{start} {found}: {METRICS[paired.metric]} {paired.ours.mean:.3f} against {paired.theirs.mean:.3f} "
        f"from {paired.reference} (paired difference {paired.difference.mean:+z.3f}, "
        f"{_certainty(paired.difference)}{size})."
    )


def _certainty(difference: Estimate) -> str:
    low, high = difference.interval
    sources: dict[Scope, str] = {
        "seeds and images": f"from {difference.n} seeds and {difference.images} images",
        "seeds alone": f"from {difference.n} seeds",
        "images alone": f"from {difference.images} images of one seed: of these two networks alone",
        "nothing": "",
    }
    if difference.scope == "nothing":
        return "one seed gives no interval"
    # -0.000 keeps its sign: an end a hair below zero is why there is no evidence
    return f"95 % interval {low:+.3f} to {high:+.3f} {sources[difference.scope]}"


def saving_sentence(saving: LabelSaving, comparison: Comparison) -> str:
    """Say a label saving.

    Returns:
        For example "With 32 labels the pre-trained network reaches IoU 0.534; from scratch that takes about 47 labels,
        1.5 times as many (95 % interval 33 to more than 320)."
    """
    subject = "the pre-trained network" if _single(comparison) else f"the network that started from {saving.init}"
    if math.isinf(saving.needed):
        rest = f"more than the largest tried, {saving.largest}"
    elif saving.needed <= saving.smallest:
        rest = f"at most {labels(saving.smallest)}, the smallest tried"
    else:
        rest = f"about {labels(round(saving.needed))}, {saving.needed / saving.label_count:.1f} times as many"
    return (
        f"With {labels(saving.label_count)} {subject} reaches IoU {saving.score:.3f}; from {saving.baseline} that "
        f"takes {rest}{_saving_interval(saving)}."
    )


def _saving_interval(saving: LabelSaving) -> str:
    low, high = saving.interval
    if math.isnan(low):
        return ""
    if math.isinf(low):
        return f" (95 % interval: more than {saving.largest})"
    if high <= saving.smallest:
        return f" (95 % interval: at most {saving.smallest})"
    if saving.smallest == saving.largest:
        return ""  # one label count was tried, and the interval reaches to both sides of it: it says nothing
    lower = f"at most {saving.smallest}" if low <= saving.smallest else f"{low:.0f}"
    upper = f"more than {saving.largest}" if math.isinf(high) else f"{high:.0f}"
    return f" (95 % interval {lower} to {upper})"


def gap_sentence(gap: GapClosed) -> str:
    """Say how far an init comes toward weights from outside."""
    low, high = gap.interval
    return (
        f"With {labels(gap.label_count)} {gap.init} closes {gap.share:.0%} of the gap in IoU between {gap.baseline} "
        f"and {gap.yardstick} (95 % interval {low:.0%} to {high:.0%})."
    )


def pace_sentence(pace: Pace, comparison: Comparison) -> str:
    """Say how soon an init reaches the baseline's best.

    Returns:
        For example "With 32 labels pre-trained runs reach the best IoU of scratch (0.497) after 120 steps and 35 s of
        fine-tuning; scratch takes 320 steps and 1 min 45 s."
    """
    subject = "pre-trained runs" if _single(comparison) else f"runs that started from {pace.init}"
    goal = f"the best {METRICS[pace.quantity]} of {pace.baseline} ({pace.target:.3f})"
    theirs = f"{pace.baseline} takes {pace.baseline_steps:.0f} steps and {duration(pace.baseline_seconds)}"
    start = f"With {labels(pace.label_count)}"
    if pace.reached < pace.seeds:
        return f"{start} {pace.reached} of {pace.seeds} {subject} reach {goal} at all; {theirs}."
    ours = f"{pace.steps:.0f} steps and {duration(pace.seconds)} of fine-tuning"
    return f"{start} {subject} reach {goal} after {ours}; {theirs}."


def prices(comparison: Comparison) -> list[str]:
    """What each pre-training saved, and whether it paid for its own wall time: one paragraph for each."""
    return [_price(init, comparison) for init in comparison.pretrainings if init in comparison.inits[1:]]


def _price(init: str, comparison: Comparison) -> str:
    took = duration(comparison.pretrainings[init].seconds)
    better, worse, unknown = _findings(init, str(comparison.baseline), comparison)
    saved = [_saved(each) for each in label_savings(comparison) if each.init == init and each.label_count in better]
    here = [pace for pace in paces(comparison) if pace.init == init]
    paid = [pace.label_count for pace in here if pace.paid]
    late = [pace.label_count for pace in here if pace.reached == pace.seeds and not pace.paid]
    missed = [pace.label_count for pace in here if pace.reached < pace.seeds]

    start = f"{'Pre-training' if _single(comparison) else f'The pre-training of {init}'} took {took}"
    sentences = [f"{start} and saved {_series(saved)}." if saved else f"{start}."]
    if worse or unknown:
        sentences.append(
            f"There is no evidence that it saved labels with {_series(map(str, sorted(worse + unknown)))}."
        )
    goal = f"to reach the best IoU of {comparison.baseline}, pre-training and fine-tuning together took"
    alone = f"than fine-tuning from {comparison.baseline}"
    if late:
        rose = f", though the IoU ended higher with {listed(better)}" if better else ""
        sentences.append(f"These {took} did not pay in time with {listed(late)}: {goal} longer {alone}{rose}.")
    if paid:
        sentences.append(f"These {took} paid in time with {listed(paid)}: {goal} less {alone}.")
    if missed:
        sentences.append(f"With {listed(missed)} not every run came as far as the best of {comparison.baseline}.")
    return " ".join(sentences)


def _saved(saving: LabelSaving) -> str:
    more = saving.needed - saving.label_count
    if math.isinf(more):
        amount = f"more than {labels(saving.largest - saving.label_count)}"
        amount = amount if saving.largest > saving.label_count else "an unknown number of labels"
    else:
        amount = f"about {labels(round(more))}" if more >= 0.5 else "no label"
    return f"{amount} with {saving.label_count}"


def scope_sentence(comparison: Comparison) -> str:
    """What the intervals speak of."""
    luck = "other seeds (new weights, labels drawn, order)"
    if comparison.images:
        luck += f" and other images of the same kind as the {comparison.images} measured"
    looked = ""
    if comparison.looks:
        known = _series(map(str, comparison.looks))
        looked = f" Seeds were added when {known} runs were known: the intervals know nothing of that look."
    return (
        f"Runs are paired by seed and by image. A 95 % interval speaks of {luck}, not of other data, networks, "
        "learning rates or numbers of steps; each one stands alone. A verdict needs two seeds and an interval that "
        f"excludes zero.{looked}"
    )


def plan_sentence(seeds: Mapping[int, int]) -> str:
    """What a comparison will be able to show, by its seeds.

    Args:
        seeds: How many there are with each number of labels.

    Returns:
        For example "3 seeds give an interval of \u00b12.5 standard deviations of their paired differences, which were
        0.006 to 0.018 in IoU in maeseg's own comparisons (docs/experiments.md): differences below 0.015 to 0.045 cannot
        be shown."
    """
    source = "which were {} in IoU in maeseg's own comparisons (docs/experiments.md)"
    groups: dict[int, list[int]] = {}
    for label_count, count in seeds.items():
        groups.setdefault(count, []).append(label_count)
    found = {count: _resolution(count, TYPICAL_SPREAD, source) for count in groups}
    if len(groups) == 1:
        return _capital(*found.values())
    return " ".join(f"With {listed(sorted(groups[count]))} {sentence}" for count, sentence in found.items())


def resolution_sentences(comparison: Comparison) -> list[str]:
    """What a comparison's seeds can show, by how much they differ; one sentence for each number of seeds."""
    groups: dict[int, list[float]] = {}
    for paired in paired_differences(comparison):
        if paired.seeds:
            groups.setdefault(len(paired.seeds), []).append(paired.difference.std)
    return [
        _capital(_resolution(count, (min(stds), max(stds)), "which are {} in IoU here"))
        for count, stds in groups.items()
    ]


def _resolution(seeds: int, spread: tuple[float, float], source: str) -> str:
    if seeds == 1:
        return "one seed gives no interval over seeds: differences are of these images only."
    half = seeds_half_width(seeds)
    return (
        f"{seeds} seeds give an interval of \u00b1{half:.1f} standard deviations of their paired differences, "
        f"{source.format(_range(*spread))}: differences below {_range(*(half * each for each in spread))} "
        "cannot be shown."
    )


def _range(low: float, high: float) -> str:
    ends = f"{low:.3f}", f"{high:.3f}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def labels(count: int) -> str:
    """``1 label``, ``32 labels``."""
    return "1 label" if count == 1 else f"{count} labels"


def listed(counts: Sequence[int]) -> str:
    """``1 label``, ``32 labels``, ``8, 32 and 320 labels``."""
    return labels(counts[0]) if len(counts) == 1 else f"{_series(map(str, counts))} labels"


def duration(seconds: float) -> str:
    """Wall time in words: ``42 s``, ``3 min 20 s``, ``1 h 12 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _single(comparison: Comparison) -> bool:
    """Whether there is one init besides scratch, which then needs no name."""
    return comparison.baseline == SCRATCH and len(comparison.inits) == 2


def _subject(init: str, comparison: Comparison) -> str:
    return "pre-training" if _single(comparison) else f"starting from {init}"


def _series(parts: Iterable[str]) -> str:
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
