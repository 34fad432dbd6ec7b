// How Paddle's glue refuses its inputs.

#pragma once

#include <sstream>
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

}  // namespace unimo
