from __future__ import annotations

import pytest
import tensorflow as tf

from pyserving import protos
from pyserving.errors import Internal
from pyserving.executors import profiler


def event_names(xspace: bytes) -> set[str]:
    space = protos.XSpace.FromString(xspace)
    return {
        plane.event_metadata[event.metadata_id].name
        for plane in space.planes
        for line in plane.lines
        for event in line.events
    }


def multiplying(seconds: float) -> bool:
    """In the place of a wait: what is traced, wanted to the end."""
    if seconds:
        matrix = tf.ones((8, 8))
        tf.linalg.matmul(matrix, matrix)
    return True


def test_it_records_the_ops_that_run():
    assert any("MatMul" in name for name in event_names(profiler.record({}, 0.0, 1.0, multiplying)))


def test_it_keeps_the_levels_it_is_given():
    nothing = {"host_tracer_level": 0, "device_tracer_level": 0, "python_tracer_level": 0}
    assert event_names(profiler.record(nothing, 0.0, 1.0, multiplying)) == set()
    python = {"host_tracer_level": 0, "device_tracer_level": 0, "python_tracer_level": 1 << 32}
    assert any("multiplying" in name for name in event_names(profiler.record(python, 0.0, 1.0, multiplying)))


def test_it_waits_for_the_delay_and_then_for_the_trace():
    waits = []
    profiler.record({}, 0.25, 1.5, lambda seconds: waits.append(seconds) is None)
    assert waits == [0.25, 1.5]


@pytest.mark.parametrize("given_up_at", [0.25, 1.5])
def test_it_makes_nothing_of_a_trace_that_is_given_up(given_up_at):
    assert profiler.record({}, 0.25, 1.5, lambda seconds: seconds != given_up_at) == b""
    assert profiler.record({}, 0.0, 0.0, lambda seconds: True) != b"", "the next one is taken"


def test_it_says_that_another_trace_is_being_taken(tmp_path):
    tf.profiler.experimental.start(str(tmp_path))
    try:
        with pytest.raises(Internal, match=r"^Another profiling session active\.$"):
            profiler.record({}, 0.0, 0.0, lambda seconds: True)
    finally:
        tf.profiler.experimental.stop(save=False)


def test_it_says_why_a_trace_cannot_be_had(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(Internal, match=r"^The trace cannot be had: .*nowhere"):
        profiler.record({}, 0.0, 0.0, lambda seconds: True)
    monkeypatch.undo()
    assert profiler.record({}, 0.0, 0.0, lambda seconds: True) != b""
