"""Node.js with @grpc/grpc-js."""

from __future__ import annotations

import json
import re
from textwrap import fill
from typing import Any

from google.protobuf.json_format import MessageToDict

from pyserving import protos
from pyserving.commands.programs.template import Addresses, Template, literal, question
from pyserving.commands.sample import SampleRequest
from pyserving.signature import DataType

_PROGRAM = Template("""\
// §question, over gRPC: node ask.js
// Needs: npm install @grpc/grpc-js @grpc/proto-loader protobufjs
'use strict';

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const TARGET = §target;

// What this program needs of TensorFlow Serving's .proto files.
const PROTO = `
syntax = "proto3";
package tensorflow.serving;
§proto
service PredictionService {
  rpc §method(§{message}Request) returns (§{message}Response);
}
`;

// Elements of a tensor stand in order of rows; the last one stands for all that are missing.
const REQUEST = §request;

const definition = protoLoader.fromJSON(protobuf.parse(PROTO, { keepCase: true }).root.toJSON(), {
  keepCase: true,
  longs: String,
  enums: String,
});
const { PredictionService } = grpc.loadPackageDefinition(definition).tensorflow.serving;
const client = new PredictionService(TARGET, grpc.credentials.createInsecure());

client.§method(REQUEST, { deadline: Date.now() + 60000 }, (error, response) => {
  if (error) {
    console.error(error.message);
    process.exitCode = 1;
  } else {
    console.log(JSON.stringify(response.§answer, null, 2));
  }
  client.close();
});
""")
_MODEL_SPEC = """\
message ModelSpec { string name = 1; string signature_name = 3; }
"""
_PREDICT = Template("""\
message Dim { int64 size = 1; }
message TensorShape { repeated Dim dim = 2; }
enum DataType {
§types
}
message TensorProto {
  DataType dtype = 1;
  TensorShape tensor_shape = 2;
  bytes tensor_content = 4;
  repeated int32 half_val = 13;
  repeated float float_val = 5;
  repeated double double_val = 6;
  repeated int32 int_val = 7;
  repeated bytes string_val = 8;
  repeated float scomplex_val = 9;
  repeated int64 int64_val = 10;
  repeated bool bool_val = 11;
  repeated double dcomplex_val = 12;
  repeated uint32 uint32_val = 16;
  repeated uint64 uint64_val = 17;
  bytes float8_val = 18;
}
message PredictRequest { ModelSpec model_spec = 1; map<string, TensorProto> inputs = 2; }
message PredictResponse { map<string, TensorProto> outputs = 1; ModelSpec model_spec = 2; }
""")
_EXAMPLES = """\
message BytesList { repeated bytes value = 1; }
message FloatList { repeated float value = 1; }
message Int64List { repeated int64 value = 1; }
message Feature {
  oneof kind { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; }
}
message Features { map<string, Feature> feature = 1; }
message Example { Features features = 1; }
message ExampleList { repeated Example examples = 1; }
message Input { ExampleList example_list = 1; }
"""
_CLASSIFY = """\
message ClassificationRequest { ModelSpec model_spec = 1; Input input = 2; }
message Class { string label = 1; float score = 2; }
message Classifications { repeated Class classes = 1; }
message ClassificationResult { repeated Classifications classifications = 1; }
message ClassificationResponse { ClassificationResult result = 1; ModelSpec model_spec = 2; }
"""
_REGRESS = """\
message RegressionRequest { ModelSpec model_spec = 1; Input input = 2; }
message Regression { float value = 1; }
message RegressionResult { repeated Regression regressions = 1; }
message RegressionResponse { RegressionResult result = 1; ModelSpec model_spec = 2; }
"""
_MESSAGES = {"Predict": "Predict", "Classify": "Classification", "Regress": "Regression"}


def program(request: SampleRequest, addresses: Addresses) -> str:
    message = MessageToDict(request.short_message(), preserving_proto_field_name=True, descriptor_pool=protos.pool)
    return _PROGRAM.substitute(
        question=question(request),
        target=literal(addresses.grpc),
        proto=_proto(request.method),
        method=request.method,
        message=_MESSAGES[request.method],
        request=_pretty(message),
        answer="outputs" if request.method == "Predict" else "result",
    )


def _pretty(message: Any) -> str:
    """JSON with a line for each field, and lists of numbers within a line."""
    text = json.dumps(message, indent=2, sort_keys=True)
    return re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _proto(method: str) -> str:
    """The messages of a method; of Predict with all types, whose names answers show."""
    if method != "Predict":
        return _MODEL_SPEC + _EXAMPLES + (_CLASSIFY if method == "Classify" else _REGRESS)
    types = fill(" ".join(f"{one.name} = {one.value};" for one in DataType), 100, break_long_words=False)
    return _MODEL_SPEC + _PREDICT.substitute(types=types)
