"""Sentences on runs whose teacher, the average of the network on unlabeled images, collapsed."""

from maeseg.comparison.reader import Comparison
from maeseg.comparison.wording import labels


def collapse_sentences(comparison: Comparison) -> list[str]:
    """Sentence on the runs of an init at a number of labels whose teacher collapsed; none without such runs.

    Returns:
        For example "With 32 labels the teacher collapsed in 1 of 3 runs from scratch+unlabeled (one class): see
        train_confident and train_largest_class in their metrics.csv."
    """
    collapsed = [row for row in comparison.rows if row.run in comparison.collapses]
    groups = dict.fromkeys((row.init, row.label_count) for row in collapsed)
    return [_sentence(comparison, *group) for group in sorted(groups, key=lambda group: group[1])]


def _sentence(comparison: Comparison, init: str, label_count: int) -> str:
    runs = [row.run for row in comparison.runs(init, label_count).values()]
    kinds = [comparison.collapses[run] for run in runs if run in comparison.collapses]
    return (
        f"With {labels(label_count)} the teacher collapsed in {len(kinds)} of {len(runs)} runs from {init} "
        f"({', '.join(dict.fromkeys(kinds))}): see train_confident and train_largest_class in their metrics.csv."
    )
