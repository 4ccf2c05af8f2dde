import json

import numpy as np
import pytest
from google.protobuf import json_format

from pyserving import protos
from pyserving.codec.json.error import encode_error
from pyserving.codec.json.proto_json import encode_metadata, encode_model_status
from pyserving.errors import NotFound
from pyserving.types import ManagerState, ServableId, ServableState

STATUS = """\
{
 "model_version_status": [
  {
   "version": "3",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  },
  {
   "version": "2",
   "state": "END",
   "status": {
    "error_code": "NOT_FOUND",
    "error_message": "no \\"\\u003cfile\\u003e\\"\\n\\u007f\\\\ é"
   }
  }
 ]
}
"""
METADATA = """\
{
"model_spec":{
 "name": "m",
 "version": "123",
 "signature_name": ""
}
,
"metadata": {"signature_def": {
 "signature_def": {
  "__saved_model_init_op": {
   "inputs": {},
   "outputs": {
    "__saved_model_init_op": {
     "name": "NoOp",
     "dtype": "DT_INVALID",
     "tensor_shape": {
      "dim": [],
      "unknown_rank": true
     }
    }
   },
   "method_name": "",
   "defaults": {}
  },
  "serving_default": {
   "inputs": {
    "x": {
     "name": "x:0",
     "dtype": "DT_FLOAT",
     "tensor_shape": {
      "dim": [
       {
        "size": "-1",
        "name": ""
       }
      ],
      "unknown_rank": false
     }
    }
   },
   "outputs": {},
   "method_name": "tensorflow/serving/predict",
   "defaults": {}
  }
 }
}
}
}
"""


def signature_def_map():
    signatures = protos.SignatureDefMap()
    default = signatures.signature_def["serving_default"]
    default.method_name = "tensorflow/serving/predict"
    default.inputs["x"].name, default.inputs["x"].dtype = "x:0", 1
    default.inputs["x"].tensor_shape.dim.add(size=-1)
    init = signatures.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"]
    init.name, init.tensor_shape.unknown_rank = "NoOp", True
    return signatures


def test_status_has_protobufs_layout():
    states = [
        ServableState(ServableId("m", 3), ManagerState.AVAILABLE),
        ServableState(ServableId("m", 2), ManagerState.END, NotFound('no "<file>"\n\x7f\\ é')),
    ]
    assert encode_model_status(states).decode() == STATUS


def test_metadata_is_two_documents_in_one():
    body = encode_metadata(ServableId("m", 123), signature_def_map().SerializeToString())
    assert body.decode() == METADATA


def test_every_field_says_what_protobuf_says():
    signatures = signature_def_map()
    tensor = signatures.signature_def["serving_default"].defaults["k"]
    tensor.dtype = 3
    tensor.float_val.extend([0.1, 1e20, float("nan"), float("-inf"), 1 / 3])
    tensor.double_val.extend([0.1, 1 / 3, 1e300, float("inf")])
    tensor.tensor_content = b"\xff\0"
    tensor.uint64_val.append((1 << 64) - 1)
    tensor.bool_val.append(True)
    sparse = signatures.signature_def["serving_default"].inputs["sparse"]
    sparse.coo_sparse.values_tensor_name = "v:0"
    sparse.dtype = 12345
    body = json.loads(encode_metadata(ServableId("m", 1), signatures.SerializeToString()))
    expected = json_format.MessageToDict(
        signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    found = body["metadata"]["signature_def"]
    assert without_floats(found) == without_floats(expected)


def without_floats(found):
    """Floats are compared as numbers: both print what reads back."""
    values = found["signature_def"]["serving_default"]["defaults"]["k"]
    values["float_val"] = [str(np.float32(value)) for value in values["float_val"]]
    values["double_val"] = [str(float(value)) for value in values["double_val"]]
    return found


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("Missing model name in request.", b'{\n    "error": "Missing model name in request."\n}'),
        ('a "b"\n\\ </> \x01 é', '{\n    "error": "a \\"b\\"\\n\\\\ </> \\u0001 é"\n}'.encode()),
        (b"\xff".decode("utf-8", "surrogateescape"), b'{\n    "error": "\xff"\n}'),
    ],
)
def test_errors_stand_in_an_object(message, body):
    assert encode_error(message) == body
