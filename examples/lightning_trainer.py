"""The same networks in a LightningModule of your own, with Lightning's Trainer."""

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import maeseg
from maeseg.data.sources.synthetic import Synthetic


class Pretraining(L.LightningModule):
    """Masked pre-training."""

    def __init__(self, encoder: str = "resnet18", lr: float = 1e-3) -> None:
        super().__init__()
        self.model = maeseg.MaskedAutoencoder(encoder)
        self.lr = lr

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Reconstruction loss of a batch of images (B, 3, H, W)."""
        loss = self.model.loss(batch[0], mask_ratio=0.6)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


class Segmentation(L.LightningModule):
    """Fine-tuning of the U-Net that pre-training leads to."""

    def __init__(self, pretrained: Pretraining, classes: int = 1, lr: float = 1e-3) -> None:
        super().__init__()
        self.unet = pretrained.model.to_unet(classes)
        self.criterion = maeseg.SegmentationLoss(classes=classes)
        self.lr = lr

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Loss of a batch of images (B, 3, H, W) and labels (B, H, W)."""
        loss: Tensor = self.criterion(self.unet(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def main(
    epochs: int = 10, size: int = 128, encoder: str = "resnet18", accelerator: str = "auto"
) -> tuple[float, float]:
    """Train both; returns the last loss of each."""
    source = Synthetic(64, size)
    images = torch.stack([source.pixels(index) for index in range(64)]) / 255 * 4 - 2
    labels = torch.from_numpy(np.stack([np.asarray(source.label(index)) for index in range(64)]))

    losses = []
    pretraining = Pretraining(encoder)
    unlabeled = DataLoader(TensorDataset(images), batch_size=16, shuffle=True)
    labeled = DataLoader(TensorDataset(images[:16], labels[:16]), batch_size=8, shuffle=True)
    for stage, loader in ((pretraining, unlabeled), (None, labeled)):
        module = stage or Segmentation(pretraining)
        trainer = L.Trainer(
            accelerator=accelerator, devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(module, loader)
        losses.append(float(trainer.callback_metrics["train_loss"]))
        print(f"{type(module).__name__}: loss {losses[-1]:.3f}")
    return losses[0], losses[1]


if __name__ == "__main__":
    main()
