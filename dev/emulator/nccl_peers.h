// The connections of a rank of the emulated NCCL to the other ranks: threads of this process, or other processes of this machine.
// What would be a copy by NVLink is a message here.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace emulator::nccl {

// What a rank tells another one: that it has come to a call, and what it sends by it.
enum class Kind : uint8_t { all_gather, broadcast, send, receive, finalize, fault };
struct Message {
  Kind kind = Kind::fault;
  int32_t root = -1;      // of a broadcast
  uint64_t bytes = 0;     // of the call
  uint64_t epoch = 0;     // collectives that the rank had begun before
  bool captured = false;  // the call is a node of a graph
  std::vector<char> payload{};
};

class Peers {
 public:
  // `name` is that of the communicator. Rank `rank` listens; it calls those before it, and those behind call it.
  Peers(std::string name, int rank, int size);
  ~Peers() { close(); }
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // Moves what can be moved without waiting. Returns what is wrong, or nothing.
  std::string move();
  bool connected() const { return connected_ == size_; }
  bool flushed() const;  // all that was posted is with the others, or on its way without us
  void post(int to, const Message&);
  void close();

  struct Peer {
    int socket = -1;
    bool gone = false;                                       // it has closed its connection
    bool finalized = false;                                  // after a message of this kind
    std::string fault{};                                     // that it has found
    std::deque<Message> collectives{}, sends{}, receives{};  // what has come and belongs to no call yet
    std::vector<char> in{}, out{};
    size_t sent = 0;  // of `out`
    bool silent() const { return collectives.empty() && sends.empty() && receives.empty(); }
  };
  std::vector<Peer>& all() { return peers_; }

 private:
  std::string meet();
  void take(Peer& peer);
  void move(Peer& peer);

  std::string name_;
  int rank_, size_, listener_ = -1, connected_ = 0;
  std::vector<Peer> peers_;
  std::vector<int> callers_;  // accepted, and not yet said who they are
};

}  // namespace emulator::nccl
