from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyserving.sources.completeness import Incomplete, why_incomplete
from pyserving.sources.snapshot import take_snapshot
from pyserving.sources.storage import LOCAL, Entry, LocalStorage, Storage
from tests.sources.saved_models import (
    DATA,
    INDEX,
    block,
    entry,
    header,
    index,
    length_field,
    number_field,
    saved_model,
    table,
    tflite,
    with_variables,
    write,
)

PBTXT = b"""
saved_model_schema_version: 1  # a comment with a { bracket
meta_graphs { meta_info_def { tags: "serve } \\" {" } graph_def { node { name: 'v' op: "%s" } } }
"""


def why(path: Path, storage: Storage = LOCAL) -> str | None:
    found = why_incomplete(str(path), take_snapshot(str(path)), storage)
    return None if found is None else found.reason


@pytest.fixture
def reason(tmp_path):
    return lambda files: why(write(tmp_path / "1", files))


@pytest.mark.parametrize(
    "files",
    [
        {"saved_model.pb": saved_model()},
        {"saved_model.pb": saved_model(), "variables/.gitkeep": b""},
        with_variables(),
        with_variables() | {"fingerprint.pb": b"x", "assets.extra/doc": b""},
        {"saved_model.pb": saved_model(asset_files=["vocab.txt"]), "assets/vocab.txt": b"a"},
        {"saved_model.pb": saved_model(), INDEX: index(3), DATA: b"more bytes than the index knows"},
        {"saved_model.pbtxt": PBTXT % b"Identity"},
        {"saved_model.pbtxt": PBTXT % b"VarHandleOp", INDEX: index(2), DATA: b"ab"},
        {"saved_model.cpb": b"chunks"},
        {"model.tflite": tflite()},
        {"model.tflite": tflite(behind=b"weights")},
        {"model.py": b"signature_defs = {}", "weights.bin": b"w"},
        {"export.meta": b"old"},
    ],
)
def test_a_whole_version_is_complete(reason, files):
    assert reason(files) is None


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({}, "saved_model.pb is not there"),
        ({"fingerprint.pb": b"x", "assets/vocab.txt": b"a"}, "saved_model.pb is not there"),
        ({DATA: b"w"}, "saved_model.pb is not there"),
        ({"model.tflite": b"TFL3", DATA: b"w"}, "saved_model.pb is not there"),
        ({"saved_model.pb": b""}, "saved_model.pb is not whole: it holds no MetaGraph"),
        ({"saved_model.pb": bytes(64)}, "saved_model.pb is not whole: a field at byte 2 does not fit"),
        ({"saved_model.pb": number_field(1, 1)}, "saved_model.pb is not whole: it holds no MetaGraph"),
        ({"saved_model.pb": saved_model()[:-1]}, "saved_model.pb is not whole: a field at byte 4 does not fit"),
        ({"saved_model.pb": saved_model(asset_files=["vocab.txt"])}, "assets/vocab.txt is not there"),
        ({"saved_model.pb": saved_model(["Const", "VarHandleOp"])}, f"{INDEX} is not there"),
        ({"saved_model.pb": saved_model(["VariableV2"])}, f"{INDEX} is not there"),
        ({"saved_model.pb": saved_model(), DATA: b"w"}, f"{INDEX} is not there"),
        ({"saved_model.pb": saved_model(), INDEX: index(1)}, f"{DATA} is not there"),
        ({"saved_model.pb": saved_model(), INDEX: index(10), DATA: b"123456789"}, f"{DATA} has 9 of 10 bytes"),
        ({"saved_model.pb": saved_model(), INDEX: index(1)[:-9], DATA: b"w"}, f"{INDEX} is not whole: it is cut short"),
        (
            {
                "saved_model.pb": saved_model(),
                INDEX: table(block([header(2), entry("a", 1), entry("b", 1, shard=1)])),
                "variables/variables.data-00000-of-00002": b"a",
            },
            "variables/variables.data-00001-of-00002 is not there",
        ),
        ({"saved_model.pbtxt": PBTXT % b"VariableV2"}, f"{INDEX} is not there"),
        (
            {"saved_model.pbtxt": (PBTXT % b"Identity")[:-4]},
            "saved_model.pbtxt is not whole: its brackets do not close",
        ),
        ({"saved_model.pbtxt": b'meta_graphs { name: "cut'}, "saved_model.pbtxt is not whole: a quoted text"),
        ({"saved_model.pbtxt": b"# nothing"}, "saved_model.pbtxt is not whole: it holds no MetaGraph"),
        (with_variables() | {"assets/.vocab.txt.Xa1b2c": b""}, "assets/.vocab.txt.Xa1b2c is being written"),
        ({".saved_model.pb.Q9zTr2": saved_model()}, ".saved_model.pb.Q9zTr2 is being written"),
        (with_variables() | {".~tmp~/fingerprint.pb": b""}, ".~tmp~/fingerprint.pb is being written"),
        (with_variables() | {"saved_model.pb_.gstmp": b""}, "saved_model.pb_.gstmp is being written"),
        ({"model.tflite": b""}, "model.tflite is not whole: 4 bytes at 4 lie outside of its 0"),
        ({"model.tflite": b"\x08\0\0\0PK34" + bytes(32)}, "model.tflite is not whole: it has no TensorFlow Lite id"),
        ({"model.tflite": b"\x08\0\0\0TFL3" + bytes(32)}, "model.tflite is not whole: a table is broken"),
        ({"model.tflite": b"\xff\xff\xff\xffTFL3"}, "model.tflite is not whole: 4 bytes at 4294967295 lie outside"),
        ({"model.tflite": tflite(graphs=0)}, "model.tflite is not whole: it holds no graph"),
        ({"model.tflite": tflite(behind=b"weights")[:-1]}, "model.tflite is not whole: 7 bytes at"),
        ({"model.py": b"def predict(signature_name"}, "model.py is not whole: '(' was never closed"),
        ({"model.py": b"x = 1\0"}, "model.py is not whole: source code "),
        ({"model.py": b"x = 1", DATA: b"w"}, "saved_model.pb is not there"),
        ({"model.tflite.part": b"TFL3"}, "model.tflite.part is being written"),
    ],
)
def test_the_first_missing_part_is_named(reason, files, missing):
    assert (reason(files) or "").startswith(missing)


def test_a_graph_cut_anywhere_within_its_meta_graph_is_not_whole(reason):
    whole = saved_model(asset_files=["a"])
    for length in range(len(whole)):
        assert (reason({"saved_model.pb": whole[:length], "assets/a": b""}) or "").startswith("saved_model.pb is not")


def test_a_graph_whose_end_is_reserved_but_not_written_is_not_whole(reason):
    whole = saved_model(["Placeholder"] * 20)
    assert "not whole" in (reason({"saved_model.pb": whole[:200].ljust(len(whole), b"\0")}) or "")


def test_a_tflite_model_cut_anywhere_is_not_whole(reason):
    whole = tflite()
    for length in range(len(whole)):
        assert (reason({"model.tflite": whole[:length]}) or "").startswith("model.tflite is not whole")


def test_where_a_tflite_model_is_preferred_it_is_what_has_to_be_whole(tmp_path):
    path = write(tmp_path / "1", {"saved_model.pb": b"cut", "model.tflite": tflite()})
    seen = take_snapshot(str(path))
    assert why_incomplete(str(path), seen, prefer_tflite_model=True) is None
    assert why_incomplete(str(path), seen) is not None
    (path / "model.tflite").write_bytes(tflite()[:-1])
    found = why_incomplete(str(path), seen, prefer_tflite_model=True)
    assert found is not None
    assert found.reason.startswith("model.tflite is not whole")


def test_where_there_is_no_preferred_tflite_model_the_saved_model_counts(tmp_path):
    path = write(tmp_path / "1", {"saved_model.pb": b"cut"})
    assert why_incomplete(str(path), take_snapshot(str(path)), prefer_tflite_model=True) is not None


@pytest.mark.proves("difference: A pipe, socket or device in a version folder")
@pytest.mark.parametrize("name", ["saved_model.pb", "model.tflite", DATA, INDEX, "assets/vocab.txt"])
def test_a_pipe_is_refused_and_never_opened(tmp_path: Path, name: str):
    path = write(tmp_path / "1", with_variables() | {name: b""})
    (path / name).unlink()
    os.mkfifo(path / name)
    found = why_incomplete(str(path), take_snapshot(str(path)))
    assert found == Incomplete(f"{name} is neither a file nor a folder", would_hang=True)


def test_a_device_is_refused_through_a_link_too(tmp_path: Path):
    path = write(tmp_path / "1", {})
    (path / "saved_model.pb").symlink_to("/dev/zero")
    assert why(path) == "saved_model.pb is neither a file nor a folder"


def test_a_hidden_socket_is_nobodys_business(tmp_path: Path):
    path = write(tmp_path / "1", with_variables())
    os.mkfifo(path / ".sync")
    assert why(path) is None


def test_a_pipe_that_came_in_a_files_place_is_not_opened(tmp_path: Path):
    path = write(tmp_path / "1", with_variables())
    seen = take_snapshot(str(path))
    (path / "saved_model.pb").unlink()
    os.mkfifo(path / "saved_model.pb")
    found = why_incomplete(str(path), seen)
    assert found == Incomplete("saved_model.pb cannot be read: not a regular file", is_lasting=False)


def test_a_pipe_that_comes_between_the_look_and_the_opening_hangs_nobody(tmp_path: Path):
    class Late(LocalStorage):
        """Takes every pipe for a file."""

        def stat(self, path: str) -> Entry:
            return super().stat(path)._replace(is_special=False)

    os.mkfifo(tmp_path / "pipe")
    with Late().open(str(tmp_path / "pipe")) as file:
        assert file.readable()


def test_variables_of_a_second_meta_graph_count(reason):
    with_variable = saved_model(["VarHandleOp"]).removeprefix(number_field(1, 1))
    assert reason({"saved_model.pb": saved_model() + with_variable}) == f"{INDEX} is not there"


def test_groups_are_no_wire_format_of_ours(reason):
    assert "wire type 3" in (reason({"saved_model.pb": saved_model() + b"\x1b"}) or "")
    assert "ten bytes" in (reason({"saved_model.pb": saved_model() + b"\xff" * 11}) or "")


def test_unknown_fields_of_every_kind_are_passed_over(reason):
    unknown = b"\x99\x03" + bytes(8) + b"\x9d\x03" + bytes(4) + length_field(50, b"future") + number_field(51, 2**63)
    assert reason({"saved_model.pb": saved_model() + unknown}) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_that_cannot_be_read_is_named(reason, tmp_path: Path):
    write(tmp_path / "1", {"saved_model.pb": saved_model()}).joinpath("saved_model.pb").chmod(0)
    assert reason({}) == "saved_model.pb cannot be read: Permission denied"


def test_a_link_to_nothing_is_a_missing_part(tmp_path: Path):
    path = write(tmp_path / "1", {"saved_model.pb": saved_model(), INDEX: index(1)})
    (path / DATA).symlink_to(tmp_path / "blobs" / "not-yet")
    assert why(path) == f"{DATA} is not there"


@pytest.mark.parametrize("name", ["basic_pitch", "deepcut", "guesslang", "movenet_lightning", "selfie"])
def test_real_models_are_complete_until_a_byte_is_missing(name: str, tmp_path: Path):
    models = os.environ.get("PYSERVING_TEST_MODELS")
    if models is None:
        pytest.skip("PYSERVING_TEST_MODELS names no folder")
    version = Path(models, name, "1")
    copy = tmp_path / "1"
    for file in version.rglob("*"):
        if file.is_file():
            write(copy, {str(file.relative_to(version)): file.read_bytes()})
    assert why(copy) is None
    for file in (copy / "saved_model.pb", copy / DATA, copy / INDEX):
        if not file.exists():
            continue
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        assert why(copy) is not None
        file.write_bytes(content)


@pytest.mark.slow
def test_exports_of_tensorflow_are_complete_until_their_variables_are_missing(tmp_path: Path):
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    module.w = tf.Variable([1.0, 2.0])
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    module.asset = tf.saved_model.Asset(str(tmp_path / "vocab.txt"))
    module.f = tf.function(lambda x: x * module.w, input_signature=[tf.TensorSpec([], tf.float32)])
    path = tmp_path / "1"
    tf.saved_model.save(module, str(path), signatures=module.f)
    assert why(path) is None
    (path / "assets" / "vocab.txt").rename(tmp_path / "elsewhere")
    assert why(path) == "assets/vocab.txt is not there"
    (tmp_path / "elsewhere").rename(path / "assets" / "vocab.txt")
    for file in (path / "variables").iterdir():
        file.unlink()
    assert why(path) == f"{INDEX} is not there"


@pytest.mark.slow
def test_a_converted_model_is_complete_until_a_byte_is_missing(reason):
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    module.w = tf.Variable(tf.ones([32, 16]))
    module.f = tf.function(
        lambda x: {"y": tf.nn.relu(x @ module.w)}, input_signature=[tf.TensorSpec([None, 32], tf.float32)]
    )
    concrete = module.f.get_concrete_function()
    whole = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    assert reason({"model.tflite": whole}) is None
    for missing in (1, 4, 64, len(whole) // 2):
        assert reason({"model.tflite": whole[:-missing]}) is not None


@pytest.mark.slow
def test_an_export_in_text_form_is_read_like_one_in_wire_format(tmp_path: Path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "1"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("w", initializer=2.0)
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save(as_text=True)
    assert why(path) is None
    (path / INDEX).unlink()
    (path / DATA).unlink()
    assert why(path) == f"{INDEX} is not there"
