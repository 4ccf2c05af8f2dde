"""Nothing of TensorFlow Serving's surface is without an answer, and docs/parity.md and docs/clients.md tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.marks import Mark, marks
from tests.parity.page import Parity, parity, texts
from tests.parity.surface import ROOT, differences, surface


def test_every_item_is_proved_or_explained() -> None:
    troubles = parity().troubles()
    assert not troubles, "\n".join(["mark a test with pytest.mark.proves, or see tests/parity/reasons.py:", *troubles])


@pytest.mark.parametrize("name", ["parity.md", "clients.md"])
def test_pages_are_up_to_date(name: str) -> None:
    text = dict(texts())[name]
    assert (ROOT / "docs" / name).read_text() == text, "run `python -m tests.parity`"


def test_items_come_from_the_descriptors() -> None:
    sections = surface()
    assert "rpc PredictionService.Predict" in sections["RPCs"]
    assert "rpc grpc.reflection.v1.ServerReflection.ServerReflectionInfo" in sections["RPCs"]
    assert "field ModelSpec.version_label" in sections["Fields of requests and answers"]
    assert "field SessionBundleConfig.mixed_precision" in sections["Fields of config files"]
    assert (
        "field FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific.versions"
        in (sections["Fields of config files"])
    )
    assert len([item for section in sections.values() for item in section]) > 300


def test_cases_are_the_first_cells_of_the_rows(tmp_path: Path) -> None:
    page = tmp_path / "differences.md"
    page.write_text(
        "# D\n\n| Case | A | B |\n|---|---|---|\n| One, or two | a | b |\n| `--flag` | a \\| b | c |\n\n- no row\n"
    )
    assert differences(page) == ["One, or two", "`--flag`"]


SOURCE = """
import pytest

@pytest.mark.slow
@pytest.mark.proves("rpc A.B", "field C.d")
@pytest.mark.parametrize("x", [1])
async def test_one(x): ...

class TestMore:
    @pytest.mark.proves("field C.d")
    def test_two(self): ...
"""


def test_marks_are_read_without_an_import(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "test_it.py").write_text(SOURCE)
    assert [(mark.test, mark.path.as_posix(), mark.arguments) for mark in marks("proves", tmp_path)] == [
        ("test_one", "folder/test_it.py", ("rpc A.B", "field C.d")),
        ("test_two", "folder/test_it.py", ("field C.d",)),
    ]


def test_a_mark_has_to_be_a_literal(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("@pytest.mark.proves(ITEM)\ndef test_one(): ...\n")
    with pytest.raises(ValueError, match="malformed node"):
        marks("proves", tmp_path)


def test_a_flag_has_to_be_given_to_a_real_process() -> None:
    served = Path("end_to_end/test_flags_given.py")
    marks_of = {
        "flag rest_gzip_answers": Mark("test_given", served, (), {}),
        "flag enable_profiler": Mark("test_given_as_no", served, (), {}),
        "flag ssl_config_file": Mark("test_not_given", served, (), {}),
        "flag log_format": Mark("test_of_a_function", Path("test_options.py"), (), {}),
    }
    found = Parity({"Flags": list(marks_of)}, {item: [mark] for item, mark in marks_of.items()}).troubles()
    assert found[:2] == [
        "flag ssl_config_file: no test gives it to a real process",
        "flag log_format: no test gives it to a real process",
    ]


def test_what_nobody_proves_and_what_there_is_not_is_told() -> None:
    mark = Mark("test_one", Path("test_it.py"), (), {})
    found = Parity({"RPCs": ["rpc A.B", "rpc A.C"]}, {"rpc A.B": [mark], "rpc A.D": [mark]}).troubles()
    assert found[:2] == [
        "rpc A.C: neither a test proves it nor does a reason excuse it",
        "test_it.py::test_one proves 'rpc A.D', which there is not",
    ]
