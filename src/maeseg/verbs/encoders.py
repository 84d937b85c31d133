"""The verb ``encoders``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maeseg.models.support import EncoderSupport


def encoders(*, names: str = "*", one_per_family: bool = False) -> "list[EncoderSupport]":
    """Find out which of timm's networks run on visible patches, by running each on two patches.

    Args:
        names: Wildcard of timm's names, such as 'resnet*'; all of them take minutes.
        one_per_family: Only the smallest network of each of timm's families.

    Returns:
        A row for each: name, family, why it is refused or None, stride, parameters.

    Raises:
        UserError: If no network has such a name.
    """
    from functools import partial

    from maeseg.inference.progress import show_progress
    from maeseg.models.support import check_encoder, matching, smallest_of_each_family

    chosen = matching(names)
    if one_per_family:
        chosen = smallest_of_each_family(chosen, partial(show_progress, description="measuring"))
    return [check_encoder(name) for name in show_progress(chosen, "running")]
