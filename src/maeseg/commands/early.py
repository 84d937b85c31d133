"""What can be refused at once: before PyTorch, Lightning and the rest are imported, which takes seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.errors import UserError, nearest
from maeseg.runs.output_folder import check_out
from maeseg.training.options import check_ranges
from maeseg.utils.distributed import first_process

DATA_NAMES = ("oxford-pet", "synthetic")
WEIGHTS_NAMES = ("timm", "scratch")


def check_early(options: Mapping[str, Any]) -> None:
    """Check numbers, and that what the options name is there; what is in it the verb checks.

    Args:
        options: Every option of ``pretrain``, ``finetune`` or ``compare``.

    Raises:
        UserError: Naming the option, its value and what to do.
    """
    check_ranges(options)
    if first_process():  # the others may find the folder as the first one has begun to fill it
        check_out(Path(options["out"]), resume=options["resume"], overwrite=options["overwrite"])
    kind = options["data"].partition(":")[0]
    if kind not in DATA_NAMES and not Path(options["data"]).exists():
        raise UserError(
            f"--data {options['data']}: no such folder{nearest(kind, DATA_NAMES)}; give oxford-pet, oxford-pet:ROOT, "
            "synthetic, synthetic:COUNT or a folder of images or of tar shards"
        )
    for weights in (options.get("weights"), *options.get("inits", ())):
        path = Path((weights or "timm").removesuffix(":encoder"))
        if str(path) not in WEIGHTS_NAMES and not path.exists():
            raise UserError(f"{path} does not exist: give a run folder of maeseg, a file of weights, or timm")
    if options.get("classes") and not Path(options["classes"]).exists():
        raise UserError(f"--classes {options['classes']} cannot be read: there is no such file")
