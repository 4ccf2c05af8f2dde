// The load: a closed loop of unary gRPC calls over HTTP/2 to 127.0.0.1, in one thread, much cheaper than any server.
//
//   generator --port=P [--path=/S/M] [--connections=1] [--in_flight=1] [--warmup=0.5] [--seconds=2] [--calls=N]
//             [--vary_timeout] [--max_frame=N] --requests=FILE
//
// FILE holds gRPC messages (five bytes of prefix, then the body) one after another; calls take them in turn. Every call is
// followed to its end: one line of JSON on stdout tells how many ended with which grpc-status, the latencies of those that
// ended within --seconds after the warm-up, and each different answer to each request with how often it came, in hex.
// --calls ends the run early, after that many calls. --vary_timeout sends a grpc-timeout of its own with every call,
// encoded as gRPC's C core does it: inserted into the header table, from which it pushes out the older entries.
//
// Frames are made and cut here; only the decoding of header blocks is nghttp2's.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr double kDrainSeconds = 30;  // what calls may still take once no more are sent
constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kSmallBody = 8 << 10;  // is copied behind its headers rather than gathered from where it lies
constexpr size_t kFramesPerWrite = 64;
constexpr int32_t kReceiveWindow = 1 << 30;
constexpr size_t kHeaderTable = 4096;
constexpr size_t kKeptAnswers = 64;  // of different ones to one request

enum Frame : uint8_t { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum Flag : uint8_t { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };
enum Setting : uint16_t { HEADER_TABLE_SIZE = 1, MAX_CONCURRENT_STREAMS = 3, INITIAL_WINDOW_SIZE = 4, MAX_FRAME_SIZE = 5 };

[[noreturn]] void die(const std::string& sentence) {
  fprintf(stderr, "generator: %s\n", sentence.c_str());
  exit(2);
}

struct Options {
  int port = 0;
  std::string path = "/tensorflow.serving.PredictionService/Predict";
  int connections = 1;
  int in_flight = 1;  // on each connection
  double warmup = 0.5, seconds = 2;
  uint64_t calls = UINT64_MAX;
  bool vary_timeout = false;
  size_t max_frame = (1 << 24) - 1;  // of DATA; the server may ask for less
  std::string requests;
};

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

uint32_t read32(const uint8_t* p) { return uint32_t(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

void write_frame_head(uint8_t* p, size_t size, uint8_t type, uint8_t flags, uint32_t stream) {
  const uint8_t head[9] = {uint8_t(size >> 16),   uint8_t(size >> 8),    uint8_t(size),        type,           flags,
                           uint8_t(stream >> 24), uint8_t(stream >> 16), uint8_t(stream >> 8), uint8_t(stream)};
  memcpy(p, head, 9);
}

void append_frame(std::string& out, uint8_t type, uint8_t flags, uint32_t stream, const void* payload, size_t size) {
  uint8_t head[9];
  write_frame_head(head, size, type, flags, stream);
  out.append(reinterpret_cast<char*>(head), 9);
  out.append(static_cast<const char*>(payload), size);
}

std::string big_endian(uint32_t value) {
  return {char(value >> 24), char(value >> 16), char(value >> 8), char(value)};
}

// Header blocks of calls, as gRPC's C core writes them: fields that stay the same are indexed from their second time on, and
// inserted anew when the timeouts have pushed them out of the table; no Huffman code.
class HeaderEncoder {
 public:
  HeaderEncoder(const Options& options)
      : vary_timeout_(options.vary_timeout),
        fields_{{":scheme", "http"},
                {":method", "POST"},
                {":path", options.path},
                {":authority", "127.0.0.1:" + std::to_string(options.port)},
                {"te", "trailers"},
                {"content-type", "application/grpc"},
                {"user-agent", "grpc-c++/1.51.1 grpc-c/29.0.0 (linux; chttp2)"},
                {"grpc-accept-encoding", "identity, deflate, gzip"}} {}

  void set_table_size(size_t size) {
    limit_ = std::min(size, kHeaderTable);
    resized_ = true;
    evict();
  }

  void encode(std::string& out) {
    if (resized_) put_integer(out, 0x20, 5, limit_);
    resized_ = false;
    for (auto& field : fields_) {
      if (field.number > evicted_) {
        put_integer(out, 0x80, 7, 62 + inserted_ - field.number);
      } else {
        insert(out, field.name, field.value);
        field.number = inserted_;
      }
    }
    if (vary_timeout_) insert(out, "grpc-timeout", std::to_string(20000 + timeouts_++ % 9000000) + "m");
  }

 private:
  struct Field {
    std::string name, value;
    uint64_t number = 0;  // of its insertion, counted from 1
  };

  void insert(std::string& out, const std::string& name, const std::string& value) {
    out.push_back(0x40);
    put_integer(out, 0, 7, name.size());
    out += name;
    put_integer(out, 0, 7, value.size());
    out += value;
    sizes_.push_back(name.size() + value.size() + 32);
    bytes_ += sizes_.back();
    inserted_++;
    evict();
  }

  void evict() {
    while (bytes_ > limit_) {
      bytes_ -= sizes_.front();
      sizes_.pop_front();
      evicted_++;
    }
  }

  static void put_integer(std::string& out, uint8_t first, int prefix, uint64_t value) {
    const uint64_t most = (1 << prefix) - 1;
    if (value < most) {
      out.push_back(char(first | value));
      return;
    }
    out.push_back(char(first | most));
    for (value -= most; value >= 128; value >>= 7) out.push_back(char(value | 128));
    out.push_back(char(value));
  }

  bool vary_timeout_, resized_ = false;
  std::vector<Field> fields_;
  uint64_t timeouts_ = 0, inserted_ = 0, evicted_ = 0;
  std::deque<size_t> sizes_;
  size_t bytes_ = 0, limit_ = kHeaderTable;
};

// Counts in buckets that are 1/128 of a power of two wide, so that a percentile is at most 0.8 % off.
class Latencies {
 public:
  void add(double seconds) {
    sum_ += seconds;
    most_ = std::max(most_, seconds);
    count_++;
    buckets_[bucket(seconds * 1e9)]++;
  }
  uint64_t count() const { return count_; }
  double mean() const { return count_ ? sum_ / count_ : 0; }
  double most() const { return most_; }
  double percentile(double part) const {
    uint64_t left = std::ceil(part * count_);
    for (size_t i = 0; i < buckets_.size(); i++) {
      if (buckets_[i] >= left && left) return middle(i) / 1e9;
      left -= buckets_[i];
    }
    return 0;
  }

 private:
  static constexpr int kBits = 7;
  static size_t bucket(double nanoseconds) {
    uint64_t n = std::max<uint64_t>(uint64_t(nanoseconds), 1 << kBits);
    const int shift = 63 - __builtin_clzll(n) - kBits;
    return std::min<size_t>((size_t(shift) << kBits) + (n >> shift), (64 - kBits) << kBits);
  }
  static double middle(size_t i) {
    const int shift = std::max<int>(0, int(i >> kBits) - 1);
    return (double(i - (size_t(shift) << kBits)) + 0.5) * double(uint64_t(1) << shift);
  }
  std::vector<uint64_t> buckets_ = std::vector<uint64_t>(((64 - kBits) << kBits) + 1);
  uint64_t count_ = 0;
  double sum_ = 0, most_ = 0;
};

// Every different answer to one request and how often it came.
class Answers {
 public:
  void add(const std::string& body) {
    for (auto& [kept, count] : kept_)
      if (kept == body) {
        count++;
        return;
      }
    if (kept_.size() < kKeptAnswers)
      kept_.emplace_back(body, 1);
    else
      others_++;
  }
  const std::vector<std::pair<std::string, uint64_t>>& kept() const { return kept_; }
  uint64_t others() const { return others_; }

 private:
  std::vector<std::pair<std::string, uint64_t>> kept_;
  uint64_t others_ = 0;
};

// What all connections share.
struct Run {
  Options options;
  std::vector<std::string> requests;  // with their prefixes
  std::vector<Answers> answers;
  std::map<std::string, uint64_t> statuses;
  std::string first_failure;
  Latencies latencies;
  uint64_t sent = 0, ended = 0;
  double measure_from = 0, measure_to = 0;

  bool may_send() const { return sent < options.calls && now_ < measure_to; }
  double now_ = 0;  // of this turn

  void end_call(const std::string& status, const std::string& message, double began) {
    ended++;
    statuses[status]++;
    if (status != "0" && first_failure.empty()) first_failure = status + ": " + message;
    const double at = now();
    if (at >= measure_from && at < measure_to && status == "0") latencies.add(at - began);
  }
};

struct Call {
  double began;
  uint32_t request;
  int64_t window;
  size_t sent = 0;  // of the request
  std::string status, message, http_status, body;
  Call(double began, uint32_t request, int64_t window) : began(began), request(request), window(window) {}
};

class Connection {
 public:
  Connection(Run& run, int epoll) : run_(run), epoll_(epoll), headers_(run.options) {
    socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(run.options.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (socket_ < 0 || connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
      die(std::string("connect: ") + strerror(errno));
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = this;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, socket_, &event);
    if (nghttp2_hd_inflate_new(&inflater_)) die("no memory for an HPACK decoder");

    out_ = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const std::string settings = std::string("\0\4", 2) + big_endian(kReceiveWindow);
    append_frame(out_, SETTINGS, 0, 0, settings.data(), settings.size());
    const std::string credit = big_endian(kReceiveWindow - 65535);
    append_frame(out_, WINDOW_UPDATE, 0, 0, credit.data(), 4);
    flush();
  }
  ~Connection() {
    nghttp2_hd_inflate_del(inflater_);
    close(socket_);
  }
  Connection(const Connection&) = delete;

  bool is_open() const { return open_; }
  size_t calls() const { return calls_.size(); }

  // Fills up to the number of calls that are to be in flight.
  void send_calls() {
    // Nothing before the server's settings, so that every call knows the windows and the frame size to use.
    const size_t most = std::min<size_t>(run_.options.in_flight, most_streams_);
    while (open_ && !going_away_ && has_settings_ && calls_.size() < most && run_.may_send()) start_call();
    flush();
  }

  void on_readable(uint8_t* buffer) {
    for (;;) {
      const ssize_t n = read(socket_, buffer, kReadBytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (n <= 0) return fail(n ? std::string("read: ") + strerror(errno) : "closed by the server");
      take(buffer, n);
      if (size_t(n) < kReadBytes) return;
    }
  }

  void fail(const std::string& why) {
    if (!open_) return;
    open_ = false;
    for (auto& [id, call] : calls_) run_.end_call("connection", why, call.began);
    if (calls_.empty() && run_.first_failure.empty()) run_.first_failure = "connection: " + why;
    calls_.clear();
    epoll_ctl(epoll_, EPOLL_CTL_DEL, socket_, nullptr);
  }

  // Writes until there is nothing left that may be sent, or the socket is full.
  void flush() {
    while (open_) {
      if (tail_size_) {
        const ssize_t n = write(socket_, tail_, tail_size_);
        if (n < 0) return cannot_write();
        tail_ += n;
        tail_size_ -= n;
      } else if (out_.size() > out_sent_) {
        const ssize_t n = write(socket_, out_.data() + out_sent_, out_.size() - out_sent_);
        if (n < 0) return cannot_write();
        out_sent_ += n;
      } else {
        out_.clear();
        out_sent_ = 0;
        const ssize_t n = write_bodies();
        if (n < 0) return cannot_write();
        if (n == 0) break;
      }
    }
    want_write(false);
  }

 private:
  void start_call() {
    const uint32_t id = next_id_;
    next_id_ += 2;
    const uint32_t number = run_.sent++ % run_.requests.size();
    const std::string& request = run_.requests[number];
    Call& call = calls_.try_emplace(id, now(), number, initial_window_).first->second;
    block_.clear();
    headers_.encode(block_);
    append_frame(out_, HEADERS, END_HEADERS, id, block_.data(), block_.size());
    const int64_t size = request.size();
    if (request.size() <= kSmallBody && pending_.empty() && size <= std::min(call.window, window_)) {
      append_frame(out_, DATA, END_STREAM, id, request.data(), request.size());
      call.window -= size;
      window_ -= size;
      call.sent = request.size();
    } else {
      pending_.push_back(id);
    }
  }

  void cannot_write() {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return want_write(true);
    fail(std::string("write: ") + strerror(errno));
  }

  // One write of large bodies' frames, gathered from where the requests lie, as writev answers it; 0 when there is nothing
  // that may be sent. What is left of a frame that was cut is the tail, which goes before anything else.
  ssize_t write_bodies() {
    struct Piece {
      uint32_t id;
      size_t size;
    };
    uint8_t heads[kFramesPerWrite][9];
    iovec vectors[2 * kFramesPerWrite];
    Piece pieces[kFramesPerWrite];
    size_t count = 0;
    int64_t window = window_;
    for (uint32_t id : pending_) {
      auto found = calls_.find(id);
      if (found == calls_.end()) continue;  // ended before its body was sent
      const Call& call = found->second;
      const std::string& request = run_.requests[call.request];
      int64_t call_window = call.window;
      for (size_t sent = call.sent; sent < request.size() && count < kFramesPerWrite;) {
        const int64_t most = std::min({window, call_window, int64_t(std::min(max_frame_, request.size() - sent))});
        if (most <= 0) break;
        const size_t size = most;
        write_frame_head(heads[count], size, DATA, sent + size == request.size() ? END_STREAM : 0, id);
        vectors[2 * count] = {heads[count], 9};
        vectors[2 * count + 1] = {const_cast<char*>(request.data()) + sent, size};
        pieces[count++] = {id, size};
        sent += size;
        window -= size;
        call_window -= size;
      }
      if (count == kFramesPerWrite || window <= 0) break;
    }
    drop_sent();
    if (!count) return 0;
    const ssize_t written = writev(socket_, vectors, 2 * count);
    size_t left = std::max<ssize_t>(written, 0);
    for (size_t i = 0; i < count && left; i++) {
      const size_t size = pieces[i].size;
      Call& call = calls_.at(pieces[i].id);
      call.sent += size;
      call.window -= size;
      window_ -= size;
      if (left < 9) {  // not even its head
        out_.assign(reinterpret_cast<char*>(heads[i]) + left, 9 - left);
        out_.append(static_cast<char*>(vectors[2 * i + 1].iov_base), size);
        left = 0;
      } else if (left < 9 + size) {
        tail_ = static_cast<char*>(vectors[2 * i + 1].iov_base) + left - 9;
        tail_size_ = 9 + size - left;
        left = 0;
      } else {
        left -= 9 + size;
      }
    }
    return written;
  }

  void drop_sent() {
    while (!pending_.empty()) {
      auto found = calls_.find(pending_.front());
      if (found != calls_.end() && found->second.sent < run_.requests[found->second.request].size()) return;
      pending_.pop_front();
    }
  }

  void want_write(bool wanted) {
    if (wanted == wants_write_ || !open_) return;
    wants_write_ = wanted;
    epoll_event event{};
    event.events = EPOLLIN | (wanted ? EPOLLOUT : 0u);
    event.data.ptr = this;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, socket_, &event);
  }

  void take(const uint8_t* data, size_t size) {
    if (!in_.empty()) {
      in_.append(reinterpret_cast<const char*>(data), size);
      const size_t used = take_frames(reinterpret_cast<const uint8_t*>(in_.data()), in_.size());
      in_.erase(0, used);
    } else {
      const size_t used = take_frames(data, size);
      in_.append(reinterpret_cast<const char*>(data) + used, size - used);
    }
  }

  size_t take_frames(const uint8_t* data, size_t size) {
    size_t i = 0;
    while (open_ && size - i >= 9) {
      const size_t length = read32(data + i) >> 8;
      if (size - i < 9 + length) break;
      on_frame(data[i + 3], data[i + 4], read32(data + i + 5) & 0x7fffffff, data + i + 9, length);
      i += 9 + length;
    }
    return i;
  }

  void on_frame(uint8_t type, uint8_t flags, uint32_t id, const uint8_t* payload, size_t size) {
    switch (type) {
      case DATA:
        return on_data(flags, id, payload, size);
      case HEADERS:
      case CONTINUATION:
        return on_headers(type, flags, id, payload, size);
      case RST_STREAM:
        if (size != 4) return fail("RST_STREAM of a broken length");
        return end_call(id, "reset " + std::to_string(read32(payload)), "RST_STREAM");
      case SETTINGS:
        if (!(flags & ACK)) on_settings(payload, size);
        return;
      case PING:
        if (!(flags & ACK)) append_frame(out_, PING, ACK, 0, payload, size);
        return;
      case GOAWAY:
        going_away_ = true;
        if (run_.first_failure.empty()) run_.first_failure = "GOAWAY";
        if (size >= 8 && read32(payload + 4))
          fail("GOAWAY with error " + std::to_string(read32(payload + 4)) + " " +
               std::string(reinterpret_cast<const char*>(payload) + 8, size - 8));
        return;
      case WINDOW_UPDATE:
        if (size != 4) return fail("WINDOW_UPDATE of a broken length");
        if (id == 0) {
          window_ += read32(payload) & 0x7fffffff;
        } else if (auto found = calls_.find(id); found != calls_.end()) {
          found->second.window += read32(payload) & 0x7fffffff;
        }
        return;
      default:
        return;
    }
  }

  void on_settings(const uint8_t* payload, size_t size) {
    for (; size >= 6; payload += 6, size -= 6) {
      const uint32_t value = read32(payload + 2);
      switch (payload[0] << 8 | payload[1]) {
        case HEADER_TABLE_SIZE:
          headers_.set_table_size(value);
          break;
        case MAX_CONCURRENT_STREAMS:
          most_streams_ = value;
          break;
        case INITIAL_WINDOW_SIZE:
          for (auto& [id, call] : calls_) call.window += int64_t(value) - initial_window_;
          initial_window_ = value;
          break;
        case MAX_FRAME_SIZE:
          max_frame_ = std::min<size_t>(value, run_.options.max_frame);
          break;
      }
    }
    append_frame(out_, SETTINGS, ACK, 0, nullptr, 0);
    has_settings_ = true;
  }

  void on_data(uint8_t flags, uint32_t id, const uint8_t* payload, size_t size) {
    received_ += size;
    if (received_ >= kReceiveWindow / 2) {
      const std::string credit = big_endian(received_);
      append_frame(out_, WINDOW_UPDATE, 0, 0, credit.data(), 4);
      received_ = 0;
    }
    if (flags & PADDED) {
      if (!size || payload[0] >= size) return fail("padding longer than its frame");
      size -= 1 + payload[0];
      payload++;
    }
    auto found = calls_.find(id);
    if (found == calls_.end()) return;
    found->second.body.append(reinterpret_cast<const char*>(payload), size);
    if (flags & END_STREAM) end_call(id, "none", "the answer ended without trailers");
  }

  void on_headers(uint8_t type, uint8_t flags, uint32_t id, const uint8_t* payload, size_t size) {
    if (type == HEADERS) {
      headers_end_stream_ = flags & END_STREAM;
      size_t skip = 0, padding = 0;
      if ((flags & PADDED) && size) padding = payload[0], skip = 1;
      if (flags & WITH_PRIORITY) skip += 5;
      if (skip + padding > size) return fail("padding longer than its frame");
      payload += skip;
      size -= skip + padding;
    }
    auto found = calls_.find(id);
    const bool last = flags & END_HEADERS;
    for (;;) {
      nghttp2_nv field;
      int inflated = 0;
      const ssize_t used = nghttp2_hd_inflate_hd2(inflater_, &field, &inflated, payload, size, last);
      if (used < 0) return fail("a header block that cannot be decoded");
      payload += used;
      size -= used;
      if ((inflated & NGHTTP2_HD_INFLATE_EMIT) && found != calls_.end()) keep(found->second, field);
      if (inflated & NGHTTP2_HD_INFLATE_FINAL) {
        nghttp2_hd_inflate_end_headers(inflater_);
        break;
      }
      if (!(inflated & NGHTTP2_HD_INFLATE_EMIT) && !size) break;
    }
    if (!last || !headers_end_stream_ || found == calls_.end()) return;
    Call& call = found->second;
    if (call.http_status != "200") return end_call(id, "HTTP " + call.http_status, call.message);
    end_call(id, call.status.empty() ? "none" : call.status, call.message);
  }

  static void keep(Call& call, const nghttp2_nv& field) {
    const auto is = [&](const char* name) { return field.namelen == strlen(name) && !memcmp(field.name, name, field.namelen); };
    const auto value = [&] { return std::string(reinterpret_cast<char*>(field.value), field.valuelen); };
    if (is("grpc-status")) call.status = value();
    else if (is(":status")) call.http_status = value();
    else if (is("grpc-message")) call.message = value();
  }

  void end_call(uint32_t id, const std::string& status, const std::string& message) {
    auto found = calls_.find(id);
    if (found == calls_.end()) return;
    Call& call = found->second;
    if (status == "0") run_.answers[call.request].add(call.body);
    run_.end_call(status, message, call.began);
    calls_.erase(found);
  }

  Run& run_;
  const int epoll_;
  int socket_;
  bool open_ = true, going_away_ = false, has_settings_ = false, wants_write_ = false, headers_end_stream_ = false;
  HeaderEncoder headers_;
  nghttp2_hd_inflater* inflater_ = nullptr;
  std::unordered_map<uint32_t, Call> calls_;
  std::deque<uint32_t> pending_;  // calls whose bodies are not sent yet
  std::string out_, in_, block_;
  const char* tail_ = nullptr;
  size_t tail_size_ = 0;
  size_t out_sent_ = 0;
  uint32_t next_id_ = 1, received_ = 0;
  int64_t window_ = 65535, initial_window_ = 65535;
  size_t max_frame_ = 16384, most_streams_ = SIZE_MAX;
};

std::vector<std::string> read_requests(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string all((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::string> requests;
  for (size_t i = 0; i + 5 <= all.size();) {
    const size_t size = 5 + read32(reinterpret_cast<const uint8_t*>(all.data()) + i + 1);
    if (i + size > all.size()) die("a message of " + path + " is cut off");
    requests.push_back(all.substr(i, size));
    i += size;
  }
  if (requests.empty()) die("no messages in " + path);
  return requests;
}

std::string hex(const std::string& bytes) {
  std::string out;
  for (unsigned char byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (unsigned char c : text) out += c < 32 || c > 126 || c == '"' || c == '\\' ? '?' : char(c);
  return out + '"';
}

void report(const Run& run, double seconds, uint64_t open, double cpu_seconds) {
  std::string statuses;
  for (const auto& [status, count] : run.statuses)
    statuses += (statuses.empty() ? "" : ", ") + quoted(status) + ": " + std::to_string(count);
  uint64_t others = 0;
  std::string kept;
  for (size_t request = 0; request < run.answers.size(); request++) {
    others += run.answers[request].others();
    for (const auto& [body, count] : run.answers[request].kept())
      kept += (kept.empty() ? "[" : ", [") + std::to_string(request) + ", " + std::to_string(count) + ", \"" + hex(body) + "\"]";
  }
  const auto& latencies = run.latencies;
  printf("{\"sent\": %llu, \"statuses\": {%s}, \"left_open\": %llu, \"unkept_answers\": %llu, \"first_failure\": %s, "
         "\"measured\": %llu, \"measured_seconds\": %.6f, \"mean_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
         "\"max_us\": %.2f, \"cpu_seconds\": %.6f, \"wall_seconds\": %.6f, \"answers\": [%s]}\n",
         (unsigned long long)run.sent, statuses.c_str(), (unsigned long long)open, (unsigned long long)others,
         quoted(run.first_failure).c_str(), (unsigned long long)latencies.count(), run.options.seconds,
         latencies.mean() * 1e6, latencies.percentile(0.5) * 1e6, latencies.percentile(0.99) * 1e6,
         latencies.most() * 1e6, cpu_seconds, seconds, kept.c_str());
}

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (name == "--port") options.port = std::stoi(value);
    else if (name == "--path") options.path = value;
    else if (name == "--connections") options.connections = std::stoi(value);
    else if (name == "--in_flight") options.in_flight = std::stoi(value);
    else if (name == "--warmup") options.warmup = std::stod(value);
    else if (name == "--seconds") options.seconds = std::stod(value);
    else if (name == "--calls") options.calls = std::stoull(value);
    else if (name == "--vary_timeout") options.vary_timeout = true;
    else if (name == "--max_frame") options.max_frame = std::stoul(value);
    else if (name == "--requests") options.requests = value;
    else die("unknown argument " + argument);
  }
  if (!options.port || options.requests.empty()) die("--port and --requests are needed");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Run run;
  run.options = parse(argc, argv);
  run.requests = read_requests(run.options.requests);
  run.answers.resize(run.requests.size());
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  std::vector<std::unique_ptr<Connection>> connections;
  for (int i = 0; i < run.options.connections; i++) connections.push_back(std::make_unique<Connection>(run, epoll));

  const double began = now();
  run.measure_from = began + run.options.warmup;
  run.measure_to = run.measure_from + run.options.seconds;
  const double give_up_at = run.measure_to + kDrainSeconds;
  std::vector<uint8_t> buffer(kReadBytes);
  std::vector<epoll_event> events(1024);
  uint64_t open = 0;
  do {
    const int count = epoll_wait(epoll, events.data(), events.size(), 100);
    run.now_ = now();
    for (int i = 0; i < count; i++) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      connection->on_readable(buffer.data());
      connection->send_calls();
    }
    // The calls in flight, or that are still to be sent by connections which have not heard the server's settings.
    open = 0;
    if (!run.may_send())
      for (const auto& connection : connections) open += connection->calls();
    else
      open = std::any_of(connections.begin(), connections.end(), [](const auto& c) { return c->is_open(); });
  } while (open && run.now_ < give_up_at);

  open = run.sent - run.ended;
  report(run, now() - began, open, cpu_seconds());
  return 0;
}
