/** Rows of a checkpoint that become panels. */
#pragma once
#include "linear.h"
#include "numbers.h"

namespace ss {

enum class Type { FP32, FP16, BF16 };

struct Source {
  const uint8_t *rows;
  Type type;
  int64_t stride;
  const float *importance;

  float at(int64_t row, int64_t column) const {
    const int64_t index = row * stride + column;
    if (type == Type::FP16) return half_at(rows, index);
    if (type == Type::BF16) return bfloat_at(rows, index);
    float value;
    memcpy(&value, rows + index * 4, 4);
    return value;
  }
};

/** Writes one panel. @returns where a number is that cannot be held, or -1 */
using QuantisePanel = int64_t (*)(const Source &from, const Format &f, bool search, int64_t panel, uint8_t *record);

int64_t quantise_plain(const Source &, const Format &, bool, int64_t, uint8_t *);
#if defined(__x86_64__)
int64_t quantise_avx2(const Source &, const Format &, bool, int64_t, uint8_t *);
int64_t quantise_avx512(const Source &, const Format &, bool, int64_t, uint8_t *);
#endif

}  // namespace ss
