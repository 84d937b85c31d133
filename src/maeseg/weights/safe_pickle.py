"""Files of ``torch.save`` that hold more than tensors and plain values, read without running any of it.

PyTorch's own reader (``weights_only=True``) refuses a file for one NumPy scalar, path or class of a project beside the
weights. Allowing such names one by one would run their code on a stranger's bytes, and new ones would never end. So
here no name in a file is ever imported: each stands for a class made on the spot, which keeps what is put into it and
does nothing else. Tensors are made by this module, out of the bytes in the file and the shapes that were kept.

``torch.load`` is not used: without ``weights_only`` it passes a file on to ``torch.jit.load`` where it takes it for a
program. The two formats are those of ``torch/serialization.py``: an archive with ``data.pkl`` and a record for each
storage, and before PyTorch 1.6 a row of pickles with the storages behind them.
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

REBUILD = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
"""Functions in files that make a tensor out of a storage, an offset, a size and strides."""
PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
"""Functions in files whose first argument is the tensor."""
DTYPES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip
OF_TENSORS = {*DTYPES, *REBUILD, *PARAMETER, "collections.OrderedDict"}
"""Names that a file of tensors alone has."""
MAGIC = 0x1950A86A20F9469CFC6C
"""What a file of before PyTorch 1.6 begins with."""


class Inert(dict[Any, Any]):
    """A stand-in for whatever a file names: it keeps arguments and items, and runs nothing."""

    name = ""
    """What it stands for, such as ``numpy.dtype``."""
    given: tuple[Any, ...]
    """The arguments that it was made with."""

    def __new__(cls, *args: Any, **_: Any) -> "Inert":
        """An object that keeps its arguments: a reader of pickles may make it without ``__init__``."""
        made = super().__new__(cls)
        made.given = args
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing: a dict would take the arguments for its items."""

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Another one: a file may call what a call gave it."""
        return Inert()

    def __setstate__(self, _: Any) -> None:
        """Nothing: what is inside an object is not weights."""

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        """An object's own: it may be a key, or in a set."""
        return id(self)

    def append(self, _: Any) -> None:
        """Nothing, in place of a list's or a set's."""

    add = extend = append


@dataclass
class Storage:
    """Numbers in a file: of what type, None for rare ones, and once they are read, in a row."""

    dtype: torch.dtype | None
    values: Tensor | None = None

    def fill(self, content: bytes) -> None:
        """Take the numbers from bytes."""
        if self.dtype is not None:
            self.values = torch.empty(len(content) // self.dtype.itemsize, dtype=self.dtype)
            if content:  # which frombuffer wants
                self.values.copy_(torch.frombuffer(bytearray(content), dtype=self.dtype))

    def view(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor | None:
        """A tensor of these numbers, None without; PyTorch refuses one that reaches beyond them."""
        return None if self.values is None else self.values.as_strided(tuple(size), tuple(stride), offset)


class Reader(pickle.Unpickler):
    """Pickles, with :class:`Inert` for every name and :class:`Storage` for PyTorch's storages.

    Args:
        file: Where a pickle begins.
        names: What stands for each name that was met.
        storages: Those that were met, by their key.
    """

    def __init__(self, file: IO[bytes], names: dict[str, type[Inert]], storages: dict[str, Storage]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.names, self.storages = names, storages

    def find_class(self, module: str, name: str) -> type[Inert]:
        """A class of its own for each name: what a file does to it reaches nothing else."""
        full = f"{module}.{name}"
        return self.names.setdefault(full, type("Inert", (Inert,), {"name": full}))

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of a key."""
        kind, of, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"a reference to {kind!r}")
        return self.storages.setdefault(str(key), Storage(DTYPES.get(getattr(of, "name", ""))))


def read_inertly(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a file of ``torch.save``: mappings, lists and tensors as they are, anything else as :class:`Inert`.

    Returns:
        What it holds, and the names in it that Python would have had to import, but for those of tensors.

    Raises:
        Exception: Of many kinds, for damaged bytes.
    """
    names: dict[str, type[Inert]] = {}
    storages: dict[str, Storage] = {}
    read = read_archive if zipfile.is_zipfile(path) else read_row
    content = read(path, names, storages)
    return settle(content, {}), tuple(name for name in names if name not in OF_TENSORS)


def read_archive(path: Path, names: dict[str, type[Inert]], storages: dict[str, Storage]) -> Any:
    """The pickle in an archive, and its storages."""
    with zipfile.ZipFile(path) as archive:
        main = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        root = main.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("of a big-endian machine")
        with archive.open(main) as file:
            content = Reader(file, names, storages).load()
        for key, storage in storages.items():
            record = archive.getinfo(f"{root}data/{key}")
            if record.compress_type != zipfile.ZIP_STORED:  # which PyTorch never does, and a bomb would
                raise ValueError("compressed")
            storage.fill(archive.read(record))
    return content


def read_row(path: Path, names: dict[str, type[Inert]], storages: dict[str, Storage]) -> Any:
    """The pickle in a file of before PyTorch 1.6, and its storages: a count and the numbers of each."""
    with path.open("rb") as file:
        magic, _, system, content, keys = (Reader(file, names, storages).load() for _ in range(5))
        if magic != MAGIC or not system["little_endian"]:
            raise ValueError("not of torch.save, or of a big-endian machine")
        for key in keys:
            storage = storages[str(key)]
            [count] = struct.unpack("<q", file.read(8))
            storage.fill(file.read(count * (storage.dtype or torch.uint8).itemsize))
    return content


def settle(value: Any, known: dict[int, Any]) -> Any:
    """What was kept, with its tensors made, and its mappings and lists as Python's.

    Args:
        value: What was kept.
        known: What has been settled, by the identity of what it was: the file may hold one thing in many places.
    """
    if id(value) in known:
        return known[id(value)]
    name = value.name if isinstance(value, Inert) else ""
    if name in REBUILD and isinstance(value.given[0], Storage):
        made: Any = value.given[0].view(*value.given[1:])
    elif name in PARAMETER and value.given:
        made = settle(value.given[0], known)
    elif isinstance(value, Mapping) and (value or not name):
        made = known[id(value)] = {}
        made.update((key, settle(each, known)) for key, each in value.items())
    elif isinstance(value, list | tuple):
        made = known[id(value)] = []
        made.extend(settle(each, known) for each in value)
    else:
        made = value
    known[id(value)] = made
    return made
