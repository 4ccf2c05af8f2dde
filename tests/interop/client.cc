// A client of grpc++; clients.py tells what it is told on its standard input and what it answers.

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

struct Call {
  grpc::ClientContext context;
  grpc::ByteBuffer request, response;
  grpc::Status status;
};

std::vector<std::string> Split(const std::string& line) {
  std::vector<std::string> parts;
  std::istringstream in(line);
  for (std::string part; std::getline(in, part, '\t');) parts.push_back(part);
  return parts;
}

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void Write(const std::string& path, const grpc::ByteBuffer& buffer) {
  std::ofstream out(path, std::ios::binary);
  std::vector<grpc::Slice> slices;
  if (buffer.Valid() && buffer.Dump(&slices).ok())
    for (const auto& slice : slices) out.write(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

void Begin(Call& call, const std::string& body, int timeout_millis, const std::string& how) {
  const grpc::Slice slice(body);
  call.request = grpc::ByteBuffer(&slice, 1);
  call.context.AddMetadata("tenant", "a");
  call.context.AddMetadata("blob-bin", std::string("\x00\xff", 2));
  if (timeout_millis) call.context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_millis));
  if (how == "gzip") call.context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  if (how == "deflate") call.context.set_compression_algorithm(GRPC_COMPRESS_DEFLATE);
}

void CarryOut(grpc::GenericStub& stub, const std::vector<std::string>& order) {
  const std::string &method = order[0], &how = order[2], body = Read(order[4]);
  std::deque<Call> calls(std::stoi(order[3]));
  std::mutex mutex;
  std::condition_variable ended;
  size_t left = calls.size();
  for (Call& call : calls) {
    Begin(call, body, std::stoi(order[1]), how);
    stub.UnaryCall(&call.context, method, {}, &call.request, &call.response, [&](grpc::Status status) {
      const std::lock_guard<std::mutex> lock(mutex);
      call.status = status;
      if (--left == 0) ended.notify_all();
    });
  }
  if (how == "cancel") {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    for (Call& call : calls) call.context.TryCancel();
  }
  std::unique_lock<std::mutex> lock(mutex);
  ended.wait(lock, [&] { return left == 0; });
  std::map<int, int> codes;
  for (const Call& call : calls) ++codes[call.status.error_code()];
  Write(order[5], calls.back().response);
  const char* separator = "";
  for (const auto& [code, number] : codes) std::printf("%s%d:%d", separator, code, number), separator = " ";
  std::printf("\t");
  for (const unsigned char c : calls.back().status.error_message()) std::printf("%02x", c);
  std::printf("\n");
  std::fflush(stdout);
}

int main(int, char** argv) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  grpc::GenericStub stub(grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), arguments));
  for (std::string line; std::getline(std::cin, line);) CarryOut(stub, Split(line));
}
