"""The file of a unix socket: one left behind by a dead server is cleared away, one in use is left alone."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from pyserving.errors import AlreadyExists


def clear(path: str) -> None:
    """Make room for a socket at `path`; AlreadyExists when a server listens there or the file is not a socket.

    gRPC itself would take the path over from a server that still listens.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AlreadyExists(f"{path} exists and is not a socket")
    if _is_listened_on(path):
        raise AlreadyExists(f"another server listens on the socket {path}")
    with suppress(FileNotFoundError):
        os.unlink(path)


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # a full backlog: somebody is there, and busy
            return True
        except OSError:
            return False
        return True


class SocketFile:
    """A socket file that this process made."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        made = self.path.stat()
        self._identity = (made.st_dev, made.st_ino)
        self.mode = stat.S_IMODE(made.st_mode)

    def remove(self) -> None:
        """Unlink it, unless it has gone or another server has put its own there."""
        with suppress(FileNotFoundError):
            there = self.path.stat()
            if (there.st_dev, there.st_ino) == self._identity:
                self.path.unlink()
