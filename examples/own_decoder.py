"""Pre-train and fine-tune with a decoder of your own: any module that takes the list of feature maps."""

from collections.abc import Sequence

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maeseg
from maeseg.data.sources.synthetic import Synthetic


class SumDecoder(nn.Module):
    """Bring every feature map to the same channels and to the image's size, and add them up.

    Args:
        channels: Channels of each feature map, fine to coarse.
        out_channels: Channels of the map that it returns; the heads of both stages read this attribute.
    """

    def __init__(self, channels: Sequence[int], out_channels: int = 32) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.lateral = nn.ModuleList(nn.Conv2d(each, out_channels, kernel_size=1) for each in channels)
        self.smooth = nn.Sequential(nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1), nn.ReLU())

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H / stride, W / stride), the image's outline first -> (B, out_channels, H, W)."""
        outline, *maps = features  # of the first, only the size may be used
        size = outline.shape[2:]
        resized = [
            F.interpolate(lateral(each), size=size, mode="bilinear")
            for lateral, each in zip(self.lateral, maps, strict=True)
        ]
        smoothed: Tensor = self.smooth(torch.stack(resized).sum(0))
        return smoothed


def main(steps: int = 100, size: int = 128, encoder: str = "resnet18") -> tuple[float, float]:
    """Train both stages; returns the last loss of each."""
    source = Synthetic(32, size)
    images = torch.stack([source.pixels(index) for index in range(32)]) / 255 * 4 - 2
    labels = torch.from_numpy(np.stack([np.asarray(source.label(index)) for index in range(32)]))

    body = smp.encoders.get_encoder(f"tu-{encoder}", depth=5, weights=None)
    model = maeseg.MaskedAutoencoder(body, decoder=SumDecoder(body.out_channels[1:]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = model.loss(images[torch.randperm(32)[:8]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    network = model.to_unet(classes=1)  # encoder and SumDecoder carried over, a new segmentation head
    criterion = maeseg.SegmentationLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(steps):
        error = criterion(network(images[:8]), labels[:8])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    print(f"loss of pre-training {loss.item():.3f}, of fine-tuning {error.item():.3f}")
    return loss.item(), error.item()


if __name__ == "__main__":
    main()
