"""The command ``report``."""

from pathlib import Path


def report(*, run: str) -> Path:
    """Write a run folder's report: one self-contained HTML file that needs no network.

    Args:
        run: A pretrain, finetune or compare run, finished or not.

    Returns:
        The file, ``RUN/report.html``.

    Raises:
        UserError: The folder is not a run, or cannot be written.
    """
    from maeseg.reporting.html import write_report

    return write_report(Path(run))
