// How Paddle's glue refuses its inputs, and tells what the core throws.

#pragma once

#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

#include "paddle/common/enforce.h"
#include "paddle/common/errors.h"

namespace unimo {

// A ValueError in Python. Unlike PD_CHECK's, its message also survives the static executor.
template <typename... Parts>
void require(bool passed, const Parts&... parts) {
  if (passed) return;
  std::ostringstream message;
  (message << ... << parts);
  throw common::enforce::EnforceNotMet(common::errors::InvalidArgument("%s", message.str().c_str()),
                                       __FILE__, __LINE__);
}

// A kernel whose errors reach Python: Paddle passes its own on, and any other ends the process.
template <auto kKernel>
struct Guarded;

template <typename Return, typename... Arguments, Return (*kKernel)(Arguments...)>
struct Guarded<kKernel> {
  static Return run(Arguments... arguments) {
    using common::enforce::EnforceNotMet;
    try {
      return kKernel(arguments...);
    } catch (const std::bad_alloc&) {  // a MemoryError
      throw EnforceNotMet(
          common::errors::ResourceExhausted("an operator of unimo_paddle found too little memory; "
                                            "give it smaller batches or fewer threads"),
          __FILE__, __LINE__);
    } catch (const std::length_error& error) {
      throw EnforceNotMet(common::errors::InvalidArgument("%s", error.what()), __FILE__, __LINE__);
    } catch (const std::runtime_error& error) {  // of CUDA
      throw EnforceNotMet(common::errors::External("%s", error.what()), __FILE__, __LINE__);
    }
  }
};

}  // namespace unimo
