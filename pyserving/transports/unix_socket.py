"""The file of a unix socket: one left behind by a dead server is cleared away, one in use is left alone."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from pyserving.errors import AlreadyExists

_LONGEST_PATH = 107
"""sockaddr_un has 108 bytes, one of them for the end."""


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


def problem(path: str) -> str | None:
    """Why no socket can be made at `path`; None when one can."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return f"the socket path {path} is longer than {_LONGEST_PATH} bytes"
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        return f"the folder of the socket {path} does not exist"
    if not os.access(folder, os.W_OK):
        return f"the folder of the socket {path} cannot be written to"
    return None


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
