"""What can be refused at once: before PyTorch, Lightning and the rest are imported, which takes seconds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.data.data_option import check_data
from maeseg.errors import UserError
from maeseg.runs.output_folder import check_out
from maeseg.training.options import check_ranges

WEIGHTS_NAMES = ("timm", "scratch")
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables by which a launcher tells a process which of several it is; only the first finds ``out`` as it was."""


def check_early(options: Mapping[str, Any]) -> None:
    """Check numbers, and that what the options name is there; what is in it the verb checks.

    Args:
        options: Every option of ``pretrain``, ``finetune`` or ``compare``.

    Raises:
        UserError: Naming the option, its value and what to do.
    """
    check_ranges(options)
    if all(os.environ.get(name, "0") == "0" for name in RANKS):
        check_out(Path(options["out"]), resume=options["resume"], overwrite=options["overwrite"])
    check_data(options["data"])
    for weights in (options.get("weights"), *options.get("inits", ())):
        path = Path((weights or "timm").removesuffix(":encoder"))
        if str(path) not in WEIGHTS_NAMES and not path.exists():
            raise UserError(f"{path} does not exist: give a run folder of maeseg, a file of weights, or timm")
    if options.get("classes") and not Path(options["classes"]).exists():
        raise UserError(f"--classes {options['classes']} cannot be read: there is no such file")
