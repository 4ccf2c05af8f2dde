"""Bytes as header blocks of one connection, read by our decoder and the `hpack` package: the same, or both refuse."""

from __future__ import annotations

import hpack

from pyserving.transports.http2.hpack import DEFAULT_TABLE_BYTES, Decoder, HpackError

_OVERLONG = "an integer without end"


def compare(data: bytes) -> None:
    """The first byte tells how large blocks are (0: all is one); AssertionError where the two decoders differ."""
    decoder, oracle = Decoder(), hpack.Decoder(max_header_list_size=1 << 30)
    size = (data[0] if data else 0) or max(len(data), 1)
    for start in range(1, len(data), size):
        block = data[start : start + size]
        try:
            fields = decoder.decode(block)
        except HpackError as error:
            # RFC 7541 leaves open how many bytes an integer may have: ours has one less than the package's.
            if error.reason != _OVERLONG:
                assert _expected(oracle, block) is None, "refused what is right"
            return
        assert _expected(oracle, block) == fields
        assert 0 <= decoder._table_bytes <= DEFAULT_TABLE_BYTES


def _expected(oracle: hpack.Decoder, block: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in oracle.decode(block, raw=True)]
    except hpack.HPACKError:
        return None
