// Rows are copied whole, also where there is nothing in them.

#include "pick_rows/pick_rows.h"

#include <string>
#include <vector>

#include "check.h"

namespace unimo {
namespace {

void test_rows(std::int64_t length, bool is_longer) {
  const std::int64_t batch = 3, count = 4, picked = 5;
  Generator generator(2);
  const std::vector<std::int64_t> values = generator.integers(batch * count * length, 0, 99);
  const std::vector<std::int64_t> rows = generator.integers(batch * picked, 0, count - 1);
  const std::vector<std::int64_t> behind = generator.integers(batch * picked, 0, 99);
  std::vector<std::int64_t> expected;
  for (std::int64_t i = 0; i < batch * picked; ++i) {
    const auto begin = values.begin() + (i / picked * count + rows[i]) * length;
    expected.insert(expected.end(), begin, begin + length);
    if (is_longer) expected.push_back(behind[i]);
  }
  std::vector<std::int64_t> found(expected.size(), -1);
  const auto bytes = [](const std::vector<std::int64_t>& numbers) {
    return reinterpret_cast<const std::byte*>(numbers.data());
  };
  const std::size_t item = sizeof(std::int64_t);
  pick_rows_cpu({bytes(values), rows.data(), is_longer ? bytes(behind) : nullptr, batch, count,
                 picked, static_cast<std::size_t>(length) * item, item},
                reinterpret_cast<std::byte*>(found.data()));
  check(found == expected,
        "rows of " + std::to_string(length) + (is_longer ? " and one more" : ""));
}

}  // namespace
}  // namespace unimo

int main() {
  for (const std::int64_t length : {0, 1, 7}) {
    for (const bool is_longer : {false, true}) unimo::test_rows(length, is_longer);
  }
  return unimo::report("pick rows");
}
