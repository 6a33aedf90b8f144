// The threads that run the loops of CPU ops, and how a loop is shared out among them.
//
// A loop is cut into pieces. Each thread has a part of the pieces of its own, and takes pieces of the others' parts when it is
// done with it. A caller waits only for pieces that another thread has begun. So a thread that the machine runs late, or not at
// all, holds nobody up. Who runs a piece must not matter to the result: then it has the same bits with any number of threads.
//
// A thread that finds nothing to do spins for kSpin and then sleeps, which gives its core to whoever else needs it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tll {

// How many threads share a loop, the caller among them. 1 at first. At most kMostCpuThreads; more are as many.
constexpr int kMostCpuThreads = 512;
void set_cpu_threads(int threads);
int cpu_threads();

// Calls body(piece, worker) once for each piece 0 … pieces-1; returns when all are done. 0 ≤ worker < workers ≤ cpu_threads() is
// the number of the thread, for memory of its own; the caller's is 0. A loop inside a piece, and one that begins while another
// thread's runs, is run by its caller alone as worker 0. Nothing is allocated. A piece may not throw.
using PieceFunction = void (*)(const void* body, int64_t piece, int worker);
constexpr int64_t kMostPieces = (int64_t{1} << 24) - 1;
void run_pieces(int64_t pieces, int workers, PieceFunction function, const void* body);

template <class Body>
static inline void parallel_pieces(int64_t pieces, int workers, const Body& body) {
  const PieceFunction function = [](const void* it, int64_t piece, int worker) {
    (*static_cast<const Body*>(it))(piece, worker);
  };
  run_pieces(pieces, workers, function, &body);
}

// A hint to the core, for a loop that waits for another thread.
inline void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

// What a piece should cost: about 10 µs, much more than sharing it out. In numbers that are read or written once in passing.
constexpr int64_t kPieceCost = 1 << 15;

// body(begin, end) for ranges that together are 0 … n-1. `cost` is what one of the n costs.
template <class Body>
static inline void parallel_ranges(int64_t n, int64_t cost, const Body& body) {
  if (n <= 0) return;
  const int64_t least = std::max(std::max<int64_t>(1, kPieceCost / std::max<int64_t>(1, cost)), n / kMostPieces + 1);
  const int64_t pieces = (n + least - 1) / least;
  parallel_pieces(pieces, cpu_threads(), [&](int64_t piece, int) { body(n * piece / pieces, n * (piece + 1) / pieces); });
}

// body(i) for 0 … n-1.
template <class Body>
static inline void parallel_for(int64_t n, int64_t cost, const Body& body) {
  parallel_ranges(n, cost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) body(i);
  });
}

}  // namespace tll
