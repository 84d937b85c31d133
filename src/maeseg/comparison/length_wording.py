"""Sentences on the lengths of a comparison's runs that were trained out."""

from maeseg.comparison.convergence import SMALLEST_GAIN
from maeseg.comparison.reader import Comparison
from maeseg.comparison.results import STILL_RISING
from maeseg.comparison.wording import labels


def length_sentences(comparison: Comparison) -> list[str]:
    """Rule by which the runs were trained out, and the runs that were still rising; none if no run was lengthened.

    Returns:
        For example "Trained out: each run was doubled in length until a doubling raised its best validation IoU by less
        than 0.005.", "Still rising at the limit of 80 epochs, so more steps may raise them: scratch with 32 labels (2
        of 3 runs)."
    """
    if not comparison.lengthened:
        return []
    rule = (
        "Trained out: each run was doubled in length until a doubling raised its best validation IoU by less than "
        f"{SMALLEST_GAIN}."
    )
    rising = [row for row in comparison.rows if row.stage == STILL_RISING]
    if not rising:
        return [rule, "All runs reached that."]
    groups = dict.fromkeys((row.init, row.label_count) for row in rising)
    named = ", ".join(f"{init} with {labels(count)} ({_share(comparison, init, count)})" for init, count in groups)
    limit = max(row.epochs for row in rising)
    return [rule, f"Still rising at the limit of {limit} epochs, so more steps may raise them: {named}."]


def _share(comparison: Comparison, init: str, label_count: int) -> str:
    rows = comparison.runs(init, label_count).values()
    return f"{sum(row.stage == STILL_RISING for row in rows)} of {len(rows)} runs"
