"""Classes of the labels of volumes, from a class list or from the values of all labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from maeseg.data.class_labels import parse_classes
from maeseg.data.label_files import LabelFacts, count_values
from maeseg.data.label_rules import LabelRule, rule_of
from maeseg.data.volumes.volume import read_label_values
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, one
from maeseg.types import BORDER

_IGNORE = "ignore"
_MOST = 64  # classes that are named by their values; more are likely to be numbers of instances
"""Maximum number of classes without a class list."""


def volume_label_facts(path: Path) -> LabelFacts:
    """Count the values of a label file; its height is depth times height.

    Raises:
        DataError: The file cannot be used as a label.
    """
    values_DHW = read_label_values(path)
    flat = values_DHW.reshape(-1, values_DHW.shape[2])
    return LabelFacts(*flat.shape, count_values(flat), None, None, None, False, False, False, 1)


def choose_volume_rule(
    labels: Mapping[str, LabelFacts], classes: Classes, root: str, names: Mapping[int, str]
) -> tuple[Classes, LabelRule]:
    """Determine the classes of labels and their values.

    Labels of 0 and 1, or of 0 and 255, are binary. Other values are one class each, named by ``names`` or by value;
    255 does not count, nor does the value that is named ``ignore``, as in nnU-Net.

    Args:
        labels: Facts about each readable label, by name.
        classes: Classes of a list; ``BINARY`` without one.
        root: Folder, for messages.
        names: Names of the classes by value.

    Raises:
        UserError: Values are negative, or so many that they are no classes.
    """
    if classes != BINARY:
        return classes, rule_of(classes)
    found = Counter[float]()
    for name, facts in labels.items():
        counts = facts.values
        if counts is None or not counts.counts or counts.low < 0:
            raise UserError(f"{root}: {name} has {_span(facts)}, which are no classes: save classes 0, 1, 2 and so on")
        found.update(counts.counts.keys())
    values = sorted({0, *map(int, found)})
    if set(values) <= {0, 255} and 255 in values:
        return BINARY, LabelRule(codes=((one(0),), (one(255),)), origin=root)
    ignored = sorted({BORDER, *(value for value, name in names.items() if name == _IGNORE)})
    border = tuple(one(value) for value in ignored if value in values)
    names = {value: name for value, name in names.items() if value not in ignored}
    values = [value for value in values if value not in ignored]
    if set(values) <= {0, 1} and len(names) <= 2:
        return BINARY, LabelRule(border=border, origin=root)
    values = sorted({*values, *names})
    if len(values) > _MOST or values[-1] > BORDER:
        raise UserError(
            f"{root}: the labels have {len(values)} values up to {values[-1]}: give --classes FILE with the value of "
            "each class ({background: 0, cell: 1-65535} for numbers of instances)"
        )
    chosen = _named(values, names, root, ignored if len(ignored) > 1 else None)
    return chosen, rule_of(chosen)


def _named(values: Sequence[int], names: Mapping[int, str], root: str, ignored: Sequence[int] | None) -> Classes:
    given = {value: "background" if value == 0 else names.get(value, f"class_{value}") for value in values}
    try:
        return parse_classes({given[value]: value for value in values}, "", ignored)
    except ValueError as error:
        raise UserError(f"{root}: the classes {', '.join(given.values())} cannot be used ({error})") from error


def _span(facts: LabelFacts) -> str:
    counts = facts.values
    if counts is None:
        return "no values"
    return f"{counts.distinct} values from {counts.low:g} to {counts.high:g}"
