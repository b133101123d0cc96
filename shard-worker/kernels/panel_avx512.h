/** The sums of a panel's outputs by AVX-512, for linear_avx512.cpp and linear_amx.cpp. */
#pragma once
#include <immintrin.h>

#include "linear.h"

namespace ss {
namespace {

inline __m512 halves(const uint8_t *values) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)values)); }

/** The outputs of a panel for one row. */
struct Sum {
  __m512 half[2];
};

inline uint32_t outputs_of(const Round &round, int64_t panel) {
  const int64_t left = round.format.outputs - panel * PANEL;
  return left >= 32 ? 0xffffffffu : (1u << left) - 1;
}

/** The sum of a piece is whole: the last leaves the sum of all in `sum`, the others 0. */
inline void end_piece(const Round &round, int64_t panel, int piece, Sum &sum, Sum *waiting) {
  if (round.bias && piece == 0) {
    const uint32_t mask = outputs_of(round, panel);
    const float *bias = round.bias + panel * PANEL;
    sum.half[0] = _mm512_add_ps(sum.half[0], _mm512_maskz_loadu_ps((__mmask16)mask, bias));
    sum.half[1] = _mm512_add_ps(sum.half[1], _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), bias + 16));
  }
  if (round.format.pieces == 1) return;
  add_piece(waiting, piece, sum, round.format.pieces, [](Sum &right, const Sum &left) {
    right.half[0] = _mm512_add_ps(left.half[0], right.half[0]);
    right.half[1] = _mm512_add_ps(left.half[1], right.half[1]);
  });
  if (piece + 1 < round.format.pieces) sum.half[0] = sum.half[1] = _mm512_setzero_ps();
}

inline void store(const Round &round, int64_t panel, int64_t row, __m512 low, __m512 high) {
  const int64_t output = panel * PANEL;
  const uint32_t mask = outputs_of(round, panel);
  float *y = round.y + row * round.y_stride + output;
  _mm512_mask_storeu_ps(y, (__mmask16)mask, low);
  _mm512_mask_storeu_ps(y + 16, (__mmask16)(mask >> 16), high);
}

/** end_piece for the sums of a row that lie in memory: `sums` [PANEL]. */
inline void end_row_piece(const Round &round, int64_t panel, int piece, float *sums, Sum *waiting) {
  Sum whole{{_mm512_load_ps(sums), _mm512_load_ps(sums + 16)}};
  end_piece(round, panel, piece, whole, waiting);
  _mm512_store_ps(sums, whole.half[0]);
  _mm512_store_ps(sums + 16, whole.half[1]);
}

}  // namespace
}  // namespace ss
