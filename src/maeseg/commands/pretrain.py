"""The command ``pretrain``."""

from pathlib import Path

from maeseg.commands.configured import configured
from maeseg.commands.early import check_early
from maeseg.config import PretrainConfig
from maeseg.runs.ownership import owning
from maeseg.runs.working_folder import locate


@configured(PretrainConfig)
def pretrain(config: PretrainConfig) -> None:
    """Pre-train a network, encoder and decoder, on images alone, by reconstructing masked patches.

    The encoder sees the visible patches only, and computes nothing else; the U-Net's own decoder reconstructs the
    masked ones (SparK, Tian et al. 2023; MAE, He et al. 2022). Leaves a run folder.

    Raises:
        UserError: An option, a file or the folder cannot be used.
    """
    config = locate(config)
    with owning(Path(config.out)):
        check_early(config, [config.weights] if config.weights else [])
        from maeseg.training.pretraining import run_pretraining

        run_pretraining(config)
