"""Masked-dense execution: the dense network on complete images, masked before each operation.

It is faster than the engine on some devices, and its reference: written independently, it defines "a convnet on visible
patches" (SparK, Tian et al. 2023, section 3.1). A convolution or pooling reads zero at every masked position, and every
statistic is over visible positions. Outside the image an operation pads as it does densely, so with everything visible
this is the dense network. It costs as much as the dense network, like the public SparK code. It refuses no operation,
so it is exact for those encoders alone that the engine accepts.

Every tensor is a complete map; values at masked positions are computed and never read. Maps are recognized by their
size: height and width, or depth, height and width, that fit the grid of patches. The names are those of images.

Axes: B batch, C channels, (D) H W positions at some stage, (Z) Y X patch grid, R visible positions of the batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (F.conv2d, F.conv3d)
NEIGHBORHOOD = (*CONVOLUTIONS, F.max_pool2d, F.max_pool3d, F.avg_pool2d, F.avg_pool3d, F.pad)
NORMS_OF_IMAGES = (F.group_norm, F.instance_norm)
GLOBAL_POOLING = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d)
REDUCTIONS = (
    Tensor.mean, torch.mean, Tensor.sum, torch.sum, Tensor.var, torch.var, Tensor.std, torch.std, Tensor.amax,
    torch.amax, Tensor.amin, torch.amin,
)  # fmt: skip
NORMS = (Tensor.norm, torch.norm, torch.linalg.vector_norm)  # their order comes before the dimensions


class Visible:
    """Visible grid at the resolutions of a network; each is computed once.

    Args:
        grid_BYX: Bool grid (B, Y, X) or (B, Z, Y, X), True = visible; it is counted where it is.
        device: Device of the maps; that of the grid if None.

    Attributes:
        counts_B: Number of visible patches of each image.
        axes: Number of axes of the images.
    """

    def __init__(self, grid_BYX: Tensor, device: torch.device | None = None) -> None:
        self.counts_B: list[int] = grid_BYX.flatten(1).sum(1).tolist()
        self.grid_BYX = grid_BYX.to(device or grid_BYX.device, non_blocking=True)
        self.axes = grid_BYX.dim() - 1
        self._hidden: dict[tuple[int, ...], Tensor] = {}
        self._rows: dict[tuple[int, ...], Tensor] = {}

    def fits(self, size: Sequence[int]) -> bool:
        """Return True if a map of this size consists of square patches."""
        cells = self.grid_BYX.shape[1:]
        if len(size) != len(cells) or any(side % count for side, count in zip(size, cells, strict=True)):
            return False
        return len({side // count for side, count in zip(size, cells, strict=True)}) == 1

    def side(self, size: Sequence[int]) -> int:
        """Side of a patch of a map of this size."""
        return size[0] // self.grid_BYX.shape[1]

    def hidden(self, *size: int) -> Tensor:
        """Mask at the size of the maps, bool (B, 1, H, W), True where masked."""
        if size not in self._hidden:
            if not self.fits(size):
                cells = tuple(self.grid_BYX.shape[1:])
                raise ValueError(f"maps of {size} do not fit a grid of {cells} patches")
            hidden = ~self.grid_BYX[:, None]
            for axis in range(2, 2 + self.axes):
                hidden = hidden.repeat_interleave(self.side(size), axis)
            self._hidden[size] = hidden
        return self._hidden[size]

    def zeroed(self, maps_BCHW: Tensor) -> Tensor:
        """Return the maps with zero where masked."""
        return maps_BCHW.masked_fill(self.hidden(*maps_BCHW.shape[2:]), 0)

    def rows(self, *size: int) -> Tensor:
        """Indices (R,) of the visible positions among the B * H * W."""
        if size not in self._rows:
            count = sum(self.counts_B) * self.side(size) ** self.axes
            self._rows[size] = (~self.hidden(*size)).flatten().nonzero_static(size=count).squeeze(1)
        return self._rows[size]

    def places(self, at: int) -> tuple[list[int], list[int]]:
        """Numbers of the axes where the first one is dimension ``at``, and where it is 1."""
        return list(range(at, at + self.axes)), list(range(1, 1 + self.axes))

    def gather(self, maps: Tensor, at: int) -> Tensor:
        """Gather the visible positions, (R, ...); the axes are the dimensions from ``at`` on."""
        own, first = self.places(at)
        size = maps.shape[at : at + self.axes]
        return maps.movedim(own, first).flatten(0, self.axes).index_select(0, self.rows(*size))

    def scatter(self, rows: Tensor, maps: Tensor, at: int) -> Tensor:
        """Scatter rows to maps of the size of ``maps``, zero where masked: the inverse of :meth:`gather`."""
        own, first = self.places(at)
        sizes = maps.movedim(own, first).shape[: 1 + self.axes]
        zeros = rows.new_zeros(sizes.numel(), *rows.shape[1:])
        full = zeros.index_copy(0, self.rows(*sizes[1:]), rows).view(*sizes, *rows.shape[1:])
        return full.movedim(first, own)

    def images(self, maps: Tensor, at: int) -> list[Tensor]:
        """Gather the visible positions of each image as a column: height n, width 1, the dimensions from ``at`` on.

        Columns of equal height are one tensor (B, ...); otherwise each image has its own. An image without visible
        patches is a single zero.
        """
        share = self.side(maps.shape[at:]) ** self.axes
        counts = [count * share for count in self.counts_B]
        rows = self.gather(maps, at)
        if len(set(counts)) == 1:
            columns = [rows.unflatten(0, (len(counts), -1))]
        else:
            parts = rows.split(counts)
            columns = [(part if len(part) else rows.new_zeros(1, *rows.shape[1:])).unsqueeze(0) for part in parts]
        own, first = self.places(at)
        return [column[(slice(None), slice(None), *[None] * (self.axes - 1))].movedim(first, own) for column in columns]


class MaskedDense(TorchFunctionMode):
    """Mode in which the operations of a dense network never read masked positions.

    Args:
        visible: Visible grid.
    """

    def __init__(self, visible: Visible) -> None:
        super().__init__()
        self.visible = visible

    def is_map(self, maps: Any, at: int = 2) -> bool:
        """Return True if a tensor has sides that fit the grid."""
        batch, axes = len(self.visible.grid_BYX), self.visible.axes
        return maps.dim() >= 2 + axes and maps.shape[0] == batch and self.visible.fits(maps.shape[at : at + axes])

    def per_image(self, function: Callable[[Tensor], Tensor], maps: Tensor, at: int) -> Tensor:
        """Apply a function to the visible positions of each image."""
        return torch.cat([function(column) for column in self.visible.images(maps, at)])

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in NEIGHBORHOOD:
            return self.neighborhood(func, *args, **kwargs)
        if func is F.batch_norm and self.is_map(args[0]) and (kwargs.get("training") or True in args[5:6]):
            normalized = func(self.visible.gather(args[0], 2), *args[1:], **kwargs)
            return self.visible.scatter(normalized, args[0], 2)
        if func in NORMS_OF_IMAGES:
            return self.norm_of_images(func, *args, **kwargs)
        if func in GLOBAL_POOLING:
            if args[1] not in (1, (1,) * self.visible.axes):
                raise ValueError(f"adaptive pooling to {args[1]} is not global")
            return self.per_image(lambda column: func(column, 1), args[0], 2)
        if func in REDUCTIONS or func in NORMS:
            place = 1 if func in NORMS else 0
            dims = kwargs.get("dim", args[1 + place] if len(args) > 1 + place else None)
            reduced = sorted(dim % args[0].dim() for dim in dims) if isinstance(dims, (tuple, list)) else []
            for at in reduced:  # the axes are adjacent
                axes = set(range(at, at + self.visible.axes))
                if axes <= set(reduced) and at > 0 and self.is_map(args[0], at):
                    return self.per_image(lambda column: func(column, *args[1:], **kwargs), args[0], at)
        return func(*args, **kwargs)

    def norm_of_images(self, func: Any, maps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Normalize each image by its visible positions."""
        images = self.visible.images(maps, 2)
        func = instance_norm if func is F.instance_norm else func
        columns = [func(image, *args, **kwargs) for image in images]
        rows = torch.cat([column.flatten(2).movedim(2, 1).flatten(0, 1) for column in columns])
        return self.visible.scatter(rows if len(columns) == 1 else rows[self.shown(columns)], maps, 2)

    def shown(self, columns: Sequence[Tensor]) -> Tensor:
        """Bool for each row of the columns: False for the zero of an image without visible patches."""
        shows = [torch.tensor(count > 0) for count in self.visible.counts_B]
        return torch.cat([show.expand(column.shape[2]) for show, column in zip(shows, columns, strict=True)])

    def neighborhood(self, func: Any, maps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Set masked positions to zero before padding, or before the operation itself, reads them."""
        pointwise = func in CONVOLUTIONS and args[0].shape[2:].numel() == 1
        masked = getattr(maps, "masked_before_padding", False)
        output: Tensor = func(maps if pointwise or masked else self.visible.zeroed(maps), *args, **kwargs)
        if func is F.pad:
            output.masked_before_padding = True  # type: ignore[attr-defined]
        return output


def instance_norm(
    maps: Tensor, running_mean: None = None, running_var: None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """InstanceNorm as a GroupNorm of one channel each.

    Torch's own refuses an image of one position, and for a batch of one its gradient is wrong in some orders of memory
    (PyTorch 2.14).
    """
    return torch.group_norm(maps, maps.shape[1], weight, bias, eps)


def encode_masked_dense(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
    """Encode as :func:`maeseg.sparse.encode_visible` does, up to rounding, at the cost of the dense network.

    Batch and running statistics are over the visible positions; so are, per image, those of GroupNorm, InstanceNorm and
    every reduction over the axes (squeeze-and-excite, global pooling, response normalization).

    Args:
        encoder: A network that returns a list of feature maps; it is not changed.
        images_BCHW: Images, or volumes (B, C, D, H, W); masked pixels have no influence.
        visible_BYX: Bool grid, True = visible.

    Returns:
        The encoder's feature maps, zero where masked.

    Raises:
        ValueError: If the grid does not fit the maps.
    """
    visible = Visible(visible_BYX, images_BCHW.device)
    with MaskedDense(visible):
        features = list(encoder(images_BCHW))
    # Some encoders return channels-last features: then the dimensions from 2 on do not fit the grid.
    maps = [f if visible.fits(f.shape[2:]) else f.movedim(-1, 1) for f in features]
    return [visible.zeroed(features_BCHW) for features_BCHW in maps]
