"""Pre-train a U-Net on images alone in a training loop of your own, then fine-tune it on a few labels."""

import numpy as np
import torch
from torch import Tensor

import maeseg
from maeseg.data.sources.synthetic import Synthetic


def load(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Generated creatures: images (B, 3, H, W), normalized, and labels (B, H, W), 0 or 1."""
    source = Synthetic(count, size)
    images = torch.stack([source.pixels(index) for index in range(count)]) / 255
    labels = np.stack([np.asarray(source.label(index)) for index in range(count)])
    return (images - 0.45) / 0.23, torch.from_numpy(labels)


def main(steps: int = 200, size: int = 128, encoder: str = "resnet18") -> tuple[float, float]:
    """Train; returns the last loss of each stage."""
    images, labels = load(64, size)

    model = maeseg.MaskedAutoencoder(encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        loss = model.loss(images[torch.randperm(len(images))[:16]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"pre-training step {step}: loss {loss.item():.3f}")

    unet = model.to_unet(classes=1)
    criterion = maeseg.SegmentationLoss()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    for step in range(steps):
        batch = torch.randperm(8)  # eight labels
        error = criterion(unet(images[batch]), labels[batch])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"fine-tuning step {step}: loss {error.item():.3f}")
    return loss.item(), error.item()


if __name__ == "__main__":
    main()
