"""A model card: what the weights are, in Markdown, from what stands in the run folder.

A run folder may be a stranger's: its texts are shown as code, on one line, and nothing that it names is opened. Of a
path the last part is shown only: where files lie on a machine is no business of those who get the weights.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from maeseg.data.image_reading import RGB
from maeseg.metrics.scores import CLASS_FIGURES
from maeseg.runs.checkpoint import Checkpoint
from maeseg.runs.reader import RunFolder
from maeseg.runs.writer import ABOUT_THIS_CALL

LONGEST = 200
"""Characters of a text from a run folder that are shown."""


def model_card(
    title: str, what: str, run: RunFolder, saved: Checkpoint, figures: Mapping[str, Any], code: str,
    notes: Iterable[str],
) -> str:  # fmt: skip
    """Write a card.

    Args:
        title: Of the card.
        what: Was exported, in words.
        run: What the run says of itself.
        saved: Its checkpoint.
        figures: Of the run, empty if it has none yet.
        code: Python that loads the export.
        notes: What there is to know about it, a line each.
    """
    parts = [
        f"# {title}",
        _made(what, run, saved),
        "## Load",
        f"```python\n{code.strip()}\n```",
        "\n".join(f"- {note}" for note in [*notes, _input(saved)]),
        "## Data",
        _data(run, saved),
        "## Training",
        _start(run, saved),
        _table(("option", "value"), [(code_span(name), code_span(value)) for name, value in _options(run)]),
        "## Figures",
        *_figures(run, saved, figures),
        "## Intended use",
        _use(saved),
        "## License",
        "The weights are yours, and so is the choice: **name a license here before you pass them on.** Look at what "
        "the images allow, and the weights that training started from. maeseg is under Apache-2.0 and claims nothing "
        "in what it makes.",
    ]
    return "\n\n".join(parts) + "\n"


def code_span(value: object) -> str:
    """A text from a run folder as code: one line, without what would end the span or the cell of a table."""
    text = " ".join(str(value).replace("`", "'").replace("|", "/").split())
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"`{shown}`" if shown else ""


def without_place(value: Any) -> Any:
    """An option's value, of a path its last part only."""
    if isinstance(value, list):
        return [without_place(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith("oxford-pet:"):
        return "oxford-pet"
    return ",".join(PurePath(each).name or each for each in value.replace("\\", "/").split(","))


def _made(what: str, run: RunFolder, saved: Checkpoint) -> str:
    about, versions = saved.about, run.info.get("versions")
    version = versions.get("maeseg") if isinstance(versions, dict) else None
    verb = "fine-tuned" if about["verb"] == "finetune" else "pre-trained, and not yet fine-tuned,"
    return (
        f"{what} of a run of maeseg{f' {code_span(version)}' if version else ''}: timm's encoder "
        f"{code_span(about['encoder'])}, decoder widths {code_span(about['decoder_channels'])}, {verb} as told below."
    )


def _input(saved: Checkpoint) -> str:
    height, width = saved.about["image_size"]
    channels = saved.normalization.channels
    kind = "RGB images" if channels == RGB else f"images of {channels} channels"
    if saved.crop:
        return (
            f"Trained on {kind} in crops of {height} x {width} stored pixels (height x width), nothing resized: give "
            "it tiles of that size at native resolution."
        )
    return f"Trained on {kind} of {height} x {width} pixels (height x width)."


def _data(run: RunFolder, saved: Checkpoint) -> str:
    about, info = saved.about, run.info
    lines = [f"- Images: {code_span(without_place(about['data']))}"]
    if extra := about.get("extra"):
        lines.append(f"- More images: {code_span(without_place(extra))}")
    if about["verb"] == "finetune" and _is_number(info.get("label_count")):
        lines.append(f"- Labeled images that it was trained on: {info['label_count']}")
    if about["verb"] == "pretrain" and _is_number(info.get("images")):
        lines.append(f"- Images that it was trained on, without labels: {info['images']}")
    lines.append(f"- Held out: {_held_out(info.get('split'))}")
    if "border" in about:
        lines.append(f"- A border pixel of a label counted as: {about['border']}")
    if saved.classes.maps > 1:
        told = (f"{code_span(name)} {value}" for name, value in zip(*_names_and_values(saved), strict=True))
        lines.append(f"- Classes, with what each is in a label: {', '.join(told)}")
    return "\n".join(lines)


def _held_out(counts: Any) -> str:
    """Numbers of held-out images, as run.json has them."""
    if not isinstance(counts, dict) or not _is_number(counts.get("val")):
        return "not known"
    test = f", {counts['test']} to test" if _is_number(counts.get("test")) and counts["test"] else ""
    return f"{counts['val']} images to validate{test}"


def _start(run: RunFolder, saved: Checkpoint) -> str:
    weights = run.options.get("weights")
    start = f"From {code_span(without_place(weights))}" if weights else "From random weights"
    if transfer := run.info.get("transfer"):
        start += f" ({code_span(transfer)})"
    if saved.about["verb"] == "pretrain":
        return (
            f"{start}, by reconstructing masked patches: the encoder saw "
            f"{1 - saved.about['mask_ratio']:.0%} of each image, in patches of {saved.about['patch_size']} pixels."
        )
    return f"{start}. The weights are those after epoch {saved.epoch + 1}."


def _options(run: RunFolder) -> list[tuple[object, object]]:
    return [(name, without_place(value)) for name, value in run.options.items() if name not in ABOUT_THIS_CALL]


def _figures(run: RunFolder, saved: Checkpoint, figures: Mapping[str, Any]) -> list[str]:
    if not run.finished or not figures:
        return ["None: the run had not come to its end."]
    numbers = [(code_span(name), f"{value:.4f}") for name, value in figures.items() if isinstance(value, float)]
    numbers = [(name, text) for name, text in numbers if math.isfinite(float(text))]
    if saved.about["verb"] == "pretrain":
        return ["Of the last epoch: mean squared error on masked patches.", _table(("figure", "value"), numbers)]
    counts = run.info.get("split")
    if isinstance(counts, dict) and counts.get("test"):
        split = "On the run's test images, which chose nothing"
    else:
        split = "On the run's validation images, which also chose the epoch, so that the figures flatter a little"
    of_classes = ""
    if saved.classes.maps > 1:
        of_classes = " All but accuracy are means over the classes that are there, each counting the same."
    return [
        f"{split}. Border pixels counted as: {code_span(figures.get('border'))}. Figures under another rule cannot be "
        f"compared. Accuracy, IoU and Dice are over all pixels, the others means over images.{of_classes}",
        _table(("figure", "value"), numbers),
        *_class_figures(saved, figures.get("classes")),
    ]


def _class_figures(saved: Checkpoint, found: Any) -> list[str]:
    """A table of each class's figures, as far as the run has them."""
    if saved.classes.maps == 1 or not isinstance(found, dict):
        return []
    rows = []
    for name in saved.classes.names:
        each = found.get(name)
        values = [each.get(figure) if isinstance(each, dict) else None for figure in CLASS_FIGURES]
        rows.append((code_span(name), *(f"{value:.4f}" if _is_number(value) else "" for value in values)))
    return [_table(("class", *CLASS_FIGURES), rows)]


def _names_and_values(saved: Checkpoint) -> tuple[Sequence[str], Sequence[object]]:
    classes = saved.classes
    painted = [f"painted {list(color)}" for color in classes.colors]
    return classes.names, painted if classes.painted else list(classes.values)


def _use(saved: Checkpoint) -> str:
    if saved.about["verb"] == "pretrain":
        return (
            "To start training from, on images like those above: it segments nothing yet. BatchNorm's running "
            "statistics are of visible patches; training on whole images replaces them."
        )
    what = "foreground from background" if saved.classes.maps == 1 else "these classes apart"
    return (
        f"To tell {what} in images like those above. On other images nothing was measured: measure "
        "before you rely on it, and let nobody depend on a pixel that no person has looked at."
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ("---",) * len(head), *rows])


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
