"""The command ``demo``."""

from pathlib import Path

ENCODER = "resnet10t"
DECODER_CHANNELS = [64, 32, 32, 16, 16]
IMAGE_SIZE = 96


def demo(*, out: str = "maeseg-demo", seed: int = 0, overwrite: bool = False) -> Path:
    """Pre-train, compare with training from scratch, and report, on embedded data: no network, minutes on two cores.

    Generates the ``synthetic`` images, and pre-trains a small U-Net on those without a label. Then fine-tunes it and
    its twin from scratch, with 16 and 64 labels and two seeds, and writes a report.

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
            data="synthetic",
            out=str(folder / "pretrained"),
            encoder=ENCODER,
            decoder_channels=DECODER_CHANNELS,
            image_size=IMAGE_SIZE,
            epochs=16,
            batch_size=16,
            seed=seed,
            workers=0,  # each image is painted once, in this process
            overwrite=overwrite,
        )
        compare(
            data="synthetic",
            out=str(folder / "comparison"),
            inits=["scratch", str(folder / "pretrained")],
            labels=[16, 64],
            seeds=2,
            epochs=5,
            steps_per_epoch=20,
            lr=2e-3,
            workers=0,
            overwrite=overwrite,
        )
        return report(run=str(folder / "comparison"))
