"""The fuzzer's targets with inputs of Hypothesis's making, and with those that have once gone wrong."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import connection, hpack_blocks, predict_requests, timeouts

FOUND = {
    "streams beside promised answers went over the limit": "05020100510000000102f2",
    "what came after the last word was kept": "25ff636f6e74656e742d337479010000007065bc045b8624",
}


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=600))
def test_a_connection_keeps_its_rules_whatever_its_client_does(data: bytes) -> None:
    connection.play(data)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 64))
def test_a_connection_keeps_its_rules_through_a_long_play(seed: int) -> None:
    connection.play(Random(seed).randbytes(3000))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 64))
def test_a_connection_keeps_its_rules_while_it_is_busy(seed: int) -> None:
    connection.play(connection.busy_script(Random(seed)))


@pytest.mark.parametrize("what", FOUND)
def test_what_has_once_gone_wrong_goes_well(what: str) -> None:
    connection.play(bytes.fromhex(FOUND[what]))


@given(st.binary(max_size=600))
def test_header_blocks_mean_what_the_hpack_package_reads(data: bytes) -> None:
    hpack_blocks.compare(data)


@given(st.binary(max_size=120))
def test_header_blocks_with_timeouts_mean_what_decoding_them_all_would_tell(data: bytes) -> None:
    timeouts.compare(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 64))
def test_long_rows_of_such_blocks_do_too(seed: int) -> None:
    timeouts.compare(timeouts.script(Random(seed)))


@given(st.binary(max_size=300))
def test_a_predict_request_means_what_protobuf_reads(data: bytes) -> None:
    predict_requests.compare(data)
