from __future__ import annotations

import pytest

from pyserving.transports.http2.errors import StreamFailure
from pyserving.transports.http2.request_head import parse, timeout_seconds

PSEUDO = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t.T/Echo")]
GRPC = (b"content-type", b"application/grpc")


def test_metadata_is_what_http_and_grpc_do_not_keep_for_themselves():
    fields = [*PSEUDO, GRPC, (b"te", b"trailers"), (b"tenant", b"a"), (b"tenant", b"b"), (b"latin", b"gr\xf6\xdfer")]
    assert parse(fields).metadata == {"tenant": "b", "latin": "größer"}


@pytest.mark.parametrize("written", [b"AAH/", b"AAH/,AAH/", b"AAH/ , AAH/"])
def test_binary_metadata_is_decoded(written):
    assert parse([*PSEUDO, GRPC, (b"blob-bin", written)]).metadata == {"blob-bin": b"\x00\x01\xff"}


@pytest.mark.parametrize(("written", "decoded"), [(b"YQ==", b"a"), (b"YQ", b"a"), (b"", b"")])
def test_binary_metadata_may_leave_its_padding_out(written, decoded):
    assert parse([*PSEUDO, GRPC, (b"blob-bin", written)]).metadata["blob-bin"] == decoded


def test_binary_metadata_that_is_none_is_malformed():
    with pytest.raises(StreamFailure):
        parse([*PSEUDO, GRPC, (b"blob-bin", b"***")])


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        (b"application/grpc", 0),
        (b"application/grpc+proto", 0),
        (b"application/grpc;charset=utf-8", 0),
        (b"application/grpc-web", 415),
        (b"application/json", 415),
        (b"", 415),
    ],
)
def test_what_is_not_grpc_is_told_so(content_type, error):
    assert parse([*PSEUDO, (b"content-type", content_type)]).http_error == error


def test_other_methods_than_post_are_told_so():
    assert parse([(b":method", b"GET"), *PSEUDO[1:], GRPC]).http_error == 405


def test_a_path_may_hold_any_bytes():
    assert parse([*PSEUDO[:2], (b":path", b"/\xff\xfe"), GRPC]).path == "/ÿþ"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (b"2H", 7200.0),
        (b"3M", 180.0),
        (b"5S", 5.0),
        (b"250m", 0.25),
        (b"99999999u", 99.999999),
        (b"7n", 7e-9),
        (b"0m", 0.0),
    ],
)
def test_timeouts_have_units(written, seconds):
    assert timeout_seconds(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", [b"", b"5", b"S", b"5s", b"-5S", b"5.0S", b"123456789S", b" 5S", b"5S\n", "٣S".encode()]
)
def test_a_timeout_that_cannot_be_read_is_none(written):
    assert timeout_seconds(written) is None
