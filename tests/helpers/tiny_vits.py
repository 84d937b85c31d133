"""The real command line on tiny vision transformers."""

from pathlib import Path

from helpers.tiny_runs import TRAINING, maeseg

DPT_WIDTHS = [8, 8, 8, 8, 16]
VIT = ("--encoder", "test_vit", "--image_size", "64")
MAE = ("--decoder_width", 32, "--decoder_depth", 1)
DPT = ("--decoder", "dpt", "--decoder_channels", str(DPT_WIDTHS))


def pretrain_vit(out: Path, *more: object) -> int:
    """Pre-train for an epoch with the decoder that the options give; see ``MAE`` and ``DPT``."""
    return maeseg("pretrain", "--out", out, *VIT, *TRAINING, "--epochs", 1, *more)


def finetune_vit(out: Path, *more: object) -> int:
    """Fine-tune for an epoch."""
    return maeseg("finetune", "--out", out, *TRAINING, "--epochs", 1, *more)
