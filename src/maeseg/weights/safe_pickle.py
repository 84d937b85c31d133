"""Reader for files of ``torch.save`` with more than tensors and plain values, which executes nothing in them.

PyTorch's own reader (``weights_only=True``) refuses a file with one NumPy scalar, path or project class beside the
weights. An allowlist of such names would run their code on untrusted bytes, and would never be complete. Therefore this
reader imports no name in a file: each name becomes a new class, which stores its arguments and does nothing else.
Tensors are created by this module from the bytes and shapes in the file.

``torch.load`` is not used: without ``weights_only`` it passes some files to ``torch.jit.load``. The two formats are
those of ``torch/serialization.py``: an archive with ``data.pkl`` and a record for each storage; before PyTorch 1.6
a sequence of pickles followed by the storages.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from maeseg.utils.regular_files import open_regular

REBUILD = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
"""Functions in files that create a tensor from a storage, an offset, a size and strides."""
PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
"""Functions in files whose first argument is the tensor."""
DTYPES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip
TENSOR_NAMES = {*DTYPES, *REBUILD, *PARAMETER, "collections.OrderedDict"}
"""Names in a file of tensors alone."""
MAGIC = 0x1950A86A20F9469CFC6C
"""Magic number of a file before PyTorch 1.6."""


class Inert(dict[Any, Any]):
    """Placeholder for any class or function in a file: it stores arguments and items, and executes nothing."""

    name = ""
    """Name in the file, such as ``numpy.dtype``."""
    given: tuple[Any, ...]
    """Arguments of the constructor."""

    def __new__(cls, *args: Any, **_: Any) -> "Inert":
        """Create an object with its arguments: unpickling may skip ``__init__``."""
        made = super().__new__(cls)
        made.given = args
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore the arguments: a dict would use them as items."""

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Return another placeholder: a file may call the result of a call."""
        return Inert()

    def __setstate__(self, _: Any) -> None:
        """Ignore the state: attributes of an object are not weights."""

    def __hash__(self) -> int:  # type: ignore[override]  # a dict is not hashable
        """Hash by identity: a placeholder may be a key, or in a set."""
        return id(self)

    def append(self, _: Any) -> None:
        """Ignore the item, like ``extend`` and ``add``."""

    add = extend = append


@dataclass
class Storage:
    """Storage in a file: its dtype, None for rare ones, and its values (flat) after they are read."""

    dtype: torch.dtype | None
    values: Tensor | None = None

    def fill(self, content: bytes) -> None:
        """Set the values from bytes."""
        if self.dtype is not None:
            self.values = torch.empty(len(content) // self.dtype.itemsize, dtype=self.dtype)
            if content:  # frombuffer requires it
                self.values.copy_(torch.frombuffer(bytearray(content), dtype=self.dtype))

    def view(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor | None:
        """View the values as a tensor, None without values; PyTorch raises an error beyond their end."""
        return None if self.values is None else self.values.as_strided(tuple(size), tuple(stride), offset)


class Reader(pickle.Unpickler):
    """Unpickler with :class:`Inert` for every name and :class:`Storage` for PyTorch's storages.

    Args:
        file: File at the beginning of a pickle.
        names: Placeholders by name; extended by the reader.
        storages: Storages by key; extended by the reader.
    """

    def __init__(self, file: IO[bytes], names: dict[str, type[Inert]], storages: dict[str, Storage]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.names, self.storages = names, storages

    def find_class(self, module: str, name: str) -> type[Inert]:
        """Create a separate class for each name, so that a file cannot modify anything else."""
        full = f"{module}.{name}"
        return self.names.setdefault(full, type("Inert", (Inert,), {"name": full}))

    def persistent_load(self, pid: Any) -> Storage:
        """Storage of a key."""
        kind, of, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"a reference to {kind!r}")
        return self.storages.setdefault(str(key), Storage(DTYPES.get(getattr(of, "name", ""))))


def read_inertly(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a file of ``torch.save``: mappings, lists and tensors as they are, anything else as :class:`Inert`.

    Returns:
        The content, and the names in the file that Python would import, without those of tensors.

    Raises:
        Exception: Of many types, for damaged bytes.
    """
    names: dict[str, type[Inert]] = {}
    storages: dict[str, Storage] = {}
    read = read_archive if zipfile.is_zipfile(path) else read_sequence
    content = read(path, names, storages)
    return convert(content, {}), tuple(name for name in names if name not in TENSOR_NAMES)


def read_archive(path: Path, names: dict[str, type[Inert]], storages: dict[str, Storage]) -> Any:
    """Read the pickle in an archive, and its storages."""
    with zipfile.ZipFile(path) as archive:
        main = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        root = main.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("big-endian")
        with archive.open(main) as file:
            content = Reader(file, names, storages).load()
        for key, storage in storages.items():
            record = archive.getinfo(f"{root}data/{key}")
            if record.compress_type != zipfile.ZIP_STORED:  # PyTorch never compresses; a decompression bomb does
                raise ValueError("compressed")
            storage.fill(archive.read(record))
    return content


def read_sequence(path: Path, names: dict[str, type[Inert]], storages: dict[str, Storage]) -> Any:
    """Read the pickle in a file before PyTorch 1.6, and its storages: a count and the values of each."""
    with open_regular(path) as file:
        magic, _, system, content, keys = (Reader(file, names, storages).load() for _ in range(5))
        if magic != MAGIC or not system["little_endian"]:
            raise ValueError("not from torch.save, or big-endian")
        for key in keys:
            storage = storages[str(key)]
            [count] = struct.unpack("<q", file.read(8))
            storage.fill(file.read(count * (storage.dtype or torch.uint8).itemsize))
    return content


def convert(value: Any, known: dict[int, Any]) -> Any:
    """Convert unpickled content: create its tensors, and turn mappings and lists into Python's.

    Args:
        value: Unpickled content.
        known: Converted values by the identity of the original: a file may contain an object in several places.
    """
    if id(value) in known:
        return known[id(value)]
    name = value.name if isinstance(value, Inert) else ""
    if name in REBUILD and isinstance(value.given[0], Storage):
        made: Any = value.given[0].view(*value.given[1:])
    elif name in PARAMETER and value.given:
        made = convert(value.given[0], known)
    elif isinstance(value, Mapping) and (value or not name):
        made = known[id(value)] = {}
        made.update((key, convert(each, known)) for key, each in value.items())
    elif isinstance(value, list | tuple):
        made = known[id(value)] = []
        made.extend(convert(each, known) for each in value)
    else:
        made = value
    known[id(value)] = made
    return made
