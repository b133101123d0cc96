/** Numbers of 16 bits, and rounding a step of a row, in plain C++. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "linear.h"

namespace ss {

static inline float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static inline uint16_t u16_at(const uint8_t *values, int64_t index) {
  uint16_t value;
  memcpy(&value, values + index * 2, 2);
  return value;
}

static inline float bfloat_at(const uint8_t *values, int64_t index) {
  return from_bits((uint32_t)u16_at(values, index) << 16);
}

static inline float half_to_float(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) {
    const float value = (float)mantissa * 0x1p-24f;
    return from_bits(to_bits(value) | sign);
  }
  // The hardware makes a signalling NaN quiet.
  if (exponent == 31) return from_bits(sign | 0x7f800000 | (mantissa ? 0x400000 | mantissa << 13 : 0));
  return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline float half_at(const uint8_t *values, int64_t index) { return half_to_float(u16_at(values, index)); }

/** Of each number of a vector. */
template <typename Vector>
static inline Vector floors(Vector value) {
#if defined(__clang__)
  return __builtin_elementwise_floor(value);
#else
  for (size_t i = 0; i < sizeof value / sizeof value[0]; i++) value[i] = __builtin_floor(value[i]);
  return value;
#endif
}

/** The nearest half, ties to even. */
static inline uint16_t float_to_half(float value) {
  const uint32_t bits = to_bits(value), magnitude = bits & 0x7fffffff;
  const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Subnormal: adding 0.5 rounds to a multiple of 2^-24, the last place of 0.5.
  if (magnitude < 0x38800000) return sign | (uint16_t)(to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000);
  return sign | (uint16_t)((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

/** The nearest bfloat16, ties to even. */
static inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = to_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/** Largest code of so many bytes; of two the first half is 127 then, the second 0. */
constexpr float largest_code(int width) { return width == 2 ? 32512.0f : 127.0f; }

/** A code of 16 bits as 256 · first + second. The last place of -128 is given up, so that products of the halves have the bounds that those of 8 bits have. */
static inline int32_t halve_code(int32_t code, int8_t &first, int8_t &second) {
  const int32_t high = (code + 128) >> 8, low = code - high * 256;
  first = (int8_t)high;
  second = (int8_t)(low < -127 ? -127 : low);
  return 256 * first + second;
}

/**
 * Step `step` of a row: 32 codes and their scale; returns the codes' sum. Values behind `inputs` are 0. A NaN or infinity makes the scale NaN.
 * `second`: where the second halves of codes of 16 bits go; null: codes of 8 bits.
 */
static inline int32_t round_step(const float *row, int64_t inputs, int64_t step, int8_t *codes, int8_t *second, float &scale) {
  const int64_t first = step * STEP;
  const int64_t count = inputs - first < STEP ? inputs - first : STEP;
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; i++) {
    const uint32_t magnitude = to_bits(row[first + i]) & 0x7fffffff;
    if (magnitude > largest) largest = magnitude;
  }
  const float magnitude = from_bits(largest);
  const bool is_number = largest < 0x7f800000, counts = is_number && magnitude >= SMALLEST_MAGNITUDE;
  const float most = largest_code(second ? 2 : 1);
  const float factor = counts ? most / magnitude : 0.0f;
  scale = counts ? magnitude / most : is_number ? 0.0f : from_bits(0x7fc00000);
  int32_t sum = 0;
  for (int i = 0; i < STEP; i++) {
    const int code = counts && i < count ? (int)nearbyintf(row[first + i] * factor) : 0;
    if (second) sum += halve_code(code, codes[i], second[i]);
    else sum += codes[i] = (int8_t)code;
  }
  return sum;
}

}  // namespace ss
