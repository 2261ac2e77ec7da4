"""A lock that a process holds while it lives: whoever comes second learns the first one's pid."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from journeykit.errors import JourneyError


class Lock:
    """A lock file with the holder's pid, held by the operating system's own file lock.

    The rival, a file that is created exclusively and holds a pid, must guess whether that pid still is the same process
    (pids are reused, and a pid of another container says nothing). The system drops a file lock with the process that
    held it, however that ended, so a stale lock cannot exist. The file stays behind, empty: removing it would let two
    processes lock two files of one name.

    Args:
        path: the lock file.
        what: what is locked, for the message.
        wait: wait for the holder instead of refusing.
        tell: told once that it waits.

    Raises:
        JourneyError: another process holds the lock.
    """

    def __init__(self, path: Path, what: str, wait: bool = False, tell: Callable[[str], None] | None = None) -> None:
        self.path, self.what, self.wait, self.tell = path, what, wait, tell
        self._file = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        told = False
        try:
            while not _try(self._file):
                holder = self.path.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
                if not self.wait:
                    raise JourneyError(
                        f"{self.what} is in use by process {holder}. Wait until it has finished, or add --wait."
                    )
                if not told and self.tell:
                    self.tell(f"waiting for process {holder}, which is using {self.what}")
                told = True
                time.sleep(0.3)
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._file, 0)
        os.close(self._file)


if sys.platform == "win32":
    import msvcrt

    def _try(file: int) -> bool:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # a byte far behind the pid, which others must be able to read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
