"""Real graphs in batches: each request is answered as it is alone, to the bit where the model's own ops allow it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import QueueOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.batching_session import BatchingSession
from pyserving.executors.executor import Executor, open_executor
from pyserving.executors.stateful_ops import may_change
from pyserving.loop_time import LoopTime
from pyserving.metrics import Metrics
from pyserving.session import DirectSession
from pyserving.workers import Workers
from tests import models
from tests.conftest import Exported
from tests.small_exports import exporter, small_exports

pytestmark = pytest.mark.slow

TRAINED = os.environ.get("PYSERVING_TEST_MODELS", "")
EXPORTS = ("east", "antispam_rnn", "bert_base", "text_classifier", "dnn_classifier", "wide_deep_ctr", "mobilenet_v2")


@pytest.fixture(scope="module")
def exports(exported: Exported) -> Path:
    return exported(small_exports)


def open_model(folder: Path) -> Executor:
    return open_executor("tensorflow", str(folder), looks_for_state=True)


async def batched(
    executor: Executor, signature: str, requests: Sequence[Mapping[str, np.ndarray]]
) -> list[Sequence[np.ndarray]]:
    """What a session answers to requests that come in one turn, several times over."""
    metrics = Metrics()
    definition = executor.signature_defs[signature]
    aliases = sorted(definition.inputs)
    async with Workers("run", 2) as running, Workers("batch", 2) as batches:
        session = BatchingSession(
            DirectSession(executor, running),
            SharedBatchScheduler(batches),
            QueueOptions(),
            partial(BatchCounts, metrics, "m", "1"),
            executor.signature_defs,
            loop_time=LoopTime(),
            may_rerun=not executor.may_change,
        )
        plan = session.plan(feeds_and_fetches(executor, signature)[0], feeds_and_fetches(executor, signature)[1])
        results = await asyncio.gather(
            *(session.run(plan, [request[alias] for alias in aliases]) for request in requests)
        )
    assert metrics.value("/tensorflow/serving/batching_session/wrapped_run_count") < len(requests)
    return [result.outputs for result in results]


def feeds_and_fetches(executor: Executor, signature: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    definition = executor.signature_defs[signature]
    return (
        tuple(definition.inputs[alias].name for alias in sorted(definition.inputs)),
        tuple(definition.outputs[alias].name for alias in sorted(definition.outputs)),
    )


def alone(executor: Executor, signature: str, requests: Sequence[Mapping[str, np.ndarray]]) -> list[Any]:
    run = executor.plan(*feeds_and_fetches(executor, signature)).ways[0].run
    aliases = sorted(executor.signature_defs[signature].inputs)
    return [run(*(request[alias] for alias in aliases)) for request in requests]


def merged(requests: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {alias: np.concatenate([request[alias] for request in requests]) for alias in requests[0]}


async def check(executor: Executor, signature: str, requests: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Equal to the bit to what TensorFlow gives alone, or else, where its own arithmetic depends on the size of a
    batch, to what it gives for the same rows together; and then close to what it gives alone."""
    expected = alone(executor, signature, requests)
    together: dict[int, list[np.ndarray]] = {}
    groups: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(tuple(array.shape[1:] for array in request.values()), []).append(index)
    for indexes in groups.values():
        outputs = alone(executor, signature, [merged([requests[index] for index in indexes])])[0]
        start = 0
        for index in indexes:
            rows = len(next(iter(requests[index].values())))
            together[index] = [output[start : start + rows] for output in outputs]
            start += rows
    answers = await batched(executor, signature, requests)
    for index, answer in enumerate(answers):
        for given, single, joint in zip(answer, expected[index], together[index], strict=True):
            assert np.array_equal(given, single) or np.array_equal(given, joint)
            if given.dtype.kind == "f":
                np.testing.assert_allclose(given, single, rtol=1e-3, atol=1e-4)
            else:
                assert given.tolist() == single.tolist()


async def test_pictures_of_three_sizes(exports: Path):
    random = np.random.default_rng(1)
    requests = [{"images": random.random((1, size, size, 3), np.float32) * 255} for size in (64, 96, 128) * 3]
    await check(open_model(exports / "east" / "1"), "serving_default", requests)


async def test_sequences_of_ten_lengths(exports: Path):
    random = np.random.default_rng(2)
    requests = [{"x": random.normal(size=(1, length, 200)).astype(np.float32)} for length in [*range(1, 11)] * 3]
    await check(open_model(exports / "antispam_rnn" / "1"), "serving_default", requests)


@pytest.mark.parametrize("name", [name for name in EXPORTS if name not in ("east", "antispam_rnn")])
async def test_every_signature_of_an_export(exports: Path, name: str):
    executor = open_model(exports / name / "1")
    for signature, first, second in exporter().samples(name):
        feeds = [
            {alias: np.array(value, object) if isinstance(value, list) else value for alias, value in feed.items()}
            for feed in (first, second)
        ]
        await check(executor, signature, feeds * 3)


async def test_half_plus_two_to_the_bit(exported: Exported):
    executor = open_model(exported(models.half_plus_two))
    requests = [{"x": np.random.default_rng(n).random((n % 3 + 1, 1), np.float32)} for n in range(40)]
    for answer, request in zip(await batched(executor, "serving_default", requests), requests, strict=True):
        assert np.array_equal(answer[0], alone(executor, "serving_default", [request])[0][0])


@pytest.mark.skipif(not TRAINED, reason="PYSERVING_TEST_MODELS names no folder of trained models")
@pytest.mark.parametrize("name", ["basic_pitch", "deepcut", "guesslang", "movenet_lightning", "selfie"])
async def test_trained_models(name: str):
    random = np.random.default_rng(3)
    signature = "predict" if name == "guesslang" else "serving_default"
    makers = {
        "basic_pitch": lambda: {"input_2": random.random((1, 43844, 1), np.float32)},
        "deepcut": lambda: {
            "chars": random.integers(0, 60, (2, 21)).astype(np.int32),
            "types": random.integers(0, 8, (2, 21)).astype(np.int32),
        },
        "guesslang": lambda: {"content": np.array([f"def f{random.integers(9)}(): pass"], object)},
        "movenet_lightning": lambda: {"input": random.integers(0, 255, (1, 192, 192, 3)).astype(np.int32)},
        "selfie": lambda: {"image": random.random((1, 256, 256, 3), np.float32)},
    }
    executor = open_model(Path(TRAINED, name, "1"))
    requests = [makers[name]() for _ in range(4)]
    answers = await batched(executor, signature, requests)
    for answer, single in zip(answers, alone(executor, signature, requests), strict=True):
        for given, expected in zip(answer, single, strict=True):
            if given.dtype.kind == "f":
                np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)
            else:
                assert given.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (models.half_plus_two, False),
        (models.half_plus_two_tf2, False),
        (models.counter, True),
        (models.string_echo, False),
    ],
)
def test_models_that_requests_may_change_are_known(exported: Exported, model: Any, changes: bool):
    assert open_model(exported(model)).may_change is changes
    assert open_executor("tensorflow", str(exported(model))).may_change


def test_op_in_a_function_that_is_called_counts(exported: Exported):
    import tensorflow as tf

    def noisy(path: Path) -> None:
        class Noisy(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
            def inner(self, x: Any) -> Any:
                return x + tf.random.normal([1])

            @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
            def __call__(self, x: Any) -> Any:
                return {"y": tf.cond(tf.size(x) > 1, lambda: self.inner(x), lambda: x)}

        made = Noisy()
        tf.saved_model.save(made, str(path), signatures=made.__call__)

    assert open_model(exported(noisy)).may_change


def test_graph_of_nothing_changes_nothing():
    from tensorflow.core.protobuf import meta_graph_pb2

    assert not may_change(memoryview(b""), meta_graph_pb2.MetaGraphDef())
