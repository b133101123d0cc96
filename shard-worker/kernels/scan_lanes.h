/**
 * The passes over a row of logits, included by one file a set of instructions, which the compiler vectorises: shard-worker/sampler/slice-scan.ts,
 * operation by operation. The bits are the same by every set.
 */
#pragma once
#include <string.h>

#include "numbers.h"
#include "scan.h"

namespace ss {
namespace {

constexpr float MASKED = -3.4028234663852886e38f;
/** Sums have so many chains, of ids that are so far apart. */
constexpr int CHAINS = 8;
typedef double Chains __attribute__((vector_size(CHAINS * 8)));
typedef float Logits __attribute__((vector_size(CHAINS * 4)));
typedef int64_t Wholes __attribute__((vector_size(CHAINS * 8)));

constexpr double LOG2_E = 1.4426950408889634, LN_2 = 0.6931471805599453, MOST = 60;
/** Coefficients of e^r, |r| ≤ ln 2 / 2: the rest is below 3e-13. */
constexpr double TERMS[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};

inline int64_t end_of(int64_t start, int64_t count) { return start + SCAN_BLOCK < count ? start + SCAN_BLOCK : count; }

int32_t scan_blocks(const float *logits, int64_t count, float *block_max) {
  uint32_t largest = 0;
  for (int64_t start = 0; start < count; start += SCAN_BLOCK) {
    const int64_t end = end_of(start, count);
    float most[16];
    for (int c = 0; c < 16; c++) most[c] = MASKED;
    int64_t i = start;
    for (; i + 16 <= end; i += 16) {
      for (int c = 0; c < 16; c++) {
        uint32_t bits;
        memcpy(&bits, logits + i + c, 4);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
        most[c] = logits[i + c] > most[c] ? logits[i + c] : most[c];
      }
    }
    for (; i < end; i++) {
      uint32_t bits;
      memcpy(&bits, logits + i, 4);
      bits &= 0x7fffffff;
      largest = bits > largest ? bits : largest;
      most[0] = logits[i] > most[0] ? logits[i] : most[0];
    }
    for (int c = 1; c < 16; c++) most[0] = most[c] > most[0] ? most[c] : most[0];
    block_max[start / SCAN_BLOCK] = most[0];
  }
  return largest < 0x7f800000;
}

double scan_mass(const float *logits, int64_t count, const float *block_max, double max, double temperature) {
  const double share = 1 / temperature;
  Chains sum = {};
  for (int64_t start = 0; start < count; start += SCAN_BLOCK) {
    if ((block_max[start / SCAN_BLOCK] - max) * share < -MOST) continue;
    const int64_t end = end_of(start, count);
    for (int64_t i = start; i < end; i += CHAINS) {
      // Behind the last: nothing.
      Logits part = MASKED - Logits{};
      if (i + CHAINS <= end) memcpy(&part, logits + i, sizeof part);
      else memcpy(&part, logits + i, (size_t)(end - i) * 4);
      const Chains x = (max - __builtin_convertvector(part, Chains)) * share;
      const Wholes counts = x < MOST;
      const Chains safe = counts ? x : Chains{};
      const Chains whole = floors(safe * LOG2_E + 0.5);
      const Chains rest = whole * LN_2 - safe;
      Chains term = TERMS[0] - Chains{};
      for (int t = 1; t < (int)(sizeof TERMS / sizeof TERMS[0]); t++) term = term * rest + TERMS[t];
      // whole + 2^52 has it in its last bits.
      const Chains shifted = whole + 0x1p52;
      Wholes bits;
      memcpy(&bits, &shifted, sizeof bits);
      const Wholes power_bits = (1023 - (bits & 0xff)) << 52;
      Chains power;
      memcpy(&power, &power_bits, sizeof power);
      sum += counts ? term * power : Chains{};
    }
  }
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

int64_t scan_reach(const float *logits, int64_t count, const float *block_max, float least, int32_t *positions) {
  int64_t found = 0;
  for (int64_t start = 0; start < count; start += SCAN_BLOCK) {
    if (block_max[start / SCAN_BLOCK] < least) continue;
    const int64_t end = end_of(start, count);
    for (int64_t i = start; i < end; i++) {
      positions[found] = (int32_t)i;
      found += logits[i] >= least;
    }
  }
  return found;
}

int64_t scan_noise(uint32_t key, uint32_t second, int64_t base, int64_t first, int64_t count, const double *limits, int32_t *positions) {
  constexpr uint32_t A = 0x7feb352d, B = 0x846ca68b;
  int64_t found = 0;
  for (int64_t start = first; start < count; start += SCAN_BLOCK) {
    const double limit = *limits++;
    if (!(limit >= 0)) continue;
    const uint32_t most = limit >= 0xffffffff ? 0xffffffff : (uint32_t)limit;
    const int64_t end = end_of(start, count);
    uint32_t hashes[SCAN_BLOCK];
    for (int c = 0; c < SCAN_BLOCK; c++) {
      uint32_t x = (uint32_t)(base + start + c) ^ key;
      x = (x ^ x >> 16) * A;
      x = (x ^ x >> 15) + second;
      x *= B;
      x = (x ^ x >> 16) * A;
      hashes[c] = x ^ x >> 15;
    }
    for (int64_t i = start; i < end; i++) {
      positions[found] = (int32_t)i;
      found += hashes[i - start] <= most;
    }
  }
  return found;
}

}  // namespace
}  // namespace ss
