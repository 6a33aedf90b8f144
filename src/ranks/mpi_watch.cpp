#include "src/ranks/mpi_watch.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "src/base/process.h"

namespace tll {
namespace {

using namespace std::chrono_literals;
constexpr auto kTurn = 20ms;       // how often messages are looked for
constexpr auto kMostCounted = 1s;  // of the time between two turns: more means that this process was stopped itself
constexpr auto kFarewell = 5s;     // how long farewells are waited for
constexpr auto kVerdict = 2s;      // how long rank 0 is waited for
constexpr auto kLeft = 5s;         // how long a rank that leaves has until all end
constexpr auto kPrinted = 200ms;   // until what was printed has gone through mpirun
constexpr int kTag = 1;

}  // namespace

MpiWatch::MpiWatch(const OpenMpi& mpi, ompi_communicator_t* communicator, int rank, std::vector<std::string> names,
                   std::chrono::milliseconds silence)
    : mpi_(mpi), communicator_(communicator), rank_(rank), names_(std::move(names)), silence_(silence) {
  const int size = static_cast<int>(names_.size());
  for (int r = rank == 0 ? 1 : 0; r < (rank == 0 ? size : 1); r++) peers_.push_back({.rank = r});
  thread_ = std::thread([this] { run(); });
}

MpiWatch::~MpiWatch() {
  ending_ = true;
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MpiWatch::stop() noexcept {
  stopped_ = true;
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool MpiWatch::claim(int rank) {
  int nobody = -1;
  return first_left_.compare_exchange_strong(nobody, rank) || nobody == rank;
}

bool MpiWatch::first_to_leave(int code) noexcept {
  code_ = code;
  if (rank_ == 0) return claim(0);
  wake_.notify_all();
  const Clock::time_point end = Clock::now() + kVerdict;
  while (verdict_ == Word::none && Clock::now() < end) std::this_thread::sleep_for(1ms);
  return verdict_ != Word::not_first;
}

void MpiWatch::run() {
  Clock::time_point before = Clock::now(), farewell_began{};
  while (!stopped_) {
    const Clock::time_point now = Clock::now();
    const bool more = turn(std::min<Clock::duration>(now - before, kMostCounted));
    before = now;
    if (ending_ && farewell_began == Clock::time_point{}) farewell_began = now;
    if (!more || (ending_ && now - farewell_began > kFarewell)) return;
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, kTurn);
  }
}

bool MpiWatch::turn(Clock::duration passed) {
  bool more = !ending_;
  if (code_ && (since_left_ += passed) > kLeft) end_all(code_);
  for (Peer& peer : peers_) {
    peer.quiet += passed;
    peer.untold += passed;
    hear(peer);
    // Rank 0 only answers, so that a rank that is silent is not written to for ever.
    if (rank_ != 0 && !peer.told_bye && peer.next == Word::none) {
      if (code_ && !std::exchange(said_leaving_, true)) {
        peer.next = Word::leaving;
      } else if (ending_) {
        peer.next = Word::bye;
      } else if (peer.untold > silence_ / 6) {
        peer.next = Word::here;
      }
    }
    say(peer);
    more = more || !peer.gone || !peer.told_bye || peer.sending;
    // If rank 0 is silent, one rank after the other says so, and most often only the first.
    if (peer.gone || peer.quiet < silence_ + std::min(std::max(rank_ - 1, 0), 9) * 1s) continue;
    report(kExitFault, fmt::format("{} has not answered for {:.0f} seconds; the last checkpoint stands, go on with --resume",
                                   names_[static_cast<size_t>(peer.rank)], std::chrono::duration<double>(silence_).count()));
    std::this_thread::sleep_for(kPrinted);
    end_all(kExitFault);
  }
  return more;
}

void MpiWatch::hear(Peer& peer) {
  while (!peer.gone) {
    if (!peer.receiving && mpi_.Irecv(&peer.heard, sizeof(Word), mpi_.BYTE, peer.rank, kTag, communicator_, &peer.receiving) != 0)
      return;
    int done = 0;
    if (mpi_.Test(&peer.receiving, &done, OpenMpi::kNoStatus) != 0 || !done) return;
    peer.receiving = nullptr;
    peer.quiet = {};
    if (peer.heard == Word::bye) peer.gone = true;
    if (rank_ == 0) {
      peer.next = peer.heard != Word::leaving ? peer.heard : claim(peer.rank) ? Word::first : Word::not_first;
    } else if (peer.heard == Word::first || peer.heard == Word::not_first) {
      verdict_ = peer.heard;
    }
  }
}

void MpiWatch::say(Peer& peer) {
  if (peer.sending) {
    int done = 0;
    if (mpi_.Test(&peer.sending, &done, OpenMpi::kNoStatus) != 0 || !done) return;
    peer.sending = nullptr;
  }
  if (peer.next == Word::none) return;
  peer.said = std::exchange(peer.next, Word::none);
  if (mpi_.Isend(&peer.said, sizeof(Word), mpi_.BYTE, peer.rank, kTag, communicator_, &peer.sending) != 0) return;
  peer.untold = {};
  peer.told_bye = peer.told_bye || peer.said == Word::bye;
}

void MpiWatch::end_all(int code) noexcept {
  mpi_.Abort(mpi_.COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace tll
