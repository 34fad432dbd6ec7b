// The smallest test frame: seeded numbers, a comparison that names what differs, an exit code.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace unimo {

inline int num_failures = 0;

inline void check(bool passed, const std::string& what) {
  if (passed) return;
  ++num_failures;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

// Equal infinities and NaN in the same places; elsewhere |found - expected| <= tolerance.
template <typename Found, typename Expected>
void check_close(const std::vector<Found>& found, const std::vector<Expected>& expected,
                 double tolerance, const std::string& what) {
  check(found.size() == expected.size(), what + ": sizes");
  for (std::size_t i = 0; i < found.size() && i < expected.size(); ++i) {
    const double a = static_cast<double>(found[i]), b = static_cast<double>(expected[i]);
    const bool close = std::isfinite(b) ? std::abs(a - b) <= tolerance
                                        : a == b || (std::isnan(a) && std::isnan(b));
    if (close) continue;
    check(false, what + " at " + std::to_string(i) + ": " + std::to_string(a) + ", expected " +
                     std::to_string(b));
    return;
  }
}

class Generator {
 public:
  explicit Generator(std::uint32_t seed) : engine_(seed) {}

  std::vector<float> normal(std::int64_t count, float scale) {
    std::normal_distribution<float> distribution(0.0f, scale);
    std::vector<float> values(count);
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  // Integers of [low, high].
  std::vector<std::int64_t> integers(std::int64_t count, std::int64_t low, std::int64_t high) {
    std::uniform_int_distribution<std::int64_t> distribution(low, high);
    std::vector<std::int64_t> values(count);
    for (std::int64_t& value : values) value = distribution(engine_);
    return values;
  }

 private:
  std::mt19937 engine_;
};

inline int report(const char* name) {
  std::printf("%s: %s\n", name, num_failures == 0 ? "passed" : "failed");
  return num_failures == 0 ? 0 : 1;
}

}  // namespace unimo
