from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.fuzz_rest import ALLOWED, ill_framed, statuses, well_framed
from pyserving.frontends import monitoring
from pyserving.frontends.rest import RestApi
from pyserving.metrics import Metrics
from pyserving.signature import DataType, SignatureDef, TensorInfo
from tests.fake_core import FakeCore
from tests.http_conversation import Conversation

EXAMPLES = {"inputs": TensorInfo("s:0", DataType.DT_STRING, (-1,))}
SIGNATURES = {
    "serving_default": SignatureDef(
        {"x": TensorInfo("x:0", DataType.DT_FLOAT, None)}, {"y": TensorInfo("y:0", DataType.DT_FLOAT, None)}
    ),
    "regress_x_to_y": SignatureDef(EXAMPLES, {"outputs": TensorInfo("r:0", DataType.DT_FLOAT, (-1,))}),
    "classify_x_to_y": SignatureDef(EXAMPLES, {"scores": TensorInfo("c:0", DataType.DT_FLOAT, (-1, 1))}),
}


def run(feeds):
    if "x:0" in feeds:
        return {"y:0": feeds["x:0"]}
    n = len(feeds["s:0"])
    return {"r:0": np.zeros(n, np.float32), "c:0": np.zeros((n, 1), np.float32)}


@pytest.fixture
def conversation():
    metrics = Metrics()

    def new():
        api = RestApi(FakeCore(SIGNATURES, run), metrics)
        return Conversation([monitoring.handler(metrics, "/monitoring/prometheus/metrics"), api])

    return new


@pytest.mark.parametrize("seed", range(4))
async def test_mutated_bodies_are_answered_one_by_one(conversation, seed):
    rng = random.Random(seed)
    talk = conversation()
    seen = set()
    for _ in range(150):
        (status,) = statuses(await talk.ask(well_framed(rng)))
        seen.add(status)
    assert {200, 400} <= seen <= {200, 400, 404, *ALLOWED}
    assert not talk.transport.is_closed


@pytest.mark.parametrize("seed", range(4))
async def test_mutated_requests_are_answered_or_waited_for(conversation, seed):
    rng = random.Random(seed)
    seen = set()
    for _ in range(150):
        talk = conversation()
        talk.say(ill_framed(rng), rng.choice((1 << 20, 1 << 20, 7)))
        talk.connection.eof_received()
        while talk.admission.calls:
            await talk.heard()
        seen.update(statuses(b"".join(talk.transport.writes)))
    assert 400 in seen
    assert {status for status in seen if status >= 500} <= ALLOWED


@pytest.mark.parametrize("seed", range(4))
async def test_the_quick_way_says_and_counts_what_the_long_way_does(seed):
    rng = random.Random(seed)
    pages, heard = [], []
    requests = [request for _ in range(120) for request in alike(rng)]
    for is_quick in (True, False):
        core, metrics = FakeCore(SIGNATURES, run), Metrics(clock=lambda: 0)
        metrics.know_model("m")
        core.is_quick = is_quick
        api = RestApi(core, metrics)
        talk = Conversation([api], quick_posts=api.quick_post if is_quick else lambda request: None)
        heard.append([await talk.ask(request) for request in requests])
        pages.append([line for line in metrics.exposition().decode().splitlines() if "serving" in line])
    assert heard[0] == heard[1]
    assert pages[0] == pages[1]
    assert core.deadlines  # the long way was gone


def alike(rng):
    """A request, and some that differ from it in a number."""
    first = well_framed(rng)
    head, _, body = first.partition(b"\r\n\r\n")
    yield first
    for digit in b"1", b"7", b"0":
        changed = body.replace(rng.choice(b"123456789").to_bytes(1, "big"), digit)
        yield head + b"\r\n\r\n" + changed
