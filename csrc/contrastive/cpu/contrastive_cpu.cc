// The CPU form: the score matrix block by block, in an order that the sizes alone fix.

#include <omp.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "common/workspaces.h"
#include "contrastive/contrastive.h"
#include "contrastive/cpu/dispatch.h"

namespace unimo {
namespace {

// Tiles of a chunk: as many as leave six chunks for the threads, and no more than amortise
// the packing.
constexpr std::int64_t kMinChunks = 6;
constexpr std::int64_t kMaxTiles = 4;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows or columns cut into chunks, whole tiles but for the last; none of no rows.
class Chunks {
 public:
  explicit Chunks(std::int64_t count) : count_(count) {
    const std::int64_t tiles = (count + kTile - 1) / kTile;
    const std::int64_t wanted = std::min(kMaxTiles, (tiles + kMinChunks - 1) / kMinChunks);
    tiles_per_chunk_ = std::max<std::int64_t>(1, wanted);
    size_ = static_cast<int>((tiles + tiles_per_chunk_ - 1) / tiles_per_chunk_);
  }
  int size() const { return size_; }
  Range operator[](int index) const {
    const std::int64_t length = tiles_per_chunk_ * kTile;
    return {index * length, std::min((index + 1) * length, count_)};
  }

 private:
  std::int64_t count_;
  std::int64_t tiles_per_chunk_;
  int size_;
};

// Scores that are kept between the passes, at most: 30 MB. A bound, so that memory stays linear.
constexpr std::int64_t kMaxKeptScores = 7500000;

// One block of the score matrix: a chunk of rows by a chunk of columns.
struct Block {
  Range rows;
  Range columns;
  int row_chunk;
  int column_chunk;
  int row_turn;            // blocks of the same rows that come before it
  int column_turn;         // blocks of the same columns that come before it
  std::int64_t kept = -1;  // where its scores are kept, if they are
};

// All blocks, phase by phase like a Latin square: within a phase no two share rows or columns.
class Blocks {
 public:
  Blocks(std::int64_t num_rows, std::int64_t num_columns) : rows_(num_rows), columns_(num_columns) {
    const int phases = std::max(rows_.size(), columns_.size());
    const int pairs = std::min(rows_.size(), columns_.size());
    std::vector<int> row_turns(rows_.size()), column_turns(columns_.size());
    for (int phase = 0; phase < phases; ++phase) {
      for (int pair = 0; pair < pairs; ++pair) {
        const int shifted = (pair + phase) % phases;
        const bool is_wide = rows_.size() <= columns_.size();
        const int row = is_wide ? pair : shifted, column = is_wide ? shifted : pair;
        Block block = {rows_[row], columns_[column], row,
                       column,     row_turns[row]++, column_turns[column]++};
        const std::int64_t scores = num_tiles(block.rows) * num_tiles(block.columns) * kTileScores;
        if (num_kept_ + scores <= kMaxKeptScores) {
          block.kept = num_kept_;
          num_kept_ += scores;
          num_kept_pairs_ += std::int64_t{block.rows.size()} * block.columns.size();
        }
        blocks_.push_back(block);
      }
    }
  }
  std::size_t size() const { return blocks_.size(); }
  const Block& operator[](std::size_t index) const { return blocks_[index]; }
  const Chunks& rows() const { return rows_; }
  const Chunks& columns() const { return columns_; }
  std::int64_t num_kept() const { return num_kept_; }
  std::int64_t num_kept_pairs() const { return num_kept_pairs_; }

 private:
  static std::int64_t num_tiles(Range range) { return (range.size() + kTile - 1) / kTile; }

  Chunks rows_;
  Chunks columns_;
  std::vector<Block> blocks_;
  std::int64_t num_kept_ = 0;  // floats, edges of tiles included
  std::int64_t num_kept_pairs_ = 0;
};

void wait_for_turn(const std::atomic<int>& done, int turn) {
  while (done.load(std::memory_order_acquire) < turn) std::this_thread::yield();
}

// Call work(block, workspace) for every block.
//
// Threads take blocks in order. A block waits until the blocks before it in its rows and in its
// columns are done: each adds to the sums of its rows and columns without a lock, every sum has an
// order that the sizes alone fix, and no thread waits for the slowest of a phase. A block's
// predecessors were taken earlier, so some thread always goes on.
template <typename Work>
void for_each_block(const ContrastiveInputs& inputs, const ContrastiveKernel& kernel,
                    int num_threads, const Work& work) {
  const Blocks blocks(inputs.num_rows, inputs.num_columns);
  const int num_row_chunks = blocks.rows().size(), num_column_chunks = blocks.columns().size();
  std::vector<std::atomic<int>> rows_done(num_row_chunks), columns_done(num_column_chunks);
  std::atomic<std::size_t> next{0};
  const int parallel = std::max(1, std::min({num_row_chunks, num_column_chunks, num_threads}));
  const Workspaces workspaces(parallel,
                              kernel.workspace_size(inputs.size, blocks.rows()[0].size()));
#pragma omp parallel num_threads(parallel)
  {
    float* const workspace = workspaces.of_this_thread();
    for (std::size_t i = next++; i < blocks.size(); i = next++) {
      const Block& block = blocks[i];
      wait_for_turn(rows_done[block.row_chunk], block.row_turn);
      wait_for_turn(columns_done[block.column_chunk], block.column_turn);
      work(block, workspace);
      rows_done[block.row_chunk].fetch_add(1, std::memory_order_release);
      columns_done[block.column_chunk].fetch_add(1, std::memory_order_release);
    }
  }
}

// Fresh memory comes in pages of 4 kB, each of which costs an interrupt and is filled with zeros;
// the operating system is asked for larger ones.
void use_large_pages(float* memory, std::int64_t count) {
#if defined(__linux__)
  constexpr std::uintptr_t kPage = 2 << 20;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const auto end = reinterpret_cast<std::uintptr_t>(memory + count) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

void clear(const ContrastiveInputs& inputs, const ContrastiveGradients& gradients) {
  const std::int64_t num_rows = inputs.num_rows * inputs.size;
  const std::int64_t num_columns = inputs.num_columns * inputs.size;
  use_large_pages(gradients.rows, num_rows);
  use_large_pages(gradients.columns, num_columns);
  std::fill_n(gradients.rows, num_rows, 0.0f);
  std::fill_n(gradients.columns, num_columns, 0.0f);
}

// The gradient of the temperature from the sums over each row of (gradient) x (score).
void finish_temperature(const std::vector<double>& rows, const ContrastiveInputs& inputs,
                        const ContrastiveGradients& gradients) {
  double sum = 0.0;
  for (const double value : rows) sum += value;
  *gradients.temperature = static_cast<float>(-sum / *inputs.temperature);
}

// Running log-sum-exps of one output.
class Sums {
 public:
  explicit Sums(std::int64_t count) : reference_(count, -kInfinity), sum_(count, 0.0) {}
  RunningSums view() { return {reference_.data(), sum_.data()}; }
  void finish(float* output) {
    for (std::size_t i = 0; i < sum_.size(); ++i) output[i] = view().log_sum_exp(i);
  }

 private:
  std::vector<float> reference_;
  std::vector<double> sum_;
};

}  // namespace

float RunningSums::log_sum_exp(std::int64_t index) const {
  const double total = sum[index];
  return total == 0.0 ? -kInfinity : static_cast<float>(reference[index] + std::log(total));
}

std::int64_t contrastive_kept_scores(std::int64_t num_rows, std::int64_t num_columns) {
  return Blocks(num_rows, num_columns).num_kept();
}

std::int64_t contrastive_kept_pairs(std::int64_t num_rows, std::int64_t num_columns) {
  return Blocks(num_rows, num_columns).num_kept_pairs();
}

void contrastive_forward_cpu(const ContrastiveInputs& inputs,
                             const ContrastiveStatistics<float*>& outputs, int num_threads,
                             const ContrastiveKernel* kernel, float* kept) {
  const ContrastiveKernel& chosen = kernel ? *kernel : default_contrastive_kernel();
  if (kept != nullptr) {
    use_large_pages(kept, contrastive_kept_scores(inputs.num_rows, inputs.num_columns));
  }
  Sums row_all(inputs.num_rows), row_positive(inputs.num_rows);
  Sums column_all(inputs.num_columns), column_positive(inputs.num_columns);
  const ContrastiveStatistics<RunningSums> sums = {row_all.view(), row_positive.view(),
                                                   column_all.view(), column_positive.view()};
  for_each_block(inputs, chosen, num_threads, [&](const Block& block, float* workspace) {
    const bool keeps = kept != nullptr && block.kept >= 0;
    chosen.forward(inputs, block.rows, block.columns, sums, keeps ? kept + block.kept : nullptr,
                   workspace);
  });
  row_all.finish(outputs.row_all);
  row_positive.finish(outputs.row_positive);
  column_all.finish(outputs.column_all);
  column_positive.finish(outputs.column_positive);
}

void contrastive_backward_cpu(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<const float*>& outputs,
                              const ContrastiveStatistics<const float*>& upstream,
                              const ContrastiveGradients& gradients, int num_threads,
                              const ContrastiveKernel* kernel, const float* kept) {
  const ContrastiveKernel& chosen = kernel ? *kernel : default_contrastive_kernel();
  clear(inputs, gradients);
  std::vector<double> row_temperature(inputs.num_rows, 0.0);
  for_each_block(inputs, chosen, num_threads, [&](const Block& block, float* workspace) {
    const bool keeps = kept != nullptr && block.kept >= 0;
    chosen.backward(inputs, block.rows, block.columns, outputs, upstream, gradients,
                    row_temperature.data(), keeps ? kept + block.kept : nullptr, workspace);
  });
  finish_temperature(row_temperature, inputs, gradients);
}

void contrastive_one_way_cpu(const ContrastiveInputs& inputs, const float* weights, float* row_all,
                             float* row_positive, const ContrastiveGradients& gradients,
                             int num_threads, const ContrastiveKernel* kernel) {
  const ContrastiveKernel& chosen = kernel ? *kernel : default_contrastive_kernel();
  clear(inputs, gradients);
  std::vector<double> row_temperature(inputs.num_rows, 0.0);
  Sums all(inputs.num_rows), positive(inputs.num_rows);
  const ContrastiveStatistics<RunningSums> sums = {all.view(), positive.view(), {}, {}};
  const std::int64_t num_blocks = (inputs.num_rows + kOneWayRows - 1) / kOneWayRows;
  std::vector<std::atomic<int>> columns_done((inputs.num_columns + kTile - 1) / kTile);
  std::atomic<int> next{0};
  const int parallel = std::max(1, std::min<int>(num_blocks, num_threads));
  const Workspaces workspaces(parallel,
                              chosen.one_way_workspace_size(inputs.size, inputs.num_columns));
  // Blocks of rows follow each other over the columns: each adds to the gradient of a tile of
  // columns when the block before it has done so.
#pragma omp parallel num_threads(parallel)
  {
    float* const workspace = workspaces.of_this_thread();
    for (int block = next++; block < num_blocks; block = next++) {
      struct Turn {
        std::atomic<int>* columns_done;
        int block;
      } turn = {columns_done.data(), block};
      const ColumnTurns turns = {&turn,
                                 [](void* context, std::int64_t column) {
                                   const auto& [done, mine] = *static_cast<Turn*>(context);
                                   wait_for_turn(done[column], mine);
                                 },
                                 [](void* context, std::int64_t column) {
                                   static_cast<Turn*>(context)->columns_done[column].fetch_add(
                                       1, std::memory_order_release);
                                 }};
      const std::int64_t begin = std::int64_t{block} * kOneWayRows;
      const Range rows = {begin, std::min(begin + kOneWayRows, inputs.num_rows)};
      chosen.one_way(inputs, rows, weights, row_all, row_positive, sums, gradients,
                     row_temperature.data(), turns, workspace);
    }
  }
  finish_temperature(row_temperature, inputs, gradients);
}

}  // namespace unimo
