"""Pre-train and fine-tune on custom datasets: any ``torch.utils.data.Dataset``, or a source by name."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch.utils.data import Dataset

import maeseg


class Discs(Dataset[Any]):
    """Bright discs on noise; item ``i`` is always the same image. Replace it with your own reader."""

    class_names = ("background", "disc")

    def __init__(self, count: int, size: int = 64, labeled: bool = True) -> None:
        self.count, self.size, self.labeled = count, size, labeled

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        rng = np.random.default_rng(index)
        label = Image.new("L", (self.size, self.size))
        x, y = rng.integers(self.size // 4, 3 * self.size // 4, 2).tolist()
        radius = self.size // 5
        ImageDraw.Draw(label).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        disc = np.asarray(label)
        image = (rng.integers(0, 160, (self.size, self.size, 3)) + 90 * disc[..., None]).astype(np.uint8)
        return (image, disc) if self.labeled else image


def open_discs(root: str, *, labeled: bool, **options: Any) -> Discs:
    """Open ``--data discs:COUNT``."""
    return Discs(int(root or 40), labeled=labeled)


def main(out: str | None = None, count: int = 100, epochs: int = 20, **options: Any) -> dict[str, Any]:
    """Train; return the figures on the validation images."""
    runs = Path(out or tempfile.mkdtemp())
    network: dict[str, Any] = {"encoder": "resnet18", "image_size": 64, "epochs": epochs, "batch_size": 8, **options}
    maeseg.pretrain(data=Discs(count, labeled=False), out=str(runs / "pretrained"), **network)

    maeseg.register_source("discs", open_discs)  # the same data set by name, as --data discs:COUNT
    figures = maeseg.finetune(
        data=f"discs:{count}", weights=str(runs / "pretrained"), labels=8, out=str(runs / "finetuned"), **network
    )
    print(f"IoU {figures['iou']:.3f} with 8 labels, runs in {runs}")
    return figures


if __name__ == "__main__":
    main()
