/**
 * Quantised linears by AMX for many rows; few rows, and floats, are AVX-512's. Not yet run on hardware: tests run it over emulated tiles
 * (tiles.h), and a machine that has tiles runs it only when it has proved itself there (proof.cpp).
 *
 * A product is 16 rows times 16 outputs over a step of 32 inputs, exact as every variant's, in a tile that is stored and scaled from memory. A tile
 * of A is a cell's codes as they lie, one of B 8 lines of a panel: 8 bits as they lie there, 4 bits unpacked once a span for all rows. Two groups of
 * rows take turns: tiles of the next steps are multiplied while those of the last ones are scaled, two steps at a time.
 */
#include <immintrin.h>

#include "linear.h"
#include "panel_avx512.h"
#include "tiles.h"

namespace ss {
namespace {

constexpr int GROUP = 16;
/** Fewer rows cost AVX-512 less. */
constexpr int LEAST = 9;
/** Steps of a panel that are unpacked at once: 8 KB, beside 16 KB of products. */
constexpr int SPAN = 8;
/** Outputs of half a panel times rows of a group. */
constexpr int PRODUCTS = 16 * GROUP;

/** Tiles: rows of two groups, outputs of both halves of a panel, products. */
constexpr int A0 = 0, A1 = 1, B0 = 2, B1 = 3, C00 = 4, C01 = 5, C10 = 6, C11 = 7;
constexpr TileConfig CONFIG = {1, 0, {}, {STEP, STEP, 64, 64, 64, 64, 64, 64}, {GROUP, GROUP, STEP / 4, STEP / 4, GROUP, GROUP, GROUP, GROUP}};

int group_of(int64_t rows) { return rows < LEAST ? avx512.group(rows) : GROUP; }

void round_rows(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  avx512.round_rows(to, x, x_stride, inputs, first, end);
  if (to.group != GROUP || end != to.groups()) return;
  // Rows that the last group lacks are multiplied with the others.
  const int64_t count = to.rows_of(end - 1);
  for (int64_t step = 0; step < to.steps && count < GROUP; step++) {
    int8_t *codes = to.codes(to.cell(end - 1, step));
    for (int w = 0; w < to.width; w++) __builtin_memset(codes + (w * GROUP + count) * STEP, 0, (size_t)(GROUP - count) * STEP);
  }
}

/** Steps of a panel as tiles take them: 8 lines of 128 bytes each, signed codes. */
struct alignas(64) Span {
  uint8_t codes[SPAN][STEP / 4][128];
  float scales[SPAN][PANEL];
  float zeros[SPAN][PANEL];
  const uint8_t *lines[SPAN];
};

/** Makes a span of the steps from `step` on, which begins a block; returns how many. */
template <int BITS, bool ZERO>
int unpack_span(const Format &f, const uint8_t *panel, int64_t step, int64_t steps, Span &span) {
  const int block_steps = f.block / STEP;
  const int count = (int)(steps - step < SPAN ? steps - step : SPAN);
  const uint8_t *at = panel + step / block_steps * f.record_bytes();
  const __m512i nibble = _mm512_set1_epi8(15), offset = _mm512_set1_epi8(ZERO ? 0 : 8);
  for (int s = 0; s < count;) {
    const __m512 scale[2] = {halves(at), halves(at + 32)};
    at += 64;
    __m512 zero[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
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
      if (BITS == 8) {
        span.lines[s] = at;
        at += STEP * PANEL;
        continue;
      }
      span.lines[s] = span.codes[s][0];
      for (int k = 0; k < STEP / 4; k += 2, at += 128) {
        for (int half = 0; half < 128; half += 64) {
          const __m512i packed = _mm512_loadu_si512(at + half);
          const __m512i low = _mm512_and_si512(packed, nibble), high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble);
          _mm512_store_si512(span.codes[s][k] + half, _mm512_sub_epi8(low, offset));
          _mm512_store_si512(span.codes[s][k + 1] + half, _mm512_sub_epi8(high, offset));
        }
      }
    }
  }
  return count;
}

/** Of up to two groups and both halves of a panel. */
struct alignas(64) Products {
  int32_t of[2][2][PRODUCTS];
};

/** Product `unit` of a span: a step's, and of rows of 16 bits first those of the first halves of codes. `cells`: of the groups, from the span's first step on. */
template <int GROUPS, int W>
inline void multiply(const Span &span, int unit, const uint8_t *const *cells, Products &products) {
  const int step = unit / W;
  const int64_t at = (int64_t)step * GROUP * cell_row(W) + unit % W * GROUP * STEP;
  tile_load<B0>(span.lines[step], 128);
  tile_load<B1>(span.lines[step] + 64, 128);
  tile_load<A0>(cells[0] + at, STEP);
  if (GROUPS > 1) tile_load<A1>(cells[1] + at, STEP);
  tile_zero<C00>();
  tile_zero<C01>();
  if (GROUPS > 1) {
    tile_zero<C10>();
    tile_zero<C11>();
  }
  tile_multiply<C00, A0, B0>();
  tile_multiply<C01, A0, B1>();
  if (GROUPS > 1) {
    tile_multiply<C10, A1, B0>();
    tile_multiply<C11, A1, B1>();
  }
  tile_store<C00>(products.of[0][0], 64);
  tile_store<C01>(products.of[0][1], 64);
  if (GROUPS > 1) {
    tile_store<C10>(products.of[1][0], 64);
    tile_store<C11>(products.of[1][1], 64);
  }
}

/** Adds STEPS steps from `step` on to the sums of a group's rows. `cell`: of the first of them; `products`: of its units. */
template <bool ZERO, int W, int STEPS>
inline void scale(const Span &span, int step, const uint8_t *cell, const Products *products, int group, int rows, float *sums) {
  __m512 scales[STEPS][2], zeros[STEPS][2];
  const float *row_scales[STEPS], *code_sums[STEPS];
#pragma clang loop unroll(full)
  for (int s = 0; s < STEPS; s++, cell += GROUP * cell_row(W)) {
    row_scales[s] = (const float *)(cell + GROUP * W * STEP);
    code_sums[s] = (const float *)(cell + GROUP * (W * STEP + 8));
    for (int h = 0; h < 2; h++) {
      scales[s][h] = _mm512_load_ps(span.scales[step + s] + h * 16);
      if (ZERO) zeros[s][h] = _mm512_load_ps(span.zeros[step + s] + h * 16);
    }
  }
  for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
    for (int h = 0; h < 2; h++) {
      __m512 sum = _mm512_load_ps(sums + r * PANEL + h * 16);
#pragma clang loop unroll(full)
      for (int s = 0; s < STEPS; s++) {
        __m512i dot = _mm512_load_si512(products[s * W].of[group][h] + r * 16);
        // First halves of codes count 256 times.
        if (W == 2) dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), _mm512_load_si512(products[s * W + 1].of[group][h] + r * 16));
        __m512 product = _mm512_cvtepi32_ps(dot);
        if (ZERO) product = _mm512_fnmadd_ps(zeros[s][h], _mm512_set1_ps(code_sums[s][r]), product);
        sum = _mm512_fmadd_ps(product, _mm512_mul_ps(scales[s][h], _mm512_set1_ps(row_scales[s][r])), sum);
      }
      _mm512_store_ps(sums + r * PANEL + h * 16, sum);
    }
  }
}

/** What the next span has, asked for step by step; null: it was. */
struct Ahead {
  const uint8_t *at;
  int64_t step_bytes;

  inline void ask(int step) const {
    if (!at) return;
    for (int64_t i = 0; i < step_bytes; i += 64) _mm_prefetch((const char *)at + step * step_bytes + i, _MM_HINT_T0);
  }
};

/** Rows of GROUPS groups over a span. `sums`: [group][GROUP][PANEL]. */
template <int GROUPS, bool ZERO, int W>
void span_rows(const Span &span, int count, const uint8_t *const *cells, const int *rows, float *sums, const Ahead &ahead) {
  // Two units at a time; those of the next two are made while the last two are scaled.
  Products products[2][2];
  const int units = count * W;
  for (int unit = 0; unit < 2 && unit < units; unit++) multiply<GROUPS, W>(span, unit, cells, products[0][unit]);
  for (int unit = 0; unit < units; unit += 2) {
    Products *now = products[unit / 2 % 2], *next = products[(unit / 2 + 1) % 2];
    const int step = unit / W;
    ahead.ask(step);
    if (W == 1 && step + 1 < count) ahead.ask(step + 1);
#pragma clang loop unroll(full)
    for (int turn = 0; turn < 2; turn++) {
      if (unit + 2 + turn < units) multiply<GROUPS, W>(span, unit + 2 + turn, cells, next[turn]);
      if (turn >= GROUPS) continue;
      const uint8_t *cell = cells[turn] + (int64_t)step * GROUP * cell_row(W);
      float *own = sums + turn * GROUP * PANEL;
      if (W == 1 && unit + 1 < units) scale<ZERO, W, 3 - W>(span, step, cell, now, turn, rows[turn], own);
      else scale<ZERO, W, 1>(span, step, cell, now, turn, rows[turn], own);
    }
  }
}

template <int BITS, bool ZERO, int W>
void panels(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  const Rows &rows = round.rounded;
  const int64_t piece_steps = rows.steps / f.pieces;
  const int64_t step_bytes = f.record_bytes() * STEP / f.block;
  Span span;
  alignas(64) float sums[MAX_ROUND_ROWS * PANEL];
  // Only touched where there are pieces.
  Sum waiting[MAX_ROUND_ROWS * PIECE_LEVELS];
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const uint8_t *at = round.weight + panel * f.panel_bytes();
    __builtin_memset(sums, 0, (size_t)round.rows * PANEL * sizeof(float));
    int64_t end = piece_steps;
    int piece = 0;
    for (int64_t step = 0; step < rows.steps;) {
      const int count = unpack_span<BITS, ZERO>(f, at, step, end, span);
      const uint8_t *next = at + (step + count) * STEP / f.block * f.record_bytes();
      for (int64_t group = 0; group < rows.groups(); group += 2) {
        const bool two = group + 1 < rows.groups();
        const uint8_t *const cells[2] = {rows.cell(group, step), two ? rows.cell(group + 1, step) : nullptr};
        const int counts[2] = {(int)rows.rows_of(group), two ? (int)rows.rows_of(group + 1) : 0};
        (two ? span_rows<2, ZERO, W> : span_rows<1, ZERO, W>)(span, count, cells, counts, sums + group * GROUP * PANEL,
                                                              Ahead{group == 0 ? next : nullptr, step_bytes});
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

template <int W>
void quantised_by(const Round &round, int64_t first_panel, int64_t end_panel) {
  const bool zero = round.format.zero();
  if (round.format.bits == 4) (zero ? panels<4, true, W> : panels<4, false, W>)(round, first_panel, end_panel);
  else (zero ? panels<8, true, W> : panels<8, false, W>)(round, first_panel, end_panel);
}

void quantised(const Round &round, int64_t first_panel, int64_t end_panel) {
  if (round.rounded.group != GROUP) return avx512.quantised(round, first_panel, end_panel);
  tile_configure(CONFIG);
  (round.format.width() == 2 ? quantised_by<2> : quantised_by<1>)(round, first_panel, end_panel);
  // A thread whose tiles are not in use is switched without their 8 KB.
  tile_release();
}

}  // namespace

const Variant amx = {"amx-int8", has_tiles, group_of, round_rows, quantised, floats_avx512, &avx512, ask_for_tiles};

}  // namespace ss
