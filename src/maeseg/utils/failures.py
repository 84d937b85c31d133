"""Failures of the machine, not of the program: memory, disks and paths, as one line for the user."""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maeseg.errors import UserError, first_line, reason

_MEMORY = re.compile(
    r"MemoryError|out of memory|tried to allocate|bad_alloc|Cannot allocate memory|Failed to allocate memory"
    r"|Storage size calculation overflowed",
    re.IGNORECASE,
)
"""Messages of PyTorch, CUDA, ONNX Runtime and NumPy, also from a process that reads images."""

_REDUCING = ("batch_size", "tile", "image_size", "crop", "workers")
"""Options that reduce memory."""

_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EACCES: "change its permissions, or give another",
    errno.EPERM: "change its permissions, or give another",
    errno.EROFS: "give a place that can be written",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the link that points to itself",
    errno.ENOTDIR: "a part of the path is a file: correct it",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or use fewer --workers",
}


def failure_line(error: BaseException, options: Mapping[str, Any]) -> str:
    """Line for the user about a failure of the machine; empty for a bug.

    Args:
        error: Exception that ended a command.
        options: The command's options.
    """
    if is_out_of_memory(error):
        return _memory_line(error, options)
    if isinstance(error, OSError) and (error.errno or error.filename):
        advice = _ADVICE.get(error.errno or 0, "put that right, and try again")
        if error.filename:
            path = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
            return f"{path} cannot be used ({reason(error)}): {advice}"
        return f"the system refused to read or write ({reason(error)}): {advice}"
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory is exhausted, of the machine or of a device."""
    return isinstance(error, MemoryError) or (isinstance(error, Exception) and bool(_MEMORY.search(str(error))))


@contextmanager
def batch_size_named(batch_size: int, run: Path) -> Iterator[None]:
    """Turn an error for want of memory in training into one line that names the batch size.

    Args:
        batch_size: Images of a step that is tried.
        run: The run folder; what is saved in it stays.

    Raises:
        UserError: Memory is exhausted, of the machine or of a device.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_out_of_memory(error):
            raise
        smaller = f"--batch_size {batch_size // 2}" if batch_size > 1 else "smaller images"
        raise UserError(
            f"memory is exhausted with --batch_size {batch_size} ({first_line(error)}): start again with {smaller}; or "
            f"free memory and go on with --resume, as {run} keeps what was saved"
        ) from error


def _memory_line(error: BaseException, options: Mapping[str, Any]) -> str:
    smaller = [f"--{name}" for name in _REDUCING if name in options]
    advice = f"use a smaller {' or '.join(smaller)}, or free memory" if smaller else "free memory, and try again"
    message = first_line(error)
    return f"memory is exhausted{f' ({message})' if message != type(error).__name__ else ''}: {advice}"
