"""The command ``demo``."""

from pathlib import Path

ENCODER = "resnet10t"
DECODER_CHANNELS = [64, 32, 16, 8]  # four: the encoder is cut at stride 16
IMAGE_SIZE = 64
DATA = "synthetic:400@64"  # drawn at the size of training: shrunk images lose the fur


def demo(*, out: str = "maeseg-demo", seed: int = 0, overwrite: bool = False) -> Path:
    """Compare three ways to learn from few labels, and report, on embedded data: no network, minutes on two cores.

    Pre-trains a small U-Net on the ``synthetic`` images without their labels. Then fine-tunes it and its twin from
    scratch with 16 labels, the twin also with the images that have no label, two seeds each, and writes a report.

    Args:
        out: Folder to write: ``pretrained``, ``comparison`` and in it ``report.html``.
        seed: Seed of the pre-training.
        overwrite: Replace the demo in ``out``.

    Returns:
        The report.

    Raises:
        UserError: The folder cannot be used.
    """
    from maeseg.commands.compare import compare
    from maeseg.commands.pretrain import pretrain
    from maeseg.commands.report import report
    from maeseg.runs.ownership import owning

    folder = Path(out)
    with owning(folder):
        pretrain(
            data=DATA,
            out=str(folder / "pretrained"),
            encoder=ENCODER,
            decoder_channels=DECODER_CHANNELS,
            image_size=IMAGE_SIZE,
            epochs=8,
            batch_size=16,
            seed=seed,
            workers=0,  # each image is painted once, in this process
            overwrite=overwrite,
        )
        compare(
            data=DATA,
            out=str(folder / "comparison"),
            inits=["scratch", str(folder / "pretrained"), "scratch+unlabeled"],
            labels=[16],
            seeds=2,
            epochs=3,
            steps_per_epoch=50,
            batch_size=8,
            lr=5e-3,
            confidence=0.8,
            workers=0,
            overwrite=overwrite,
        )
        return report(run=str(folder / "comparison"))
