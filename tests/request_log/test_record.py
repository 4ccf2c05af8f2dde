"""Records as PredictionLogs."""

from __future__ import annotations

import pytest

from pyserving import protos
from pyserving.request_log.record import Record
from pyserving.types import ServableId

SAMPLING = protos.SamplingConfig(sampling_rate=0.5)


@pytest.mark.proves(
    "field PredictionLog.predict_log",
    "field PredictionLog.classify_log",
    "field PredictionLog.regress_log",
    "field PredictionLog.multi_inference_log",
    "field PredictLog.request",
    "field PredictLog.response",
    "field ClassifyLog.request",
    "field ClassifyLog.response",
    "field RegressLog.request",
    "field RegressLog.response",
    "field MultiInferenceLog.request",
    "field MultiInferenceLog.response",
)
@pytest.mark.parametrize(
    ("api", "field", "request_class", "response_class"),
    [
        ("Predict", "predict_log", "PredictRequest", "PredictResponse"),
        ("Classify", "classify_log", "ClassificationRequest", "ClassificationResponse"),
        ("Regress", "regress_log", "RegressionRequest", "RegressionResponse"),
        ("MultiInference", "multi_inference_log", "MultiInferenceRequest", "MultiInferenceResponse"),
    ],
)
def test_a_record_is_the_log_of_its_method(api: str, field: str, request_class: str, response_class: str) -> None:
    request, response = getattr(protos, request_class)(), getattr(protos, response_class)()
    if api == "MultiInference":
        request.tasks.add().model_spec.name = "m"
        response.results.add().model_spec.name = "m"
    else:
        request.model_spec.name = response.model_spec.name = "m"
    record = Record(api, ServableId("m", 3), "s", request.SerializeToString(), response.SerializeToString(), 1700)
    log = protos.PredictionLog.FromString(record.encoded(SAMPLING.SerializeToString(), ("serve",)))
    assert log.WhichOneof("log_type") == field
    assert getattr(log, field).request == request
    assert getattr(log, field).response == response


@pytest.mark.proves(
    "field PredictionLog.log_metadata",
    "field LogMetadata.model_spec",
    "field LogMetadata.sampling_config",
    "field LogMetadata.saved_model_tags",
    "field LogMetadata.timestamp_secs",
)
def test_its_metadata_say_what_answered_and_how_it_was_picked() -> None:
    record = Record("Predict", ServableId("m", 3), "s", b"", b"", 1700)
    metadata = protos.PredictionLog.FromString(
        record.encoded(SAMPLING.SerializeToString(), ("gpu", "serve"))
    ).log_metadata
    spec = metadata.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 3, "s")
    assert metadata.sampling_config == SAMPLING
    assert list(metadata.saved_model_tags) == ["gpu", "serve"]
    assert metadata.timestamp_secs == 1700
