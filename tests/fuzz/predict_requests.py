"""Bytes as a PredictRequest, read by the scan of its wire and by protobuf: the same values, or the same refusal."""

from __future__ import annotations

from tests.codec.test_predict_wire_against_protobuf import eager_decoder, mapped, parsed

_decoder = eager_decoder()


def compare(data: bytes) -> None:
    """AssertionError where the two readings differ."""
    expected = parsed(data)
    assert mapped(_decoder, data) == expected
    assert mapped(_decoder, memoryview(data)) == expected
