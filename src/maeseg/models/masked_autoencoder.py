"""A U-Net trained to reconstruct masked patches (DESIGN: SparK's encoder, MAE's loss, the U-Net's own decoder).

Axes: B batch, C channels, H W pixels, Y X patch grid.
"""

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from torch import Tensor, nn

from maeseg.masking.visible import GridWindow
from maeseg.models.densify import Densify
from maeseg.sparse import encode_tiles, pack


class MaskedAutoencoder(nn.Module):
    """Encode the visible patches, densify, decode with the U-Net's decoder into pixels.

    Args:
        unet: A U-Net of segmentation-models-pytorch. Its encoder and decoder are trained, and are what is
            transferred; its segmentation head is not used.
        in_channels: Channels C of the images.
    """

    def __init__(self, unet: smp.Unet, in_channels: int = 3) -> None:
        super().__init__()
        self.encoder = unet.encoder
        self.decoder = unet.decoder
        self.densify = Densify(unet.encoder.out_channels[1:])
        width = unet.segmentation_head[0].in_channels
        self.head = SegmentationHead(width, in_channels, kernel_size=3)

    def forward(self, images_BCHW: Tensor, visible_BYX: Tensor, window: GridWindow | None = None) -> Tensor:
        """Reconstruct.

        Args:
            images_BCHW: Images; a masked pixel is never read.
            visible_BYX: Bool grid, True = seen; H / Y = W / X is the patch side.
            window: What to decode; everything if None. The encoder sees all visible patches all the same.

        Returns:
            Predicted pixels (B, C, H, W), or those of the window, in the loss's units: normalized per patch or not.
        """
        B, _, H, W = images_BCHW.shape
        _, Y, X = visible_BYX.shape
        window = window or GridWindow(0, 0, Y, X)
        features = encode_tiles(self.encoder, pack(images_BCHW, visible_BYX))
        maps = [window.crop(dense_BCHW, dense_BCHW.shape[2] // Y) for dense_BCHW in self.densify(features[1:])]
        # The first feature is the input itself, which the decoder drops after reading its height and width.
        outline = images_BCHW.new_empty(B, 0, window.rows * (H // Y), window.columns * (W // X))
        decoded: Tensor = self.decoder([outline, *maps])
        predicted: Tensor = self.head(decoded)
        return predicted.contiguous(memory_format=torch.channels_last)
