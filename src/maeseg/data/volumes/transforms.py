"""Augmentation of crops of volumes.

Ranges and probabilities follow nnU-Net (Isensee et al. 2021, supplementary note 4), rotations are smaller. Random
numbers are drawn from the global generator.

Axes: C channels, D H W voxels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from maeseg.data.crops import Corner, crop_label, crop_values, random_corner
from maeseg.data.volumes.crops import FOREGROUND, VolumeCrops, foreground_corner
from maeseg.data.volumes.header import Sides, Spacing
from maeseg.errors import UserError
from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, Augmentation

TURNED = 0.35
"""Share of the crops that are rotated and scaled."""
_DEGREES = 15.0  # largest rotation around each axis
_SCALES = (0.85, 1.2)


class VolumeTransform:
    """Random crop of a volume and its label; rotated and scaled with probability ``TURNED``, mirrored if asked for.

    Crops are not mirrored unless asked for: left and right are classes of their own in many labels.

    Args:
        crops: Rules for the crops.
        more: ``vflip`` to mirror along each axis with probability 0.5.
        foreground: Share of the crops that contain foreground.
        mild: True to change the intensities too.

    Raises:
        UserError: Another augmentation is asked for.
    """

    def __init__(
        self, crops: VolumeCrops, more: Sequence[Augmentation] = (), *, foreground: float = 0.0, mild: bool = False
    ) -> None:
        if "rotate" in more:
            raise UserError("--augment rotate: volumes are rotated by up to 15 degrees anyway: leave it out")
        self.crops, self.mirrored, self.foreground, self.mild = crops, "vflip" in more, foreground, mild

    def __call__(self, values_CDHW: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Transform a volume (C, D, H, W) and label maps (N, D, H, W), uint8; the first map has the foreground."""
        corner = self._corner(values_CDHW, labels)
        if _chance(TURNED):
            results = self._turned(corner, values_CDHW, labels)
        else:
            image_CDHW = crop_values(values_CDHW, corner, self.crops.size).clone()
            results = [image_CDHW, *(crop_label(each, corner, self.crops.size, self.crops.border) for each in labels)]
        if self.mirrored:
            axes = [axis for axis in (-3, -2, -1) if _chance(0.5)]
            results = [each.flip(axes) for each in results]
        if self.mild:
            results[0] = mild_intensity(results[0])
        return tuple(results)

    def _corner(self, values_CDHW: Tensor, labels: Sequence[Tensor]) -> Corner:
        wanted = self.foreground and _chance(self.foreground)
        found = foreground_corner(labels[0][0], self.crops.size) if wanted and labels else None
        return found or random_corner(values_CDHW.shape[1:], self.crops.size)

    def _turned(self, corner: Corner, values_CDHW: Tensor, labels: Sequence[Tensor]) -> list[Tensor]:
        grid_DHW3 = _random_grid(corner, values_CDHW.shape[1:], self.crops.size, self.crops.spacing)
        image = F.grid_sample(values_CDHW[None], grid_DHW3[None], padding_mode="border", align_corners=True)[0]
        outside_DHW = (grid_DHW3.abs() > 1 + 1e-4).any(-1)
        turned = [image]
        for each in labels:
            each = apply_border(each, self.crops.border).float()
            sampled = F.grid_sample(each[None], grid_DHW3[None], "nearest", "border", align_corners=True)[0].byte()
            sampled[:, outside_DHW] = BORDER
            turned.append(sampled)
        return turned


def _random_grid(corner: Corner, shape: Sequence[int], size: Sides, spacing: Spacing) -> Tensor:
    """Draw places to sample for a rotated and scaled crop, (D, H, W, 3) as for ``grid_sample``.

    The rotation is one in space: offsets from the center of the crop are turned in mm.
    """
    angles = (2 * torch.rand(3) - 1) * math.radians(_DEGREES)
    scale = _SCALES[0] + (_SCALES[1] - _SCALES[0]) * float(torch.rand(()))
    turn = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        first, second = (each for each in range(3) if each != axis)
        step = torch.eye(3)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        turn = turn @ step
    sides, voxel, last = torch.tensor(size), torch.tensor(spacing), torch.tensor(shape) - 1.0
    offsets = torch.stack(torch.meshgrid(*(torch.arange(side) - (side - 1) / 2 for side in size), indexing="ij"), -1)
    places = torch.tensor(corner) + (sides - 1) / 2 + ((offsets * voxel) @ turn.T) * scale / voxel
    return (2 * places / last.clamp(min=1) - 1).flip(-1)


def mild_intensity(image_CDHW: Tensor) -> Tensor:
    """Change the intensities of a normalized crop: noise, scale, contrast and gamma, each with a small probability."""
    if _chance(0.1):
        image_CDHW = image_CDHW + 0.3 * torch.rand(()) * torch.randn(image_CDHW.shape)
    if _chance(0.15):
        image_CDHW = image_CDHW * _between(0.75, 1.25)
    if _chance(0.15):
        image_CDHW = _contrast(image_CDHW, _between(0.75, 1.25))
    if _chance(0.3):
        image_CDHW = _gamma(image_CDHW, _between(0.7, 1.5))
    return image_CDHW


def strong_intensity(image_CDHW: Tensor) -> Tensor:
    """Change the intensities of a normalized crop strongly: scale, shift, gamma, noise, blur and cutout."""
    if _chance(0.8):
        image_CDHW = _contrast(image_CDHW, _between(0.5, 1.5)) + _between(-0.5, 0.5)
        image_CDHW = _gamma(image_CDHW, _between(0.5, 2.0))
    if _chance(0.5):
        image_CDHW = _blurred(image_CDHW, _between(0.3, 1.5))
    if _chance(0.5):
        image_CDHW = image_CDHW + 0.3 * torch.rand(()) * torch.randn(image_CDHW.shape)
    return _cutout(image_CDHW) if _chance(0.5) else image_CDHW


def _contrast(image_CDHW: Tensor, factor: float) -> Tensor:
    """Scale the distance from the mean of each channel, within the range of the channel."""
    mean, low, high = _statistics(image_CDHW)
    return ((image_CDHW - mean) * factor + mean).clamp(low, high)


def _gamma(image_CDHW: Tensor, exponent: float) -> Tensor:
    """Raise the intensities, scaled to 0..1 for each channel, to a power; the range stays the same."""
    _, low, high = _statistics(image_CDHW)
    span = (high - low).clamp(min=1e-6)
    return ((image_CDHW - low) / span).clamp(0, 1) ** exponent * span + low


def _statistics(image_CDHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    axes = (1, 2, 3)
    return (
        image_CDHW.mean(axes, keepdim=True), image_CDHW.amin(axes, keepdim=True), image_CDHW.amax(axes, keepdim=True)
    )  # fmt: skip


def _blurred(image_CDHW: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image_CDHW.numpy(), (0, sigma, sigma, sigma), mode="nearest"))


def _cutout(image_CDHW: Tensor) -> Tensor:
    """Set a box of a quarter to a half of each side to 0, the mean (DeVries and Taylor 2017)."""
    box = []
    for side in image_CDHW.shape[1:]:
        length = max(1, round(side * _between(0.25, 0.5)))
        start = int(torch.randint(side - length + 1, ()))
        box.append(slice(start, start + length))
    image_CDHW = image_CDHW.clone()
    image_CDHW[:, box[0], box[1], box[2]] = 0
    return image_CDHW


def _chance(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def segment_transform(crops: VolumeCrops, more: Sequence[Augmentation] = ()) -> VolumeTransform:
    """Build the transform of fine-tuning: a third of the crops around foreground, and mild changes of intensity."""
    return VolumeTransform(crops, more, foreground=FOREGROUND, mild=True)
