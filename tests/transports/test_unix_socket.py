from __future__ import annotations

import socket

import pytest

from pyserving.errors import AlreadyExists
from pyserving.transports import unix_socket


@pytest.fixture
def listener():
    with socket.socket(socket.AF_UNIX) as listener:
        yield listener


def test_it_clears_a_file_that_nobody_listens_on(tmp_path, listener):
    path = tmp_path / "s"
    listener.bind(str(path))
    listener.close()
    assert path.exists()
    unix_socket.clear(str(path))
    assert not path.exists()


def test_it_leaves_a_live_socket_alone_and_names_it(tmp_path, listener):
    path = tmp_path / "s"
    listener.bind(str(path))
    listener.listen()
    with pytest.raises(AlreadyExists, match=str(path)):
        unix_socket.clear(str(path))
    assert path.exists()


def test_it_never_removes_what_is_not_a_socket(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(AlreadyExists, match="not a socket"):
        unix_socket.clear(str(path))
    assert path.read_text() == "precious"


def test_it_is_content_with_no_file(tmp_path):
    unix_socket.clear(str(tmp_path / "s"))
    assert list(tmp_path.iterdir()) == []


def test_it_removes_only_its_own_file(tmp_path, listener):
    path = tmp_path / "s"
    listener.bind(str(path))
    file = unix_socket.SocketFile(str(path))
    path.rename(tmp_path / "kept")  # so that its inode is not used again
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
    file.remove()
    assert path.exists()
    unix_socket.SocketFile(str(path)).remove()
    assert not path.exists()
    file.remove()
