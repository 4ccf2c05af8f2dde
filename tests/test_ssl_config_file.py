"""The file that says how ports are secured: what it may say, and what happens when it changes."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
from google.protobuf import text_format

from pyserving import protos
from pyserving.errors import InvalidArgument, NotFound, PermissionDenied
from pyserving.ssl_config_file import SslConfigFile, open_tls, read_identity
from pyserving.workers import Workers


@pytest.fixture(scope="module")
def server(authority):
    return authority.issue("server")


@pytest.fixture(scope="module")
def renewed(authority):
    return authority.issue("renewed")


class Config:
    """An SSLConfig in a file, and the files that it may name."""

    def __init__(self, folder):
        self.folder = folder
        self.path = str(folder / "ssl.config")

    def write(self, **fields):
        (self.folder / "ssl.config").write_text(text_format.MessageToString(protos.SSLConfig(**fields)))
        return self.path

    def write_with(self, certificate, **more):
        return self.write(server_key=certificate.key.decode(), server_cert=certificate.pem.decode(), **more)


@pytest.fixture
def config(tmp_path):
    return Config(tmp_path)


@pytest.mark.proves(
    "field SSLConfig.server_key",
    "field SSLConfig.server_cert",
    "field SSLConfig.custom_ca",
    "field SSLConfig.client_verify",
)
def test_its_values_are_pem_texts(config, server, authority):
    identity = read_identity(config.write_with(server, client_verify=True, custom_ca=authority.pem.decode()))
    assert (identity.key.text, identity.certificates.text) == (server.key, server.pem)
    assert identity.client_roots.text == authority.pem
    assert identity.key.origin == f"{config.path}: server_key"


@pytest.mark.proves("difference: A value of SSLConfig that is no PEM text")
def test_its_values_may_name_files_beside_it(config, server, authority):
    (config.folder / "tls.key").write_bytes(server.key)
    path = config.write(server_key="tls.key", server_cert=str(server.path), custom_ca=str(authority.path))
    identity = read_identity(path)
    assert (identity.key.text, identity.key.origin) == (server.key, str(config.folder / "tls.key"))
    assert (identity.certificates.text, identity.certificates.origin) == (server.pem, str(server.path))


def test_roots_are_moot_while_clients_are_not_verified(config, server):
    assert read_identity(config.write_with(server, custom_ca="/no/such/file")).client_roots is None


def test_without_roots_of_ones_own_those_of_grpc_hold(config, server, caplog):
    tls = open_tls(config.write_with(server, client_verify=True))
    assert b"-----BEGIN CERTIFICATE-----" in tls.credentials.identity.client_roots.text
    assert caplog.messages == [
        "client_verify without custom_ca: any certificate that gRPC's default roots vouch for is let in"
    ]


def test_the_environment_may_name_other_default_roots(config, server, authority, monkeypatch):
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(authority.path))
    assert read_identity(config.write_with(server, client_verify=True)).client_roots.text == authority.pem


def test_a_file_that_is_missing_is_named(config, server):
    with pytest.raises(NotFound, match=r"/no/such/config; No such file or directory"):
        open_tls("/no/such/config")
    with pytest.raises(NotFound, match=r"/no/such/key; No such file or directory"):
        open_tls(config.write(server_key="/no/such/key", server_cert=server.pem.decode()))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_key_that_may_not_be_read_is_named(config, server):
    key = config.folder / "secret.key"
    key.write_bytes(server.key)
    key.chmod(0)
    with pytest.raises(PermissionDenied, match=r"secret\.key; Permission denied"):
        open_tls(config.write(server_key=str(key), server_cert=server.pem.decode()))


def test_a_missing_value_is_named(config, server):
    with pytest.raises(InvalidArgument, match="server_key is missing"):
        open_tls(config.write(server_cert=server.pem.decode()))
    with pytest.raises(InvalidArgument, match="server_cert is missing"):
        open_tls(config.write(server_key=server.key.decode()))


def test_a_text_that_is_no_config_is_named(config):
    (config.folder / "ssl.config").write_text("server_keys: 'x'")
    with pytest.raises(InvalidArgument, match="Invalid protobuf file"):
        open_tls(config.path)


def quoted(key):
    """As people write a key into a text-format file."""
    return key.decode().replace("\n", "\\n")


@pytest.mark.parametrize("text", ['server_key: "{key}\n', "server_key: {key}", 'server_kee: "{key}"', "{key}"])
def test_a_config_that_cannot_be_parsed_gives_no_key_away(config, server, caplog, text):
    (config.folder / "ssl.config").write_text(text.format(key=quoted(server.key)))
    with pytest.raises(InvalidArgument) as refusal:
        open_tls(config.path)
    assert refusal.value.message == f"Invalid protobuf file: '{config.path}'"
    (line,) = caplog.messages
    assert line.startswith("Error parsing text-format tensorflow.serving.SSLConfig: 1:")
    assert not [secret for secret in secrets(server.key) if secret in line]


def test_a_key_that_has_lost_its_first_line_is_not_shown_as_the_name_of_a_file(config, server):
    rest = server.key.decode().partition("\n")[2]
    with pytest.raises(InvalidArgument) as refusal:
        open_tls(config.write(server_key=rest, server_cert=server.pem.decode()))
    assert refusal.value.message == f"{config.path}: server_key is neither a PEM text nor the name of a file"


def test_what_can_be_the_name_of_no_file_is_refused(config, server):
    with pytest.raises(InvalidArgument, match="server_cert is neither a PEM text nor the name of a file"):
        open_tls(config.write(server_key=server.key.decode(), server_cert="a\0b"))


def secrets(key):
    """The lines of a key but for its first and last."""
    return {*key.decode().splitlines()[1:-1]}


class Followed:
    """A config that is looked at when the test says so."""

    def __init__(self, config, reading):
        self.tls = open_tls(config.path)
        self.changes = []
        self.file = SslConfigFile(config.path, self.tls, reading, self.changes.append, look_seconds=3600)
        self.look = self.file.look

    @property
    def key(self):
        return self.tls.credentials.identity.key.text


@pytest.fixture
async def followed(config, server):
    config.write_with(server)
    async with Workers("ssl", 1) as reading:
        followed = Followed(config, reading)
        async with followed.file:
            yield followed


async def test_a_change_holds_once_two_looks_have_seen_it(followed, config, server, renewed):
    config.write_with(renewed)
    await followed.look()
    assert followed.key == server.key
    await followed.look()
    assert (followed.key, followed.changes) == (renewed.key, [True])
    await followed.look()
    assert followed.changes == [True]


async def test_files_that_change_one_after_another_are_waited_for(followed, config, server, renewed):
    config.write(server_key=renewed.key.decode(), server_cert=server.pem.decode())
    await followed.look()
    config.write_with(renewed)
    await followed.look()
    await followed.look()
    assert (followed.key, followed.changes) == (renewed.key, [True])


async def test_a_bad_change_is_told_once_and_changes_nothing(followed, config, server, renewed, caplog):
    config.write(server_key=renewed.key.decode(), server_cert=server.pem.decode())
    for _ in range(4):
        await followed.look()
    assert (followed.key, followed.changes) == (server.key, [False])
    (line,) = caplog.messages
    assert line.startswith("Connections go on with the certificates they had: ")
    assert line.endswith("the key does not belong to the first certificate of " + f"{config.path}: server_cert")


async def test_a_config_that_cannot_be_parsed_is_told_once(followed, config, caplog):
    (config.folder / "ssl.config").write_text("server_kee: 'x'")
    for _ in range(4):
        await followed.look()
    assert followed.changes == [False]
    where, what = caplog.messages
    assert where.startswith("Error parsing text-format tensorflow.serving.SSLConfig: 1:")
    assert what == f"Connections go on with the certificates they had: Invalid protobuf file: '{config.path}'"


async def test_a_file_that_goes_away_and_comes_back_changes_nothing(followed, config, server, caplog):
    caplog.set_level(logging.INFO)
    os.unlink(config.path)
    for _ in range(3):
        await followed.look()
    assert (followed.key, followed.changes) == (server.key, [False])
    config.write_with(server)
    for _ in range(3):
        await followed.look()
    assert (followed.key, followed.changes) == (server.key, [False, True])


async def test_clients_cannot_be_asked_for_certificates_from_now_on(followed, config, server, authority, caplog):
    config.write_with(server, client_verify=True, custom_ca=authority.pem.decode())
    for _ in range(2):
        await followed.look()
    assert followed.tls.credentials.identity.client_roots is None
    assert "a change of client_verify takes a restart" in caplog.text


async def test_it_looks_by_itself(config, server, renewed):
    config.write_with(server)
    tls = open_tls(config.path)
    config.write_with(renewed)
    changed = asyncio.Event()
    async with Workers("ssl", 1) as reading, SslConfigFile(config.path, tls, reading, lambda _: changed.set(), 0.001):
        await asyncio.wait_for(changed.wait(), 10)
    assert tls.credentials.identity.key.text == renewed.key
