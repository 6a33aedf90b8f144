// The loader: every token once an epoch, nothing crosses a document, the same rows however they are dealt out, exact resumption.
#include "data/loader.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "src/base/check.h"
#include "tests/dataset_values.h"
#include "tests/refusal.h"

namespace tll {
namespace {

// Documents whose tokens say which document and position they are: document * 1000 + position.
Dataset numbered(const std::vector<int>& lengths, unsigned seed = 1) {
  std::mt19937 random(seed);
  Dataset d;
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::vector<int32_t> tokens, labels;
    for (int t = 0; t < lengths[i]; ++t) {
      tokens.push_back(int32_t(i) * 1000 + t);
      labels.push_back(random() % 3 ? int32_t(i) * 1000 + t : kNotTrained);
    }
    d.add(tokens, labels, {});
  }
  return d;
}

std::vector<int> random_lengths(size_t count, int longest, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int> lengths(count);
  for (int& n : lengths) n = 1 + int(random() % unsigned(longest));
  return lengths;
}

struct Batch : BatchView {
  std::vector<int32_t> memory;
  Batch(int rows, int seq_len) : memory(size_t(rows * seq_len) * 4 + 1, -7) {
    const size_t n = size_t(rows * seq_len);
    tokens = memory.data();
    targets = tokens + n;
    positions = targets + n;
    cu_seqlens = positions + n;
  }
  bool operator==(const Batch& other) const { return memory == other.memory && token_count == other.token_count; }
};

// Checks one batch against the data set, and adds its documents to `seen`.
void check_batch(const Dataset& d, const LoaderOptions& o, const Batch& b, std::multiset<int>& seen) {
  const int size = o.rows * o.seq_len;
  ASSERT_EQ(b.cu_seqlens[0], 0);
  ASSERT_EQ(b.cu_seqlens[b.padded_documents], size);
  ASSERT_EQ(b.cu_seqlens[b.documents], b.token_count);
  int targets = 0;
  for (int i = 0; i < b.padded_documents; ++i) {
    const int begin = b.cu_seqlens[i], length = b.cu_seqlens[i + 1] - begin;
    ASSERT_GT(length, 0);
    ASSERT_LE(length, o.seq_len);
    for (int t = 0; t < length; ++t) ASSERT_EQ(b.positions[begin + t], t);
    if (i >= b.documents) {
      for (int t = 0; t < length; ++t) ASSERT_EQ(b.targets[begin + t], kNoTarget);
      continue;
    }
    const int document = b.tokens[begin] / 1000;
    const Document& doc = d.documents[size_t(document)];
    ASSERT_EQ(length, doc.length);
    seen.insert(document);
    for (int t = 0; t < length; ++t) {
      ASSERT_EQ(b.tokens[begin + t], d.tokens_of(doc)[size_t(t)]);
      const int32_t label = t + 1 < length ? d.labels_of(doc)[size_t(t) + 1] : kNotTrained;
      ASSERT_EQ(b.targets[begin + t], label == kNotTrained ? kNoTarget : label);
      targets += label != kNotTrained;
    }
  }
  ASSERT_EQ(targets, b.target_count);
}

struct Case {
  int documents, longest, rows, seq_len, grad_accum;
  bool packing, shuffle;
};

class EveryTokenOnce : public testing::TestWithParam<Case> {};

TEST_P(EveryTokenOnce, InEveryEpoch) {
  const Case& c = GetParam();
  const Dataset d = numbered(random_lengths(size_t(c.documents), c.longest, 3));
  const LoaderOptions o{
      .rows = c.rows, .seq_len = c.seq_len, .grad_accum = c.grad_accum, .packing = c.packing, .shuffle = c.shuffle};
  Loader loader(d, o);
  Batch batch(o.rows, o.seq_len);
  std::set<std::vector<int32_t>> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::multiset<int> seen;
    std::vector<int32_t> order;
    for (int64_t s = 0; s < loader.steps_per_epoch(); ++s) {
      const StepInfo step = loader.next_step();
      ASSERT_EQ(step.epoch, epoch);
      ASSERT_GT(step.documents, 0);
      StepInfo sum;
      for (int m = 0; m < o.grad_accum; ++m) {
        loader.micro_batch(m, batch);
        check_batch(d, o, batch, seen);
        sum.documents += batch.documents;
        sum.tokens += batch.token_count;
        sum.target_tokens += batch.target_count;
        order.insert(order.end(), batch.tokens, batch.tokens + batch.token_count);
      }
      EXPECT_EQ(sum.documents, step.documents);
      EXPECT_EQ(sum.tokens, step.tokens);
      EXPECT_EQ(sum.target_tokens, step.target_tokens);
    }
    ASSERT_EQ(seen.size(), d.documents.size());
    for (int i = 0; i < c.documents; ++i) ASSERT_EQ(seen.count(i), 1u) << i;
    if (!c.shuffle) {
      EXPECT_EQ(order, all_tokens(d));
    }
    orders.insert(order);
  }
  if (c.documents > 10) {
    EXPECT_EQ(orders.size(), c.shuffle ? 3u : 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(Loader, EveryTokenOnce,
                         testing::Values(Case{200, 64, 3, 64, 2, true, true}, Case{200, 64, 3, 64, 2, true, false},
                                         Case{200, 64, 3, 64, 2, false, true}, Case{200, 64, 3, 64, 2, false, false},
                                         Case{1, 5, 4, 7, 3, true, true}, Case{997, 13, 1, 127, 1, true, true},
                                         Case{50, 1, 2, 1, 5, true, true}, Case{300, 65, 2, 65, 4, true, true}));

TEST(Loader, RowIsDocumentWithoutPackingAndShuffle) {
  const Dataset d = numbered({3, 5, 2, 4, 1});
  Loader loader(d, {.rows = 2, .seq_len = 5, .packing = false, .shuffle = false});
  EXPECT_EQ(loader.rows_per_epoch(), 5);
  EXPECT_EQ(loader.steps_per_epoch(), 3);
  Batch b(2, 5);
  loader.next_step();
  loader.micro_batch(0, b);
  EXPECT_EQ(b.documents, 2);
  EXPECT_EQ(b.cu_seqlens[1], 3);
  EXPECT_EQ(b.cu_seqlens[2], 8);
  loader.next_step();
  EXPECT_EQ(loader.next_step().documents, 1);
}

TEST(Loader, PackingFillsTheRows) {
  const std::vector<int> lengths = random_lengths(5000, 300, 5);
  const Dataset d = numbered(lengths);
  const int64_t tokens = int64_t(all_tokens(d).size());
  Loader best(d, {.seq_len = 512}), in_order(d, {.seq_len = 512, .shuffle = false});
  EXPECT_LE(best.rows_per_epoch(), tokens / 512 + 1 + tokens / 512 / 500) << "best fit leaves under 0.2 % empty here";
  EXPECT_LT(best.rows_per_epoch(), in_order.rows_per_epoch());
}

// In one step, the same documents reach the ranks and micro-batches in whatever way 12 rows are dealt out.
TEST(Loader, AccumulationRanksAndRowsAreTheSame) {
  const Dataset d = numbered(random_lengths(150, 40, 9));
  const auto steps = [&](int rows, int accum, int world) {
    std::vector<std::vector<int32_t>> out;
    std::vector<Loader> loaders;
    for (int r = 0; r < world; ++r)
      loaders.emplace_back(d, LoaderOptions{.rows = rows, .seq_len = 64, .grad_accum = accum, .rank = r, .world = world});
    Batch b(rows, 64);
    for (int64_t s = 0; s < 2 * loaders[0].steps_per_epoch(); ++s) {
      std::vector<int32_t> tokens;
      std::set<int64_t> targets;
      for (Loader& loader : loaders) targets.insert(loader.next_step().target_tokens);
      EXPECT_EQ(targets.size(), 1u) << "every rank knows the whole step's target tokens";
      for (int m = 0; m < accum; ++m) {
        for (Loader& loader : loaders) {
          loader.micro_batch(m, b);
          tokens.insert(tokens.end(), b.tokens, b.tokens + b.token_count);
        }
      }
      tokens.push_back(int32_t(*targets.begin()));
      out.push_back(tokens);
    }
    return out;
  };
  const auto expected = steps(12, 1, 1);
  EXPECT_EQ(steps(1, 12, 1), expected);
  EXPECT_EQ(steps(1, 1, 12), expected);
  EXPECT_EQ(steps(2, 3, 2), expected);
}

TEST(Loader, ResumesExactly) {
  const Dataset d = numbered(random_lengths(100, 30, 11));
  const LoaderOptions o{.rows = 2, .seq_len = 32, .grad_accum = 3, .seed = 5};
  Loader whole(d, o);
  const int64_t steps = 3 * whole.steps_per_epoch();
  std::vector<LoaderState> states;
  std::vector<std::vector<Batch>> batches;
  for (int64_t s = 0; s < steps; ++s) {
    states.push_back(whole.state());
    whole.next_step();
    batches.emplace_back();
    for (int m = 0; m < 3; ++m) whole.micro_batch(m, batches.back().emplace_back(2, 32));
  }
  for (int64_t from = 0; from < steps; ++from) {
    Loader resumed(d, o);
    resumed.restore(states[size_t(from)]);
    EXPECT_EQ(resumed.state(), states[size_t(from)]);
    for (int64_t s = from; s < steps; ++s) {
      resumed.next_step();
      for (int m = 0; m < 3; ++m) {
        Batch b(2, 32);
        resumed.micro_batch(m, b);
        ASSERT_EQ(b, batches[size_t(s)][size_t(m)]) << "from " << from << " step " << s;
      }
    }
    EXPECT_EQ(resumed.state(), whole.state());
  }
  Loader other(d, o);
  EXPECT_THROW(other.restore({6, 0, 0}), Error);
  EXPECT_THROW(other.restore({5, -1, 0}), Error);
  EXPECT_THROW(other.restore({5, 0, other.rows_per_epoch() + 1}), Error);
}

TEST(Loader, TakesItsSplitAndRefusesWhatDoesNotFit) {
  Dataset d = numbered({3, 5, 2});
  d.documents[1].split = Split::kValidation;
  Loader train(d, {.seq_len = 4, .shuffle = false}), validation(d, {.seq_len = 5, .split = Split::kValidation});
  EXPECT_EQ(train.next_step().tokens, 3);
  EXPECT_EQ(validation.next_step().tokens, 5);
  EXPECT_THROW(Loader(d, {.seq_len = 4, .split = Split::kValidation}), Error);
  d.documents[1].split = Split::kTrain;
  EXPECT_EQ(refusal_of([&] { Loader(d, {.seq_len = 5, .split = Split::kValidation}); }),
            "the data set has no validation documents");
  d.report.refused["too long"] = 2, d.max_tokens = 5, d.report.shortest_refused = 9;
  EXPECT_EQ(refusal_of([&] { Loader(d, {.seq_len = 5, .split = Split::kValidation}); }),
            "the data set has no validation documents: 2 too long for --seq-len 5; give --seq-len 9 or more");
}

// The shuffle must not change with compilers or machines: a checkpoint may move.
TEST(Loader, ShuffleIsFixed) {
  const Dataset d = numbered(std::vector<int>(8, 1));
  Loader loader(d, {.rows = 8, .seq_len = 1, .seed = 42});
  Batch b(8, 1);
  loader.next_step();
  loader.micro_batch(0, b);
  EXPECT_EQ(std::vector<int32_t>(b.tokens, b.tokens + 8), (std::vector<int32_t>{5000, 3000, 2000, 0, 1000, 6000, 4000, 7000}));
}

}  // namespace
}  // namespace tll
