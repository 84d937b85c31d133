"""Which of several processes that train together this one is."""


def first_process() -> bool:
    """Whether this is the one that writes; where nothing is trained, every process is."""
    from lightning.pytorch.utilities import rank_zero_only  # takes seconds to import, and 100 MB

    return not getattr(rank_zero_only, "rank", 0)
