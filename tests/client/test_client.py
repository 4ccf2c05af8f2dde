"""The light client against a real port."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyserving import protos
from pyserving.client import Client, Tls, VersionStatus
from pyserving.errors import DeadlineExceeded, Internal, InvalidArgument, NotFound, Unavailable
from pyserving.signature import DataType, SignatureDef, TensorInfo
from pyserving.types import ManagerState, ServableId, ServableState
from tests.certificates import Authority, identity
from tests.served_core import ServedCore, TimesCore

X = np.array([1.0, 2.5], np.float32)


@pytest.fixture(scope="module")
def server() -> Iterator[ServedCore]:
    with ServedCore(TimesCore()) as made:
        yield made


@pytest.fixture
def client(server: ServedCore) -> Iterator[Client]:
    with Client(server.target, timeout=30) as made:
        yield made


def test_arrays_go_there_and_come_back(client: Client) -> None:
    outputs = client.predict("m", {"x": X, "words": np.array([b"a", b"b\xff"], object)})
    np.testing.assert_array_equal(outputs["y"], X * 2)
    assert outputs["y"].dtype == np.float32
    assert outputs["capitals"].tolist() == [b"A", b"B\xff"]


def test_lists_take_the_type_that_the_signature_wants(client: Client) -> None:
    outputs = client.predict("m", {"x": [1, 2.5], "words": ["grün", b"b"]})
    assert outputs["y"].tolist() == [2.0, 5.0]
    assert outputs["y"].dtype == np.float32
    assert outputs["capitals"].tolist() == ["grün".encode().upper(), b"B"]


@pytest.mark.parametrize("words", [np.array(["a", "b"]), np.array([b"a", b"b"]), np.array(["a", b"b"], object)])
def test_texts_may_be_in_any_array_that_holds_them(client: Client, words: np.ndarray) -> None:
    assert client.predict("m", {"x": X, "words": words})["capitals"].tolist() == [b"A", b"B"]


def test_arrays_of_another_byte_order_or_layout_arrive_as_they_are(client: Client) -> None:
    assert client.predict("m", {"x": X.astype(">f4")})["y"].tolist() == [2.0, 5.0]
    assert client.predict("m", {"x": np.repeat(X, 2)[::2]})["y"].tolist() == [2.0, 5.0]


def test_outputs_may_be_chosen(client: Client) -> None:
    assert [*client.predict("m", {"x": X}, outputs=["y"])] == ["y"]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"x": ["one"]}, r"^\['one'\] makes no array of float: it holds texts"),
        ({"x": X, "words": np.array([1, "a"], object)}, "^1 is neither a text nor bytes"),
        ({"x": [[1], [2, 3]]}, "makes no array of float"),
    ],
)
def test_what_makes_no_array_is_told_before_anything_is_sent(client: Client, inputs: object, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        client.predict("m", inputs)  # type: ignore[arg-type]


def test_a_version_that_wants_other_types_is_asked_for_them_once_it_has_refused() -> None:
    core = TimesCore()
    with ServedCore(core) as server, Client(server.target, timeout=30) as client:
        assert client.predict("m", {"x": [1]})["y"].dtype == np.float32
        x, run = TensorInfo("x:0", DataType.DT_DOUBLE, (-1,)), core._run
        core.signature_defs = {
            "serving_default": SignatureDef({"x": x}, core.signature_defs["serving_default"].outputs)
        }

        def of_doubles(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            if feeds["x:0"].dtype != np.float64:
                raise InvalidArgument("expected double")
            return run({"x:0": feeds["x:0"].astype(np.float32)})

        core._run = of_doubles
        with pytest.raises(InvalidArgument, match="expected double"):
            client.predict("m", {"x": [1]})
        assert client.predict("m", {"x": [1]})["y"].tolist() == [2.0]


def test_a_signature_that_there_is_not_is_told_with_those_that_are(client: Client) -> None:
    with pytest.raises(InvalidArgument, match=r"^Model m has no signature s; it has classify, serving_default$"):
        client.predict("m", {"x": [1.0]}, signature="s")


def test_a_version_has_a_number_or_a_label(client: Client) -> None:
    with pytest.raises(ValueError, match=r"not by both"):
        client.predict("m", {"x": X}, version=1, label="stable")


def test_the_servers_status_is_an_error_of_its_own_kind(client: Client) -> None:
    with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(n\)$"):
        client.predict("n", {"x": X})


def test_nobody_there_is_unavailable() -> None:
    with Client("unix:/no/such/socket") as client, pytest.raises(Unavailable):
        client.predict("m", {"x": X})


def test_a_timeout_is_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(target) as client, pytest.raises(DeadlineExceeded):
            client.predict("m", {"x": X}, timeout=0.01)


def test_metadata_are_the_signatures_of_the_version_that_answers(client: Client) -> None:
    metadata = client.metadata("m")
    assert metadata.servable_id == ServableId("m", 7)
    info = metadata.signatures["serving_default"].inputs["x"]
    assert (info.name, info.dtype, info.shape) == ("x:0", DataType.DT_FLOAT, (-1,))


def test_status_tells_each_version_and_its_error(server: ServedCore, client: Client) -> None:
    server.core.states = [
        ServableState(ServableId("m", 8), ManagerState.LOADING, NotFound("no graph")),
        ServableState(ServableId("m", 7), ManagerState.AVAILABLE),
    ]
    loading, available = client.status("m")
    assert (loading.version, loading.state, str(loading.error)) == (8, "LOADING", "no graph")
    assert available == VersionStatus(7, "AVAILABLE")


def test_reload_sends_the_list_and_raises_what_became_of_it(server: ServedCore, client: Client) -> None:
    config = protos.ModelServerConfig()
    config.model_config_list.config.add(name="n", base_path="/n", model_platform="tensorflow")
    client.reload(config)
    assert server.core.reloaded == [config]
    server.core.reload_error = Internal("no")
    with pytest.raises(Internal, match=r"^no$"):
        client.reload(config)


def test_importing_it_imports_no_framework_and_no_server() -> None:
    code = "import sys, pyserving.client; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "grpc"} <= loaded
    assert not loaded & {"tensorflow", "watchdog", "uvloop", "prometheus_client", "httptools"}


def test_over_tls_both_sides_show_who_they_are(authority: Authority) -> None:
    server_certificate, own = authority.issue("client-test-server"), authority.issue("client-test-client")
    with ServedCore(TimesCore(), identity=identity(server_certificate, authority)) as server:
        files = Tls(str(authority.path), str(own.path), str(own.key_path), server_name="localhost")
        with Client(server.target, tls=files, timeout=30) as client:
            assert client.predict("m", {"x": [1.0]})["y"].tolist() == [2.0]
        with Client(server.target, tls=Tls(str(authority.path))) as stranger, pytest.raises(Unavailable):
            stranger.predict("m", {"x": X})
        with Client(server.target) as in_the_clear, pytest.raises(Unavailable):
            in_the_clear.predict("m", {"x": X})


@pytest.mark.parametrize("files", [{"cert_file": "client.crt"}, {"key_file": "client.key"}])
def test_a_certificate_without_its_key_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="A certificate and its key go together"):
        Tls(**files)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"metadata": {"Trace": "1"}}, "'Trace'"),
        ({"metadata": {"trace id": "1"}}, "'trace id'"),
        ({"metadata": {"trace": "s3cret\n"}}, "The metadata trace"),
        ({"token": "s3crét"}, "The metadata authorization"),
    ],
)
def test_metadata_that_cannot_be_sent_are_refused_without_being_shown(more: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Client("localhost:1", **more)
    assert named in caught.value.message
    assert "s3cr" not in caught.value.message


def test_a_closed_client_says_so(server: ServedCore) -> None:
    client = Client(server.target)
    client.close()
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.status("m")


def test_a_certificate_file_of_another_form_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.der").write_bytes(b"\x30\x82\x01")
    with pytest.raises(InvalidArgument, match=r"ca\.der is not in PEM form"):
        Client("localhost:1", tls=Tls(str(tmp_path / "ca.der")))


def test_a_certificate_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client("localhost:1", tls=Tls(str(tmp_path / "no.pem")))
