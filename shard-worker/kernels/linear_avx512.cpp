/**
 * Quantised linears by AVX-512: products of 8 bits by VNNI. Rows of 16 bits (W = 2) are two passes of products over codes that are there.
 *
 * Up to FEW rows the codes go from the stream of weights through registers into the products, 32 outputs at a time. More rows:
 * a span of the panel is unpacked into the first-level cache once, and groups of up to six rows go over it with their sums in registers.
 */
#include <immintrin.h>

#include "cpu.h"
#include "linear.h"
#include "numbers.h"
#include "panel_avx512.h"
#include "round_avx512.h"

namespace ss {
namespace {

constexpr int FEW = 4;
constexpr int GROUP = 6;
/** Steps of a panel that are unpacked at once: 16 KB. */
constexpr int SPAN = 16;
/** How far ahead of the reading memory is asked for. */
constexpr int AHEAD = 4096;

bool has_avx512() { return cpu().avx512_vnni; }

/** Groups as even as can be. */
int group_of(int64_t rows) {
  if (rows <= FEW) return (int)(rows < 1 ? 1 : rows);
  if (rows >= 8 * GROUP) return GROUP;
  const int64_t groups = (rows + GROUP - 1) / GROUP;
  return (int)((rows + groups - 1) / groups);
}

/** The four codes of a row that a product takes, for all lanes. */
inline __m512i four(const int8_t *codes) {
  int32_t value;
  __builtin_memcpy(&value, codes, 4);
  return _mm512_set1_epi32(value);
}

/** Unsigned codes: of 8 values (4 bits) or 4 (8 bits) and 32 outputs. */
struct Unpacker {
  const __m512i nibble = _mm512_set1_epi8(15), sign = _mm512_set1_epi8((char)0x80);

  inline __m512i low(__m512i packed) const { return _mm512_and_si512(packed, nibble); }
  inline __m512i high(__m512i packed) const { return _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble); }
  inline __m512i byte(__m512i packed) const { return _mm512_xor_si512(packed, sign); }
};

/** R rows, straight from the stream. */
template <int R, int BITS, bool ZERO, int W>
void few_rows(const Round &round, int64_t panel) {
  const Format &f = round.format;
  const Rows &rows = round.rounded;
  const uint8_t *at = round.weight + panel * f.panel_bytes();
  uint8_t *cell = rows.cells;
  const Unpacker unpack;
  const int block_steps = f.block / STEP;
  const int64_t piece_steps = rows.steps / f.pieces;
  Sum waiting[R][PIECE_LEVELS];
  int64_t end = piece_steps;
  int piece = 0;
  __m512 sum[R][2];
  for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (int64_t step = 0; step < rows.steps;) {
    const __m512 scale[2] = {halves(at), halves(at + 32)};
    __m512 zero[2];
    _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T0);
    at += 64;
    if (ZERO) {
      zero[0] = halves(at);
      zero[1] = halves(at + 32);
      _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T0);
      at += 64;
    }
    for (int inner = 0; inner < block_steps; inner++, step++, cell += R * cell_row(W)) {
      const int8_t *codes = (const int8_t *)cell;
      const float *scales = (const float *)(cell + R * W * STEP);
      const int32_t *corrections = (const int32_t *)(cell + R * (W * STEP + 4));
      const float *sums = (const float *)(cell + R * (W * STEP + 8));
      // Halves of codes have sums of their own, the second halves' begin with the correction.
      __m512i dot[W][R][2], other[W][R][2];
#pragma clang loop unroll(full)
      for (int w = 0; w < W; w++) {
#pragma clang loop unroll(full)
        for (int r = 0; r < R; r++) {
          dot[w][r][0] = dot[w][r][1] = w == W - 1 ? _mm512_set1_epi32(corrections[r]) : _mm512_setzero_si512();
          other[w][r][0] = other[w][r][1] = _mm512_setzero_si512();
        }
      }
#pragma clang loop unroll(full)
      for (int k = 0; k < STEP; k += BITS == 4 ? 8 : 4, at += 128) {
        _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)at + AHEAD + 64, _MM_HINT_T0);
        const __m512i a = _mm512_loadu_si512(at), b = _mm512_loadu_si512(at + 64);
        if (BITS == 4) {
          const __m512i la = unpack.low(a), lb = unpack.low(b), ha = unpack.high(a), hb = unpack.high(b);
#pragma clang loop unroll(full)
          for (int i = 0; i < W * R; i++) {
            const int w = i / R, r = i % R;
            const __m512i first = four(codes + i * STEP + k), second = four(codes + i * STEP + k + 4);
            dot[w][r][0] = _mm512_dpbusd_epi32(dot[w][r][0], la, first);
            dot[w][r][1] = _mm512_dpbusd_epi32(dot[w][r][1], lb, first);
            if (R <= 2) {
              other[w][r][0] = _mm512_dpbusd_epi32(other[w][r][0], ha, second);
              other[w][r][1] = _mm512_dpbusd_epi32(other[w][r][1], hb, second);
            } else {
              dot[w][r][0] = _mm512_dpbusd_epi32(dot[w][r][0], ha, second);
              dot[w][r][1] = _mm512_dpbusd_epi32(dot[w][r][1], hb, second);
            }
          }
        } else {
          const __m512i ua = unpack.byte(a), ub = unpack.byte(b);
#pragma clang loop unroll(full)
          for (int i = 0; i < W * R; i++) {
            const int w = i / R, r = i % R;
            const __m512i first = four(codes + i * STEP + k);
            dot[w][r][0] = _mm512_dpbusd_epi32(dot[w][r][0], ua, first);
            dot[w][r][1] = _mm512_dpbusd_epi32(dot[w][r][1], ub, first);
          }
        }
      }
#pragma clang loop unroll(full)
      for (int r = 0; r < R; r++) {
        const __m512 row_scale = _mm512_set1_ps(scales[r]);
#pragma clang loop unroll(full)
        for (int h = 0; h < 2; h++) {
          if (BITS == 4 && R <= 2) {
            for (int w = 0; w < W; w++) dot[w][r][h] = _mm512_add_epi32(dot[w][r][h], other[w][r][h]);
          }
          const __m512i all = W == 1 ? dot[0][r][h] : _mm512_add_epi32(_mm512_slli_epi32(dot[0][r][h], 8), dot[W - 1][r][h]);
          __m512 product = _mm512_cvtepi32_ps(all);
          if (ZERO) product = _mm512_fnmadd_ps(zero[h], _mm512_set1_ps(sums[r]), product);
          sum[r][h] = _mm512_fmadd_ps(product, _mm512_mul_ps(scale[h], row_scale), sum[r][h]);
        }
      }
    }
    if (step == end) {
#pragma clang loop unroll(full)
      for (int r = 0; r < R; r++) {
        Sum whole{{sum[r][0], sum[r][1]}};
        end_piece(round, panel, piece, whole, waiting[r]);
        sum[r][0] = whole.half[0];
        sum[r][1] = whole.half[1];
      }
      piece++;
      end += piece_steps;
    }
  }
  for (int r = 0; r < R; r++) store(round, panel, r, sum[r][0], sum[r][1]);
}

/** Unpacked steps of a panel. */
struct alignas(64) Span {
  uint8_t codes[SPAN][STEP / 4][128];
  float scales[SPAN][PANEL];
  float zeros[SPAN][PANEL];
};

/** R rows of a group over a span. `sums`: [R][32]. */
template <int R, bool ZERO, int W, bool PREFETCH>
void span_rows(const Span &span, int steps, const uint8_t *cell, int group, float *sums, const uint8_t *next) {
  __m512 sum[R][2];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; r++) {
    sum[r][0] = _mm512_loadu_ps(sums + r * PANEL);
    sum[r][1] = _mm512_loadu_ps(sums + r * PANEL + 16);
  }
  for (int step = 0; step < steps; step++, cell += group * cell_row(W)) {
    const int8_t *codes = (const int8_t *)cell;
    const float *scales = (const float *)(cell + group * W * STEP);
    const int32_t *corrections = (const int32_t *)(cell + group * (W * STEP + 4));
    const float *code_sums = (const float *)(cell + group * (W * STEP + 8));
    __m512i dot[R][2];
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) dot[r][0] = dot[r][1] = W == 1 ? _mm512_set1_epi32(corrections[r]) : _mm512_setzero_si512();
#pragma clang loop unroll(full)
    for (int w = 0; w < W; w++) {
#pragma clang loop unroll(full)
      for (int k = 0; k < STEP / 4; k++) {
        const __m512i a = _mm512_load_si512(span.codes[step][k]), b = _mm512_load_si512(span.codes[step][k] + 64);
        if (PREFETCH && w == 0) _mm_prefetch((const char *)next + step * 576 + k * 64, _MM_HINT_T0);
#pragma clang loop unroll(full)
        for (int r = 0; r < R; r++) {
          const __m512i row = four(codes + (w * group + r) * STEP + k * 4);
          dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], a, row);
          dot[r][1] = _mm512_dpbusd_epi32(dot[r][1], b, row);
        }
      }
      if (w == W - 1) continue;
      // Twice over the codes, in the same registers: first halves count 256 times.
#pragma clang loop unroll(full)
      for (int r = 0; r < R; r++) {
        const __m512i correction = _mm512_set1_epi32(corrections[r]);
        dot[r][0] = _mm512_add_epi32(_mm512_slli_epi32(dot[r][0], 8), correction);
        dot[r][1] = _mm512_add_epi32(_mm512_slli_epi32(dot[r][1], 8), correction);
      }
    }
    if (PREFETCH) _mm_prefetch((const char *)next + step * 576 + 512, _MM_HINT_T0);
    const __m512 scale[2] = {_mm512_load_ps(span.scales[step]), _mm512_load_ps(span.scales[step] + 16)};
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) {
      const __m512 row_scale = _mm512_set1_ps(scales[r]);
#pragma clang loop unroll(full)
      for (int h = 0; h < 2; h++) {
        __m512 product = _mm512_cvtepi32_ps(dot[r][h]);
        if (ZERO) {
          product = _mm512_fnmadd_ps(_mm512_load_ps(span.zeros[step] + h * 16), _mm512_set1_ps(code_sums[r]), product);
        }
        sum[r][h] = _mm512_fmadd_ps(product, _mm512_mul_ps(scale[h], row_scale), sum[r][h]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; r++) {
    _mm512_storeu_ps(sums + r * PANEL, sum[r][0]);
    _mm512_storeu_ps(sums + r * PANEL + 16, sum[r][1]);
  }
}

using SpanRows = void (*)(const Span &, int, const uint8_t *, int, float *, const uint8_t *);
template <bool ZERO, int W, bool PREFETCH>
constexpr SpanRows SPAN_ROWS[GROUP + 1] = {nullptr,
                                             span_rows<1, ZERO, W, PREFETCH>,
                                             span_rows<2, ZERO, W, PREFETCH>,
                                             span_rows<3, ZERO, W, PREFETCH>,
                                             span_rows<4, ZERO, W, PREFETCH>,
                                             span_rows<5, ZERO, W, PREFETCH>,
                                             span_rows<6, ZERO, W, PREFETCH>};

/** Unpacks the steps from `step` on; returns how many. `step` and SPAN are whole blocks. */
template <int BITS, bool ZERO>
int unpack_span(const Format &f, const uint8_t *panel, int64_t step, int64_t steps, Span &span) {
  const int block_steps = f.block / STEP;
  const int count = (int)(steps - step < SPAN ? steps - step : SPAN);
  const uint8_t *at = panel + step / block_steps * f.record_bytes();
  const Unpacker unpack;
  for (int s = 0; s < count;) {
    const __m512 scale[2] = {halves(at), halves(at + 32)};
    at += 64;
    __m512 zero[2];
    if (ZERO) {
      zero[0] = halves(at);
      zero[1] = halves(at + 32);
      at += 64;
    }
    for (int inner = 0; inner < block_steps; inner++, s++) {
      _mm512_store_ps(span.scales[s], scale[0]);
      _mm512_store_ps(span.scales[s] + 16, scale[1]);
      if (ZERO) {
        _mm512_store_ps(span.zeros[s], zero[0]);
        _mm512_store_ps(span.zeros[s] + 16, zero[1]);
      }
      for (int k = 0; k < STEP / 4; k += BITS == 4 ? 2 : 1, at += 128) {
        const __m512i a = _mm512_loadu_si512(at), b = _mm512_loadu_si512(at + 64);
        if (BITS == 4) {
          _mm512_store_si512(span.codes[s][k], unpack.low(a));
          _mm512_store_si512(span.codes[s][k] + 64, unpack.low(b));
          _mm512_store_si512(span.codes[s][k + 1], unpack.high(a));
          _mm512_store_si512(span.codes[s][k + 1] + 64, unpack.high(b));
        } else {
          _mm512_store_si512(span.codes[s][k], unpack.byte(a));
          _mm512_store_si512(span.codes[s][k] + 64, unpack.byte(b));
        }
      }
    }
  }
  return count;
}

template <int BITS, bool ZERO, int W>
void many_rows(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  const Rows &rows = round.rounded;
  const int64_t piece_steps = rows.steps / f.pieces;
  Span span;
  alignas(64) float sums[(MAX_ROUND_ROWS + GROUP) * PANEL];
  // Only touched where there are pieces.
  Sum waiting[MAX_ROUND_ROWS * PIECE_LEVELS];
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const uint8_t *at = round.weight + panel * f.panel_bytes();
    memset(sums, 0, (size_t)round.rows * PANEL * sizeof(float));
    int64_t end = piece_steps;
    int piece = 0;
    for (int64_t step = 0; step < rows.steps;) {
      const int count = unpack_span<BITS, ZERO>(f, at, step, end, span);
      const uint8_t *next = at + (step + count) * STEP / f.block * f.record_bytes();
      for (int64_t group = 0; group < rows.groups(); group++) {
        const int64_t r = rows.rows_of(group);
        (group == 0 ? SPAN_ROWS<ZERO, W, true> : SPAN_ROWS<ZERO, W, false>)[r](span, count, rows.cell(group, step), rows.group,
                                                                              sums + group * rows.group * PANEL, next);
      }
      step += count;
      if (step < end) continue;
      for (int64_t row = 0; row < round.rows; row++) end_row_piece(round, panel, piece, sums + row * PANEL, waiting + row * PIECE_LEVELS);
      piece++;
      end += piece_steps;
    }
    for (int64_t row = 0; row < round.rows; row++) {
      store(round, panel, row, _mm512_load_ps(sums + row * PANEL), _mm512_load_ps(sums + row * PANEL + 16));
    }
  }
}

template <int BITS, bool ZERO, int W>
void quantised_rows(const Round &round, int64_t first_panel, int64_t end_panel) {
  if (round.rows > FEW) return many_rows<BITS, ZERO, W>(round, first_panel, end_panel);
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    switch (round.rows) {
      case 1: few_rows<1, BITS, ZERO, W>(round, panel); break;
      case 2: few_rows<2, BITS, ZERO, W>(round, panel); break;
      case 3: few_rows<3, BITS, ZERO, W>(round, panel); break;
      default: few_rows<4, BITS, ZERO, W>(round, panel);
    }
  }
}

template <int W>
void quantised_by(const Round &round, int64_t first_panel, int64_t end_panel) {
  if (round.format.bits == 4) {
    (round.format.zero() ? quantised_rows<4, true, W> : quantised_rows<4, false, W>)(round, first_panel, end_panel);
  } else {
    (round.format.zero() ? quantised_rows<8, true, W> : quantised_rows<8, false, W>)(round, first_panel, end_panel);
  }
}

void quantised(const Round &round, int64_t first_panel, int64_t end_panel) {
  (round.format.width() == 2 ? quantised_by<2> : quantised_by<1>)(round, first_panel, end_panel);
}

}  // namespace

const Variant avx512 = {"avx512-vnni", has_avx512, group_of, round_rows, quantised, floats_avx512};

}  // namespace ss
