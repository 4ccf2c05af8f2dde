"""What a batching parameters file comes to, in defaults and in refusals."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from pyserving import protos
from pyserving.batching.parameters import PoolOptions, QueueOptions, pool_options, queue_options
from pyserving.errors import InvalidArgument


def parsed(text: str) -> protos.BatchingParameters:
    return text_format.Parse(text, protos.BatchingParameters(), descriptor_pool=protos.pool)


def test_defaults_are_tensorflow_servings():
    assert queue_options(parsed("")) == QueueOptions(
        max_batch_size=1000, max_execution_batch_size=1000, batch_timeout_micros=0, max_enqueued_batches=10
    )
    assert pool_options(parsed(""), cpus=3) == PoolOptions("batch_threads", 3)


@pytest.mark.proves(
    "field BatchingParameters.max_batch_size",
    "field BatchingParameters.batch_timeout_micros",
    "field BatchingParameters.max_enqueued_batches",
    "field BatchingParameters.num_batch_threads",
    "field BatchingParameters.thread_pool_name",
    "field BatchingParameters.allowed_batch_sizes",
    "field BatchingParameters.pad_variable_length_inputs",
    "field BatchingParameters.enable_large_batch_splitting",
    "field BatchingParameters.max_execution_batch_size",
)
def test_every_field_is_read():
    text = """
        max_batch_size { value: 128 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 7 }
        num_batch_threads { value: 5 } thread_pool_name { value: "mine" } allowed_batch_sizes: [32, 128]
        pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 32 }
    """
    assert queue_options(parsed(text)) == QueueOptions(128, 32, 500, 7, (32, 128), True, True)
    assert pool_options(parsed(text), cpus=3) == PoolOptions("mine", 5)


def test_execution_size_counts_only_where_requests_are_cut():
    assert queue_options(parsed("max_execution_batch_size { value: 2 }")).max_execution_batch_size == 1000


def test_no_enqueued_batches_are_one_where_requests_are_not_cut():
    assert queue_options(parsed("max_enqueued_batches { value: 0 }")).max_enqueued_batches == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_batch_size { }", "input_batch_size_limit must be positive; was 0"),
        ("max_batch_size { value: -1 }", "input_batch_size_limit must be positive; was -1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (
            "max_enqueued_batches { } enable_large_batch_splitting { value: true }",
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            "allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 1000",
        ),
        (
            "allowed_batch_sizes: 8 max_batch_size { value: 16 } max_execution_batch_size { value: 8 } "
            "enable_large_batch_splitting { value: true }",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 16",
        ),
        (
            "max_batch_size { value: 8 } max_execution_batch_size { value: 9 } "
            "enable_large_batch_splitting { value: true }",
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            "max_execution_batch_size.189",
        ),
        (
            "max_execution_batch_size { } enable_large_batch_splitting { value: true }",
            "max_execution_batch_size must be positive; was 0",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_its_words(text, sentence):
    with pytest.raises(InvalidArgument) as refused:
        queue_options(parsed(text))
    assert str(refused.value) == sentence


@pytest.mark.parametrize("number", [0, -2])
def test_batches_need_a_thread(number):
    with pytest.raises(InvalidArgument, match=f"^num_batch_threads must be positive; was {number}$"):
        pool_options(parsed(f"num_batch_threads {{ value: {number} }}"), cpus=2)


@pytest.mark.parametrize(("rows", "size"), [(1, 2), (2, 2), (3, 8), (8, 8), (9, 9)])
def test_run_has_the_next_allowed_size(rows, size):
    assert QueueOptions(allowed_batch_sizes=(2, 8)).run_size(rows) == size
