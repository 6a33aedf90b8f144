#include "dev/emulator/nccl_peers.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace emulator::nccl {
namespace {

struct Header {
  uint64_t kind, root, bytes, epoch, captured, payload;
};
struct Hello {
  int32_t rank, size;
};

// A name without a file, which is free again when its socket is closed.
sockaddr_un address_of(const std::string& name, int rank, socklen_t& length) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string text = fmt::format("{}-{}", name, rank).substr(0, sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, text.data(), text.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return address;
}
int open_socket() { return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

}  // namespace

Peers::Peers(std::string name, int rank, int size)
    : name_(std::move(name)), rank_(rank), size_(size), connected_(1), peers_(static_cast<size_t>(size)) {}

void Peers::close() {
  for (Peer& peer : peers_) {
    if (peer.socket >= 0) ::close(peer.socket);
    peer.socket = -1;
  }
  for (int caller : callers_) ::close(caller);
  callers_.clear();
  if (listener_ >= 0) ::close(listener_);
  listener_ = -1;
}

std::string Peers::meet() {
  socklen_t length = 0;
  if (listener_ < 0) {
    const sockaddr_un own = address_of(name_, rank_, length);
    listener_ = open_socket();
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&own), length) != 0 || listen(listener_, size_) != 0)
      return errno == EADDRINUSE ? fmt::format("two ranks have the number {}", rank_)
                                 : fmt::format("a socket cannot be opened: {}", std::strerror(errno));
  }
  const Hello hello{rank_, size_};
  for (int r = 0; r < rank_; r++) {
    Peer& peer = peers_[static_cast<size_t>(r)];
    if (peer.socket >= 0) continue;
    const sockaddr_un other = address_of(name_, r, length);
    const int s = open_socket();
    if (connect(s, reinterpret_cast<const sockaddr*>(&other), length) != 0) {  // it is not there yet
      ::close(s);
      continue;
    }
    peer.socket = s;
    connected_++;
    peer.out.insert(peer.out.begin(), reinterpret_cast<const char*>(&hello), reinterpret_cast<const char*>(&hello + 1));
  }
  for (int s; (s = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) callers_.push_back(s);
  std::vector<int> open;
  for (int s : callers_) {
    Hello other;
    if (recv(s, &other, sizeof(other), 0) != static_cast<ssize_t>(sizeof(other))) {
      open.push_back(s);
      continue;
    }
    if (other.size != size_ || other.rank <= rank_ || other.rank >= size_) {
      ::close(s);
      return fmt::format("rank {} of {} came to rank {} of {}", other.rank, other.size, rank_, size_);
    }
    peers_[static_cast<size_t>(other.rank)].socket = s;
    connected_++;
  }
  callers_ = std::move(open);
  return "";
}

void Peers::take(Peer& peer) {
  size_t at = 0;
  while (peer.in.size() - at >= sizeof(Header)) {
    Header h;
    std::memcpy(&h, peer.in.data() + at, sizeof(h));
    if (peer.in.size() - at - sizeof(h) < h.payload) break;
    const char* payload = peer.in.data() + at + sizeof(h);
    Message m{static_cast<Kind>(h.kind), static_cast<int32_t>(h.root),  h.bytes, h.epoch,
              h.captured != 0,           {payload, payload + h.payload}};
    at += sizeof(h) + h.payload;
    if (m.kind == Kind::finalize)
      peer.finalized = true;
    else if (m.kind == Kind::fault)
      peer.fault.assign(m.payload.begin(), m.payload.end());
    else
      (m.kind == Kind::send ? peer.sends : m.kind == Kind::receive ? peer.receives : peer.collectives).push_back(std::move(m));
  }
  peer.in.erase(peer.in.begin(), peer.in.begin() + static_cast<std::ptrdiff_t>(at));
}

void Peers::move(Peer& peer) {
  if (peer.socket < 0 || peer.gone) return;
  while (peer.sent < peer.out.size()) {
    const ssize_t n = ::send(peer.socket, peer.out.data() + peer.sent, peer.out.size() - peer.sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    peer.sent += static_cast<size_t>(n);
  }
  if (peer.sent == peer.out.size()) peer.out.clear(), peer.sent = 0;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = recv(peer.socket, buffer, sizeof(buffer), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) peer.gone = true;
    if (n <= 0) break;
    peer.in.insert(peer.in.end(), buffer, buffer + n);
  }
  take(peer);
}

std::string Peers::move() {
  if (!connected())
    if (std::string wrong = meet(); !wrong.empty()) return wrong;
  for (Peer& peer : peers_) move(peer);
  return "";
}
bool Peers::flushed() const {
  for (const Peer& peer : peers_)
    if (!peer.out.empty() && !peer.gone) return false;
  return true;
}
void Peers::post(int to, const Message& m) {
  const Header h{static_cast<uint64_t>(m.kind),
                 static_cast<uint64_t>(static_cast<int64_t>(m.root)),
                 m.bytes,
                 m.epoch,
                 m.captured,
                 m.payload.size()};
  std::vector<char>& out = peers_[static_cast<size_t>(to)].out;
  out.insert(out.end(), reinterpret_cast<const char*>(&h), reinterpret_cast<const char*>(&h + 1));
  out.insert(out.end(), m.payload.begin(), m.payload.end());
}

}  // namespace emulator::nccl
