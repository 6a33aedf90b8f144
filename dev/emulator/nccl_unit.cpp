// How the calls of the ranks are matched, and how what they send is moved.
//
// A unit tells the other ranks which calls it consists of, and what it sends. Then it waits until they have told it the same. So
// a call is done only when the other ranks have come to theirs: stricter than NCCL, whose buffers may hide that one is missing.
#include <fmt/format.h>

#include <cstring>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/nccl.h"
#include "emulator/emulator.h"

using tll::nccl_api::Communicator;

void Communicator::fault(const std::string& text, const void* site) {
  if (faulted) return;
  faulted = true;
  state = ncclInternalError;
  error = text;
  emulator::misuse(fmt::format("NCCL: rank {} of {}: {}", rank, size, text), site);
  for (int r = 0; r < size; r++)
    if (r != rank) peers.post(r, {.kind = emulator::nccl::Kind::fault, .payload = {text.begin(), text.end()}});
  static_cast<void>(peers.move());
}

void Communicator::move() {
  if (aborted) return;
  if (const std::string wrong = peers.move(); !wrong.empty()) return fault(wrong, nullptr);
  if (!met && peers.connected()) {
    met = true;
    if (state == ncclInProgress) state = ncclSuccess;
  }
  bool all_finalized = true;
  for (int r = 0; r < size; r++) {
    emulator::nccl::Peers::Peer& peer = peers.all()[static_cast<size_t>(r)];
    if (r == rank) continue;
    all_finalized = all_finalized && peer.finalized;
    if (!peer.fault.empty()) return fault(fmt::format("rank {} has found a fault: {}", r, peer.fault), nullptr);
    if (peer.gone && !peer.finalized && (state == ncclSuccess || state == ncclInProgress)) {
      state = ncclRemoteError;
      error = fmt::format("rank {} has closed its connection", r);
    }
  }
  if (!finalizing || finalized || !all_finalized || !peers.flushed() || state != ncclInProgress) return;
  finalized = true;
  state = ncclSuccess;
}

namespace emulator::nccl {

Unit::Unit(std::shared_ptr<Communicator> comm, std::vector<Call> calls, const void* site)
    : comm_(std::move(comm)), calls_(std::move(calls)), site_(site) {
  for (size_t i = 0; i < calls_.size(); i++)
    if (calls_[i].kind == Kind::all_gather || calls_[i].kind == Kind::broadcast) collectives_.push_back(i);
}

std::string Unit::name(const Call& c) const {
  switch (c.kind) {
    case Kind::all_gather:
      return fmt::format("ncclAllGather of {} bytes a rank", c.bytes);
    case Kind::broadcast:
      return fmt::format("ncclBroadcast of {} bytes from rank {}", c.bytes, c.peer);
    case Kind::send:
      return fmt::format("ncclSend of {} bytes to rank {}", c.bytes, c.peer);
    default:
      return fmt::format("ncclRecv of {} bytes from rank {}", c.bytes, c.peer);
  }
}

// ---- memory
// --------------------------------------------------------------------------------------------------------------------
std::vector<MemoryUse> Unit::uses() const {
  std::vector<MemoryUse> all;
  const auto add = [&](const void* p, size_t bytes, bool write) {
    if (p && bytes > 0) all.push_back({p, bytes, write});
  };
  const size_t rank = static_cast<size_t>(comm_->rank);
  for (const Call& c : calls_) {
    const bool root = c.kind == Kind::broadcast && c.peer == comm_->rank;
    add(c.kind == Kind::broadcast && !root ? nullptr : c.send, c.bytes, false);
    if (c.kind == Kind::all_gather) {
      for (size_t r = 0; r < static_cast<size_t>(comm_->size); r++)
        if (r != rank || c.receive + r * c.bytes != c.send) add(c.receive + r * c.bytes, c.bytes, true);
    } else if (!root || c.receive != c.send) {
      add(c.receive, c.bytes, true);
    }
  }
  return all;
}
std::string Unit::check_memory() const {
  const std::vector<MemoryUse> all = uses();
  for (const MemoryUse& use : all)
    if (const std::string wrong = check_device_range(use.p, use.bytes, !use.write); !wrong.empty())
      return fmt::format("{} {} bytes, and so uses {}", use.write ? "writes" : "reads", use.bytes, wrong);
  for (size_t i = 0; i < all.size(); i++)
    for (size_t k = 0; k < i; k++)
      if ((all[i].write || all[k].write) && all[i].overlaps(all[k].p, all[k].bytes))
        return fmt::format(
            "writes memory that another part of the same call or group uses: {}",
            describe_device_address(std::max(reinterpret_cast<uintptr_t>(all[i].p), reinterpret_cast<uintptr_t>(all[k].p)))
                .place);
  return "";
}

// ---- what this rank tells the others
// -------------------------------------------------------------------------------------------
void Unit::post() {
  posted_ = true;
  epoch_ = comm_->collectives;
  comm_->collectives += collectives_.size();
  progress_.assign(static_cast<size_t>(comm_->size), {});
  arrived_.clear();
  Peers& peers = comm_->peers;
  const auto copy = [](const char* p, size_t bytes) { return std::vector<char>(p, p + bytes); };
  for (size_t i = 0; i < calls_.size(); i++) {
    const Call& c = calls_[i];
    Message m{.kind = c.kind, .bytes = c.bytes, .epoch = epoch_, .captured = captured};
    if (c.kind == Kind::send) m.payload = copy(c.send, c.bytes);
    if (c.kind != Kind::send && c.kind != Kind::receive) continue;
    Progress& progress = progress_[static_cast<size_t>(c.peer)];
    (c.kind == Kind::send ? progress.sends : progress.receives).push_back(i);
    peers.post(c.peer, m);
  }
  for (size_t k = 0; k < collectives_.size(); k++) {
    const Call& c = calls_[collectives_[k]];
    const bool gives = c.kind == Kind::all_gather || c.peer == comm_->rank;
    const Message m{c.kind, c.peer, c.bytes, epoch_ + k, captured, gives ? copy(c.send, c.bytes) : std::vector<char>()};
    for (int r = 0; r < comm_->size; r++)
      if (r != comm_->rank) peers.post(r, m);
  }
  for (const MemoryUse& use : uses())  // until they arrive
    if (use.write) set_unwritten(use.p, use.bytes);
}

// ---- what the others tell this rank
// --------------------------------------------------------------------------------------------
bool Unit::done(const Progress& p) const {
  return p.collectives_done == collectives_.size() && p.sends_done == p.sends.size() && p.receives_done == p.receives.size();
}

std::string Unit::match(int rank) {
  Progress& p = progress_[static_cast<size_t>(rank)];
  Peers::Peer& peer = comm_->peers.all()[static_cast<size_t>(rank)];
  const auto described = [&](const Message& m) {
    return name({m.kind, nullptr, nullptr, m.bytes, m.kind == Kind::send || m.kind == Kind::receive ? comm_->rank : m.root});
  };
  const auto other = [&](const Message& m, const Call& own) {
    const auto how = [](bool in_graph) { return in_graph ? " in a graph" : ""; };
    return fmt::format("this rank calls {}{}, and rank {} calls {}{}", name(own), how(captured), rank, described(m),
                       how(m.captured));
  };
  while (p.collectives_done < collectives_.size() && !peer.collectives.empty()) {
    const Call& c = calls_[collectives_[p.collectives_done]];
    Message& m = peer.collectives.front();
    if (m.kind != c.kind || m.bytes != c.bytes || m.root != c.peer || m.captured != captured) return other(m, c);
    if (!m.payload.empty())
      arrived_.push_back(
          {c.kind == Kind::all_gather ? c.receive + static_cast<size_t>(rank) * c.bytes : c.receive, std::move(m.payload)});
    peer.collectives.pop_front();
    p.collectives_done++;
  }
  while (p.receives_done < p.receives.size() && !peer.sends.empty()) {
    const Call& c = calls_[p.receives[p.receives_done]];
    Message& m = peer.sends.front();
    if (m.captured != captured) return other(m, c);
    if (m.bytes != c.bytes || m.epoch != epoch_)
      return other(m, c) + (m.bytes == c.bytes ? " before or after another collective" : "");
    arrived_.push_back({c.receive, std::move(m.payload)});
    peer.sends.pop_front();
    p.receives_done++;
  }
  while (p.sends_done < p.sends.size() && !peer.receives.empty()) {
    const Call& c = calls_[p.sends[p.sends_done]];
    const Message& m = peer.receives.front();
    if (m.captured != captured) return other(m, c);
    if (m.bytes != c.bytes || m.epoch != epoch_)
      return other(m, c) + (m.bytes == c.bytes ? " before or after another collective" : "");
    peer.receives.pop_front();
    p.sends_done++;
  }
  if (done(p)) return "";
  // The other rank has come to a call that it makes before those that this rank waits for.
  if (p.collectives_done < collectives_.size()) {
    for (const auto* queue : {&peer.sends, &peer.receives})
      if (!queue->empty() && queue->front().epoch <= epoch_)
        return other(queue->front(), calls_[collectives_[p.collectives_done]]);
  } else if (!peer.collectives.empty()) {
    const size_t own = p.receives_done < p.receives.size() ? p.receives[p.receives_done] : p.sends[p.sends_done];
    return other(peer.collectives.front(), calls_[own]);
  }
  return "";
}

std::string Unit::missing() const {
  for (int r = 0; r < comm_->size; r++) {
    const Progress& p = progress_[static_cast<size_t>(r)];
    if (r == comm_->rank || done(p)) continue;
    const Call& c = calls_[p.collectives_done < collectives_.size() ? collectives_[p.collectives_done]
                           : p.receives_done < p.receives.size()    ? p.receives[p.receives_done]
                                                                    : p.sends[p.sends_done]];
    const char* what = c.kind == Kind::send ? "receives it" : c.kind == Kind::receive ? "sends it" : "calls it";
    return fmt::format("{}, and rank {} {}", name(c), r,
                       comm_->peers.all()[static_cast<size_t>(r)].gone ? "is gone" : fmt::format("never {}", what));
  }
  return "its own messages do not go out";
}

bool Unit::ready() {
  Communicator& comm = *comm_;
  comm.tried = SteadyClock::now();
  if (comm.aborted || comm.faulted) return true;
  if (!posted_) {
    if (const std::string wrong = check_memory(); !wrong.empty()) {
      comm.fault(fmt::format("{} {}", name(calls_.front()), wrong), site_);
      return true;
    }
    post();
    begun_ = comm.tried;
  }
  comm.move();
  bool all = true;
  for (int r = 0; r < comm.size && !comm.faulted; r++) {
    if (r == comm.rank) continue;
    if (const std::string wrong = match(r); !wrong.empty()) comm.fault(wrong, site_);
    all = all && done(progress_[static_cast<size_t>(r)]);
  }
  if (comm.faulted || (all && comm.peers.flushed())) return true;
  const double limit = options().nccl_seconds;
  if (std::chrono::duration<double>(comm.tried - begun_).count() > limit)
    comm.fault(fmt::format("waits for {} s in {}", limit, missing()), site_);
  return comm.faulted;
}

cudaError_t Unit::finish() {
  Communicator& comm = *comm_;
  if (!std::exchange(posted_, false)) return comm.faulted ? cudaErrorLaunchFailure : cudaSuccess;
  if (comm.aborted) return cudaSuccess;  // what was to be written is not
  if (comm.faulted) return cudaErrorLaunchFailure;
  const auto write = [](char* to, const char* from, size_t bytes) {
    std::memmove(to, from, bytes);
    set_written(to, bytes);
  };
  for (const Call& c : calls_) {  // this rank's own part
    if (c.bytes == 0) continue;
    if (c.kind == Kind::all_gather) write(c.receive + static_cast<size_t>(comm.rank) * c.bytes, c.send, c.bytes);
    if (c.kind == Kind::broadcast && c.peer == comm.rank) write(c.receive, c.send, c.bytes);
  }
  for (const Arrived& a : arrived_)
    if (!a.bytes.empty()) write(a.to, a.bytes.data(), a.bytes.size());
  arrived_.clear();
  return cudaSuccess;
}

}  // namespace emulator::nccl
