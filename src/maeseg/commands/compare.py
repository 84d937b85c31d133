"""The command ``compare``."""

from pathlib import Path
from typing import TYPE_CHECKING

from maeseg.commands.configured import configured
from maeseg.commands.early import check_early
from maeseg.comparison.plan import name_inits, settle_unlabeled
from maeseg.config import CompareConfig
from maeseg.runs.ownership import owning
from maeseg.runs.working_folder import locate

if TYPE_CHECKING:
    from maeseg.comparison.results import ResultRow


@configured(CompareConfig)
def compare(config: CompareConfig) -> "list[ResultRow]":
    """Compare initializations fairly: the same network, splits, label sets, seeds and steps for every one.

    Each run is a ``finetune`` in ``OUT/runs``; ``OUT/results.csv`` has a row for each, and ``OUT/contrasts`` the images
    on which two initializations differ most. Only the starting weights differ between runs of one seed and label count,
    so their differences are paired.

    Returns:
        The rows of ``results.csv``.

    Raises:
        UserError: An option, a file or a folder cannot be used; checked for every run before the first begins.
    """
    config = locate(config)
    with owning(Path(config.out)):
        config = settle_unlabeled(config)
        check_early(config, [init.weights for init in name_inits(config.inits) if init.weights], config.classes)
        from maeseg.comparison.runner import run_comparison

        return run_comparison(config)
