"""A model behind FastAPI, as it is commonly put there: the yardstick from the other side.

    python benchmarks/rest_floor/fastapi_server.py VERSION_FOLDER PORT

It wants fastapi, uvicorn and orjson, and takes a signature with one input `x` and one output `y`.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
import tensorflow as tf
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

app = FastAPI()


class PredictRequest(BaseModel):
    instances: list[Any]


@app.post("/v1/models/m:predict")
def predict(request: PredictRequest) -> Response:
    outputs = model.signatures["serving_default"](x=tf.constant(request.instances, tf.float32))
    return Response(orjson.dumps({"predictions": outputs["y"].numpy().tolist()}), media_type="application/json")


if __name__ == "__main__":
    model: Any = tf.saved_model.load(sys.argv[1])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
