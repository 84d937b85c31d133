"""TensorFlow's padding where it does not depend on the size of the image.

Convolutions of stride s with padding "same" (timm's ``tf_`` networks) pad by the remainder of the map's sides
divided by s. PyTorch's exporter carries that as a formula of height and width through all layers behind, which
takes minutes. Where the image's sides are multiples of the largest stride, there is no remainder.
"""

import copy

import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn


class FixedConv2dSame(nn.Module):
    """Result of a ``Conv2dSame`` on maps whose sides are multiples of its stride.

    Args:
        conv: The convolution, whose weights are shared.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv
        self.pad = pad_same_arg(*map(list, (conv.stride, conv.kernel_size, conv.stride, conv.dilation)))

    def forward(self, x: Tensor) -> Tensor:
        """Pad, convolve."""
        conv = self.conv
        return F.conv2d(F.pad(x, self.pad), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def with_fixed_padding(network: nn.Module) -> nn.Module:
    """A copy of a network, the same for images whose sides are multiples of its largest stride."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is Conv2dSame:
                setattr(parent, name, FixedConv2dSame(child))
    return network
