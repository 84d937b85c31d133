"""Networks in safetensors files of ``maeseg export``."""

from pathlib import Path

from torch import nn

from maeseg.errors import UserError
from maeseg.models.network_spec import NetworkSpec, build
from maeseg.models.parameter_bound import check_described
from maeseg.models.spec_metadata import NETWORK_SPEC, read_spec
from maeseg.models.volume_network import VolumeNetwork
from maeseg.weights.files import WEIGHTS_IN_FOLDER, read_metadata, read_weights_file
from maeseg.weights.transfer import load_strictly
from maeseg.weights.volume_matching import match_volume

_GIVE = "give a finetune run, or its export with --format smp, safetensors or onnx"


def open_exported(path: Path) -> tuple[nn.Module, NetworkSpec]:
    """Read an exported segmentation network.

    Args:
        path: A folder of ``--format smp``, or a file of ``--format safetensors``.

    Raises:
        UserError: The file is missing, damaged or of another kind, or holds no network that segments.
    """
    file = path / WEIGHTS_IN_FOLDER if path.is_dir() else path
    tensors = read_weights_file(file)
    try:
        spec = read_spec(read_metadata(file), str(path))
    except ValueError as error:
        raise UserError(f"{file} does not describe its network ({error}): {_GIVE}") from error
    if spec is None:
        raise UserError(f"{file} does not describe its network (its metadata have no {NETWORK_SPEC}): {_GIVE}")
    if spec.task != "segmentation":
        raise UserError(f"{file} is of a pretrain run, whose network segments nothing yet: fine-tune from it first")
    check_described(spec, tensors, str(file))
    network = build(spec)
    own = network.state_dict()  # without blocks behind the last feature map, which the file may have
    if isinstance(network, VolumeNetwork):
        tensors = {key: tensors[theirs] for key, theirs in match_volume(spec.encoder, tensors, str(file)).keys.items()}
    if not any(key.startswith("decoder.") for key in tensors):
        raise UserError(f"{file} holds an encoder alone: {_GIVE}")
    load_strictly(network, {key: value for key, value in tensors.items() if key in own}, str(file))
    return network, spec
