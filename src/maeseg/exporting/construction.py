"""Python that builds an exported network with segmentation-models-pytorch alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.dpt import is_power, nominal_side
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.resenc import NNUNET, resenc_arguments
from maeseg.models.vit import OPTIONS, TAPS, patch_side
from maeseg.models.volume_networks import AXES, RESENC_SIZES, VNET


@dataclass(frozen=True)
class Construction:
    """Python that builds a network.

    Attributes:
        what: Name of the network in the model card.
        variable: Variable that holds it.
        code: The lines.
        plain: True if segmentation-models-pytorch's class builds it by itself, from its configuration.
        imports: Lines before it.
    """

    what: str
    variable: str
    code: str
    plain: bool = True
    imports: str = "import segmentation_models_pytorch as smp"

    def loading(self, file: str, strict: bool) -> str:
        """Python that loads a file of safetensors into the network.

        Args:
            file: Name of the file, as Python writes it.
            strict: False if the file has a part of the network alone.
        """
        how = "" if strict else ", strict=False"
        return (
            f"{self.imports}\nfrom safetensors.torch import load_file\n\n"
            f"{self.code}\n{self.variable}.load_state_dict(load_file({file}){how})"
        )


@dataclass(frozen=True)
class VolumeConstruction(Construction):
    """Python that builds a network of volumes; its library may have a tensor under several names."""

    def loading(self, file: str, strict: bool) -> str:
        """See ``Construction``."""
        how = "" if strict else ", strict=False"
        return (
            f"{self.imports}\nfrom safetensors.torch import load_model\n\n"
            f"{self.code}\nload_model({self.variable}, {file}{how})"
        )


def construction(network: SegmentationNetwork, spec: NetworkSpec) -> Construction:
    """Python that builds a network of the description, with random weights."""
    if spec.architecture == "dpt":
        return _of_dpt(network, spec)
    if spec.axes == AXES:
        return _of_volumes(spec)
    widths = list(spec.decoder_channels)
    options = f", encoder_depth={len(widths)}, decoder_channels={widths}, in_channels={spec.channels}{_classes(spec)}"
    code = f'unet = smp.Unet("tu-{spec.encoder}", encoder_weights=None{options})'
    return Construction("The U-Net", "unet", code)


def arguments(options: Mapping[str, Any]) -> str:
    """Keyword arguments as Python writes them, each after a comma."""
    return "".join(f", {option}={value!r}" for option, value in options.items())


def _of_dpt(network: Any, spec: NetworkSpec) -> Construction:
    config = network.config
    inputs, fusion = list(config["decoder_intermediate_channels"]), config["decoder_fusion_channels"]
    options = arguments(
        {
            "decoder_readout": config["decoder_readout"], "decoder_intermediate_channels": inputs,
            "decoder_fusion_channels": fusion, "in_channels": spec.channels,
        }
    )  # fmt: skip
    options += _classes(spec) + arguments({"img_size": spec.size, **OPTIONS})
    code = f'network = smp.DPT("tu-{spec.encoder}", encoder_weights=None{options})'
    encoder, side = network.encoder, patch_side(network.encoder.model)
    if is_power(side):
        return Construction("The DPT", "network", code)
    fitted = (encoder.out_channels, [nominal_side(side)] * TAPS, encoder.has_prefix_tokens, config["decoder_readout"])
    code += (
        "\n# its own decoder does not fit patches whose side is no power of two\n"
        f"network.decoder = type(network.decoder)({', '.join(map(repr, (*fitted, inputs, fusion)))})\n"
        f"network.segmentation_head.upsampling_factor = {network.segmentation_head.upsampling_factor!r}"
    )
    return Construction("The DPT", "network", code, plain=False)


def _of_volumes(spec: NetworkSpec) -> Construction:
    channels, maps = spec.channels, spec.classes.maps
    if spec.encoder == VNET:
        code = f"network = VNet(spatial_dims=3, in_channels={channels}, out_channels={maps})"
        return VolumeConstruction("The V-Net", "network", code, imports="from monai.networks.nets import VNet")
    options = {**resenc_arguments(RESENC_SIZES[spec.encoder], channels, maps), **NNUNET}
    named = {name: value for name, value in options.items() if not isinstance(value, type)}
    layers = "".join(
        f", {name}=nn.{value.__name__}"
        for name, value in {"conv_op": nn.Conv3d, **options}.items()
        if isinstance(value, type)
    )
    code = f"network = ResidualEncoderUNet({arguments(named).removeprefix(', ')}{layers})"
    imports = "from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet\nfrom torch import nn"
    return VolumeConstruction("The residual encoder U-Net", "network", code, imports=imports)


def _classes(spec: NetworkSpec) -> str:
    return f", classes={spec.classes.maps}" if spec.classes.maps > 1 else ""
