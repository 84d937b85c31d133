"""Files that are not weights for PyTorch, told by their first bytes: what each is, and what to do."""

import re
import zipfile
from pathlib import Path

CONVERT = "give the weights as PyTorch has them, a state dict"

BEGINNINGS = (
    (rb"version https://git-lfs", "it is a pointer of git-lfs to a file that was not fetched: run git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml|head|!--)", "it is a web page, as of a failed download: download the file itself"),
    (rb"\s*\{\s*\"(error|message|detail)", "it is an answer in JSON, as of a failed download: download it again"),
    (rb"\x89HDF\r\n\x1a\n", f"it is an HDF5 file, as of Keras: {CONVERT}"),
    (rb"....TFL3", f"it is a TensorFlow Lite model: {CONVERT}"),
    (rb"\x08.\x12.{1,24}(pytorch|onnx|tf2onnx|keras2onnx)", f"it is an ONNX model: {CONVERT}"),
    (rb"\x08\x01\x12|\n.\n.{0,40}\x12", f"it is a TensorFlow graph: {CONVERT}"),
    (rb"(\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd)", "it is a compressed archive: unpack it"),
    (rb"\x93NUMPY", f"it is a NumPy array: {CONVERT}"),
)  # fmt: skip
"""Patterns of first bytes, and what to say."""
ENDINGS = {
    ".onnx": f"it is an ONNX model: {CONVERT}",
    ".pb": f"it is a TensorFlow graph: {CONVERT}",
    ".index": f"it is part of a TensorFlow checkpoint: {CONVERT}",
}
"""Suffixes of kinds whose first bytes may be any."""
MEMBERS = (
    ("constants.pkl", "it is a TorchScript program, which code comes with: where you trust it, save what is in it with "
     "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"),
    ("model.weights.h5", f"it is a Keras model: {CONVERT}"),
    ("archive_format", "it is an exported program of torch.export: where you trust it, save what is in it with "
     "torch.save(torch.export.load(FILE).state_dict, 'weights.pth')"),
)  # fmt: skip
"""Members of archives that tell what they are."""


def other_kind(path: Path) -> str:
    """What a file is that PyTorch's weights are not, and what to do; empty if that is not known."""
    with path.open("rb") as file:
        first = file.read(512)
    if not first:
        return "it is empty: copy or download it again"
    if zipfile.is_zipfile(path):
        return archive_kind(path)
    if is_safetensors(path):
        return ""
    found = (said for pattern, said in BEGINNINGS if re.match(pattern, first, re.DOTALL | re.IGNORECASE))
    return next(found, ENDINGS.get(path.suffix.lower(), ""))


def archive_kind(path: Path) -> str:
    """What an archive is, empty if it is one of ``torch.save``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""
    if found := next((said for name, said in MEMBERS if name in names), None):
        return found
    return "" if "data.pkl" in names else "it is an archive of other files: unpack it, and give the file of weights"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors does: the length of a header, and the header, in JSON."""
    with path.open("rb") as file:
        length, brace = int.from_bytes(file.read(8), "little"), file.read(1)
    return brace == b"{" and length <= path.stat().st_size - 8
