// Rows of each sample in another order, with a number behind each: how texts that are being written
// go on from one another.
//
//     picked[b, k] = values[b, rows[b, k]], then behind[b, k] where there are numbers behind
//
// Paddle's operations need a dozen small ones for it, which at every step cost more than the copy.

#pragma once

#include <cstddef>
#include <cstdint>

namespace unimo {

struct PickRowsInputs {
  const std::byte* values;   // [batch, count, row_bytes]
  const std::int64_t* rows;  // [batch, picked], from 0 to count - 1
  const std::byte* behind;   // [batch, picked, item_bytes], null: nothing
  std::int64_t batch;
  std::int64_t count;
  std::int64_t picked;
  std::size_t row_bytes;
  std::size_t item_bytes;
};

// picked [batch, picked, row_bytes] or, with numbers behind, [.., row_bytes + item_bytes]
void pick_rows_cpu(const PickRowsInputs& inputs, std::byte* picked);

}  // namespace unimo
