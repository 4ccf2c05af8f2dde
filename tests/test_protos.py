import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from google.protobuf import descriptor_pb2, json_format, text_format

from pyserving import protos

ROOT = Path(__file__).resolve().parent.parent

PLATFORM_CONFIG = """
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config { saved_model_tags: "serve" batching_parameters { max_batch_size { value: 128 } } }
      }
    }
  }
}
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields(descriptor):
    """All that a client can tell of a message's fields."""
    message = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(message)
    return {
        (field.name, field.number, field.type, field.label, field.type_name, field.proto3_optional)
        + (descriptor.fields_by_name[field.name].json_name,)
        + ((message.oneof_decl[field.oneof_index].name,) if field.HasField("oneof_index") else ())
        for field in message.field
    }


def nested(descriptor):
    yield descriptor
    for inner in descriptor.nested_types:
        yield from nested(inner)


def tensorflow_serving_messages():
    package = import_module("tensorflow_serving")
    modules = [module.name for module in walk_packages(package.__path__, "tensorflow_serving.")]
    for name in modules:
        if name.endswith("_pb2"):
            for message in import_module(name).DESCRIPTOR.message_types_by_name.values():
                yield from nested(message)


class TestShortNames:
    def test_finds_the_serving_message_and_keeps_it(self):
        assert protos.PredictRequest.DESCRIPTOR.full_name == "tensorflow.serving.PredictRequest"
        assert protos.PredictRequest is protos.message_class("tensorflow.serving.PredictRequest")

    @pytest.mark.parametrize(
        ("name", "full_name"),
        [
            ("TensorProto", "tensorflow.TensorProto"),
            ("SerializedInput", "tensorflow.serving.internal.SerializedInput"),
            ("SavedModel", "tensorflow.SavedModel"),
            ("HealthCheckRequest", "grpc.health.v1.HealthCheckRequest"),
            ("ServerReflectionRequest", "grpc.reflection.v1alpha.ServerReflectionRequest"),
            ("Int64Value", "google.protobuf.Int64Value"),
            ("Any", "google.protobuf.Any"),
        ],
    )
    def test_looks_through_the_packages_in_order(self, name, full_name):
        assert getattr(protos, name).DESCRIPTOR.full_name == full_name

    def test_reaches_enums(self):
        assert protos.Code.Name(5) == "NOT_FOUND"
        assert protos.ModelVersionStatus.AVAILABLE == 30
        assert protos.ModelVersionStatus.State.Value("END") == 50

    def test_says_what_it_does_not_have(self):
        with pytest.raises(AttributeError, match="Nonsense"):
            protos.Nonsense  # noqa: B018
        with pytest.raises(KeyError):
            protos.message_class("tensorflow.serving.Nonsense")

    def test_shows_files_under_their_real_paths(self):
        service = protos.pool.FindServiceByName("tensorflow.serving.PredictionService")
        assert service.file.name == "tensorflow_serving/apis/prediction_service.proto"
        assert [method.name for method in service.methods] == [
            "Classify",
            "Regress",
            "Predict",
            "MultiInference",
            "GetModelMetadata",
        ]


class TestForms:
    def test_reads_a_model_config_file(self):
        config = text_format.Parse(
            """
            model_config_list: {
              config: { name: "m", base_path: "/m", model_platform: "tensorflow",
                model_version_policy: { specific: { versions: 1, versions: 2 } },
                version_labels: { key: "stable" value: 1 }; },
            }
            """,
            protos.ModelServerConfig(),
        )
        (model,) = config.model_config_list.config
        assert list(model.model_version_policy.specific.versions) == [1, 2]
        assert dict(model.version_labels) == {"stable": 1}
        assert text_format.Parse(str(config), protos.ModelServerConfig()) == config

    def test_reads_an_any_written_out(self):
        config = text_format.Parse(PLATFORM_CONFIG, protos.PlatformConfigMap(), descriptor_pool=protos.pool)
        packed = config.platform_configs["tensorflow"].source_adapter_config
        adapter = protos.SavedModelBundleSourceAdapterConfig()
        assert packed.Unpack(adapter)
        assert adapter.legacy_config.batching_parameters.max_batch_size.value == 128
        assert "[type.googleapis.com/" in text_format.MessageToString(config, descriptor_pool=protos.pool)

    def test_packs_metadata_and_prints_it_as_json(self):
        response = protos.GetModelMetadataResponse(model_spec={"name": "m", "version": {"value": 7}})
        signatures = protos.SignatureDefMap(signature_def={"s": protos.SignatureDef(method_name="p")})
        response.metadata["signature_def"].Pack(signatures)
        printed = json_format.MessageToDict(response, preserving_proto_field_name=True, descriptor_pool=protos.pool)
        assert printed["model_spec"] == {"name": "m", "version": "7"}
        assert printed["metadata"]["signature_def"] == {
            "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
            "signature_def": {"s": {"method_name": "p"}},
        }

    def test_prints_status_with_underscores_in_json(self):
        status = {"version": 1, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": "x"}}
        printed = json_format.MessageToDict(protos.GetModelStatusResponse(model_version_status=[status]))
        assert printed["model_version_status"][0]["status"]["error_message"] == "x"

    def test_reads_a_classification_request_with_its_examples_left_as_bytes(self):
        example = protos.Example()
        example.features.feature["x"].float_list.value.append(1.5)
        request = protos.ClassificationRequest(model_spec={"name": "m"})
        request.input.example_list.examples.append(example)
        twin = protos.SerializedExampleRequest.FromString(request.SerializeToString())
        assert twin.model_spec == request.model_spec
        assert list(twin.input.example_list.examples) == [example.SerializeToString()]

    def test_reads_a_multi_inference_request_with_its_examples_left_as_bytes(self):
        request = protos.MultiInferenceRequest(tasks=[{"model_spec": {"name": "m"}, "method_name": "c"}])
        request.input.example_list_with_context.examples.add()
        request.input.example_list_with_context.context.features.SetInParent()
        twin = protos.SerializedMultiInferenceRequest.FromString(request.SerializeToString())
        assert list(twin.tasks) == list(request.tasks)
        assert list(twin.input.example_list_with_context.examples) == [b""]
        assert twin.input.example_list_with_context.context == b"\n\x00"


def test_needs_no_tensorflow():
    code = "import sys; from pyserving import protos; protos.PredictRequest; print('tensorflow' in sys.modules)"
    assert run_python(code) == "False\n"


@pytest.mark.slow
@pytest.mark.parametrize("ours_first", [True, False])
def test_lives_beside_tensorflow_serving_api_in_either_order(ours_first):
    ours = "from pyserving import protos\nours = protos.PredictRequest\n"
    theirs = "import tensorflow\nfrom tensorflow_serving.apis.predict_pb2 import PredictRequest as theirs\n"
    use = (
        "sent = theirs(); sent.model_spec.name = 'm'; sent.inputs['x'].CopyFrom(tensorflow.make_tensor_proto([1.0]))\n"
        "got = ours.FromString(sent.SerializeToString())\n"
        "assert theirs.FromString(got.SerializeToString()) == sent\n"
        "print(got.model_spec.name, got.inputs['x'].dtype)\n"
    )
    assert run_python((ours + theirs if ours_first else theirs + ours) + use) == "m 1\n"


@pytest.mark.slow
def test_has_the_fields_of_every_message_in_tensorflow_serving_api():
    checked = []
    for theirs in tensorflow_serving_messages():
        ours = protos.pool.FindMessageTypeByName(theirs.full_name)
        assert fields(ours) == fields(theirs), theirs.full_name
        assert ours.file.name == theirs.file.name
        checked.append(theirs.full_name)
    assert len(checked) > 60


@pytest.mark.slow
def test_is_what_the_build_makes():
    build = [sys.executable, "protos/build.py", "--check"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        pytest.skip(done.stderr)  # another release of TensorFlow
    assert done.returncode == 0, done.stderr
