"""Files that appear whole or not at all, after a power cut too: the one way in which this project replaces a file."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".part"  # how the name of a file ends that is being written
NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF}


@contextmanager
def replaced_whole(file: Path) -> Iterator[Path]:
    """Give a path to write to, and put what was written there in the place of ``file``: all of it, or nothing.

    The content reaches the disk before the name does (``fsync`` of the file), and the name before this returns
    (``fsync`` of the folder): a power cut leaves the old file or the new one.

    Args:
        file: what to write. Its folder is made if need be.

    Yields:
        A path in the same folder. Where nothing was written to it, ``file`` stays as it was.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}")
    try:
        yield temporary
        if temporary.exists():  # only the first of several ranks writes a checkpoint
            sync(temporary)
            temporary.replace(file)
            sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or a folder, where the file system can promise that.

    Raises:
        OSError: the disk could not be written.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders; some network file systems let nobody read them
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process was writing in ``folder``; nobody else may be writing there."""
    for leftover in folder.glob(f".*{UNFINISHED}"):
        leftover.unlink(missing_ok=True)
