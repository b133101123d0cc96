/**
 * Random sizes through the kernels with memory of exactly the right size, for a build with sanitisers (kernels-sanitised.test.ts).
 *
 * In      a seed, a number of rounds, and perhaps the name of a variant that must be there; every variant that the processor has is run
 * Out     exit code 0; a sanitiser's report or 1 where a variant has other bits than the portable one
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static uint64_t state;

static uint32_t random_bits() {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(state >> 33);
}

static int64_t between(int64_t from, int64_t to) { return from + random_bits() % (to - from + 1); }

template <typename T>
struct Exact {
  T *at;
  explicit Exact(int64_t count) : at((T *)malloc((size_t)count * sizeof(T))) {}
  ~Exact() { free(at); }
};

static int round_of(int variants) {
  static const int BITS[] = {4, 8, 16, 32}, BLOCKS[] = {32, 64, 128, 256};
  const int bits = BITS[random_bits() % 4], block = bits < 16 ? BLOCKS[random_bits() % 4] : 0;
  const int flags = bits < 16 ? random_bits() % 2 : bits == 16 ? random_bits() % 2 * SS_BFLOAT : 0;
  const int pieces = 1 << random_bits() % 4;
  const int64_t inputs = pieces == 1 ? between(1, 500) : pieces * (block ? block : between(1, 60)), outputs = between(1, 100);
  const int64_t rows = between(0, 20), stride = inputs + between(0, 3), y_stride = outputs + between(0, 3);
  const int64_t bytes = ss_panel_bytes(inputs, outputs, bits, block, flags), count = (outputs + 31) / 32;
  Exact<uint8_t> panels(bytes);
  Exact<float> weights(outputs * inputs), x(rows ? (rows - 1) * stride + inputs : 0), bias(outputs);
  for (int64_t i = 0; i < outputs * inputs; i++) weights.at[i] = (float)between(-1000, 1000) * 1e-3f;
  for (int64_t i = 0; i < outputs; i++) bias.at[i] = (float)between(-9, 9);
  if (rows) {
    for (int64_t i = 0; i < (rows - 1) * stride + inputs; i++) {
      const uint32_t any = random_bits() << 1 ^ random_bits();
      memcpy(x.at + i, &any, 4);  // NaN, infinities and subnormal numbers too
      if (random_bits() % 8) x.at[i] = (float)between(-1000, 1000) * 1e-2f;
    }
  }
  int64_t bad = -1;
  const int search = bits == 4 && random_bits() % 2 ? SS_SEARCH : 0;
  if (ss_quantise(weights.at, 0, inputs, outputs, inputs, bits, block, flags | search, nullptr, panels.at, 0, count, &bad)) return 1;
  Exact<float> expected(rows * y_stride), seen(rows * y_stride);
  for (int variant = 0; variant < variants; variant++) {
    if (ss_use_variant(variant)) continue;
    float *y = variant == 0 ? expected.at : seen.at;
    for (int64_t i = 0; i < rows * y_stride; i++) y[i] = 7;
    const int64_t cut = between(0, count);
    for (int part = 0; part < 2; part++) {
      if (ss_linear(x.at, stride, panels.at, bias.at, y, y_stride, rows, inputs, outputs, bits, block, flags, pieces, part ? cut : 0, part ? count : cut)) return 1;
    }
    if (variant == 0) continue;
    for (int64_t i = 0; i < rows * y_stride; i++) {
      const bool same = memcmp(y + i, expected.at + i, 4) == 0 || (y[i] != y[i] && expected.at[i] != expected.at[i]);
      if (same) continue;
      fprintf(stderr, "%s: bits %d block %d flags %d pieces %d inputs %lld outputs %lld rows %lld\n", ss_variant_name(variant), bits, block, flags, pieces,
              (long long)inputs, (long long)outputs, (long long)rows);
      return 1;
    }
  }
  return 0;
}

int main(int count, char **values) {
  if (count < 3) return 2;
  state = strtoull(values[1], nullptr, 10);
  int variants = 0;
  bool found = count < 4;
  for (; ss_variant_name(variants); variants++) {
    found = found || (strcmp(ss_variant_name(variants), values[3]) == 0 && ss_variant_available(variants));
  }
  if (!found) return 3;
  for (int round = atoi(values[2]); round > 0; round--) {
    if (round_of(variants)) return 1;
  }
  return 0;
}
