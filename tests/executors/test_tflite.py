"""TensorFlow Lite models by either library that runs them: what is answered, what is refused, and in which words."""

from __future__ import annotations

import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pyserving import protos
from pyserving.errors import Cancelled, Internal, InvalidArgument, NotFound, ServingError
from pyserving.executors import tflite, tflite_runtime
from pyserving.executors.executor import Executor, open_executor
from pyserving.executors.tflite_interpreter import Tensor, TfliteInterpreter, TflitePool
from pyserving.signature import DataType
from tests import tflite_models
from tests.tflite_models import predict_signature, with_metadata

X, Y, SUM = "serving_default_x:0", "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"


@pytest.fixture(params=["litert", "tensorflow_lite"])
def runtime(request, monkeypatch):
    """`open_tflite` uses this one."""
    find = getattr(tflite_runtime, request.param)
    try:
        found = find()
    except ImportError as error:
        pytest.skip(f"{request.param} cannot be imported: {error}")
    monkeypatch.setattr(tflite, "tflite_runtime", find)
    return found


@pytest.fixture
def opened(exported, runtime):
    """`opened(tflite_models.pair_lite, num_pools=2)` is an executor, closed at the end."""
    executors = []

    def open_model(model, **options) -> Executor:
        executors.append(open_executor("tflite", str(exported(model)), **options))
        return executors[-1]

    yield open_model
    for executor in executors:
        executor.close()


@pytest.fixture
def opened_content(tmp_path, runtime):
    """The executor of a model's bytes, closed at the end."""
    executors = []

    def open_content(content: bytes) -> Executor:
        (tmp_path / "model.tflite").write_bytes(content)
        executors.append(tflite.open_tflite(str(tmp_path)))
        return executors[-1]

    yield open_content
    for executor in executors:
        executor.close()


def content_of(exported, model=tflite_models.half_plus_two_lite) -> bytes:
    return (Path(exported(model)) / "model.tflite").read_bytes()


def run(executor: Executor, feeds: dict[str, np.ndarray], *fetches: str) -> list[np.ndarray]:
    return list(executor.plan(tuple(feeds), fetches).ways[0].run(*feeds.values()))


def rows(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.proves(
    "difference: TensorFlow Lite: outputs whose names differ behind the colon only, in a model without SignatureDefs"
)
def test_makes_up_a_signature_of_all_tensors_and_loses_none(opened):
    (name, signature), *others = opened(tflite_models.half_plus_two_lite).signature_defs.items()
    assert (name, others, signature.method_name) == ("serving_default", [], "tensorflow/serving/predict")
    assert {alias: (info.name, info.dtype, info.shape) for alias, info in signature.inputs.items()} == {
        "serving_default_x": (X, DataType.DT_FLOAT, (1, 3))
    }
    assert {alias: (info.name, info.shape) for alias, info in signature.outputs.items()} == {
        "StatefulPartitionedCall": (Y, (1, 3)),
        SUM: (SUM, (1,)),
    }


def test_the_metadata_is_what_the_signatures_are(opened):
    executor = opened(tflite_models.half_plus_two_lite)
    sent = protos.SignatureDefMap.FromString(executor.signature_def_map)
    assert sent.signature_def["serving_default"].inputs["serving_default_x"].tensor_shape.dim[1].size == 3


@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (0, 3), (2, 2, 3), (5, 7)])
def test_answers_any_shape_that_its_ops_take(opened, runtime, shape):
    if not runtime.checks_shapes and (0 in shape or shape[1:] != (3,)):
        pytest.skip("only LiteRT is safe with it")
    executor = opened(tflite_models.half_plus_two_lite)
    for x in (rows(*shape), rows(2, 3), rows(*shape)):
        y, total = run(executor, {X: x}, Y, SUM)
        np.testing.assert_array_equal(y, x / 2 + 2)
        np.testing.assert_array_equal(total, x.sum(axis=1))


def test_answers_are_their_owners_for_good(opened):
    executor = opened(tflite_models.half_plus_two_lite)
    (first,) = run(executor, {X: rows(1, 3)}, Y)
    run(executor, {X: rows(1, 3) + 100}, Y)
    assert first.tolist() == [[2.0, 2.5, 3.0]]


def test_names_may_come_with_an_index_that_the_model_leaves_out(exported, opened_content):
    renamed = content_of(exported).replace(X.encode(), b"serving_default_x\0\0")
    executor = opened_content(_with_name_of_length(renamed, b"serving_default_x", len(X)))
    (y,) = run(executor, {X: rows(1, 3)}, Y)
    assert y.shape == (1, 3)


def _with_name_of_length(model: bytes, name: bytes, length: int) -> bytes:
    """A flatbuffer's string has its length before it."""
    old, new = length.to_bytes(4, "little"), len(name).to_bytes(4, "little")
    return model.replace(old + name, new + name)


@pytest.mark.proves("difference: TensorFlow Lite: several inputs that change their number of rows together")
def test_all_inputs_are_resized_before_they_have_to_fit(opened):
    executor = opened(tflite_models.pair_lite)
    for length in (2, 4, 3):
        (total,) = run(
            executor, {"serving_default_a:0": rows(length), "serving_default_b:0": rows(length)}, "PartitionedCall:0"
        )
        assert total.tolist() == (2 * rows(length)).tolist()


def test_strings_go_in_and_out(opened):
    executor = opened(tflite_models.strings_lite)
    for values in ([b"ab\0c", b"", "ä".encode()], [b"x"]):
        (echo,) = run(executor, {"serving_default_text:0": np.array(values, object)}, "PartitionedCall:0")
        assert echo.tolist() == [[value] for value in values]


def test_signatures_in_the_metadata_are_taken_as_they_are(exported, opened_content):
    signatures = {
        "serving_default": predict_signature({"x": X}, {"y": Y}),
        "total": predict_signature({"x": X}, {"sum": SUM}),
    }
    executor = opened_content(with_metadata(content_of(exported), signatures))
    assert {name: sorted(signature.outputs) for name, signature in executor.signature_defs.items()} == {
        "serving_default": ["y"],
        "total": ["sum"],
    }
    (y,) = run(executor, {X: rows(1, 3)}, Y)
    assert y.tolist() == [[2.0, 2.5, 3.0]]


@pytest.mark.parametrize(
    ("signatures", "error"),
    [
        (
            {"serving_default": predict_signature({"x": "nobody:0"}, {"y": Y})},
            Internal("Unknown tensor 'nobody:0'.\n\tSignature input x references an unknown tensor"),
        ),
        (
            {"serving_default": predict_signature({"x": X}, {"y": "nobody"})},
            Internal("Unknown tensor 'nobody'.\n\tSignature output y references an unknown tensor"),
        ),
        ({"serving_default": b"\x7f"}, InvalidArgument("Invalid SignatureDefs found in TfLite model: ")),
        (b"no flexbuffer", InvalidArgument("Invalid SignatureDefs found in TfLite model: ")),
    ],
)
def test_signatures_that_cannot_be_served_fail_the_load(exported, opened_content, signatures, error):
    with pytest.raises(type(error)) as caught:
        opened_content(with_metadata(content_of(exported), signatures))
    assert caught.value.message.startswith(error.message)


@pytest.mark.parametrize("content", [b"", b"no flatbuffer at all"])
def test_what_is_no_flatbuffer_fails_the_load(opened_content, content):
    with pytest.raises(InvalidArgument, match=r"^Cannot build FlatBufferModel from buffer\.\n\t"):
        opened_content(content)


def test_a_model_of_another_time_fails_the_load(opened_content):
    with pytest.raises(Internal, match=r"^Cannot build Interpreter from buffer\.\n\t.*version"):
        opened_content(b"\x10\0\0\0TFL3" + bytes(64))


def test_an_op_that_nobody_knows_fails_the_load(exported, opened_content):
    with pytest.raises(Internal, match=r"^(Failed to allocate tensors|Cannot build Interpreter from buffer)"):
        opened_content(_with_unknown_op(content_of(exported)))


def _with_unknown_op(model: bytes) -> bytes:
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    for code in content.operatorCodes:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "OpOfNobody"
    packed = flatbuffers.Builder(0)
    packed.Finish(content.Pack(packed), file_identifier=b"TFL3")
    return bytes(packed.Output())


def test_a_folder_without_a_model_fails_the_load(tmp_path, runtime):
    with pytest.raises(NotFound, match=r"model\.tflite; No such file"):
        tflite.open_tflite(str(tmp_path))


A, B, TOTAL = "serving_default_a:0", "serving_default_b:0", "PartitionedCall:0"


def test_a_shape_that_does_not_fit_fails_its_own_run_only(opened, caplog):
    executor = opened(tflite_models.pair_lite)
    for _ in range(2):  # the second time its shape is no news
        with pytest.raises(Internal) as caught:
            run(executor, {A: rows(2), B: rows(3)}, TOTAL)
        assert caught.value.message in ("Failed to allocate tensors", "Failed to invoke TfLite interpreter")
        assert "failed to" in caplog.text
        (total,) = run(executor, {A: rows(3), B: rows(3)}, TOTAL)
        assert total.tolist() == [0.0, 2.0, 4.0]


@pytest.mark.proves("difference: TensorFlow Lite: an input of another shape")
@pytest.mark.parametrize("shape", [(1,) * 5, (1,) * 7, (1,) * 12, (1,) * 64])
def test_more_dimensions_than_interpreters_have_room_for_are_refused(opened, shape):
    executor = opened(tflite_models.half_plus_two_lite)
    with pytest.raises(InvalidArgument) as caught:
        run(executor, {X: rows(*shape)}, Y)
    assert caught.value.message == f"Input tensor {X} has {len(shape)} dimensions; the most is 4"
    assert run(executor, {X: rows(2, 3)}, Y)[0].shape == (2, 3)


@pytest.mark.proves("difference: TensorFlow Lite: an input of another shape")
@pytest.mark.parametrize("shape", [(0, 2**31 - 1), (2**16, 0, 2**16), (2**31 - 1, 0, 3), (2**40, 0), (0, 1, 2**60)])
def test_nothing_in_a_shape_too_large_is_refused(opened, shape):
    executor = opened(tflite_models.half_plus_two_lite)
    with pytest.raises(InvalidArgument, match=rf"^Input tensor {X} has no elements, in a shape too large: \["):
        run(executor, {X: np.empty(shape, np.float32)}, Y)
    assert run(executor, {X: rows(2, 3)}, Y)[0].shape == (2, 3)


@pytest.mark.proves("difference: TensorFlow Lite: an input of another shape")
@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4, 1), (2, 4, 4, 6), (4, 4, 3), (2, 5, 4, 3), (96,), ()])
def test_another_shape_than_the_models_never_has_other_memory_read(opened, runtime, shape):
    executor = opened(tflite_models.convolution_lite)
    (x,), (y,) = (signature_side(executor, side) for side in ("inputs", "outputs"))
    refusal = Internal if runtime.checks_shapes else InvalidArgument
    for _ in range(2):
        if runtime.checks_shapes and shape in [(0, 4, 4, 3), (4, 4, 3), (2, 5, 4, 3)]:
            (answer,) = run(executor, {x: rows(*shape)}, y)
            np.testing.assert_array_equal(answer, rows(*shape).sum(axis=-1, keepdims=True))
        else:
            with pytest.raises(refusal):
                run(executor, {x: rows(*shape)}, y)
        (answer,) = run(executor, {x: rows(2, 4, 4, 3)}, y)
        np.testing.assert_array_equal(answer, rows(2, 4, 4, 3).sum(axis=-1, keepdims=True))


def test_a_library_that_does_not_check_shapes_is_given_the_models_own(opened, runtime):
    if runtime.checks_shapes:
        pytest.skip("LiteRT checks them")
    executor = opened(tflite_models.half_plus_two_lite)
    with pytest.raises(InvalidArgument) as caught:
        run(executor, {X: rows(2, 4)}, Y)
    assert caught.value.message == (
        f"Input tensor {X} has shape [2, 4]; the model's is [?, 3], and only LiteRT can run it on others"
    )


def signature_side(executor: Executor, side: str) -> list[str]:
    """Names of the tensors."""
    return [info.name for info in getattr(executor.signature_defs["serving_default"], side).values()]


def test_an_input_may_have_as_many_dimensions_as_its_model_gives_it():
    resized = []

    class Taking(Interpreter):
        def resize_tensor_input(self, index: int, shape: tuple[int, ...]) -> None:
            resized.append(shape)

        def set_tensor(self, index: int, array: np.ndarray) -> None: ...

        def invoke(self) -> None: ...

    tensor = Tensor(0, "x", DataType.DT_FLOAT, (1,) * 6)
    TfliteInterpreter(Taking([], threading.Event())).run((tensor,), (np.ones((2,) * 6, np.float32),), ())
    assert resized == [(2,) * 6]


def test_what_was_reported_before_is_not_told_again(opened, caplog):
    executor = opened(tflite_models.pair_lite)
    for _ in range(4):
        with pytest.raises(Internal):
            run(executor, {A: rows(2), B: rows(3)}, TOTAL)
    _, second, *others = (len(message) for message in caplog.messages)
    assert others == [second] * 2


def test_outputs_that_cannot_be_had_fail_the_run(caplog):
    class Unreadable(Interpreter):
        def invoke(self) -> None: ...

        def get_tensor(self, index: int) -> np.ndarray:
            raise ValueError("Invalid tensor size.")

    interpreter = TfliteInterpreter(Unreadable([], threading.Event()))
    with pytest.raises(Internal, match=r"^Failed to invoke TfLite interpreter$"):
        interpreter.run((), (), (Tensor(0, "y", DataType.DT_FLOAT, ()),))
    assert caplog.messages == ["Failed to invoke TfLite interpreter: Invalid tensor size."]


class Talkative:
    """Repeats with each failure what it has reported before, as interpreters do."""

    def __init__(self) -> None:
        self._reported = ""

    def allocate_tensors(self) -> None: ...

    def invoke(self) -> None:
        self._reported += "x" * 1000
        raise RuntimeError(self._reported)


def test_an_interpreter_that_has_reported_much_is_replaced(caplog):
    made = []

    def make() -> TfliteInterpreter:
        made.append(Talkative())
        if len(made) == 2:
            raise Internal("no memory")
        return TfliteInterpreter(made[-1])

    pool = TflitePool(make, 1)
    for _ in range(100):
        with pytest.raises(Internal, match="Failed to invoke"), pool.interpreter() as interpreter:
            interpreter.run((), (), ())
    assert len(made) == 3, "the second could not be made, the third could"
    refused, *told = sorted(caplog.messages, key=len)
    assert "cannot be replaced: no memory" in refused
    assert {len(message) for message in told} == {len("Failed to invoke TfLite interpreter: ") + 1000}


def test_tensors_that_are_not_there_cannot_be_planned(opened):
    executor = opened(tflite_models.half_plus_two_lite)
    with pytest.raises(Internal, match=r"^Unknown tensor 'z:0'\.\n\tMissing input TFLite tensor: z:0$"):
        executor.plan(("z:0",), (Y,))
    with pytest.raises(Internal, match=r"^Missing output TFLite tensor: z:0: Unknown tensor 'z:0'\.$"):
        executor.plan((X,), ("z:0",))


@pytest.mark.proves("difference: TensorFlow Lite: an input of another type")
def test_types_are_told_to_whoever_checks_them(opened):
    plan = opened(tflite_models.half_plus_two_lite).plan((X,), (Y,))
    assert plan.feed_types == (DataType.DT_FLOAT,)
    assert [way.name for way in plan.ways] == ["caller"]


@pytest.mark.proves("difference: Batching: TensorFlow Lite models")
def test_requests_are_not_merged_for_interpreters_that_run_side_by_side(opened):
    assert not opened(tflite_models.half_plus_two_lite).may_be_batched


def test_many_threads_share_few_interpreters(opened):
    executor = opened(tflite_models.half_plus_two_lite, num_pools=2)
    run_plan = executor.plan((X,), (Y,)).ways[0].run

    def ask(i: int) -> bool:
        x = rows(1 + i % 5, 3) + i
        (y,) = run_plan(x)
        return np.array_equal(y, x / 2 + 2)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))


class Interpreter:
    """Reports to `inside` that somebody runs it, and waits for `may_end`."""

    def __init__(self, inside: list[int], may_end: threading.Event) -> None:
        self._inside, self._may_end = inside, may_end

    def allocate_tensors(self) -> None: ...

    def invoke(self) -> None:
        self._inside.append(1)
        self._may_end.wait()


def test_who_finds_no_interpreter_waits_for_one():
    inside: list[int] = []
    may_end = threading.Event()
    pool = TflitePool(lambda: TfliteInterpreter(Interpreter(inside, may_end)), 2)

    def run_one(_: int) -> None:
        with pool.interpreter() as interpreter:
            interpreter.run((), (), ())

    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(run_one, i) for i in range(3)]
        assert len(inside) <= 2
        may_end.set()
        for each in runs:
            each.result()
    assert len(inside) == 3


def test_requests_of_many_rows_are_divided(opened):
    executor = opened(tflite_models.half_plus_two_lite, num_pools=3, num_interpreters_per_pool=50)
    for count in (1, 10, 11, 64):
        y, total = run(executor, {X: rows(count, 3)}, Y, SUM)
        np.testing.assert_array_equal(y, rows(count, 3) / 2 + 2)
        np.testing.assert_array_equal(total, rows(count, 3).sum(axis=1))


def test_models_of_several_inputs_are_not_divided(opened):
    executor = opened(tflite_models.pair_lite, num_pools=2, num_interpreters_per_pool=500)
    (total,) = run(executor, {"serving_default_a:0": rows(9), "serving_default_b:0": rows(9)}, "PartitionedCall:0")
    assert total.tolist() == (2 * rows(9)).tolist()


def test_the_error_of_one_piece_is_the_requests(opened):
    executor = opened(tflite_models.half_plus_two_lite, num_pools=2, num_interpreters_per_pool=500)
    with pytest.raises(ServingError):
        run(executor, {X: rows(8)}, Y)
    (y,) = run(executor, {X: rows(8, 3)}, Y)
    assert y.shape == (8, 3)


@pytest.mark.parametrize("num_interpreters_per_pool", [1, 2])
def test_a_closed_model_answers_so_and_keeps_nothing(exported, runtime, num_interpreters_per_pool):
    executor = open_executor(
        "tflite",
        str(exported(tflite_models.half_plus_two_lite)),
        num_pools=2,
        num_interpreters_per_pool=num_interpreters_per_pool,
    )
    plan = executor.plan((X,), (Y,))
    plan.ways[0].run(rows(1, 3))
    pool = weakref.ref(executor._pool)
    executor.close()
    assert pool() is None
    with pytest.raises(Cancelled, match="Session has been closed"):
        plan.ways[0].run(rows(1, 3))


def test_litert_is_preferred(monkeypatch):
    monkeypatch.setattr(tflite_runtime, "litert", lambda: "LiteRT")
    assert tflite_runtime.tflite_runtime() == "LiteRT"


def test_without_litert_tensorflow_runs_models(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert tflite_runtime.tflite_runtime().name.startswith("TensorFlow 2.")
