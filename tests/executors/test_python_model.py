"""Version folders with a model.py: what they may say, how they run, and what is left when they go."""

from __future__ import annotations

import gc
import sys
import textwrap
import weakref
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from pyserving import protos
from pyserving.errors import Cancelled, FailedPrecondition, Internal, InvalidArgument, NotFound, ServingError
from pyserving.executors.executor import Executor, open_executor
from pyserving.signature import DataType, TensorInfo

DOUBLE = """
signatures = {"serving_default": {"inputs": {"x": ("float32", [None, 2])}, "outputs": {"y": ("float32", [None, 2])}}}

def predict(signature_name, inputs):
    return {"y": inputs["x"] * 2}
"""
X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """`opened(source, more="of a file")` is the executor of such a folder, closed at the end."""
    executors = []

    def open_model(source: str, **files: str) -> Executor:
        for name, content in {"model": source, **files}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(content))
        executors.append(open_executor("python", str(tmp_path)))
        return executors[-1]

    yield open_model
    # What is left then is the business of other tests; to look through all objects of this process takes long.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    for executor in executors:
        executor.close()


def run(executor: Executor, *arrays: np.ndarray, signature: str = "serving_default") -> dict[str, np.ndarray]:
    definition = executor.signature_defs[signature]
    plan = executor.plan(
        tuple(info.name for info in definition.inputs.values()),
        tuple(info.name for info in definition.outputs.values()),
    )
    return dict(zip(definition.outputs, plan.ways[0].run(*arrays), strict=True))


def answering(value: str, type_and_shape: str) -> str:
    """A model without inputs that answers y."""
    return f"""
        import numpy as np
        signatures = {{"serving_default": {{"outputs": {{"y": {type_and_shape}}}}}}}
        def predict(signature_name, inputs):
            return {{"y": {value}}}
    """


def test_signatures_become_those_of_the_protocol(opened):
    executor = opened(DOUBLE)
    signature = executor.signature_defs["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs == {"x": TensorInfo("serving_default/x:0", DataType.DT_FLOAT, (-1, 2))}
    assert signature.outputs == {"y": TensorInfo("serving_default/y:0", DataType.DT_FLOAT, (-1, 2))}
    sent = protos.SignatureDefMap.FromString(executor.signature_def_map)
    assert list(sent.signature_def) == ["serving_default"]


def test_predict_answers(opened):
    assert run(opened(DOUBLE), X)["y"].tolist() == (X * 2).tolist()


def test_predict_is_told_the_signature_and_may_have_many(opened):
    executor = opened("""
        signatures = {
            "serving_default": {"inputs": {"x": "float32"}, "outputs": {"name": "string"}},
            "a/b": {"inputs": {"x": "float32"}, "outputs": {"name": "string", "x": "float32"}, "method_name": "odd"},
        }
        def predict(signature_name, inputs):
            answer = {"name": signature_name, "x": inputs["x"]}
            return answer if signature_name == "a/b" else {"name": signature_name}
    """)
    assert run(executor, X)["name"].tolist() == b"serving_default"
    assert run(executor, X, signature="a/b")["name"].tolist() == b"a/b"
    assert executor.signature_defs["a/b"].method_name == "odd"


def test_some_of_the_outputs_may_be_fetched_in_any_order(opened):
    executor = opened("""
        signatures = {"s": {"outputs": {name: "int64" for name in "abc"}}}
        def predict(signature_name, inputs):
            return {"a": 1, "b": 2, "c": 3}
    """)
    assert [int(value) for value in executor.plan((), ("s/c:0", "s/a:0")).ways[0].run()] == [3, 1]


@pytest.mark.parametrize(
    ("value", "declared", "answer"),
    [
        ("[1.5, 2.5]", '("float32", [2])', np.array([1.5, 2.5], np.float32)),
        ("np.float64(0.5)", '("bfloat16", [])', np.array(0.5, ml_dtypes.bfloat16)),
        ("np.arange(2, dtype=np.int32)", '"int64"', np.arange(2, dtype=np.int64)),
        ("np.ones((2, 3))[:, 1]", "np.float64", np.ones(2)),
        ("np.array(['ä', 'b'])", '("string", [None])', np.array(["ä".encode(), b"b"], object)),
        ("[[b'a', 'b']]", "str", np.array([[b"a", b"b"]], object)),
        ("True", "bool", np.array(True)),
        ("np.zeros((0, 4), np.float32)", '("float32", (None, 4))', np.zeros((0, 4), np.float32)),
    ],
)
def test_answers_take_the_type_that_the_signature_says(opened, value, declared, answer):
    got = run(opened(answering(value, declared)))["y"]
    assert got.dtype == answer.dtype
    assert got.shape == answer.shape
    assert got.tolist() == answer.tolist()
    assert got.flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "declared", "sentence"),
    [
        ("[1.5]", '"int64"', "predict returned y as float64, and the signature says int64"),
        ("np.array([1 << 40])", '"int32"', "predict returned y as int64, and the signature says int32"),
        ("['text']", '"float32"', "predict returned y as <U4, and the signature says float32"),
        ("[1]", '"string"', "predict returned y with np.int64(1), and the signature says string"),
        ("[1.0, 2.0]", '("float32", [3])', "predict returned y of shape [2], and the signature says [3]"),
        ("1.0", '("float32", [None])', "predict returned y of shape [], and the signature says [?]"),
    ],
)
def test_answers_that_break_the_signature_are_named(opened, tmp_path, value, declared, sentence):
    with pytest.raises(Internal) as caught:
        run(opened(answering(value, declared)))
    assert caught.value.message == f"{tmp_path}/model.py: {sentence}"


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("None", "predict returned no dict of outputs but NoneType"),
        ("{}", "predict returned the outputs , and the signature has y"),
        ('{"y": 1, "z": 2}', "predict returned the outputs y, z, and the signature has y"),
    ],
)
def test_outputs_that_are_not_the_signatures_are_named(opened, returned, sentence):
    executor = opened(f"""
        signatures = {{"serving_default": {{"outputs": {{"y": "int64"}}}}}}
        def predict(signature_name, inputs):
            return {returned}
    """)
    with pytest.raises(Internal, match=sentence):
        run(executor)


@pytest.mark.parametrize(("shape", "text"), [((2,), "[2]"), ((2, 3), "[2,3]"), ((), "[]")])
def test_an_input_of_another_shape_is_refused(opened, shape, text):
    with pytest.raises(InvalidArgument) as caught:
        run(opened(DOUBLE), np.zeros(shape, np.float32))
    assert caught.value.message == f"The input x must have the shape [?,2]; was {text}"


def test_what_predict_raises_names_file_and_line(opened, tmp_path):
    executor = opened(
        """
        from . import parts
        signatures = {"serving_default": {"inputs": {"x": "float32"}, "outputs": {"y": "float32"}}}
        def predict(signature_name, inputs):
            return parts.fail()
        """,
        parts="def fail():\n    return 1 / 0\n",
    )
    with pytest.raises(Internal) as caught:
        run(executor, X)
    assert caught.value.message == f"{tmp_path}/parts.py, line 2: ZeroDivisionError: division by zero"


def test_errors_of_numpy_are_placed_where_the_model_called_it(opened, tmp_path):
    executor = opened(DOUBLE.replace('inputs["x"] * 2', 'inputs["x"].reshape(7)'))
    with pytest.raises(Internal, match=rf"^{tmp_path}/model\.py, line 5: ValueError: cannot reshape"):
        run(executor, X)


def test_leaving_the_process_is_an_error_like_any_other(opened):
    with pytest.raises(Internal, match="SystemExit: 3"):
        run(opened(DOUBLE.replace("return", "import sys; sys.exit(3); return")), X)


@pytest.mark.parametrize("place", ["signatures = ", "return {"])
def test_what_is_no_exception_is_an_error_like_any_other(opened, tmp_path, place):
    source = f"""
class Panic(BaseException):  # as libraries written in Rust have it
    pass

def panic():
    raise Panic("index out of bounds")
{DOUBLE.replace(place, "panic(); " + place)}
"""
    with pytest.raises(Internal, match=rf"^{tmp_path}/model\.py, line 6: Panic: index out of bounds$"):
        run(opened(source), X)


def test_an_answer_that_makes_no_array_is_named(opened, tmp_path):
    sentence = rf"^{tmp_path}/model\.py: predict returned y, which makes no array: .* inhomogeneous"
    with pytest.raises(Internal, match=sentence):
        run(opened(answering("[[1], [2, 3]]", '"int64"')))


def test_a_text_that_is_none_is_named(opened, tmp_path):
    with pytest.raises(Internal, match=rf"^{tmp_path}/model\.py: UnicodeEncodeError: .*surrogates not allowed"):
        run(opened(answering(r"'\ud800'", '"string"')))


def test_predict_may_choose_the_code(opened):
    executor = opened(
        DOUBLE.replace("return", "from pyserving.errors import NotFound; raise NotFound('no such row'); return")
    )
    with pytest.raises(NotFound, match=r"^no such row$"):
        run(executor, X)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("x = (", Internal("{path}, line 1: SyntaxError: '(' was never closed")),
        ("\nimport no_such_module", Internal("{path}, line 2: ModuleNotFoundError: No module named 'no_such_module'")),
        ("raise SystemExit", Internal("{path}, line 1: SystemExit: ")),
        ("from pyserving.errors import DataLoss\nraise DataLoss('weights')", ServingError("weights")),
        ("", InvalidArgument("{path}: signatures must be a dict; was None")),
        ("signatures = {}", InvalidArgument("{path}: signatures are empty")),
        ("signatures = {'s': 1}", InvalidArgument("{path}: signatures['s'] must be a dict; was 1")),
        ("signatures = {1: {}}", InvalidArgument("{path}: signatures has the key 1, which is no name")),
        ("signatures = {'s': {}}", InvalidArgument("{path}: signatures['s'] has no outputs")),
        (
            "signatures = {'s': {'output': {}}}",
            InvalidArgument("{path}: signatures['s'] has 'output', which is none of inputs, method_name, outputs"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': 'flot'}}}",
            InvalidArgument("{path}: signatures['s']['outputs']['y']: data type 'flot' not understood"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': None}}}",
            InvalidArgument("{path}: signatures['s']['outputs']['y']: no tensor has the type None"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': 'M8[s]'}}}",
            InvalidArgument("{path}: signatures['s']['outputs']['y']: no tensor has the type 'M8[s]'"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': ('int64', [-2])}}}",
            InvalidArgument(
                "{path}: signatures['s']['outputs']['y']: a shape is a list of sizes, or None where they are open; "
                "was [-2]"
            ),
        ),
        (
            "signatures = {'s': {'outputs': {'a/y': 'int64'}}}",
            InvalidArgument("{path}: signatures['s']['outputs']: the name 'a/y' must not contain '/'"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': 'int64'}}}",
            InvalidArgument("{path}: there is no plain function predict(signature_name, inputs)"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': 'int64'}}}\nasync def predict(signature_name, inputs): ...",
            InvalidArgument("{path}: there is no plain function predict(signature_name, inputs)"),
        ),
        (
            "signatures = {'s': {'outputs': {'y': 'int64'}}}\ndef predict(inputs): ...",
            InvalidArgument("{path}: predict(signature_name, inputs) cannot be called: too many positional arguments"),
        ),
    ],
)
def test_what_is_wrong_with_a_model_is_told_at_load(opened, tmp_path, source, error):
    modules, finders = set(sys.modules), list(sys.meta_path)
    with pytest.raises(type(error)) as caught:
        opened(source)
    assert caught.value.message == error.message.format(path=tmp_path / "model.py")
    assert not {name for name in set(sys.modules) - modules if name.startswith("pyserving_model")}
    assert sys.meta_path == finders


def test_a_folder_without_a_model_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"model\.py; No such file"):
        open_executor("python", str(tmp_path))


def test_remote_folders_are_refused():
    with pytest.raises(FailedPrecondition, match="local file system"):
        open_executor("python", "gs://bucket/m/1")


def test_tensors_of_two_signatures_cannot_be_planned(opened):
    executor = opened(DOUBLE)
    for feeds, fetches in [
        (("other/x:0",), ("serving_default/y:0",)),
        (("serving_default/x:0",), ("serving_default/z:0",)),
        (("x",), ("y",)),
        ((), ()),
    ]:
        with pytest.raises(InvalidArgument):
            executor.plan(feeds, fetches)


def test_versions_share_nothing(tmp_path):
    executors = []
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        source = answering("parts.runs()", '"int64"').replace(
            "import numpy", "from . import parts\n        import numpy"
        )
        (tmp_path / version / "model.py").write_text(textwrap.dedent(source))
        counting = f"count = {version}00\ndef runs():\n    global count\n    count += 1\n    return count\n"
        (tmp_path / version / "parts.py").write_text(counting)
        executors.append(open_executor("python", str(tmp_path / version)))
    assert [int(run(executor)["y"]) for executor in [*executors, *executors]] == [101, 201, 102, 202]
    for executor in executors:
        executor.close()


def test_the_folder_stays_as_it_is(opened, tmp_path):
    (tmp_path / "parts").mkdir()
    for name in ("__init__", "deep"):
        (tmp_path / "parts" / f"{name}.py").write_text("")
    run(opened(f"from .parts.deep import *\n{DOUBLE}"), X)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["__init__.py", "deep.py", "model.py", "parts"]


def test_a_closed_model_answers_so_and_leaves_nothing(tmp_path):
    (tmp_path / "weights.py").write_text("class Weights:\n    def __init__(self):\n        self.me = self\n")
    (tmp_path / "model.py").write_text(f"from . import weights\nheld = weights.Weights()\n{DOUBLE}")
    before = set(sys.modules)
    executor = open_executor("python", str(tmp_path))
    (module,) = [module for name, module in sys.modules.items() if name not in before and hasattr(module, "held")]
    held = weakref.ref(module.held)
    del module
    gc.freeze()
    plan = executor.plan(("serving_default/x:0",), ("serving_default/y:0",))
    executor.close()
    assert held() is None
    assert not {name for name in set(sys.modules) - before if "pyserving_model" in name}
    with pytest.raises(Cancelled, match="Session has been closed"):
        plan.ways[0].run(X)


def test_close_is_the_models_last_word(tmp_path):
    (tmp_path / "model.py").write_text(
        f"{DOUBLE}\nfrom pathlib import Path\n\ndef close():\n    Path(__file__).with_name('closed').touch()\n"
    )
    executor = open_executor("python", str(tmp_path))
    assert not (tmp_path / "closed").exists()
    executor.close()
    assert (tmp_path / "closed").exists()


def test_a_close_that_fails_is_told_and_done_with(tmp_path, caplog):
    (tmp_path / "model.py").write_text(DOUBLE + "\ndef close():\n    raise OSError('busy')\n")
    open_executor("python", str(tmp_path)).close()
    assert "model.py, line 8: OSError: busy" in caplog.text


def test_threads_run_side_by_side(opened):
    executor = opened(f"""
import threading
both = threading.Barrier(2, timeout=60)
{DOUBLE.replace("return", "both.wait(); return")}
""")
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda x: run(executor, x)["y"].tolist(), [X, X + 1]))
    assert answers == [(X * 2).tolist(), (X * 2 + 2).tolist()]
