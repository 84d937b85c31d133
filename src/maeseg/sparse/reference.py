"""The slow oracle: the dense network run on whole images, masked by hooks. For tests and benchmarks only.

Written independently of the engine, it says what "a convnet on visible patches" means (SparK, Tian et al.
2023, section 3.1): a convolution or pooling reads zero at every masked position, and every statistic is over
visible positions. Outside the image an operation pads as it does densely, so with everything visible this is
the dense network. It costs as much as no mask at all, as the public SparK code does.

Axes: B batch, C channels, H W positions at some stage, Y X patch grid, R visible positions of the batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

NEIGHBOURHOOD = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
BATCH_STATISTICS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # timm's fused BatchNormAct2d is a BatchNorm2d
IMAGE_STATISTICS = (nn.GroupNorm, SEModule, EffectiveSEModule, SqueezeExcite)
GLOBAL_POOLING = nn.AdaptiveAvgPool2d


class Visible:
    """The visible grid at the resolutions of a network; each is worked out once.

    Args:
        grid_BYX: Bool grid, True = seen.
    """

    def __init__(self, grid_BYX: Tensor) -> None:
        self.grid_BYX = grid_BYX
        self._hidden: dict[tuple[int, int], Tensor] = {}
        self._rows: dict[tuple[int, int], Tensor] = {}

    def hidden(self, maps_BCHW: Tensor) -> Tensor:
        """Bool (B, 1, H, W), True where masked: the grid, enlarged to the size of the maps."""
        H, W = maps_BCHW.shape[-2:]
        if (H, W) not in self._hidden:
            _, Y, X = self.grid_BYX.shape
            if H % Y or W % X or H // Y != W // X:
                raise ValueError(f"maps of {H} x {W} do not fit a grid of {Y} x {X} patches")
            cells = ~self.grid_BYX[:, None, :, None, :, None]  # (B, 1, Y, 1, X, 1)
            enlarged = cells.expand(-1, 1, Y, H // Y, X, W // X)
            self._hidden[H, W] = enlarged.reshape(-1, 1, H, W)
        return self._hidden[H, W]

    def zeroed(self, maps_BCHW: Tensor) -> Tensor:
        """The maps, zero where masked."""
        return maps_BCHW.masked_fill(self.hidden(maps_BCHW), 0)

    def rows(self, maps_BCHW: Tensor) -> Tensor:
        """Numbers (R,) of the visible positions among the B * H * W."""
        H, W = maps_BCHW.shape[-2:]
        if (H, W) not in self._rows:
            self._rows[H, W] = (~self.hidden(maps_BCHW)).flatten().nonzero().squeeze(1)
        return self._rows[H, W]

    def gather(self, maps_BCHW: Tensor, images: int) -> Tensor:
        """The visible positions alone, as ``images`` columns (images, C, R / images, 1), channels-last."""
        rows_RC = maps_BCHW.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, self.rows(maps_BCHW))
        # (R, C) -> (images, R / images, 1, C) -> (images, C, R / images, 1)
        return rows_RC.view(images, -1, 1, maps_BCHW.shape[1]).permute(0, 3, 1, 2)

    def scatter(self, columns: Tensor, like_BCHW: Tensor) -> Tensor:
        """The inverse of :meth:`gather`: maps of the size of ``like_BCHW``, zero where masked."""
        B, _, H, W = like_BCHW.shape
        rows_RC = columns.permute(0, 2, 3, 1).flatten(0, 2)
        maps = rows_RC.new_zeros(B * H * W, rows_RC.shape[1])
        # (B * H * W, C) -> (B, H, W, C) -> (B, C, H, W)
        return maps.index_copy(0, self.rows(like_BCHW), rows_RC).view(B, H, W, -1).permute(0, 3, 1, 2)

    def images(self) -> int:
        """Number of images, provided that each shows as many patches: otherwise no per-image statistic."""
        counts_B = self.grid_BYX.flatten(1).sum(1)
        if (counts_B != counts_B[0]).any():
            raise ValueError("statistics per image need the same number of visible patches in every image")
        return len(counts_B)


class OnVisible:
    """Hooks that run a module on the visible positions alone, and put the result back.

    Args:
        visible: The visible grid.
        images: How many columns the positions are gathered into: 1 for statistics over the batch.
    """

    def __init__(self, visible: Visible, images: int) -> None:
        self.visible = visible
        self.images = images
        self.maps_BCHW: Tensor | None = None

    def before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Give the module what is visible."""
        self.maps_BCHW = inputs[0]
        return self.visible.gather(inputs[0], self.images)

    def after(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Put back what it returned."""
        assert self.maps_BCHW is not None
        maps, self.maps_BCHW = self.maps_BCHW, None
        return self.visible.scatter(output, maps)


def outside_image_statistics(module: nn.Module) -> Iterator[nn.Module]:
    """The modules of a network, except what is inside one that computes statistics per image."""
    yield module
    if not isinstance(module, IMAGE_STATISTICS):
        for child in module.children():
            yield from outside_image_statistics(child)


def zero_input(visible: Visible) -> Callable[[nn.Module, tuple[Tensor, ...]], Tensor]:
    """A hook that zeroes the masked positions of a module's input."""
    return lambda module, inputs: visible.zeroed(inputs[0])


def encode_masked_dense(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
    """What :func:`maeseg.sparse.encode_visible` must equal, at the cost of the dense network.

    Layers are recognised by type, so an encoder that calls a functional convolution, pooling or per-image
    reduction itself (outside of timm's squeeze-and-excite) is beyond this oracle. Batch statistics, and the
    running ones, are over the visible positions; so are those of GroupNorm, squeeze-and-excite and global
    pooling, per image.

    Args:
        encoder: A network that returns a list of feature maps; it gets hooks, which are removed again.
        images_BCHW: Images; what they hold at masked pixels does not matter.
        visible_BYX: Bool grid, True = seen.

    Returns:
        The encoder's feature maps (B, C, H / stride, W / stride), zero where masked.

    Raises:
        ValueError: If the grid does not fit the maps, or a statistic per image meets unequal counts.
    """
    visible = Visible(visible_BYX)
    hooks = []
    try:
        for module in set(outside_image_statistics(encoder)):
            if isinstance(module, NEIGHBOURHOOD) and module.kernel_size not in (1, (1, 1)):
                hooks.append(module.register_forward_pre_hook(zero_input(visible)))
            elif isinstance(module, GLOBAL_POOLING):
                if module.output_size not in (1, (1, 1)):
                    raise ValueError(f"adaptive pooling to {module.output_size} is not global")
                pooled = OnVisible(visible, visible.images())
                hooks.append(module.register_forward_pre_hook(pooled.before))
            elif isinstance(module, BATCH_STATISTICS + IMAGE_STATISTICS):
                batch_wide = isinstance(module, BATCH_STATISTICS)
                if batch_wide and not module.training and module.track_running_stats:
                    continue  # position-wise
                part = OnVisible(visible, 1 if batch_wide else visible.images())
                hooks.append(module.register_forward_pre_hook(part.before))
                hooks.append(module.register_forward_hook(part.after))
        return [visible.zeroed(feature) for feature in encoder(images_BCHW)]
    finally:
        for hook in hooks:
            hook.remove()
