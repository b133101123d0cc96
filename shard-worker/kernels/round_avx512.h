/** Rows rounded to 8 or 16 bits by AVX-512, for linear_avx512.cpp. */
#pragma once
#include <immintrin.h>

#include "linear.h"
#include "numbers.h"

namespace ss {
namespace {

/** Stores 16 codes; returns what they stand for. */
template <int W>
inline __m512i store_codes(__m512i code, int8_t *first, int8_t *second) {
  if (W == 1) {
    _mm_storeu_si128((__m128i *)first, _mm512_cvtepi32_epi8(code));
    return code;
  }
  const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(code, _mm512_set1_epi32(128)), 8), upper = _mm512_slli_epi32(high, 8);
  const __m512i low = _mm512_max_epi32(_mm512_sub_epi32(code, upper), _mm512_set1_epi32(-127));
  _mm_storeu_si128((__m128i *)first, _mm512_cvtepi32_epi8(high));
  _mm_storeu_si128((__m128i *)second, _mm512_cvtepi32_epi8(low));
  return _mm512_add_epi32(upper, low);
}

template <int W>
void round_groups(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  constexpr float LARGEST = largest_code(W);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t group = first; group < end; group++) {
    const int count = (int)to.rows_of(group);
    for (int r = 0; r < count; r++) {
      const float *row = x + (group * to.group + r) * x_stride;
      for (int64_t step = 0; step < to.steps; step++) {
        uint8_t *cell = to.cell(group, step);
        const int64_t left = inputs - step * STEP;
        const uint32_t mask = left >= 32 ? 0xffffffffu : left <= 0 ? 0 : (1u << left) - 1;
        const __m512 a = _mm512_maskz_loadu_ps((__mmask16)mask, row + step * STEP);
        const __m512 b = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), row + step * STEP + 16);
        const uint32_t largest = _mm512_reduce_max_epu32(_mm512_max_epu32(
            _mm512_and_si512(_mm512_castps_si512(a), magnitude), _mm512_and_si512(_mm512_castps_si512(b), magnitude)));
        const float most = from_bits(largest);
        const bool is_number = largest < 0x7f800000, counts = is_number && most >= SMALLEST_MAGNITUDE;
        const __mmask16 keep = counts ? 0xffff : 0;
        const __m512 factor = _mm512_set1_ps(counts ? LARGEST / most : 0.0f);
        const __m512i qa = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(a, factor));
        const __m512i qb = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(b, factor));
        int8_t *codes = to.codes(cell) + r * STEP, *second = codes + to.group * STEP;
        const __m512i va = store_codes<W>(qa, codes, second), vb = store_codes<W>(qb, codes + 16, second + 16);
        const int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(va, vb));
        to.scales(cell)[r] = counts ? most / LARGEST : is_number ? 0.0f : from_bits(0x7fc00000);
        to.corrections(cell)[r] = -to.offset * sum;
        to.sums(cell)[r] = (float)sum;
      }
    }
  }
}

void round_rows(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  (to.width == 2 ? round_groups<2> : round_groups<1>)(to, x, x_stride, inputs, first, end);
}

}  // namespace
}  // namespace ss
