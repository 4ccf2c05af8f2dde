"""Request logs read again, as the calls that they tell of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from pyserving import protos
from pyserving.codec import tf_record
from pyserving.errors import DataLoss

_APIS = {
    "predict_log": ("Predict", protos.PredictResponse),
    "classify_log": ("Classify", protos.ClassificationResponse),
    "regress_log": ("Regress", protos.RegressionResponse),
    "multi_inference_log": ("MultiInference", protos.MultiInferenceResponse),
}
"""Fields of PredictionLog, and the methods they tell of."""


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call of PredictionService."""

    place: str
    """`FILE:NUMBER`, the first record being 1."""
    log: protos.PredictionLog
    api: str
    """The service's method."""
    response_class: type[Message]

    @property
    def path(self) -> str:
        """Of the method, in full."""
        return f"/tensorflow.serving.PredictionService/{self.api}"

    @property
    def request(self) -> Any:
        """The method's request message."""
        return self._typed.request

    @property
    def response(self) -> Any:
        """The method's answer message; None in a log of requests alone, as warm-up files are."""
        return self._typed.response if self._typed.HasField("response") else None

    @property
    def model_specs(self) -> list[protos.ModelSpec]:
        """Of the request: one, or that of each task."""
        holders = self.request.tasks if self.api == "MultiInference" else [self.request]
        return [holder.model_spec for holder in holders]

    @property
    def _typed(self) -> Any:
        return getattr(self.log, self.log.WhichOneof("log_type") or "")


def calls(path: Path, *, may_be_cut: bool = False) -> Iterator[LoggedCall]:
    """The calls of a file, those left out that are none of PredictionService.

    OSError when the file cannot be read; DataLoss where it is damaged, or ends within a record unless it `may_be_cut`.
    """
    with path.open("rb") as file:
        number = 0
        try:
            for number, record in enumerate(tf_record.records(file), 1):
                log = _prediction_log(record, f"{path}:{number}")
                if (kind := log.WhichOneof("log_type")) in _APIS:
                    yield LoggedCall(f"{path}:{number}", log, *_APIS[kind])
        except DataLoss as error:
            if not (may_be_cut and error.message.startswith("truncated")):
                raise DataLoss(f"{path}: {error}") from None


def _prediction_log(record: bytes, place: str) -> protos.PredictionLog:
    try:
        return protos.PredictionLog.FromString(record)
    except DecodeError:
        raise DataLoss(f"record {place} is no PredictionLog") from None
