from __future__ import annotations

from pyserving.errors import Code, NotFound
from pyserving.transports.grpc_status import clipped, status_of


def test_it_keeps_a_serving_errors_code_and_message():
    assert status_of(NotFound("no such model"), "/m") == (Code.NOT_FOUND, "no such model")


def test_it_keeps_1024_bytes_whole():
    assert clipped("x" * 1024) == "x" * 1024


def test_it_cuts_longer_messages_and_says_so():
    assert clipped("x" * 1025) == "x" * 1024 + "...TRUNCATED"


def test_it_counts_bytes_and_never_splits_a_character():
    assert clipped("x" + "é" * 600) == "x" + "é" * 511 + "...TRUNCATED"


def test_it_makes_text_that_utf8_can_carry():
    assert clipped("bad \udc80 byte") == "bad ? byte"


def test_it_logs_an_unexpected_error_once_and_tells_nothing_of_it(caplog):
    code, message = status_of(KeyError("secret"), "/tensorflow.serving.PredictionService/Predict")
    assert code is Code.INTERNAL
    assert "secret" not in message
    assert [record.getMessage() for record in caplog.records] == [
        "/tensorflow.serving.PredictionService/Predict failed"
    ]
    assert "secret" in caplog.text
