"""Keys and certificates that can be used, and what is said of those that cannot."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from pyserving.errors import InvalidArgument
from pyserving.transports.tls import Pem, Tls, credentials_of
from tests.certificates import Authority, Certificate, identity, openssl

BROKEN = b"-----BEGIN %s-----\nAAAA\n-----END %s-----\n"


@pytest.fixture(scope="module")
def server(authority: Authority) -> Certificate:
    return authority.issue("server")


def refusal(wrong) -> str:
    with pytest.raises(InvalidArgument) as caught:
        credentials_of(wrong)
    return caught.value.message.removeprefix("Failed to BuildAndStart gRPC server: ")


def test_clients_are_asked_for_certificates_only_where_there_are_roots(authority, server):
    assert credentials_of(identity(server)).h2.verify_mode is ssl.CERT_NONE
    mutual = credentials_of(identity(server, authority))
    assert (mutual.h2.verify_mode, mutual.http1.verify_mode) == (ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)


def test_a_chain_and_comments_are_taken(authority, server):
    chain = b"# ours\n" + server.pem + "# ünd his\n".encode() + authority.pem
    credentials = credentials_of(replace(identity(server), certificates=Pem(chain, "chain.pem")))
    assert credentials.identity.certificates.text == chain


def test_a_key_of_another_certificate_is_refused(authority, server):
    other = authority.issue("other")
    wrong = replace(identity(server), key=Pem(other.key, "other.key"))
    assert refusal(wrong) == f"other.key: the key does not belong to the first certificate of {server.path}"


def test_a_key_of_another_kind_is_refused(authority, server):
    other = authority.issue("rsa", key=("-newkey", "rsa:2048"))
    wrong = replace(identity(server), key=Pem(other.key, "rsa.key"))
    assert refusal(wrong) == f"rsa.key: the key does not belong to the first certificate of {server.path}"


def test_a_key_under_a_passphrase_is_refused_without_asking(server, tmp_path):
    protected = tmp_path / "protected.key"
    openssl("ec", "-in", server.key_path, "-aes256", "-passout", "pass:secret", "-out", protected)
    wrong = replace(identity(server), key=Pem(protected.read_bytes(), "protected.key"))
    reason = "the key is protected by a passphrase, and there is nobody to ask for it"
    assert refusal(wrong) == f"protected.key: {reason}"


def test_a_weak_certificate_is_refused(authority):
    weak = authority.issue("weak", key=("-newkey", "rsa:1024"))
    assert refusal(identity(weak)).startswith(f"{weak.path}: OpenSSL does not accept the certificate (")


@pytest.mark.parametrize("text", [b"", b"a key", BROKEN % (b"PRIVATE KEY", b"PRIVATE KEY")])
def test_what_is_no_key_is_refused(server, text):
    wrong = replace(identity(server), key=Pem(text, "/etc/key"))
    assert refusal(wrong).startswith("/etc/key: not a private key in PEM form")


@pytest.mark.parametrize("text", [b"", b"a certificate", BROKEN % (b"CERTIFICATE", b"CERTIFICATE")])
def test_what_is_no_certificate_is_refused(server, text):
    wrong = replace(identity(server), certificates=Pem(text, "/etc/crt"))
    assert refusal(wrong).startswith("/etc/crt: not certificates in PEM form")
    wrong = replace(identity(server), client_roots=Pem(text, "/etc/ca"))
    assert refusal(wrong).startswith("/etc/ca: not certificates in PEM form")


def test_a_key_is_not_shown(server):
    assert server.key.decode().splitlines()[1] not in repr(identity(server))


def test_asking_clients_for_certificates_cannot_be_begun_or_given_up_on_the_way(authority, server):
    tls = Tls(before := credentials_of(identity(server)))
    with pytest.raises(InvalidArgument, match="a change of client_verify takes a restart"):
        tls.renew(credentials_of(identity(server, authority)))
    assert tls.credentials is before
