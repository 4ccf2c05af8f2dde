"""PredictRequests read from the wire; what is read is beside protobuf's in test_predict_wire_against_protobuf.py."""

from __future__ import annotations

import numpy as np
import pytest

from pyserving import protos
from pyserving.codec import predict_wire
from pyserving.codec.predict_wire import ElementsOffset, PredictDecoder, elements_offset, scan
from pyserving.codec.tensor_proto import encode_into
from pyserving.errors import Internal, InvalidArgument
from pyserving.signature import DataType
from pyserving.types import ModelSpec


def request(
    inputs: dict[str, np.ndarray], *, name: str = "m", as_content: bool = False, output_filter: tuple[str, ...] = ()
) -> bytes:
    message = protos.PredictRequest(output_filter=output_filter)
    message.model_spec.name = name
    for alias, array in inputs.items():
        encode_into(array, message.inputs[alias], as_content=as_content)
    return message.SerializeToString()


def lies_in(body: bytes, array: np.ndarray) -> bool:
    return np.shares_memory(np.frombuffer(body, np.uint8), array)


def image(seed: int = 0, size: int = 70_000) -> np.ndarray:
    return np.random.default_rng(seed).random((1, size), np.float32)


class TestScan:
    @pytest.mark.parametrize("as_content", [False, True], ids=["typed", "content"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128, np.bool_])
    def test_leaves_elements_where_they_lie(self, dtype: type, as_content: bool) -> None:
        array = np.arange(6).reshape(2, 3).astype(dtype)
        body = request({"x": array}, as_content=as_content, output_filter=("y",))
        layout = scan(body)
        assert layout is not None
        call = layout.call(body)
        assert call.model_spec == ModelSpec("m")
        assert call.output_filter == ("y",)
        assert lies_in(body, call.inputs["x"])
        assert call.inputs["x"].dtype == array.dtype
        assert call.inputs["x"].tolist() == array.tolist()

    def test_leaves_other_inputs_to_protobuf(self) -> None:
        body = request({"words": np.array([b"a", b"b"], object), "ids": np.int64([300, -1]), "x": np.float32([1, 2])})
        layout = scan(body)
        assert layout is not None
        inputs = layout.call(body).inputs
        assert {alias: inputs[alias].tolist() for alias in inputs} == {
            "words": [b"a", b"b"],
            "ids": [300, -1],
            "x": [1, 2],
        }
        assert [alias for alias in inputs if lies_in(body, inputs[alias])] == ["x"]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            request({}),
            request({"ids": np.int64([1, 2])}),
            request({"words": np.array([b"12345678"], object)}, as_content=True),
            request({"x": np.float32([1, 2])}) + request({"x": np.float32([3, 4])}),
            request({"x": np.float32([1, 2])})[:-1],
            b"\x12\x00" * 1000,
            request({"words": np.array([b"a" * 10_000], object), "x": np.float32([1])}),
        ],
        ids=["nothing", "no inputs", "varints", "strings", "twice", "cut", "too many inputs", "little to gain"],
    )
    def test_leaves_some_requests_to_protobuf(self, body: bytes) -> None:
        assert scan(body) is None


class TestDecoder:
    @pytest.fixture
    def decoder(self) -> PredictDecoder:
        return PredictDecoder()

    def test_learns_a_layout_and_reads_other_values_in_it(self, decoder: PredictDecoder) -> None:
        first = decoder.decode(request({"x": np.float32([1, 2])}))
        body = request({"x": np.float32([3, 4])})
        second = decoder.decode(body)
        assert second.model_spec is first.model_spec
        assert lies_in(body, second.inputs["x"])
        assert [first.inputs["x"].tolist(), second.inputs["x"].tolist()] == [[1, 2], [3, 4]]

    def test_tells_requests_of_one_length_apart(self, decoder: PredictDecoder) -> None:
        bodies = [
            request({"x": np.float32([1, 2])}, name="a"),
            request({"x": np.float32([1, 2])}, name="b"),
            request({"y": np.float32([1, 2])}, name="a"),
        ]
        assert len({len(body) for body in bodies}) == 1
        for body in bodies * 1000:
            call, message = decoder.decode(body), protos.PredictRequest.FromString(body)
            assert call.model_spec == ModelSpec(message.model_spec.name)
            assert list(call.inputs) == list(message.inputs)
            assert list(call.output_filter) == list(message.output_filter)

    def test_knows_names_before_it_reads_a_value(self, decoder: PredictDecoder) -> None:
        message = protos.PredictRequest()
        message.inputs["x"].dtype = DataType.DT_FLOAT
        message.inputs["x"].tensor_shape.dim.add(size=-1)
        message.inputs["z"].CopyFrom(message.inputs["x"])
        encode_into(np.float32([1, 2]), message.inputs["y"])
        inputs = decoder.decode(message.SerializeToString()).inputs
        assert set(inputs) == {"x", "y", "z"}
        assert len(inputs) == 3
        assert "y" in inputs
        assert inputs["y"].tolist() == [1, 2]
        with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x$"):
            inputs["x"]
        with pytest.raises(KeyError):
            inputs["missing"]

    def test_counts_arrays_that_must_be_made_as_expanded(self, decoder: PredictDecoder) -> None:
        message = protos.PredictRequest()
        message.inputs["zeros"].dtype = DataType.DT_INT64
        message.inputs["zeros"].tensor_shape.dim.add(size=1000)
        encode_into(np.float32([1, 2, 3]), message.inputs["x"])
        body = message.SerializeToString()
        mapped, parsed = decoder.decode(body), PredictDecoder(max_bytes=8000).decode(body + body)
        assert lies_in(body, mapped.inputs["x"])
        assert mapped.num_expanded_bytes == 8000
        assert parsed.num_expanded_bytes == 8012

    def test_keeps_to_its_limit(self) -> None:
        decoder = PredictDecoder(max_bytes=8)
        assert decoder.decode(request({"x": np.float32([1, 2])})).inputs["x"].tolist() == [1, 2]
        for _ in range(2 * decoder.SCANNED_OF_SMALL):
            inputs = decoder.decode(request({"x": np.float32([1, 2, 3])})).inputs
            with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x$"):
                inputs["x"]

    def test_leaves_odd_booleans_to_protobuf(self, decoder: PredictDecoder) -> None:
        body = request({"x": np.array([True, False])})
        assert lies_in(body, decoder.decode(body).inputs["x"])
        odd = decoder.decode(body[:-1] + b"\x02").inputs["x"]
        assert odd.tolist() == [True, True]
        with pytest.raises(Internal):
            decoder.decode(body[:-1] + b"\x80")

    def test_says_what_is_no_request(self, decoder: PredictDecoder) -> None:
        body = request({"x": image()})
        with pytest.raises(Internal, match=r"^Failed to parse the request as tensorflow\.serving\.PredictRequest: "):
            decoder.decode(body[:-1])

    def test_maps_a_large_request_at_once_and_a_small_one_when_it_keeps_coming(self, decoder: PredictDecoder) -> None:
        decoder.decode(request({"a": np.float32([1])}))
        large, small = request({"x": image()}), request({"x": np.float32([1, 2, 3])})
        assert len(large) >= decoder.LARGE_BYTES
        assert lies_in(large, decoder.decode(large).inputs["x"])
        assert not lies_in(small, decoder.decode(small).inputs["x"])
        for _ in range(decoder.SCANNED_OF_SMALL):
            decoder.decode(small)
        assert lies_in(small, decoder.decode(small).inputs["x"])

    def test_forgets_the_oldest_layouts(self, decoder: PredictDecoder) -> None:
        small = request({"x": np.float32([1, 2, 3])})
        decoder.decode(small)
        assert lies_in(small, decoder.decode(small).inputs["x"])
        for size in range(decoder.MAX_LAYOUTS):
            decoder.decode(request({"x": image(size=70_000 + size)}))
        assert not lies_in(small, decoder.decode(small).inputs["x"])

    def test_takes_a_view_of_a_body(self, decoder: PredictDecoder) -> None:
        body = request({"x": image()})
        for _ in range(2):
            inputs = decoder.decode(memoryview(body)).inputs
            assert lies_in(body, inputs["x"])
            assert not inputs["x"].flags.writeable


class TestElementsOffset:
    def test_is_known_from_the_first_bytes(self) -> None:
        body = request({"small": np.float32([1]), "x": image()})
        offset = elements_offset(body[:100], len(body), 1000)
        assert offset is not None
        assert body[offset : offset + 280_000] == image().tobytes()

    @pytest.mark.parametrize(
        ("body", "num_bytes"),
        [
            (request({"x": np.float32([1])}), 100),
            (request({"x": image()}), 20),
            (request({"words": np.array([b"a" * 10_000], object)}), 100),
            (b"\xff" * 100, 100),
            (b"", 0),
        ],
        ids=["small", "cut before the elements", "strings", "no message", "nothing"],
    )
    def test_may_be_unknown(self, body: bytes, num_bytes: int) -> None:
        assert elements_offset(body[:num_bytes], len(body), 1000) is None

    def test_of_one_request_after_another_is_that_of_each(self) -> None:
        find = ElementsOffset(1000)
        bodies = [
            request(inputs, name=name)
            for inputs in ({"x": image()}, {"x": image(size=80_000)}, {"longer": image()}, {"x": np.float32([1])})
            for name in ("m", "n", "another")
        ]
        for body in [body for body in bodies for _ in range(3)]:
            assert find(memoryview(body)[:100], len(body)) == elements_offset(body[:100], len(body), 1000)
        assert find(b"", len(bodies[0])) is None

    def test_is_not_looked_for_again_while_requests_begin_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find, body = ElementsOffset(1000), request({"x": image()})
        offset = find(body[:100], len(body))
        monkeypatch.setattr(predict_wire, "elements_offset", None)
        assert find(body[:offset] + b"other elements", len(body)) == offset
