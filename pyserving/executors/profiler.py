"""TensorFlow's own profiler, which watches the process as a whole: its ops, its threads, its devices."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pyserving.errors import Internal
from pyserving.machine import give_back_free_memory

_MOST = 0x7FFF_FFFF


def record(levels: Mapping[str, int], delay_seconds: float, seconds: float, wait: Callable[[float], bool]) -> bytes:
    """A serialized tensorflow.profiler.XSpace: what the process does for `seconds`, beginning in `delay_seconds`.

    `levels` are fields of tf.profiler.experimental.ProfilerOptions. `wait(seconds)` may come back early; when it says
    False, nobody wants the trace any more, and it is b"". Raises Internal: another trace is being taken, or what
    TensorFlow says. Blocks that long and, the first time in a server of other models, as long as importing TensorFlow
    takes: call in a thread.
    """
    import tensorflow as tf

    if not wait(delay_seconds):
        return b""
    profiler = tf.profiler.experimental
    try:
        with tempfile.TemporaryDirectory(prefix="pyserving-trace-") as folder:  # it has no other way out to Python
            options = {name: _Integer(level) for name, level in levels.items()}
            profiler.start(folder, profiler.ProfilerOptions(**options))
            is_wanted = wait(seconds)
            profiler.stop(save=is_wanted)
            return b"".join(path.read_bytes() for path in Path(folder).rglob("*.xplane.pb"))
    except tf.errors.AlreadyExistsError:
        raise Internal("Another profiling session active.") from None  # as its service says it
    except (tf.errors.OpError, OSError) as error:
        raise Internal(f"The trace cannot be had: {getattr(error, 'message', error)}") from error
    finally:
        give_back_free_memory()


class _Integer:
    """A number that is not taken for a truth value: TensorFlow 2.21 takes an `int` for one, and ignores it."""

    def __init__(self, value: int) -> None:
        self._value = min(value, _MOST)

    def __index__(self) -> int:
        return self._value
