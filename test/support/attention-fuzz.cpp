/**
 * Attention over random sizes, in memory that ends at a page nobody may touch (attention-fuzz.test.ts).
 *
 * In      a seed and a number of rounds; every set of instructions that the processor has is run
 * Out     exit code 0 and a hash of all outputs, which is the same on every architecture; 1 where a set has other bits than the first, or a prompt
 *         cut in pieces other ones than the whole. A touch outside ends it by a signal
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels.h"

static uint64_t state;

static uint32_t random_bits() {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(state >> 33);
}

static int32_t between(int32_t from, int32_t to) { return from + (int32_t)(random_bits() % (uint32_t)(to - from + 1)); }

/** Bytes whose last lies before a page that cannot be touched. */
struct Guarded {
  static constexpr size_t PAGE = 65536;
  size_t mapped;
  char *pages, *at;
  explicit Guarded(size_t bytes) : mapped((bytes + 2 * PAGE - 1) / PAGE * PAGE) {
    pages = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + mapped - PAGE, PAGE, PROT_NONE) != 0) abort();
    at = pages + mapped - PAGE - bytes;
  }
  ~Guarded() { munmap(pages, mapped); }
  Guarded(const Guarded &) = delete;
  float *floats() { return (float *)at; }
  double address() { return (double)(uintptr_t)at; }
};

struct Case {
  int32_t kv_heads, heads, dim, tokens, window, type;
  SsAttention shape;

  int64_t row_bytes() const { return type == SS_KV_FLOAT ? dim * 4 : type == SS_KV_HALF ? dim * 2 : dim + 4; }
};

/** All tokens, in pieces of at most `most`. @returns SsError */
static int32_t attend(const Case &what, int32_t variant, int32_t most, Guarded &query, Guarded &key, Guarded &value, Guarded &output) {
  const int64_t plane = what.tokens * what.row_bytes();
  Guarded cache((size_t)(2 * what.kv_heads * plane)), scratch((size_t)ss_attend_scratch(what.dim));
  SsAttention shape = what.shape;
  shape.variant = variant;
  shape.plane_bytes = (double)plane;
  for (int32_t position = 0; position < what.tokens;) {
    const int32_t left = what.tokens - position, count = most < left ? between(1, most) : left;
    const int64_t columns = what.dim * (int64_t)sizeof(float);
    shape.query = query.address() + (double)(position * what.heads * columns);
    shape.output = output.address() + (double)(position * what.heads * columns);
    shape.key = key.address() + (double)(position * what.kv_heads * columns);
    shape.value = value.address() + (double)(position * what.kv_heads * columns);
    const SsAttendSpan span = {0, (double)count, (double)position, cache.address()};
    const int32_t error = ss_attend(&shape, &span, 1, 0, what.window, SS_ATTEND_WRITE | SS_ATTEND_READ, 0, 1, scratch.floats());
    if (error != SS_OK) return error;
    position += count;
  }
  return SS_OK;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  state = strtoull(argv[1], nullptr, 10);
  uint64_t hash = 14695981039346656037ull;
  for (int round = 0, rounds = atoi(argv[2]); round < rounds; round++) {
    Case what = {};
    what.kv_heads = between(1, 2);
    what.heads = what.kv_heads * between(1, 10);
    what.dim = between(0, 2) ? 16 * between(1, 6) : between(1, 70);
    what.tokens = between(1, 3) == 1 ? between(1, 140) : between(1, 20);
    what.window = between(0, 3) ? 0 : between(1, 80);
    what.type = between(0, 2);
    SsAttention &shape = what.shape;
    shape.capacity = what.tokens;
    shape.heads = what.heads;
    shape.kv_heads = what.kv_heads;
    shape.dim = what.dim;
    shape.type = what.type;
    shape.sink_column = between(0, 3) ? -1 : what.dim - 1;
    shape.position_column = between(0, 3) ? -1 : 0;
    shape.soft_cap = between(0, 3) ? 0.0f : 3.0f;
    const size_t query_floats = (size_t)what.tokens * what.heads * what.dim, key_floats = (size_t)what.tokens * what.kv_heads * what.dim;
    Guarded query(query_floats * 4), key(key_floats * 4), value(key_floats * 4), first(query_floats * 4);
    for (size_t i = 0; i < query_floats; i++) query.floats()[i] = (float)between(-1000, 1000) * 4e-4f;
    for (size_t i = 0; i < key_floats; i++) key.floats()[i] = (float)between(-1000, 1000) * 2e-3f;
    for (size_t i = 0; i < key_floats; i++) value.floats()[i] = (float)between(-1000, 1000) * 1e-3f;
    if (attend(what, SS_ATTEND_BEST, what.tokens, query, key, value, first) != SS_OK) return 1;
    for (size_t i = 0; i < query_floats * 4; i++) hash = (hash ^ (uint8_t)first.at[i]) * 1099511628211ull;
    // Pieces of a token or some; by every set of instructions.
    const uint64_t after = state;
    for (int32_t variant = SS_ATTEND_BEST; variant <= SS_ATTEND_AVX512; variant++) {
      Guarded other(query_floats * 4);
      const int32_t error = attend(what, variant, between(1, 9), query, key, value, other);
      if (error == SS_NO_VARIANT) continue;
      if (error == SS_OK && memcmp(first.at, other.at, query_floats * 4) == 0) continue;
      fprintf(stderr, "round %d, variant %d: %s; %d heads over %d of %d, type %d, %d tokens, window %d, sink %d, position %d\n", round, variant,
              error == SS_OK ? "other bits" : "refused", what.heads, what.kv_heads, what.dim, what.type, what.tokens, what.window,
              shape.sink_column, shape.position_column);
      return 1;
    }
    state = after;
  }
  printf("%016llx\n", (unsigned long long)hash);
  return 0;
}
