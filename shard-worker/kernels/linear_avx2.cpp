/** linear_ymm.h with AVX2 alone: products are added in 16 bits first, which must not overflow. */
#include <immintrin.h>
#include <stdint.h>

namespace ss {
namespace {

template <int BITS>
struct Products;

/** Unsigned 0 … 15 times ±127: two products and eight such sums of a step are at most 30,480. */
template <>
struct Products<4> {
  __m256i sum = _mm256_setzero_si256();

  static __m256i stored(__m256i codes) { return codes; }
  inline void add(__m256i weights, __m256i row) { sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, row)); }
  inline __m256i total(int32_t correction) const {
    return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), _mm256_set1_epi32(correction));
  }
};

/** Magnitudes up to 128 times ±127 with the sign of both: two products are at most 32,512. The codes are as stored, so nothing is corrected. */
template <>
struct Products<8> {
  __m256i sum = _mm256_setzero_si256();

  static __m256i stored(__m256i codes) { return codes; }
  inline void add(__m256i weights, __m256i row) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(row, weights));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  inline __m256i total(int32_t) const { return sum; }
};

}  // namespace
}  // namespace ss

#include "linear_ymm.h"

namespace ss {
namespace {
bool has_avx2() { return cpu().avx2; }
}  // namespace

const Variant avx2 = {"avx2", has_avx2, group_of, round_rows, quantised, floats_avx2};

}  // namespace ss
