"""Our HPACK against RFC 7541's examples and against the `hpack` package, both ways."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyserving.transports.http2 import huffman
from pyserving.transports.http2.hpack import Decoder, HpackError, encode

NAMES = st.one_of(
    st.sampled_from([b":path", b":method", b"te", b"grpc-timeout", b"content-type", b"x", b"a-bin"]),
    st.binary(max_size=40),
)
VALUES = st.one_of(
    st.sampled_from([b"POST", b"/", b"trailers", b"5S"]), st.binary(max_size=200), st.text().map(str.encode)
)
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.sampled_from(["indexed", "plain", "never"])), max_size=12)
TABLE_SIZES = st.none() | st.sampled_from([0, 31, 64, 200, 1000, 4096])
BLOCKS = st.lists(st.tuples(FIELDS, st.booleans(), TABLE_SIZES), max_size=8)


def encoded(encoder: hpack.Encoder, fields, huffman: bool) -> bytes:
    """As a client might: some fields enter the table, some do not, some never may."""
    block = encoder.encode([])  # the table's new size, if it has one
    for name, value, way in fields:
        if way == "plain":
            block += encode([(name, value)])
        else:
            field = (hpack.NeverIndexedHeaderTuple if way == "never" else hpack.HeaderTuple)(name, value)
            block += encoder.encode([field], huffman=huffman)
    return block


@given(BLOCKS)
@example([([(b"x", b"1" * 90, "indexed")] * 3, True, 200), ([(b"x", b"1" * 90, "indexed")], False, 0)])
def test_it_reads_what_the_hpack_package_writes(blocks):
    encoder, decoder, oracle = hpack.Encoder(), Decoder(), hpack.Decoder()
    for fields, huffman_coded, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        block = encoded(encoder, fields, huffman_coded)
        assert decoder.decode(block) == [tuple(field) for field in oracle.decode(block, raw=True)]


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_the_hpack_package_reads_what_it_writes(fields):
    decoder = hpack.Decoder()
    assert [tuple(field) for field in decoder.decode(encode(fields), raw=True)] == fields
    assert list(decoder.header_table.dynamic_entries) == []


@given(BLOCKS, st.data())
def test_mutated_blocks_give_fields_or_the_one_error(blocks, data):
    encoder, decoder = hpack.Encoder(), Decoder()
    for fields, huffman_coded, _ in blocks:
        block = bytearray(encoded(encoder, fields, huffman_coded))
        for _ in range(data.draw(st.integers(0, 3)) if block else 0):
            block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
        try:
            decoder.decode(bytes(block[: data.draw(st.integers(0, len(block)))]))
        except HpackError:
            return


@given(st.binary(max_size=300))
def test_any_bytes_give_what_the_hpack_package_makes_of_them_or_the_one_error(block):
    try:
        expected = [tuple(field) for field in hpack.Decoder().decode(block, raw=True)]
    except hpack.HPACKError:
        expected = None
    try:
        fields = Decoder().decode(block)
    except HpackError:
        fields = None
    assert fields == expected


@given(st.binary(max_size=100))
def test_any_bytes_are_huffman_coded_or_refused(data):
    from hpack.huffman_table import decode_huffman

    try:
        expected = decode_huffman(data)
    except hpack.HPACKError:
        expected = None
    try:
        decoded = huffman.decode(data)
    except ValueError:
        decoded = None
    assert decoded == expected


def test_it_follows_the_examples_of_the_rfc_with_one_table():
    # RFC 7541, appendix C.4.
    decoder = Decoder()
    first = decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    assert first == [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
    second = decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf"))
    assert second == [*first, (b"cache-control", b"no-cache")]
    third = decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third[-2:] == [(b":authority", b"www.example.com"), (b"custom-key", b"custom-value")]


@pytest.mark.parametrize(
    ("case", "block"),
    [
        ("an index of 0", b"\x80"),
        ("an index beyond both tables", b"\xbe"),
        ("a name beyond both tables", b"\x7e\x00"),
        ("an integer without end", b"\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("a string beyond its block", b"\x00\x05abc"),
        ("a name without a value", b"\x00\x01a"),
        ("a table larger than was allowed", b"\x3f\xe2\x1f"),
        ("a change of size between fields", b"\x82\x20"),
        ("Huffman's code padded with zeros", b"\x00\x81\x00\x00"),
        ("Huffman's code padded with a byte", b"\x00\x82\x1f\xff\x00"),
        ("Huffman's code with an end of string", b"\x00\x84\xff\xff\xff\xff\x00"),
    ],
)
def test_it_refuses(case, block):
    with pytest.raises(HpackError):
        Decoder().decode(block)


def test_an_entry_larger_than_the_table_empties_it():
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x40\x01a\x7f\xa1\x1f" + b"x" * 4128)
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")
