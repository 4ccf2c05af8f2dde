"""HPACK's Huffman code (RFC 7541, appendix B), decoded a byte at a time."""

from __future__ import annotations

from functools import lru_cache

# The code is canonical: codes of one length follow the order of their symbols, so these lengths say all of it.
_SYMBOLS_BY_LENGTH: tuple[tuple[int, bytes], ...] = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5"
        b"\xe7\xef",
    ),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    ),
    (30, b"\n\r\x16"),
)
_MAX_PADDING_BITS = 7


def _symbols_by_code() -> dict[tuple[int, int], int]:
    """(length, code) to symbol. The end-of-string symbol has no entry: in a string it is an error."""
    symbols: dict[tuple[int, int], int] = {}
    code = previous = 0
    for length, group in _SYMBOLS_BY_LENGTH:
        code <<= length - previous
        previous = length
        for symbol in group:
            symbols[length, code] = symbol
            code += 1
    return symbols


_SYMBOLS = _symbols_by_code()
_LONGEST = _SYMBOLS_BY_LENGTH[-1][0]


@lru_cache(maxsize=1 << 14)  # in whole there are 2^16 of them, but text needs few
def _step(length: int, code: int, byte: int) -> tuple[bytes, int, int]:
    """What `byte` completes after the `length` bits of `code`: symbols, and the bits that are left."""
    out = bytearray()
    for shift in range(7, -1, -1):
        length, code = length + 1, code << 1 | byte >> shift & 1
        symbol = _SYMBOLS.get((length, code))
        if symbol is not None:
            out.append(symbol)
            length = code = 0
        elif length >= _LONGEST:
            raise ValueError("no symbol has this code")
    return bytes(out), length, code


def decode(data: bytes) -> bytes:
    """ValueError when a code is unknown, or the end is not padded with up to seven one-bits."""
    out, length, code = [], 0, 0
    for byte in data:
        symbols, length, code = _step(length, code, byte)
        out.append(symbols)
    if length > _MAX_PADDING_BITS or code != (1 << length) - 1:
        raise ValueError("a string ends within a symbol")
    return b"".join(out)
