// The floor: the least that a C++ server has to do for one Predict call. A sync gRPC server (Debian's grpc++), the request
// parsed by protobuf, the session run through TensorFlow's C API, the answer written by protobuf. No manager, no
// metrics, no batching: what tensorflow_model_server's hot path costs at best on this machine.
//
//   floor LIBTENSORFLOW_CC VERSION_FOLDER PORT INPUT_TENSOR OUTPUT_TENSOR INPUT_NAME OUTPUT_NAME
//
// LIBTENSORFLOW_CC is libtensorflow_cc.so.2 of TensorFlow's Python package, so that this server and a Python one run the
// very same kernels. It is opened at run time and deep-bound, because it carries a protobuf of its own. With FLOOR_INLINE set in
// the environment a session runs in the thread that calls it, which is faster for small models; without, in TensorFlow's pool.

#include <dlfcn.h>
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "predict.grpc.pb.h"

// What is used of tensorflow/c/c_api.h, declared here so that building needs no TensorFlow.
struct TF_Status;
struct TF_Tensor;
struct TF_Session;
struct TF_Graph;
struct TF_SessionOptions;
struct TF_Buffer;
struct TF_Operation;
struct TF_Output {
  TF_Operation* oper;
  int index;
};
enum { TF_FLOAT = 1, TF_INT32 = 3 };

#define TF_FUNCTIONS(F)                                                                                                \
  F(TF_Status*, TF_NewStatus, (void))                                                                                  \
  F(void, TF_DeleteStatus, (TF_Status*))                                                                               \
  F(int, TF_GetCode, (const TF_Status*))                                                                               \
  F(const char*, TF_Message, (const TF_Status*))                                                                       \
  F(TF_Graph*, TF_NewGraph, (void))                                                                                    \
  F(TF_SessionOptions*, TF_NewSessionOptions, (void))                                                                  \
  F(void, TF_SetConfig, (TF_SessionOptions*, const void*, size_t, TF_Status*))                                         \
  F(TF_Session*, TF_LoadSessionFromSavedModel,                                                                         \
    (const TF_SessionOptions*, const TF_Buffer*, const char*, const char* const*, int, TF_Graph*, TF_Buffer*,          \
     TF_Status*))                                                                                                      \
  F(TF_Operation*, TF_GraphOperationByName, (TF_Graph*, const char*))                                                  \
  F(TF_Tensor*, TF_AllocateTensor, (int, const int64_t*, int, size_t))                                                 \
  F(void, TF_DeleteTensor, (TF_Tensor*))                                                                               \
  F(void*, TF_TensorData, (const TF_Tensor*))                                                                          \
  F(size_t, TF_TensorByteSize, (const TF_Tensor*))                                                                     \
  F(int, TF_TensorType, (const TF_Tensor*))                                                                            \
  F(int, TF_NumDims, (const TF_Tensor*))                                                                               \
  F(int64_t, TF_Dim, (const TF_Tensor*, int))                                                                          \
  F(size_t, TF_DataTypeSize, (int))                                                                                    \
  F(void, TF_SessionRun,                                                                                               \
    (TF_Session*, const TF_Buffer*, const TF_Output*, TF_Tensor* const*, int, const TF_Output*, TF_Tensor**, int,      \
     const TF_Operation* const*, int, TF_Buffer*, TF_Status*))

#define DECLARE(result, name, parameters) static result(*name) parameters;
TF_FUNCTIONS(DECLARE)

[[noreturn]] static void die(const std::string& sentence) {
  fprintf(stderr, "floor: %s\n", sentence.c_str());
  exit(1);
}

static void open_tensorflow(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (!library) die(dlerror());
#define RESOLVE(result, name, parameters)                                                                              \
  name = reinterpret_cast<result(*) parameters>(dlsym(library, #name));                                                \
  if (!name) die("no " #name " in the library");
  TF_FUNCTIONS(RESOLVE)
}

// A loaded SavedModel with one input and one output. Any number of threads may run it.
struct Model {
  TF_Session* session;
  TF_Output input, output;
  std::string input_name, output_name;
};

// "name:1" of the graph.
static TF_Output output_named(TF_Graph* graph, std::string name) {
  int index = 0;
  if (auto colon = name.find(':'); colon != std::string::npos) {
    index = atoi(name.c_str() + colon + 1);
    name.resize(colon);
  }
  TF_Operation* operation = TF_GraphOperationByName(graph, name.c_str());
  if (!operation) die("no operation " + name);
  return {operation, index};
}

static Model load(const char* folder, char** names) {
  TF_Status* status = TF_NewStatus();
  TF_SessionOptions* options = TF_NewSessionOptions();
  if (getenv("FLOOR_INLINE")) {
    // ConfigProto.inter_op_parallelism_threads = -1: run in the thread that calls.
    const unsigned char config[] = {0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    TF_SetConfig(options, config, sizeof config, status);
    if (TF_GetCode(status)) die(TF_Message(status));
  }
  TF_Graph* graph = TF_NewGraph();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(options, nullptr, folder, tags, 1, graph, nullptr, status);
  if (TF_GetCode(status)) die(TF_Message(status));
  TF_DeleteStatus(status);
  return {session, output_named(graph, names[0]), output_named(graph, names[1]), names[2], names[3]};
}

namespace serving = tensorflow::serving;

// One copy, from where protobuf has parsed the elements to memory that is TensorFlow's.
static TF_Tensor* to_tensor(const serving::TensorProto& proto) {
  std::vector<int64_t> shape;
  size_t bytes = TF_DataTypeSize(proto.dtype());
  for (const auto& dim : proto.tensor_shape().dim()) {
    shape.push_back(dim.size());
    bytes *= dim.size();
  }
  const void* elements = nullptr;
  size_t given = 0;
  if (!proto.tensor_content().empty()) {
    elements = proto.tensor_content().data();
    given = proto.tensor_content().size();
  } else if (proto.dtype() == TF_FLOAT) {
    elements = proto.float_val().data();
    given = proto.float_val_size() * sizeof(float);
  } else if (proto.dtype() == TF_INT32) {
    elements = proto.int_val().data();
    given = proto.int_val_size() * sizeof(int32_t);
  }
  if (!elements || given != bytes) return nullptr;
  TF_Tensor* tensor = TF_AllocateTensor(proto.dtype(), shape.data(), shape.size(), bytes);
  memcpy(TF_TensorData(tensor), elements, bytes);
  return tensor;
}

static void to_proto(const TF_Tensor* tensor, serving::TensorProto* proto) {
  proto->set_dtype(TF_TensorType(tensor));
  size_t count = 1;
  for (int i = 0; i < TF_NumDims(tensor); i++) {
    proto->mutable_tensor_shape()->add_dim()->set_size(TF_Dim(tensor, i));
    count *= TF_Dim(tensor, i);
  }
  if (TF_TensorType(tensor) == TF_FLOAT) {
    proto->mutable_float_val()->Resize(count, 0);
    memcpy(proto->mutable_float_val()->mutable_data(), TF_TensorData(tensor), count * sizeof(float));
  } else {
    proto->set_tensor_content(TF_TensorData(tensor), TF_TensorByteSize(tensor));
  }
}

class PredictionService final : public serving::PredictionService::Service {
 public:
  explicit PredictionService(const Model& model) : model_(model) {}

  grpc::Status Predict(grpc::ServerContext*, const serving::PredictRequest* request,
                       serving::PredictResponse* response) override {
    auto found = request->inputs().find(model_.input_name);
    if (found == request->inputs().end()) return {grpc::StatusCode::INVALID_ARGUMENT, "no such input"};
    TF_Tensor* input = to_tensor(found->second);
    if (!input) return {grpc::StatusCode::INVALID_ARGUMENT, "elements do not fill the shape"};

    TF_Tensor* output = nullptr;
    TF_Status* status = TF_NewStatus();
    TF_SessionRun(model_.session, nullptr, &model_.input, &input, 1, &model_.output, &output, 1, nullptr, 0, nullptr,
                  status);
    TF_DeleteTensor(input);
    if (TF_GetCode(status)) {
      grpc::Status failure(grpc::StatusCode::INTERNAL, TF_Message(status));
      TF_DeleteStatus(status);
      return failure;
    }
    TF_DeleteStatus(status);

    auto* spec = response->mutable_model_spec();
    spec->set_name(request->model_spec().name());
    spec->mutable_version()->set_value(1);
    spec->set_signature_name(request->model_spec().signature_name());
    to_proto(output, &(*response->mutable_outputs())[model_.output_name]);
    TF_DeleteTensor(output);
    return grpc::Status::OK;
  }

 private:
  const Model& model_;
};

int main(int argc, char** argv) {
  if (argc != 8)
    die("arguments: LIBTENSORFLOW_CC VERSION_FOLDER PORT INPUT_TENSOR OUTPUT_TENSOR INPUT_NAME OUTPUT_NAME");
  open_tensorflow(argv[1]);
  const Model model = load(argv[2], argv + 4);
  PredictionService service(model);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);
  // Without this two servers would share a port in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(std::string("127.0.0.1:") + argv[3], grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  if (!server) die(std::string("cannot listen on port ") + argv[3]);
  server->Wait();
}
