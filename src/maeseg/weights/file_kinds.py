"""Recognition of files that are not weights for PyTorch, by their first bytes, with advice for each kind."""

import re
import zipfile
from pathlib import Path

from maeseg.utils.regular_files import open_regular

CONVERT = "convert it to a PyTorch state dict"

BEGINNINGS = (
    (rb"version https://git-lfs", "it is a git-lfs pointer to a file that was not fetched: run git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml|head|!--)", "it is a web page, as from a failed download: download the file itself"),
    (rb"\s*\{\s*\"(error|message|detail)", "it is a JSON response, as from a failed download: download it again"),
    (rb"\x89HDF\r\n\x1a\n", f"it is an HDF5 file, as from Keras: {CONVERT}"),
    (rb"....TFL3", f"it is a TensorFlow Lite model: {CONVERT}"),
    (rb"\x08.\x12.{1,24}(pytorch|onnx|tf2onnx|keras2onnx)", f"it is an ONNX model: {CONVERT}"),
    (rb"\x08\x01\x12|\n.\n.{0,40}\x12", f"it is a TensorFlow graph: {CONVERT}"),
    (rb"(\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd)", "it is a compressed archive: unpack it"),
    (rb"\x93NUMPY", f"it is a NumPy array: {CONVERT}"),
)  # fmt: skip
"""Patterns of first bytes, with kind and advice."""
ENDINGS = {
    ".onnx": f"it is an ONNX model: {CONVERT}",
    ".pb": f"it is a TensorFlow graph: {CONVERT}",
    ".index": f"it is part of a TensorFlow checkpoint: {CONVERT}",
}
"""Suffixes of kinds without characteristic first bytes, with kind and advice."""
MEMBERS = (
    ("constants.pkl", "it is a TorchScript program, which contains code: if you trust it, save its weights with "
     "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"),
    ("model.weights.h5", f"it is a Keras model: {CONVERT}"),
    ("archive_format", "it is an exported program of torch.export: if you trust it, save its weights with "
     "torch.save(torch.export.load(FILE).state_dict, 'weights.pth')"),
)  # fmt: skip
"""Characteristic members of archives, with kind and advice."""


def other_kind(path: Path) -> str:
    """Kind of a file that is not PyTorch weights, with advice; empty if the kind is not recognized."""
    with open_regular(path) as file:
        first = file.read(512)
    if not first:
        return "it is empty: copy or download it again"
    if zipfile.is_zipfile(path):
        return archive_kind(path)
    if is_safetensors(path):
        return ""
    found = (kind for pattern, kind in BEGINNINGS if re.match(pattern, first, re.DOTALL | re.IGNORECASE))
    return next(found, ENDINGS.get(path.suffix.lower(), ""))


def archive_kind(path: Path) -> str:
    """Kind of an archive, with advice; empty for one of ``torch.save``."""
    try:
        if unpacks_beyond(path):
            return "it is an archive that unpacks to more than its size, as PyTorch never writes one"
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""
    if found := next((kind for name, kind in MEMBERS if name in names), None):
        return found
    return "" if "data.pkl" in names else "it is an archive of other files: unpack it and give the weights file in it"


def unpacks_beyond(path: Path) -> bool:
    """Test an archive for members that are compressed or overlap: PyTorch's reader would take the memory of all.

    Raises:
        zipfile.BadZipFile: The archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist()) > path.stat().st_size


def is_safetensors(path: Path) -> bool:
    """Return True if a file begins as safetensors: with the length of a JSON header, and the header."""
    with open_regular(path) as file:
        length, brace = int.from_bytes(file.read(8), "little"), file.read(1)
    return brace == b"{" and length <= path.stat().st_size - 8
