"""Model card of exported weights: Markdown with a YAML header, made from the run folder.

A run folder may come from elsewhere: its texts are shown as code, on one line, and no file that it names is opened.
Of a path only the last part is shown, so that a card does not reveal where files lie on a machine.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from maeseg.data.image_reading import RGB
from maeseg.metrics.scores import CLASS_FIGURES
from maeseg.models.network_spec import NetworkSpec
from maeseg.runs.checkpoint import Checkpoint
from maeseg.runs.reader import RunFolder
from maeseg.runs.writer import ABOUT_THIS_CALL

LONGEST = 200
"""Characters of a text from a run folder that are shown."""

Row = tuple[str, ...]

_TEMPLATE = files("maeseg.exporting").joinpath("templates", "model_card.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class NetworkFacts:
    """Network of a card; texts from the run folder are code spans.

    Attributes:
        version: maeseg's version; empty if it is not known.
        encoder: The encoder, or the network of volumes.
        decoder: Widths of the decoder, or MAE's decoder.
        fine_tuned: False for a pretrain run.
        several_classes: False for foreground and background.
    """

    version: str
    encoder: str
    decoder: str
    fine_tuned: bool
    several_classes: bool


@dataclass(frozen=True)
class FigureTables:
    """Figures of a finished run.

    Attributes:
        rows: Names and values.
        border: Border rule of the figures.
        tested: True if they come from test images.
        class_head: Column headings of ``class_rows``.
        class_rows: Figures of each class; none for foreground and background.
    """

    rows: list[Row]
    border: str
    tested: bool
    class_head: Row
    class_rows: list[Row]


def model_card(
    title: str, what: str, run: RunFolder, saved: Checkpoint, figures: Mapping[str, Any], code: str,
    notes: Iterable[str],
) -> str:  # fmt: skip
    """Model card as text, with a YAML header for the Hugging Face Hub. Nothing is sent or checked online.

    Args:
        title: Title of the card.
        what: Name of the exported network.
        run: The run folder.
        saved: Checkpoint of the run.
        figures: Figures of the run; empty if it has none yet.
        code: Python that loads the export.
        notes: Facts about the export, a line each.
    """
    network = _network(run, saved)
    task = "image-segmentation" if network.fine_tuned else "image-feature-extraction"
    card = ModelCard.from_template(
        ModelCardData(pipeline_tag=task, tags=["maeseg", saved.spec.architecture]),
        template_str=_TEMPLATE,
        title=title,
        what=what,
        network=network,
        code=code.strip(),
        notes=[*notes, _input(saved)],
        data=_data(run, saved),
        training=_training(run, saved),
        options=_options(run),
        figures=_figures(run, saved, figures) if run.finished and figures else None,
    )
    return f"{card}\n"


def code_span(value: object) -> str:
    """Code span of a text from a run folder: one line, without characters that end the span or a table's cell."""
    text = " ".join(str(value).replace("`", "'").replace("|", "/").split())
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"`{shown}`" if shown else ""


def without_place(value: Any) -> Any:
    """Value of an option; of a path its last part only."""
    if isinstance(value, list):
        return [without_place(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith("oxford-pet:"):
        return "oxford-pet"
    return ",".join(PurePath(each).name or each for each in value.replace("\\", "/").split(","))


def _network(run: RunFolder, saved: Checkpoint) -> NetworkFacts:
    spec, versions = saved.spec, run.info.get("versions")
    version = versions.get("maeseg") if isinstance(versions, dict) else None
    return NetworkFacts(
        version=code_span(version) if version else "",
        encoder=f"{'network of volumes' if spec.spacing else 'encoder of timm'} {code_span(spec.encoder)}",
        decoder=_decoder(spec),
        fine_tuned=saved.verb == "finetune",
        several_classes=saved.spec.classes.maps > 1,
    )


def _decoder(spec: NetworkSpec) -> str:
    """The decoder in words."""
    if spec.mae_decoder:
        return "MAE's decoder, of width {} and depth {}, which is not exported".format(*spec.mae_decoder)
    if not spec.decoder_channels:
        return "the decoder of that network"
    return f"decoder widths {code_span(list(spec.decoder_channels))}"


def _input(saved: Checkpoint) -> str:
    if saved.spec.spacing:
        return _input_of_volumes(saved.spec, saved.spec.spacing)
    (height, width), channels = saved.spec.size, saved.spec.channels
    kind = "RGB images" if channels == RGB else f"images of {channels} channels"
    if saved.spec.crop:
        return (
            f"Trained on {kind} in crops of {height} x {width} stored pixels (height x width), without resizing: use "
            "tiles of that size at native resolution."
        )
    return f"Trained on {kind} of {height} x {width} pixels (height x width)."


def _input_of_volumes(spec: NetworkSpec, spacing: tuple[float, float, float]) -> str:
    sides, lengths = (" x ".join(f"{each:g}" for each in values) for values in (spec.image_size, spacing))
    channels = "1 channel" if spec.channels == 1 else f"{spec.channels} channels"
    return (
        f"Trained on volumes of {channels} at a spacing of {lengths} mm, in crops of {sides} voxels; "
        "axes of NIfTI files point right, anterior and superior."
    )


def _data(run: RunFolder, saved: Checkpoint) -> list[Row]:
    """Names and values of the facts about the images."""
    data, info = saved.data, run.info
    rows: list[Row] = [("Images", code_span(without_place(data.data)))]
    if extra := list(data.extra):
        rows.append(("More images", code_span(without_place(extra))))
    if saved.verb == "finetune" and _is_number(info.get("label_count")):
        rows.append(("Labeled training images", str(info["label_count"])))
    if saved.verb == "pretrain" and _is_number(info.get("images")):
        rows.append(("Unlabeled training images", str(info["images"])))
    if saved.verb == "finetune" and _is_number(info.get("unlabeled")):
        rows.append(("Unlabeled training images", str(info["unlabeled"])))
    rows.append(("Held out", _held_out(info.get("split"))))
    if saved.verb == "finetune":
        rows.append(("Border pixels of labels in training", str(data.border)))
    if saved.spec.classes.maps > 1:
        rows.append(("Classes, with their value in a label", ", ".join(_class_values(saved))))
    return rows


def _held_out(counts: Any) -> str:
    """Numbers of held-out images, as run.json has them."""
    if not isinstance(counts, dict) or not _is_number(counts.get("val")):
        return "not known"
    test = f", {counts['test']} to test" if _is_number(counts.get("test")) and counts["test"] else ""
    return f"{counts['val']} images to validate{test}"


def _class_values(saved: Checkpoint) -> list[str]:
    classes = saved.spec.classes
    painted = [f"painted {list(color)}" for color in classes.colors]
    values: Sequence[object] = painted if classes.painted else classes.values
    return [f"{code_span(name)} {value}" for name, value in zip(classes.names, values, strict=True)]


def _training(run: RunFolder, saved: Checkpoint) -> str:
    """Sentences on the initial weights and the training."""
    weights = run.options.get("weights")
    origin = f"From {code_span(without_place(weights))}" if weights else "From random weights"
    if transfer := run.info.get("transfer"):
        origin += f" ({code_span(transfer)})"
    if saved.verb == "pretrain":
        facts = saved.pretraining
        return (
            f"{origin}, by reconstruction of masked patches: the encoder saw {1 - facts.mask_ratio:.0%} of each image, "
            f"in patches of {facts.patch_size} pixels."
        )
    return f"{origin}. The weights are those after epoch {saved.epoch + 1}."


def _options(run: RunFolder) -> list[Row]:
    shown = {name: value for name, value in run.options.items() if name not in ABOUT_THIS_CALL}
    return [(code_span(name), code_span(without_place(value))) for name, value in shown.items()]


def _figures(run: RunFolder, saved: Checkpoint, figures: Mapping[str, Any]) -> FigureTables:
    counts = run.info.get("split")
    measured = {name: value for name, value in figures.items() if isinstance(value, float) and math.isfinite(value)}
    return FigureTables(
        rows=[(code_span(name), f"{value:.4f}") for name, value in measured.items()],
        border=code_span(figures.get("border")),
        tested=isinstance(counts, dict) and bool(counts.get("test")),
        class_head=("class", *CLASS_FIGURES),
        class_rows=_class_rows(saved, figures.get("classes")),
    )


def _class_rows(saved: Checkpoint, found: Any) -> list[Row]:
    """Figures of each class, as far as the run has them."""
    if saved.spec.classes.maps == 1 or not isinstance(found, dict):
        return []
    rows = []
    for name in saved.spec.classes.names:
        each = found.get(name)
        values = [each.get(figure) if isinstance(each, dict) else None for figure in CLASS_FIGURES]
        rows.append((code_span(name), *(f"{value:.4f}" if _is_number(value) else "" for value in values)))
    return rows


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
