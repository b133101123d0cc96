/**
 * Random sizes through the kernels with memory of exactly the right size, for a build with sanitisers (kernels-sanitised.test.ts).
 *
 * In      a seed, a number of rounds, and perhaps the name of a variant that must be there; every variant that the processor has is run.
 *         Or `states` and a fault of the emulated tiles (shard-worker/kernels/tiles.h)
 * Out     exit code 0; a sanitiser's report or 1 where a variant has other bits than the portable one. Of `states`: a line a variant
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#if defined(SS_EMULATE_TILES)
int ss_tile_fault = 0;
#endif

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

/** The passes over logits by every set of instructions that there is. */
static int scans_differ() {
  const int64_t count = between(1, 700), blocks = (count + 127) / 128;
  Exact<float> logits(count), most[2] = {Exact<float>(blocks), Exact<float>(blocks)};
  Exact<int32_t> at[2] = {Exact<int32_t>(count), Exact<int32_t>(count)}, hashed[2] = {Exact<int32_t>(count), Exact<int32_t>(count)};
  Exact<double> limits(blocks);
  for (int64_t i = 0; i < count; i++) logits.at[i] = (float)between(-4000, 4000) * 1e-2f;
  for (int64_t i = 0; i < blocks; i++) limits.at[i] = (double)between(-1, 4) * 1e9;
  for (int set = SS_ATTEND_PORTABLE; set <= SS_ATTEND_AVX512; set++) {
    const int to = set != SS_ATTEND_PORTABLE;
    ss_use_scans(set);
    static double mass;
    static int64_t reached, noisy;
    if (!ss_scan_blocks(logits.at, count, most[to].at)) return 1;
    const double sum = ss_scan_mass(logits.at, count, most[to].at, 40, 0.7);
    const int64_t reach = ss_scan_reach(logits.at, count, most[to].at, 30, at[to].at);
    if (!to) {
      mass = sum;
      reached = reach;
    }
    if (sum != mass || reach != reached || memcmp(at[to].at, at[0].at, (size_t)reach * 4)) return 1;
    const int64_t noise = ss_scan_noise(7, 9, 100, 0, count, limits.at, hashed[to].at);
    if (!to) noisy = noise;
    if (noise != noisy || memcmp(hashed[to].at, hashed[0].at, (size_t)noise * 4)) return 1;
  }
  return 0;
}

static int round_of(int variants) {
  static const int BITS[] = {4, 8, 16, 32}, BLOCKS[] = {32, 64, 128, 256};
  const int bits = BITS[random_bits() % 4], block = bits < 16 ? BLOCKS[random_bits() % 4] : 0;
  const int flags = bits < 16 ? random_bits() % 2 | random_bits() % 2 * SS_ROWS16 : bits == 16 ? random_bits() % 2 * SS_BFLOAT : 0;
  const int pieces = 1 << random_bits() % 4;
  const int64_t inputs = pieces == 1 ? between(1, 500) : pieces * (block ? block : between(1, 60)), outputs = between(1, 100);
  // Tiles take 16 rows, two groups of them together.
  const int64_t rows = random_bits() % 4 ? between(0, 20) : between(21, 70), stride = inputs + between(0, 3), y_stride = outputs + between(0, 3);
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
  const bool weigh = random_bits() % 2;
  Exact<float> importance(inputs);
  for (int64_t i = 0; i < inputs; i++) importance.at[i] = random_bits() % 3 ? (float)between(1, 1000) : 0.0f;
  const int search = bits < 16 && random_bits() % 2 ? SS_SEARCH : 0;
  if (ss_quantise(weights.at, 0, inputs, outputs, inputs, bits, block, flags | search, weigh ? importance.at : nullptr, panels.at, 0, count, &bad)) return 1;
  if (scans_differ()) return 1;
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
  if (strcmp(values[1], "states") == 0) {
#if defined(SS_EMULATE_TILES)
    ss_tile_fault = atoi(values[2]);
#endif
    for (int variant = 0; ss_variant_name(variant); variant++) printf("%s %d\n", ss_variant_name(variant), ss_variant_state(variant));
    printf("uses %s\n", ss_variant_name(ss_variant()));
    return 0;
  }
  state = strtoull(values[1], nullptr, 10);
  int variants = 0;
  bool found = count < 4;
  for (; ss_variant_name(variants); variants++) {
    found = found || (strcmp(ss_variant_name(variants), values[3]) == 0 && ss_variant_state(variants) == SS_USABLE);
  }
  if (!found) return 3;
  for (int round = atoi(values[2]); round > 0; round--) {
    if (round_of(variants)) return 1;
  }
  return 0;
}
