/**
 * Linears with weights of 16 or 32 bits by AVX2 and FMA: one chain of FMA a row and output.
 *
 * Up to four rows at a time go over 16 outputs of a panel with their sums in registers.
 */
#include <immintrin.h>

#include "linear.h"

namespace ss {
namespace {

constexpr int GROUP = 4;
constexpr int AHEAD = 2048;

enum Type { FP32, FP16, BF16 };

template <Type TYPE>
constexpr int WIDTH = TYPE == FP32 ? 4 : 2;

/** 8 weights. */
template <Type TYPE>
inline __m256 weights(const uint8_t *at) {
  if (TYPE == FP32) return _mm256_loadu_ps((const float *)at);
  const __m128i packed = _mm_loadu_si128((const __m128i *)at);
  if (TYPE == FP16) return _mm256_cvtph_ps(packed);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16));
}

/** 16 outputs of R rows. */
template <int R>
struct Sums {
  float of[R][16];
};

template <int R, Type TYPE>
void group_rows(const Round &round, int64_t panel, int half, int64_t row) {
  const Format &f = round.format;
  const int64_t output = panel * PANEL + half * 16, left = f.outputs - output;
  const int count = left < 0 ? 0 : left < 16 ? (int)left : 16;
  const uint8_t *at = round.weight + panel * f.panel_bytes() + half * 16 * WIDTH<TYPE>;
  const float *x = round.x + row * round.x_stride;
  Sums<R> waiting[PIECE_LEVELS], sums;
  for (int piece = 0; piece < f.pieces; piece++) {
    __m256 sum[R][2];
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (int64_t k = piece * f.piece_inputs(); k < (piece + 1) * f.piece_inputs(); k++) {
      const uint8_t *w = at + k * PANEL * WIDTH<TYPE>;
      _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
      const __m256 low = weights<TYPE>(w), high = weights<TYPE>(w + 8 * WIDTH<TYPE>);
#pragma clang loop unroll(full)
      for (int r = 0; r < R; r++) {
        const __m256 value = _mm256_set1_ps(x[r * round.x_stride + k]);
        sum[r][0] = _mm256_fmadd_ps(low, value, sum[r][0]);
        sum[r][1] = _mm256_fmadd_ps(high, value, sum[r][1]);
      }
    }
    for (int r = 0; r < R; r++) {
      _mm256_storeu_ps(sums.of[r], sum[r][0]);
      _mm256_storeu_ps(sums.of[r] + 8, sum[r][1]);
      if (!round.bias || piece > 0) continue;
      for (int c = 0; c < count; c++) sums.of[r][c] += round.bias[output + c];
    }
    if (f.pieces == 1) break;
    add_piece(waiting, piece, sums, f.pieces, [](Sums<R> &right, const Sums<R> &other) {
      for (int r = 0; r < R; r++) {
        for (int c = 0; c < 16; c++) right.of[r][c] = other.of[r][c] + right.of[r][c];
      }
    });
  }
  for (int r = 0; r < R; r++) {
    float *y = round.y + (row + r) * round.y_stride + output;
    for (int c = 0; c < count; c++) y[c] = sums.of[r][c];
  }
}

template <Type TYPE>
void panels(const Round &round, int64_t first_panel, int64_t end_panel) {
  using GroupRows = void (*)(const Round &, int64_t, int, int64_t);
  constexpr GroupRows BY_ROWS[] = {nullptr, group_rows<1, TYPE>, group_rows<2, TYPE>, group_rows<3, TYPE>, group_rows<4, TYPE>};
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    for (int half = 0; half < 2; half++) {
      for (int64_t row = 0; row < round.rows; row += GROUP) {
        const int64_t left = round.rows - row;
        BY_ROWS[left < GROUP ? left : GROUP](round, panel, half, row);
      }
    }
  }
}

}  // namespace

void floats_avx2(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  (f.bits == 32 ? panels<FP32> : f.flags & SS_BFLOAT ? panels<BF16> : panels<FP16>)(round, first_panel, end_panel);
}

}  // namespace ss
