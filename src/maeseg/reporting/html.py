"""Report of a run: one self-contained HTML file."""

from collections.abc import Callable
from pathlib import Path

from maeseg.errors import UserError, reason
from maeseg.reporting.comparison import comparison_page
from maeseg.reporting.rendering import render
from maeseg.reporting.training import finetuning_page, pretraining_page
from maeseg.runs.layout import REPORT
from maeseg.runs.reader import RunFolder, open_run
from maeseg.utils.atomic_io import WriteError, write_text

_PAGES: dict[str, tuple[str, Callable[[RunFolder], object]]] = {
    "pretrain": ("pretraining.html", pretraining_page),
    "finetune": ("finetuning.html", finetuning_page),
    "compare": ("comparison.html", comparison_page),
}
"""Template and values of the page, for each command that has one."""


def write_report(run: Path) -> Path:
    """Write a run folder's report.

    Args:
        run: Folder of a pretrain, finetune or compare run, finished or not.

    Returns:
        The file, ``report.html`` in that folder: one page, its figures and pictures inside, no scripts.

    Raises:
        UserError: It is no such folder, a file in it is broken, or the report cannot be written.
    """
    report, page = run / REPORT, report_page(run)
    try:
        write_text(report, page, errors="replace")
    except WriteError as error:
        raise UserError(f"{report} cannot be written ({reason(error)}): make room, or make it writable") from error
    return report


def report_page(run: Path) -> str:
    """HTML of a run folder's report, from its present content; nothing is written.

    Raises:
        UserError: It is no such folder, or a file in it is broken.
    """
    folder = open_run(run)
    if folder.verb not in _PAGES:
        command = folder.verb or "an unknown command"
        raise UserError(f"{run} is a run of {command}, which has no report: give a run of {', '.join(_PAGES)}")
    template, page = _PAGES[folder.verb]
    try:
        return render(template, page(folder))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise UserError(f"{run} holds values that maeseg does not write ({error!r}): repeat the run") from error
