// The floor for REST: what tensorflow_model_server does for one :predict in row form, and no more. A libevent loop reads
// and writes; a pool of threads, four for each CPU as there, parses with RapidJSON under the same flags, fills a tensor,
// runs the session through TensorFlow's C API, and prints with RapidJSON's PrettyWriter.
//
//   rest_floor VERSION_FOLDER PORT INPUT_TENSOR OUTPUT_TENSOR      one float32 input, one float32 output

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/thread.h>
#include <rapidjson/document.h>
#include <rapidjson/encodedstream.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/prettywriter.h>
#include <tensorflow/c/c_api.h>

#include <charconv>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

struct Job {
  evhttp_request* request;
  std::string body;
  std::string reply;
  int status = 200;
};

// Between the loop, which puts requests in, and the threads, which take them out.
class Queue {
 public:
  void Put(Job* job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(job);
    }
    is_filled_.notify_one();
  }

  Job* Take() {
    std::unique_lock<std::mutex> lock(mutex_);
    is_filled_.wait(lock, [this] { return !jobs_.empty(); });
    Job* job = jobs_.front();
    jobs_.pop_front();
    return job;
  }

 private:
  std::mutex mutex_;
  std::condition_variable is_filled_;
  std::deque<Job*> jobs_;
};

struct Model {
  TF_Session* session;
  TF_Output input;
  TF_Output output;
};

Model model;
Queue queue;
event_base* base;

TF_Output TensorNamed(TF_Graph* graph, std::string name) {
  int index = 0;
  const auto colon = name.find(':');
  if (colon != std::string::npos) {
    index = std::atoi(name.c_str() + colon + 1);
    name.resize(colon);
  }
  const TF_Output tensor{TF_GraphOperationByName(graph, name.c_str()), index};
  if (tensor.oper == nullptr) {
    std::fprintf(stderr, "the graph has no op %s\n", name.c_str());
    std::exit(1);
  }
  return tensor;
}

Model Load(const char* folder, const char* input, const char* output) {
  TF_Graph* graph = TF_NewGraph();
  TF_Status* status = TF_NewStatus();
  const char* tags[] = {"serve"};
  TF_Session* session =
      TF_LoadSessionFromSavedModel(TF_NewSessionOptions(), nullptr, folder, tags, 1, graph, nullptr, status);
  if (TF_GetCode(status) != TF_OK) {
    std::fprintf(stderr, "%s\n", TF_Message(status));
    std::exit(1);
  }
  return {session, TensorNamed(graph, input), TensorNamed(graph, output)};
}

// As TensorFlow Serving does it: the shape along the first elements, then every element against it.
std::vector<int64_t> ShapeOf(const rapidjson::Value& value) {
  std::vector<int64_t> shape;
  for (const rapidjson::Value* level = &value; level->IsArray(); level = &(*level)[0]) {
    shape.push_back(level->Size());
    if (level->Empty()) break;
  }
  return shape;
}

bool Fill(const rapidjson::Value& value, size_t level, const std::vector<int64_t>& shape, std::vector<float>* numbers) {
  if (!value.IsArray()) {
    if (level != shape.size() || !value.IsNumber()) return false;
    numbers->push_back(value.GetFloat());
    return true;
  }
  if (level >= shape.size() || value.Size() != shape[level]) return false;
  for (const auto& element : value.GetArray()) {
    if (!Fill(element, level + 1, shape, numbers)) return false;
  }
  return true;
}

// Prints one dimension and what is below it; where the next number is.
const float* Print(const TF_Tensor* tensor, int dimension, const float* number, Writer* writer) {
  if (dimension == TF_NumDims(tensor)) {
    char text[40];
    char* end = std::to_chars(text, text + 36, *number).ptr;
    if (std::memchr(text, '.', end - text) == nullptr && std::memchr(text, 'e', end - text) == nullptr) {
      *end++ = '.';
      *end++ = '0';
    }
    writer->RawValue(text, end - text, rapidjson::kNumberType);
    return number + 1;
  }
  writer->StartArray();
  for (int64_t i = 0; i < TF_Dim(tensor, dimension); i++) number = Print(tensor, dimension + 1, number, writer);
  writer->EndArray();
  return number;
}

void Refuse(const char* why, Job* job) {
  job->status = 400;
  job->reply = std::string("{ \"error\": \"") + why + "\" }";
}

void Answer(const TF_Tensor* output, Job* job) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.StartObject();
  writer.Key("predictions");
  Print(output, 0, static_cast<const float*>(TF_TensorData(output)), &writer);
  writer.EndObject();
  job->reply.assign(buffer.GetString(), buffer.GetSize());
}

void Run(const std::vector<int64_t>& shape, const std::vector<float>& numbers, Job* job) {
  TF_Tensor* input = TF_AllocateTensor(TF_FLOAT, shape.data(), shape.size(), numbers.size() * sizeof(float));
  std::memcpy(TF_TensorData(input), numbers.data(), numbers.size() * sizeof(float));
  TF_Tensor* output = nullptr;
  TF_Status* status = TF_NewStatus();
  TF_SessionRun(model.session, nullptr, &model.input, &input, 1, &model.output, &output, 1, nullptr, 0, nullptr, status);
  TF_DeleteTensor(input);
  if (TF_GetCode(status) == TF_OK) {
    Answer(output, job);
    TF_DeleteTensor(output);
  } else {
    Refuse(TF_Message(status), job);
  }
  TF_DeleteStatus(status);
}

void Serve(Job* job) {
  constexpr unsigned kFlags =
      rapidjson::kParseIterativeFlag | rapidjson::kParseNanAndInfFlag | rapidjson::kParseStopWhenDoneFlag;
  rapidjson::Document document;
  rapidjson::MemoryStream bytes(job->body.data(), job->body.size());
  rapidjson::EncodedInputStream<rapidjson::UTF8<>, rapidjson::MemoryStream> text(bytes);
  if (document.ParseStream<kFlags>(text).HasParseError() || !document.IsObject()) return Refuse("JSON Parse error", job);
  const auto instances = document.FindMember("instances");
  if (instances == document.MemberEnd() || !instances->value.IsArray()) return Refuse("no instances", job);
  const std::vector<int64_t> shape = ShapeOf(instances->value);
  std::vector<float> numbers;
  if (!Fill(instances->value, 0, shape, &numbers)) return Refuse("no tensor", job);
  Run(shape, numbers, job);
}

// On the loop.
void Send(evutil_socket_t, short, void* argument) {
  const std::unique_ptr<Job> job(static_cast<Job*>(argument));
  evbuffer* buffer = evbuffer_new();
  evbuffer_add(buffer, job->reply.data(), job->reply.size());
  evhttp_add_header(evhttp_request_get_output_headers(job->request), "Content-Type", "application/json");
  evhttp_send_reply(job->request, job->status, nullptr, buffer);
  evbuffer_free(buffer);
}

void Work() {
  for (;;) {
    Job* job = queue.Take();
    Serve(job);
    const timeval at_once{0, 0};
    event_base_once(base, -1, EV_TIMEOUT, Send, job, &at_once);
  }
}

void Receive(evhttp_request* request, void*) {
  Job* job = new Job{request};
  evbuffer* buffer = evhttp_request_get_input_buffer(request);
  job->body.resize(evbuffer_get_length(buffer));
  evbuffer_copyout(buffer, job->body.data(), job->body.size());
  queue.Put(job);
}

}  // namespace

int main(int count, char** words) {
  if (count != 5) {
    std::fprintf(stderr, "rest_floor VERSION_FOLDER PORT INPUT_TENSOR OUTPUT_TENSOR\n");
    return 2;
  }
  model = Load(words[1], words[3], words[4]);
  evthread_use_pthreads();
  base = event_base_new();
  evhttp* http = evhttp_new(base);
  evhttp_set_gencb(http, Receive, nullptr);
  if (evhttp_bind_socket(http, "127.0.0.1", std::atoi(words[2])) != 0) {
    std::perror("bind");
    return 1;
  }
  for (unsigned i = 0; i < 4 * std::thread::hardware_concurrency(); i++) std::thread(Work).detach();
  event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
}
