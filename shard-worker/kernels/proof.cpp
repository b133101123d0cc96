/**
 * Whether a set of instructions that was never run on such a processor gives the bits of one that was: small products by both, before it is used.
 *
 * In      two variants; the first may trap, and may write nothing but its own sums
 * Out     SS_USABLE, SS_OTHER_BITS, SS_TRAPPED or SS_UNPROVEN; some milliseconds
 * Limits  one proof at a time, which the caller sees to; signals of other threads go where they went before
 */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linear.h"

namespace ss {
namespace {

constexpr int MOST_ROWS = 50, MOST_INPUTS = 640, OUTPUTS = 40, Y_STRIDE = 48;
constexpr int64_t MOST_PANEL_BYTES = 2 * (MOST_INPUTS / 32) * (128 + 32 * PANEL);

struct Memory {
  float x[MOST_ROWS * MOST_INPUTS], bias[OUTPUTS], expected[MOST_ROWS * Y_STRIDE], seen[MOST_ROWS * Y_STRIDE];
  uint8_t panels[MOST_PANEL_BYTES];
};

uint32_t random_bits(uint64_t &state) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(state >> 33);
}

void fill(Memory &memory, const Format &format, int64_t rows, uint64_t &state) {
  const int64_t bytes = format.panels() * format.panel_bytes(), header = format.zero() ? 128 : 64;
  for (int64_t i = 0; i < bytes; i++) memory.panels[i] = (uint8_t)random_bits(state);
  for (int64_t record = 0; record < bytes; record += format.record_bytes()) {
    // Halves of usual size: scales of both signs, zero points up to 15.
    for (int64_t i = 0; i < header; i += 2) {
      const uint32_t bits = random_bits(state);
      const uint16_t half = (uint16_t)(i < 64 ? (bits & 0x83ff) | 0x2000 : 0x3c00 + bits % 0xf80);
      memcpy(memory.panels + record + i, &half, 2);
    }
  }
  for (int64_t i = 0; i < rows * format.inputs; i++) memory.x[i] = (float)((int32_t)(random_bits(state) % 20001) - 10000) * 1e-3f;
  for (int64_t i = 0; i < OUTPUTS; i++) memory.bias[i] = (float)(random_bits(state) % 100);
  // An infinity is its row's alone.
  memory.x[rows / 2 * format.inputs + 3] = __builtin_inff();
}

bool same_bits(const float *a, const float *b, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (memcmp(a + i, b + i, sizeof(float)) != 0 && (a[i] == a[i] || b[i] == b[i])) return false;
  }
  return true;
}

/** @returns whether all products have the same bits */
bool compare(const Variant &tried, const Variant &known, Memory &memory) {
  static const int64_t ROWS[] = {1, 9, 16, 25, 32, 50};
  uint64_t state = 1;
  int turn = 0;
  for (int32_t bits = 4; bits <= 8; bits += 4) {
    for (int32_t flags = 0; flags < 16; flags++) {
      if (flags & ~(SS_ZERO | SS_ROWS16)) continue;
      for (int64_t rows : ROWS) {
        const int32_t pieces = turn % 4 == 0 ? 2 : 1, block = turn % 3 == 0 ? 128 : turn % 3 == 1 ? 32 : 64;
        const Format format{pieces == 2 ? 2 * block : 330 + turn % 2 * 32, OUTPUTS, bits, block, flags, pieces};
        turn++;
        fill(memory, format, rows, state);
        for (int i = 0; i < 2; i++) {
          float *y = i ? memory.seen : memory.expected;
          for (int64_t at = 0; at < rows * Y_STRIDE; at++) y[at] = 7;
          const Call call{format, memory.x, format.inputs, memory.panels, memory.bias, y, Y_STRIDE, rows, 0, format.panels()};
          if (linear(i ? tried : known, call, Parallel{nullptr, nullptr, 1}) != SS_OK) return false;
        }
        if (!same_bits(memory.seen, memory.expected, rows * Y_STRIDE)) return false;
      }
    }
  }
  return true;
}

constexpr int SIGNALS[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
constexpr int SIGNAL_COUNT = sizeof SIGNALS / sizeof SIGNALS[0];
struct sigaction before[SIGNAL_COUNT];
sigjmp_buf back;
volatile long prover = 0;

long this_thread() { return syscall(SYS_gettid); }

void on_signal(int signal, siginfo_t *info, void *context) {
  if (prover == this_thread()) siglongjmp(back, 1);
  for (int i = 0; i < SIGNAL_COUNT; i++) {
    if (SIGNALS[i] != signal) continue;
    if (before[i].sa_flags & SA_SIGINFO) before[i].sa_sigaction(signal, info, context);
    else if (before[i].sa_handler != SIG_DFL && before[i].sa_handler != SIG_IGN) before[i].sa_handler(signal);
    // The instruction is tried again, and the default ends the process.
    else sigaction(signal, &before[i], nullptr);
  }
}

}  // namespace

int32_t prove(const Variant &tried, const Variant &known) {
  Memory *const memory = (Memory *)malloc(sizeof(Memory));
  if (!memory) return SS_UNPROVEN;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  for (int i = 0; i < SIGNAL_COUNT; i++) sigaction(SIGNALS[i], &action, &before[i]);
  volatile int32_t state = SS_TRAPPED;
  // A trap leaves the scratch memory of one product behind.
  if (sigsetjmp(back, 1) == 0) {
    prover = this_thread();
    state = compare(tried, known, *memory) ? SS_USABLE : SS_OTHER_BITS;
  }
  prover = 0;
  for (int i = 0; i < SIGNAL_COUNT; i++) sigaction(SIGNALS[i], &before[i], nullptr);
  free(memory);
  return state;
}

}  // namespace ss
