/**
 * Linears with weights of 16 or 32 bits by AVX-512: one chain of FMA a row and output.
 *
 * Up to twelve rows at a time go over a panel with their sums in registers; the panel comes from memory once and from the second-level cache after that.
 */
#include <immintrin.h>

#include "linear.h"

namespace ss {
namespace {

constexpr int GROUP = 12;
/** Inputs between two looks at where memory is asked for. */
constexpr int UNROLL = 4;
constexpr int AHEAD = 4096;

enum Type { FP32, FP16, BF16 };

template <Type TYPE>
constexpr int WIDTH = TYPE == FP32 ? 4 : 2;

/** 16 weights. */
template <Type TYPE>
inline __m512 weights(const uint8_t *at) {
  if (TYPE == FP32) return _mm512_loadu_ps(at);
  const __m256i packed = _mm256_loadu_si256((const __m256i *)at);
  if (TYPE == FP16) return _mm512_cvtph_ps(packed);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
}

inline __mmask16 mask_of(int64_t outputs) { return outputs >= 16 ? 0xffff : outputs <= 0 ? 0 : (__mmask16)((1u << outputs) - 1); }

/** R rows over inputs `first` … `end` - 1 of a panel. */
template <int R, Type TYPE>
inline void span(const uint8_t *panel, const float *x, int64_t stride, int64_t first, int64_t end, __m512 (&sum)[R][2]) {
  int64_t k = first;
  auto one = [&](int64_t at) __attribute__((always_inline)) {
    const uint8_t *w = panel + at * PANEL * WIDTH<TYPE>;
    const __m512 low = weights<TYPE>(w), high = weights<TYPE>(w + 16 * WIDTH<TYPE>);
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) {
      const __m512 value = _mm512_set1_ps(x[r * stride + at]);
      sum[r][0] = _mm512_fmadd_ps(low, value, sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(high, value, sum[r][1]);
    }
  };
  for (; k + UNROLL <= end; k += UNROLL) {
    const char *ahead = (const char *)panel + k * PANEL * WIDTH<TYPE> + AHEAD;
#pragma clang loop unroll(full)
    for (int line = 0; line < UNROLL * PANEL * WIDTH<TYPE> / 64; line++) _mm_prefetch(ahead + line * 64, _MM_HINT_T0);
#pragma clang loop unroll(full)
    for (int i = 0; i < UNROLL; i++) one(k + i);
  }
  for (; k < end; k++) one(k);
}

template <int R, Type TYPE>
void group_rows(const Round &round, int64_t panel, int64_t row) {
  const Format &f = round.format;
  const int64_t output = panel * PANEL;
  const __mmask16 low = mask_of(f.outputs - output), high = mask_of(f.outputs - output - 16);
  const uint8_t *at = round.weight + panel * f.panel_bytes();
  struct Sums {
    __m512 of[R][2];
  } waiting[PIECE_LEVELS], sums;
  for (int piece = 0; piece < f.pieces; piece++) {
    __m512 sum[R][2];
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    span<R, TYPE>(at, round.x + row * round.x_stride, round.x_stride, piece * f.piece_inputs(), (piece + 1) * f.piece_inputs(), sum);
    const bool adds = round.bias && piece == 0;
    const __m512 bias[2] = {adds ? _mm512_maskz_loadu_ps(low, round.bias + output) : _mm512_setzero_ps(),
                            adds ? _mm512_maskz_loadu_ps(high, round.bias + output + 16) : _mm512_setzero_ps()};
    for (int r = 0; r < R; r++) {
      for (int h = 0; h < 2; h++) sums.of[r][h] = adds ? _mm512_add_ps(sum[r][h], bias[h]) : sum[r][h];
    }
    if (f.pieces == 1) break;
    add_piece(waiting, piece, sums, f.pieces, [](Sums &right, const Sums &left) {
      for (int r = 0; r < R; r++) {
        for (int h = 0; h < 2; h++) right.of[r][h] = _mm512_add_ps(left.of[r][h], right.of[r][h]);
      }
    });
  }
  for (int r = 0; r < R; r++) {
    float *y = round.y + (row + r) * round.y_stride + output;
    _mm512_mask_storeu_ps(y, low, sums.of[r][0]);
    _mm512_mask_storeu_ps(y + 16, high, sums.of[r][1]);
  }
}

using GroupRows = void (*)(const Round &, int64_t, int64_t);
template <Type TYPE>
constexpr GroupRows GROUP_ROWS[GROUP + 1] = {
    nullptr,                group_rows<1, TYPE>, group_rows<2, TYPE>, group_rows<3, TYPE>, group_rows<4, TYPE>,
    group_rows<5, TYPE>,    group_rows<6, TYPE>, group_rows<7, TYPE>, group_rows<8, TYPE>, group_rows<9, TYPE>,
    group_rows<10, TYPE>,   group_rows<11, TYPE>, group_rows<12, TYPE>};

template <Type TYPE>
void panels(const Round &round, int64_t first_panel, int64_t end_panel) {
  const int64_t groups = (round.rows + GROUP - 1) / GROUP, most = (round.rows + groups - 1) / groups;
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    for (int64_t row = 0; row < round.rows; row += most) {
      const int64_t left = round.rows - row;
      GROUP_ROWS<TYPE>[left < most ? left : most](round, panel, row);
    }
  }
}

}  // namespace

void floats_avx512(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  (f.bits == 32 ? panels<FP32> : f.flags & SS_BFLOAT ? panels<BF16> : panels<FP16>)(round, first_panel, end_panel);
}

}  // namespace ss
