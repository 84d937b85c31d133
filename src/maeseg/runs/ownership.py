"""Ownership of output folders: one process at a time writes a folder and everything below it.

The owner holds a lock on ``.maeseg/lock`` of the folder. The operating system releases it when the process ends, even
by SIGKILL. ``.maeseg/owner.json`` names the owner, for messages alone. On a file system without locks the lock is a
file that exists while the folder is owned; after a crash on another computer that file stays and has to be deleted.
"""

import errno
import json
import logging
import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from maeseg.errors import UserError, reason
from maeseg.runs.output_folder import refuse_file
from maeseg.utils.distributed import first_process
from maeseg.utils.regular_files import read_text
from maeseg.utils.written_files import OWN

log = logging.getLogger(__name__)

_LOCK, _LOCK_WITHOUT_SYSTEM, _OWNER = "lock", "lock-by-existence", "owner.json"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_PATIENCE = 0.5
"""Seconds to wait for a lock: another process may hold it for a moment, to test it."""
_ATTEMPTS = 100
_LONGEST_COMMAND = 200
_owned: set[tuple[int, Path]] = set()
"""Threads of this process, and the folders that each of them owns."""


@contextmanager
def owning(out: Path) -> Iterator[None]:
    """Own an output folder inside the block; it is made if it is missing, and removed at the end if it is empty.

    Blocks may be nested: a folder that lies in an owned one is owned too. Of several processes that train together the
    first one owns the folder.

    Args:
        out: The folder.

    Raises:
        UserError: Another process owns the folder or one that it lies in; or the folder is a file, or cannot be
            written.
    """
    refuse_file(out)
    if not first_process() or _owner_thread(out):
        yield
        return
    missing = [each for each in (out, *out.parents) if not each.exists()]
    lock = _take_new(out)
    held = (threading.get_ident(), out.resolve())
    _owned.add(held)
    try:
        _refuse_owned_around(out)  # now, as others look for this lock in turn
        yield
    finally:
        _owned.discard(held)
        _release(out, lock, missing)


def _owner_thread(out: Path) -> bool:
    """True if this thread owns the folder or one that it lies in."""
    place = out.resolve()
    return any((threading.get_ident(), each) in _owned for each in (place, *place.parents))


def _refuse_owned_around(out: Path) -> None:
    """Refuse a folder in an owned one, or around one."""
    place = out.resolve()
    inside = (Path(parent) for parent, folders, _ in os.walk(place) if OWN in folders)
    for folder in (*place.parents, *inside):
        if folder != place:
            _refuse_owned(folder, out)


def _refuse_owned(folder: Path, out: Path) -> None:
    """Refuse a folder that another process owns; ``out`` is the folder that is to be written."""
    with suppress(OSError):  # gone, or not permitted to this user
        if (folder / OWN / _LOCK).exists():
            try:
                _take(folder).release()
            except Timeout as error:
                raise _in_use(folder, out) from error


def _take_new(out: Path) -> BaseFileLock:
    """Make the folder, take its lock, and note the owner.

    Raises:
        UserError: Another process owns it, or it cannot be written.
    """
    try:
        lock = _make_and_take(out)
        _note_owner(out / OWN / _OWNER)
    except Timeout as error:
        raise _in_use(out, out) from error
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({reason(error)}): give another folder") from error
    return lock


def _make_and_take(out: Path) -> BaseFileLock:
    if (out / OWN).is_symlink():
        raise UserError(f"--out {out}: {OWN} in it is a link: remove that link, or give another folder")
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # its owner has just ended, and removed it
            (out / OWN).mkdir(parents=True, exist_ok=True)
            return _take(out)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(out))


def _take(folder: Path) -> BaseFileLock:
    """Lock of a folder, held.

    Raises:
        Timeout: Another process holds it.
        OSError: The lock cannot be written.
    """
    lock: BaseFileLock = FileLock(folder / OWN / _LOCK)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 10)
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: its file system has no locks; a file stands for the lock (%s)", folder, _LOCK_WITHOUT_SYSTEM)
        lock = SoftFileLock(folder / OWN / _LOCK_WITHOUT_SYSTEM)
        lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 10)
    return lock


def _release(out: Path, lock: BaseFileLock, missing: list[Path]) -> None:
    """Release the lock, and remove the folder if this call made it and nothing was written."""
    with suppress(OSError):  # moved away, or no longer permitted
        (out / OWN / _OWNER).unlink(missing_ok=True)
        if [each.name for each in out.iterdir()] == [OWN]:
            # The lock last: who waits for it may use the folder from then on.
            for each in sorted((out / OWN).iterdir(), key=lambda path: path.name.startswith(_LOCK)):
                each.unlink()
            (out / OWN).rmdir()
            for folder in missing:
                folder.rmdir()
    with suppress(OSError):
        lock.release()


def _note_owner(file: Path) -> None:
    command = shlex.join(["maeseg" if Path(sys.argv[0]).stem in ("__main__", "maeseg") else sys.argv[0], *sys.argv[1:]])
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": command[:_LONGEST_COMMAND],
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    file.unlink(missing_ok=True)  # in an untrusted folder it may be a link to another file
    with file.open("x", encoding="utf-8") as stream:
        json.dump(about, stream)


def _in_use(folder: Path, out: Path) -> UserError:
    where = f"--out {out}" if folder == out else f"--out {out}: {folder}"
    return UserError(f"{where} is in use by {_owner(folder)}: wait until it ends, stop it, or give another folder")


def _owner(folder: Path) -> str:
    try:
        about = json.loads(read_text(folder / OWN / _OWNER))
        return f"process {about['pid']} on {about['host']} ({about['command']}, since {about['since']})"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # not yet written
        return "another process"
