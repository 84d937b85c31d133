"""Color jitter and normalization of batches of images.

Loader processes crop and flip stored values, which are small to pass on; what follows is arithmetic on floating point,
and is done where arithmetic costs least: on an accelerator after the transfer, otherwise in the loader processes. The
strength of the jitter is drawn for each image, with its crop, from the seed of its draw.

Axes: B batch, C channels, H W pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import v2

from maeseg.data.normalization import Normalization

COLOR_JITTER = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
"""Color jitter of fine-tuning."""
_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)
_GRAY = (0.2989, 0.587, 0.114)
_LARGEST = 255


def draw_colors() -> Tensor:
    """Draw the color jitter of an image from the global generator, as torchvision's ``ColorJitter`` does.

    Returns:
        (3, 4): for each change, in order, the image's share, the share of what it is mixed with, and two flags: mixed
        with its mean gray, and mixed with its gray image; without both, with black.
    """
    drawn = COLOR_JITTER.make_params([])
    factors = [drawn[f"{name}_factor"] for name in ("brightness", "contrast", "saturation")]
    return torch.tensor(
        [
            (factors[each], 1.0 - factors[each], each == _CONTRAST, each == _SATURATION)
            for each in drawn["fn_idx"].tolist()
            if each < len(factors)
        ]
    )


class BatchTransform:
    """Color jitter and normalization of a batch.

    Args:
        normalization: Normalization of the channels; 8-bit values are scaled to 0..1 first.
    """

    def __init__(self, normalization: Normalization) -> None:
        self.normalization = normalization
        self._statistics: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, batch: Any) -> Any:
        """Transform the images of a batch.

        Args:
            batch: Images (B, C, H, W), uint8 or float32; or these with labels, and with colors (B, 3, 4) where they are
                jittered; or such a list with unlabeled views, which have their own normalization.

        Returns:
            The batch with normalized images, float32, and without colors.
        """
        if isinstance(batch, Tensor):
            return self.images(batch)
        first, second, *colors = batch
        if isinstance(first, Tensor):
            return [self.images(first, *colors), second]
        return [self(first), second]

    def collate(self, items: list[Any]) -> Any:
        """Make a transformed batch of items."""
        return self(default_collate(items))

    def images(self, images_BCHW: Tensor, colors_B34: Tensor | None = None) -> Tensor:
        """Jitter and normalize images; see ``draw_colors``."""
        mean, std = (
            each.view(-1, *[1] * (images_BCHW.ndim - 2)) for each in self._statistics_on(images_BCHW.device)
        )  # fmt: skip
        result_BCHW = torch.empty(images_BCHW.shape, device=images_BCHW.device)
        # A processor's cache holds an image, not a batch; an accelerator takes as long for one as for many.
        at_once = 1 if images_BCHW.device.type == "cpu" else len(images_BCHW)
        for first in range(0, len(images_BCHW), at_once):
            part = slice(first, first + at_once)
            values_BCHW = result_BCHW[part].copy_(images_BCHW[part])
            if colors_B34 is not None:
                _jitter(values_BCHW, colors_B34[part])
            if not images_BCHW.is_floating_point():
                values_BCHW.mul_(1.0 / _LARGEST)
            values_BCHW.sub_(mean).div_(std)
        return result_BCHW

    def _statistics_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C, 1, 1); copied to a device once, as it waits for a copy."""
        if device not in self._statistics:
            mean, std = (
                torch.tensor(each, device=device).view(-1, 1, 1)
                for each in (self.normalization.mean, self.normalization.std)
            )
            self._statistics[device] = mean, std
        return self._statistics[device]


def _jitter(images_BCHW: Tensor, colors_B34: Tensor) -> None:
    """Jitter RGB images in place, 0..255; as torchvision does with uint8, each change cuts off the fractions."""
    for change_B4 in colors_B34.unbind(1):
        share, rest, to_mean, to_gray = change_B4[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1)
        red, green, blue = images_BCHW.unbind(1)
        gray_BHW = red.mul(_GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2]).floor_()
        gray_B1HW = gray_BHW.unsqueeze(1)
        mean_B111 = gray_B1HW.mean((1, 2, 3), keepdim=True)
        other_B1HW = gray_B1HW.mul_(to_gray).add_(mean_B111 * to_mean)
        images_BCHW.mul_(share).addcmul_(other_B1HW, rest).clamp_(0, _LARGEST).floor_()
