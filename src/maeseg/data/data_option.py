"""The value of the ``data`` option, as far as it can be checked without opening what it names."""

from pathlib import Path

from maeseg.errors import UserError, nearest

NAMES = ("oxford-pet", "synthetic")
"""Data sets that are called by name."""


def is_named(data: str) -> bool:
    """Tell whether the ``data`` option names a data set, and no file or folder."""
    return data.partition(":")[0] in NAMES


def check_data(data: str, option: str = "data") -> None:
    """Refuse a folder or file that is not there.

    Args:
        data: As the option has it.
        option: Its name, for the message.

    Raises:
        UserError: There is neither a data set of that name nor such a path.
    """
    if not is_named(data) and not Path(data).exists():
        raise UserError(
            f"--{option} {data}: no such folder{nearest(data.partition(':')[0], NAMES)}; give oxford-pet, "
            "oxford-pet:ROOT, synthetic, synthetic:COUNT, a folder of images or of tar shards, or a file that "
            "describes one (data.yaml)"
        )
