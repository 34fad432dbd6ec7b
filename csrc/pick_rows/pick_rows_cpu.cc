#include <cstring>

#include "pick_rows/pick_rows.h"

namespace unimo {

void pick_rows_cpu(const PickRowsInputs& inputs, std::byte* picked) {
  for (std::int64_t i = 0; i < inputs.batch * inputs.picked; ++i) {
    const std::int64_t row = i / inputs.picked * inputs.count + inputs.rows[i];
    if (inputs.row_bytes > 0) {
      std::memcpy(picked, inputs.values + row * inputs.row_bytes, inputs.row_bytes);
    }
    picked += inputs.row_bytes;
    if (inputs.behind == nullptr) continue;
    std::memcpy(picked, inputs.behind + i * inputs.item_bytes, inputs.item_bytes);
    picked += inputs.item_bytes;
  }
}

}  // namespace unimo
