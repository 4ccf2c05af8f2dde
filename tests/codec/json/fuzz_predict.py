"""Read a great many mutated predict requests both ways, which must agree, and raise nothing but refusals.

    python -m tests.codec.json.fuzz_predict --count 1000000 --seed 1

Prints how many were read, how many of them quickly, and the first bodies on which the two ways part.
"""

from __future__ import annotations

import argparse
import random
from time import monotonic

from pyserving.codec.json import plain_numbers
from pyserving.codec.json.predict import decode_predict, read_completely
from tests.codec.json.predict_bodies import SIGNATURES, outcome

SEEDS = [
    b'{"instances": [1.0, 2.0, 5.0]}',
    b'{"instances":[[1,2],[3,4],[5,6]]}',
    b'{"signature_name": "two", "inputs": {"a": [[1, 2], [3, 4]], "b": [0.5, -1e-3]}}',
    b'{"signature_name":"two","instances":[{"a":1,"b":[2.5]},{"b":[-0.0],"a":7}]}',
    b'{"inputs": [[[1], [2]], [[3], [4]]], "signature_name": "int32"}',
    b'{"signature_name": "text", "instances": ["a\\u00e9\\ud83d\\ude00", {"b64": "aGk="}, ""]}',
    b'{"signature_name": "uint64", "instances": [18446744073709551615, 0]}',
    b'{"signature_name": "bool", "inputs": [true, false]}',
    b'{"instances": [NaN, -Infinity, Inf, 1e-400], "other": null}',
]
PIECES = [bytes([char]) for char in b'[]{},:"\\-+.eE019truefalsNIn \t\n\0\xef\xbb\xbf\xff'] + [
    b"],[",
    b"[]",
    b"{}",
    b"1e999",
    b"18446744073709551616",
    b'"x":',
    b'"instances":',
    b'"inputs":',
    b"\\ud800",
]


def mutated(choose: random.Random) -> bytes:
    """A seed with a few of its bytes changed, moved or taken from another."""
    body = choose.choice(SEEDS)
    for _ in range(choose.randrange(5)):
        start = choose.randrange(len(body) + 1)
        end = min(len(body), start + choose.randrange(4))
        kind = choose.randrange(4)
        if kind == 0:
            piece = choose.choice(PIECES)
        elif kind == 1:
            piece = b""
        elif kind == 2:
            piece = body[start:end] * 2
        else:
            other = choose.choice(SEEDS)
            at = choose.randrange(len(other))
            piece = other[at : at + choose.randrange(12)]
        body = body[:start] + piece + body[end:]
    return body


def is_quick(body: bytes) -> bool:
    plain = plain_numbers.read(body)
    if plain is None:
        return False
    signature = SIGNATURES.get(plain.signature_name or "serving_default")
    return signature is not None and plain.inputs(signature.inputs) is not None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    choose, quick, parted, began = random.Random(options.seed), 0, 0, monotonic()
    for _ in range(options.count):
        body = mutated(choose)
        found = outcome(decode_predict, body, lambda name: SIGNATURES)
        if found != outcome(read_completely, body, lambda name: SIGNATURES):
            parted += 1
            if parted <= 10:
                print("parted:", body)
        quick += is_quick(body)
    print(f"{options.count} bodies in {monotonic() - began:.0f} s, {quick} of them quick; the ways part on {parted}")
    raise SystemExit(bool(parted))


if __name__ == "__main__":
    main()
