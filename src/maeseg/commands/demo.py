"""The command ``demo``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Demo:
    """Options of a demo.

    Attributes:
        network: Data, network and input size, of both commands.
        pretraining: Other options of ``pretrain``.
        comparison: Other options of ``compare``.
    """

    network: Mapping[str, Any]
    pretraining: Mapping[str, Any]
    comparison: Mapping[str, Any]


IMAGES = Demo(
    {
        "data": "synthetic:400@64",  # drawn at the size of training: shrunk images lose the fur
        "encoder": "resnet10t",
        "decoder_channels": [64, 32, 16, 8],  # four: the encoder is cut at stride 16
        "image_size": 64,
    },
    {"epochs": 8, "batch_size": 16},
    {
        "labels": [16], "seeds": 2, "epochs": 3, "steps_per_epoch": 50, "batch_size": 8, "lr": 5e-3, "confidence": 0.8
    },
)  # fmt: skip
VOLUMES = Demo(
    {"data": "synthetic-volumes:40@16", "network": "resenc", "image_size": [16, 24, 16]},
    {"epochs": 6, "batch_size": 4},
    {
        "labels": [8], "seeds": 1, "epochs": 2, "steps_per_epoch": 30, "batch_size": 2, "lr": 1e-3,
        "unlabeled_ratio": 1, "confidence": 0.8,
    },
)  # fmt: skip


def demo(*, out: str = "maeseg-demo", volumes: bool = False, seed: int = 0, overwrite: bool = False) -> Path:
    """Compare three ways to learn from few labels, and report, on embedded data: no network, minutes on two cores.

    Pre-trains a small U-Net on the ``synthetic`` images without their labels. Then fine-tunes it and its twin from
    scratch with 16 labels, the twin also with the images that have no label, two seeds each, and writes a report.

    Args:
        out: Folder to write: ``pretrained``, ``comparison`` and in it ``report.html``.
        volumes: Show the same on generated volumes (3D), with eight labels and one seed; needs the extra ``volumes``.
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

    folder, chosen = Path(out), VOLUMES if volumes else IMAGES
    with owning(folder):
        pretrain(
            out=str(folder / "pretrained"),
            seed=seed,
            workers=0,  # each image is painted once, in this process
            overwrite=overwrite,
            **chosen.network,
            **chosen.pretraining,
        )
        compare(
            out=str(folder / "comparison"),
            inits=["scratch", str(folder / "pretrained"), "scratch+unlabeled"],
            workers=0,
            overwrite=overwrite,
            **chosen.network,
            **chosen.comparison,
        )
        return report(run=str(folder / "comparison"))
