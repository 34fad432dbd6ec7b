// A function on a stack of its own, which can stop in the middle and go on later.

#pragma once

#include <sanitizer/asan_interface.h>
#include <ucontext.h>

#include <cstddef>
#include <memory>

namespace unimo {

// Code that switches stacks stays out of sight of the sanitizer, which would look for the end of
// the stack it knows at every jump.
#define UNIMO_SWITCH __attribute__((noinline, no_sanitize_address))

// A stack that runs until it hands control back. The first entry is makecontext's; switches after
// that are the compiler's own jumps, which make no system call.
class Fiber {
 public:
  void start(void (*entry)(void*), void* argument) {
    entry_ = entry;
    argument_ = argument;
    is_started_ = is_done_ = false;
    if (stack_ == nullptr) stack_ = std::make_unique<char[]>(kStackBytes);
    ASAN_UNPOISON_MEMORY_REGION(stack_.get(), kStackBytes);  // left behind by frames before
  }
  bool is_done() const { return is_done_; }

  // From outside: runs the fiber until it yields or ends.
  UNIMO_SWITCH void resume() {
    current() = this;
    if (__builtin_setjmp(outside_) == 0) enter();
  }
  // From inside: back to where resume() was called.
  UNIMO_SWITCH void yield() {
    if (__builtin_setjmp(inside_) == 0) leave();
  }

 private:
  static constexpr std::size_t kStackBytes = 64 * 1024;

  static Fiber*& current() {
    static Fiber* fiber = nullptr;
    return fiber;
  }
  UNIMO_SWITCH void enter() {
    if (is_started_) __builtin_longjmp(inside_, 1);
    is_started_ = true;
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_.get();
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    makecontext(&context_, run, 0);
    setcontext(&context_);
  }
  UNIMO_SWITCH void leave() { __builtin_longjmp(outside_, 1); }

  UNIMO_SWITCH static void run() {
    Fiber* const fiber = current();
    fiber->entry_(fiber->argument_);
    fiber->is_done_ = true;
    fiber->leave();
  }

  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool is_started_ = false, is_done_ = false;
  std::unique_ptr<char[]> stack_;
  ucontext_t context_;
  void* outside_[5];
  void* inside_[5];
};

}  // namespace unimo
