/** linear_ymm.h with AVX-VNNI: four products and their sum are one operation. */
#include <immintrin.h>
#include <stdint.h>

namespace ss {
namespace {

/** Sums of products of unsigned weights and signed rows; 8 bits are stored with 128 added, which the correction takes off. */
template <int BITS>
struct Products {
  __m256i sum = _mm256_setzero_si256();

  static __m256i stored(__m256i codes) { return _mm256_xor_si256(codes, _mm256_set1_epi8((char)0x80)); }
  inline void add(__m256i weights, __m256i row) { sum = _mm256_dpbusd_avx_epi32(sum, weights, row); }
  inline __m256i total(int32_t correction) const { return _mm256_add_epi32(sum, _mm256_set1_epi32(correction)); }
};

}  // namespace
}  // namespace ss

#include "linear_ymm.h"

namespace ss {
namespace {
bool has_avx_vnni() { return cpu().avx_vnni; }
}  // namespace

const Variant avx_vnni = {"avx-vnni", has_avx_vnni, group_of, round_rows, quantised, floats_avx2};

}  // namespace ss
