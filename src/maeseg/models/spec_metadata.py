"""The description of a network in the metadata of an exported file, ONNX or safetensors: one writer, one reader.

Metadata are texts by name:

==================  ====================================================================================
``network_spec``    ``NetworkSpec.to_dict`` as JSON; the only entry that is read back
``stride``          integer; height and width of the input are multiples of it
``maeseg_version``  version of maeseg that wrote the file
==================  ====================================================================================
"""

import json
from collections.abc import Mapping

from maeseg.models.network_spec import NetworkSpec
from maeseg.utils.system import version_of

NETWORK_SPEC = "network_spec"
LONGEST = 2**20
"""Characters of a description that are read."""


def spec_metadata(spec: NetworkSpec) -> dict[str, str]:
    """Metadata of a file that holds a network."""
    return {
        NETWORK_SPEC: json.dumps(spec.to_dict()),
        "stride": str(spec.stride),
        "maeseg_version": version_of("maeseg"),
    }


def read_spec(metadata: Mapping[str, str], origin: str) -> NetworkSpec | None:
    """Description in a file's metadata.

    Args:
        metadata: Texts by name, perhaps a stranger's.
        origin: Name of the file.

    Returns:
        The description; None if there is no such entry.

    Raises:
        ValueError: The entry is too long or malformed.
    """
    content = metadata.get(NETWORK_SPEC)
    if content is None:
        return None
    if len(content) > LONGEST:
        raise ValueError(f"{NETWORK_SPEC} has {len(content)} characters, and at most {LONGEST} are read")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{NETWORK_SPEC} is not JSON") from error
    try:
        return NetworkSpec.from_dict(values, origin)
    except RecursionError as error:  # of printing a value that was shallow enough to be read
        raise ValueError(f"{NETWORK_SPEC} is nested too deeply") from error
