"""Results of the commands, printed on the command line."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maeseg.data.summary import Summary
    from maeseg.models.encoder_support import Support

Printer = Callable[["Console", Mapping[str, Any], Any], None]
"""Prints a command's result: console, the command's options, result."""


def print_result(command: str, options: Mapping[str, Any], result: Any) -> None:
    """Print a command's result.

    Raises:
        UserError: The question that ``check`` ends with.
    """
    from maeseg.utils.terminal import ResultConsole

    if command in PRINTERS:
        PRINTERS[command](ResultConsole(), options, result)


def print_line(console: "Console", line: str) -> None:
    """Print a line that may hold names of files, without wrapping."""
    from maeseg.utils.terminal import shown

    console.print(shown(line), soft_wrap=True)


def print_figures(console: "Console", options: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """Print the figures of ``finetune`` and ``evaluate`` as a table."""
    from rich.table import Table

    from maeseg.utils.terminal import shown

    heading = f"evaluate {options['run']}" if "run" in options else f"finetune {options['out']}"
    measured = f": {figures['measured']}" if "measured" in figures else ""
    print_line(console, f"{heading}{measured}")
    table = Table()
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        if name not in ("classes", "measured"):
            shown_value = "none" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
            table.add_row(shown(name), shown(shown_value))
    of_volumes = "hausdorff95_mm" in figures
    for name, of_class in figures.get("classes", {}).items():
        for kind in ("dice", "surface_dice", "hausdorff95_mm") if of_volumes else ("iou",):
            value = of_class[kind]
            table.add_row(shown(f"{kind} of {name}"), "not there" if value is None else f"{value:.4f}")
    console.print(table)


def print_summary_of_data(console: "Console", options: Mapping[str, Any], found: "Summary") -> None:
    """Print what ``check`` found.

    Raises:
        UserError: The question to settle before the data can be used.
    """
    from rich.table import Table

    from maeseg.utils.terminal import shown

    table = Table(title=shown(f"check {options['data']}"), show_header=False)
    for heading, line in found.lines.items():
        table.add_row(shown(heading), shown(line))
    console.print(table)
    for fault in found.faults:
        print_line(console, str(fault))
    if found.question:
        raise found.question


def print_comparison(console: "Console", options: Mapping[str, Any], rows: object) -> None:
    """Print the verdict and the tables of ``compare``."""
    from maeseg.comparison.summary import print_summary

    print_summary(Path(options["out"]), console)


def print_demo(console: "Console", options: Mapping[str, Any], report: Path) -> None:
    """Print the comparison of ``demo`` and the place of its report."""
    from maeseg.comparison.summary import print_summary

    print_summary(report.parent, console)
    print_report(console, options, report)


def print_report(console: "Console", options: Mapping[str, Any], report: Path) -> None:
    """Print the place of a report."""
    print_line(console, f"report: {report}")


def print_recipe(console: "Console", options: Mapping[str, Any], reports: Sequence[Path]) -> None:
    """Print the places of the reports of ``recipe``."""
    for report in reports:
        print_report(console, options, report)
    if options["dry_run"]:
        print_line(console, f"{options['file']}: every step can be run")


def print_encoders(console: "Console", options: Mapping[str, Any], found: "Sequence[Support]") -> None:
    """Print a line for each encoder, and totals."""
    for each in found:
        size = f"stride {each.stride or '?'}, {(each.parameters or 0) / 1e6:.1f} M parameters"
        print_line(console, f"{each.name}: {each.refusal or 'works'} ({size})")
    works = sum(not each.refusal for each in found)
    print_line(console, f"{works} of {len(found)} work, {len(found) - works} are refused")


def print_export(console: "Console", options: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Print the files of ``export``, and the largest difference from PyTorch."""
    print_line(console, f"written: {result['out']}, and its card {result['card']}")
    if "largest_difference" in result:
        print_line(console, f"largest difference from PyTorch: {result['largest_difference']:.1e} of a probability")


def print_suggestion(console: "Console", options: Mapping[str, Any], images: Sequence[Path]) -> None:
    """Print the number of suggested images and the place of their contact sheet."""
    sheet = Path(options["out"]) / "contact_sheet.png"
    print_line(console, f"{len(images)} images to label next: {sheet}")


def print_images(console: "Console", options: Mapping[str, Any], count: int) -> None:
    """Print the number of images that ``predict`` or ``reconstruct`` wrote."""
    print_line(console, f"{count} images written to {options['out']}")


def print_run_folder(console: "Console", options: Mapping[str, Any], result: None) -> None:
    """Print the place of a run folder."""
    print_line(console, f"run folder: {options['out']}")


PRINTERS: Mapping[str, Printer] = {
    "check": print_summary_of_data,
    "pretrain": print_run_folder,
    "finetune": print_figures,
    "evaluate": print_figures,
    "predict": print_images,
    "suggest": print_suggestion,
    "reconstruct": print_images,
    "export": print_export,
    "compare": print_comparison,
    "report": print_report,
    "recipe": print_recipe,
    "demo": print_demo,
    "encoders": print_encoders,
}
"""Printer of each command that has a result to print."""
