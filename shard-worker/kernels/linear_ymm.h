/**
 * Quantised linears by registers of 256 bits, included by linear_avx2.cpp and linear_avxvnni.cpp, which say how four codes are multiplied (`Products`).
 *
 * Up to FEW rows the codes go from the stream of weights through registers into the products. More rows: a span of the panel is unpacked into the
 * first-level cache once, and groups of up to four rows go over it, 16 outputs at a time.
 */
#pragma once
#include <immintrin.h>

#include "cpu.h"
#include "linear.h"
#include "numbers.h"

namespace ss {
namespace {

constexpr int FEW = 2;
constexpr int GROUP = 4;
/** Steps of a panel that are unpacked at once: 8 KB. */
constexpr int SPAN = 8;
constexpr int AHEAD = 4096;

int group_of(int64_t rows) {
  if (rows <= FEW) return (int)(rows < 1 ? 1 : rows);
  if (rows >= 8 * GROUP) return GROUP;
  const int64_t groups = (rows + GROUP - 1) / GROUP;
  return (int)((rows + groups - 1) / groups);
}

inline __m256i magnitudes(__m256 values) { return _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(0x7fffffff)); }

inline uint32_t largest_of(__m256i a) {
  __m128i b = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  b = _mm_max_epu32(b, _mm_shuffle_epi32(b, 0x4e));
  return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(b, _mm_shuffle_epi32(b, 0xb1)));
}

inline int32_t sum_of(__m256i a) {
  __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}

/** 32 codes, each vector of them in the order of inputs. */
inline void store_codes(const __m256i *code, int8_t *to) {
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(code[0], code[1]), _mm256_packs_epi32(code[2], code[3]));
  _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

template <int W>
void round_groups(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  constexpr float LARGEST = largest_code(W);
  for (int64_t group = first; group < end; group++) {
    for (int r = 0; r < (int)to.rows_of(group); r++) {
      const float *row = x + (group * to.group + r) * x_stride;
      for (int64_t step = 0; step < to.steps; step++) {
        uint8_t *cell = to.cell(group, step);
        int8_t *codes = to.codes(cell) + r * STEP;
        if (inputs - step * STEP < STEP) {
          const int32_t sum = round_step(row, inputs, step, codes, to.second(cell, r), to.scales(cell)[r]);
          to.corrections(cell)[r] = -to.offset * sum;
          to.sums(cell)[r] = (float)sum;
          continue;
        }
        __m256 value[4];
        __m256i most = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
          value[i] = _mm256_loadu_ps(row + step * STEP + i * 8);
          most = _mm256_max_epu32(most, magnitudes(value[i]));
        }
        const uint32_t largest = largest_of(most);
        const float magnitude = from_bits(largest);
        const bool is_number = largest < 0x7f800000, counts = is_number && magnitude >= SMALLEST_MAGNITUDE;
        const __m256 factor = _mm256_set1_ps(counts ? LARGEST / magnitude : 0.0f);
        const __m256i keep = _mm256_set1_epi32(counts ? -1 : 0);
        __m256i code[4], second[4], sum = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
          code[i] = _mm256_and_si256(keep, _mm256_cvtps_epi32(_mm256_mul_ps(value[i], factor)));
          if (W == 2) {
            const __m256i high = _mm256_srai_epi32(_mm256_add_epi32(code[i], _mm256_set1_epi32(128)), 8), upper = _mm256_slli_epi32(high, 8);
            second[i] = _mm256_max_epi32(_mm256_sub_epi32(code[i], upper), _mm256_set1_epi32(-127));
            sum = _mm256_add_epi32(sum, _mm256_add_epi32(upper, second[i]));
            code[i] = high;
          } else {
            sum = _mm256_add_epi32(sum, code[i]);
          }
        }
        store_codes(code, codes);
        if (W == 2) store_codes(second, to.second(cell, r));
        const int32_t total = sum_of(sum);
        to.scales(cell)[r] = counts ? magnitude / LARGEST : is_number ? 0.0f : from_bits(0x7fc00000);
        to.corrections(cell)[r] = -to.offset * total;
        to.sums(cell)[r] = (float)total;
      }
    }
  }
}

void round_rows(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  (to.width == 2 ? round_groups<2> : round_groups<1>)(to, x, x_stride, inputs, first, end);
}

inline __m256 halves(const uint8_t *values) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)values)); }

inline __m256i four(const int8_t *codes) {
  int32_t value;
  __builtin_memcpy(&value, codes, 4);
  return _mm256_set1_epi32(value);
}

/** 16 unpacked lines of codes of a step for 16 outputs: [8 fours of inputs][64]. */
template <int BITS>
inline void unpack_step(const uint8_t *lines, int half, uint8_t (*to)[64]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  for (int k = 0; k < STEP / 4; k += BITS == 4 ? 2 : 1) {
    const uint8_t *line = lines + (BITS == 4 ? k / 2 : k) * 128 + half * 64;
    for (int part = 0; part < 64; part += 32) {
      const __m256i codes = _mm256_loadu_si256((const __m256i *)(line + part));
      if (BITS == 4) {
        _mm256_store_si256((__m256i *)(to[k] + part), _mm256_and_si256(codes, nibble));
        _mm256_store_si256((__m256i *)(to[k + 1] + part), _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));
      } else {
        _mm256_store_si256((__m256i *)(to[k] + part), Products<BITS>::stored(codes));
      }
    }
  }
}

struct Header {
  float scales[PANEL], zeros[PANEL];
};

template <bool ZERO>
inline void read_header(const uint8_t *record, Header &header) {
  for (int c = 0; c < PANEL; c += 8) {
    _mm256_storeu_ps(header.scales + c, halves(record + c * 2));
    if (ZERO) _mm256_storeu_ps(header.zeros + c, halves(record + 64 + c * 2));
  }
}

/** R rows of a cell, 16 outputs. `sums`: of row r at r · PANEL. */
template <int R, int BITS, bool ZERO, int W>
inline void step_rows(const uint8_t (*codes)[64], const float *scales, const float *zeros, const uint8_t *cell, int group, float *sums) {
  const int8_t *rows = (const int8_t *)cell;
  const float *row_scales = (const float *)(cell + group * W * STEP);
  const int32_t *corrections = (const int32_t *)(cell + group * (W * STEP + 4));
  const float *row_sums = (const float *)(cell + group * (W * STEP + 8));
  __m256i total[R][2];
#pragma clang loop unroll(full)
  for (int w = 0; w < W; w++) {
    Products<BITS> dot[R][2];
#pragma clang loop unroll(full)
    for (int k = 0; k < STEP / 4; k++) {
      const __m256i a = _mm256_load_si256((const __m256i *)codes[k]), b = _mm256_load_si256((const __m256i *)(codes[k] + 32));
#pragma clang loop unroll(full)
      for (int r = 0; r < R; r++) {
        const __m256i row = four(rows + (w * group + r) * STEP + k * 4);
        dot[r][0].add(a, row);
        dot[r][1].add(b, row);
      }
    }
    // First halves of codes count 256 times; the correction is of both.
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) {
      const int32_t correction = w == W - 1 ? corrections[r] : 0;
#pragma clang loop unroll(full)
      for (int q = 0; q < 2; q++) {
        const __m256i product = dot[r][q].total(correction);
        total[r][q] = w == 0 ? product : _mm256_add_epi32(_mm256_slli_epi32(total[r][q], 8), product);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; r++) {
#pragma clang loop unroll(full)
    for (int q = 0; q < 2; q++) {
      __m256 product = _mm256_cvtepi32_ps(total[r][q]);
      if (ZERO) product = _mm256_fnmadd_ps(_mm256_loadu_ps(zeros + q * 8), _mm256_set1_ps(row_sums[r]), product);
      const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(scales + q * 8), _mm256_set1_ps(row_scales[r]));
      float *sum = sums + r * PANEL + q * 8;
      _mm256_storeu_ps(sum, _mm256_fmadd_ps(product, scale, _mm256_loadu_ps(sum)));
    }
  }
}

/** The sum of a piece is whole: the last leaves the sum of all in `sums`, the others 0. */
void end_piece(const Round &round, int64_t panel, int piece, float *sums, float (*waiting)[PANEL]) {
  struct Sum {
    float of[PANEL];
  };
  Sum &sum = *(Sum *)sums;
  if (round.bias && piece == 0) {
    for (int c = 0; c < PANEL && panel * PANEL + c < round.format.outputs; c++) sum.of[c] += round.bias[panel * PANEL + c];
  }
  if (round.format.pieces == 1) return;
  add_piece((Sum *)waiting, piece, sum, round.format.pieces, [](Sum &right, const Sum &left) {
    for (int c = 0; c < PANEL; c++) right.of[c] = left.of[c] + right.of[c];
  });
  if (piece + 1 < round.format.pieces) memset(sums, 0, sizeof sum);
}

void store(const Round &round, int64_t panel, int64_t row, const float *sums) {
  const int64_t left = round.format.outputs - panel * PANEL;
  memcpy(round.y + row * round.y_stride + panel * PANEL, sums, (size_t)(left < PANEL ? left : PANEL) * sizeof(float));
}

struct alignas(64) Span {
  uint8_t codes[SPAN][2][STEP / 4][64];
  Header header[SPAN];
};

template <int R, int BITS, bool ZERO, int W>
void span_rows(const Span &span, int steps, const uint8_t *cell, int group, float *sums) {
  for (int half = 0; half < 2; half++) {
    for (int s = 0; s < steps; s++) {
      const Header &header = span.header[s];
      const uint8_t *at = cell + s * group * cell_row(W);
      step_rows<R, BITS, ZERO, W>(span.codes[s][half], header.scales + half * 16, header.zeros + half * 16, at, group, sums + half * 16);
    }
  }
}

template <int BITS, bool ZERO, int W>
void panels(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  const Rows &rows = round.rounded;
  const int block_steps = f.block / STEP;
  const int64_t piece_steps = rows.steps / f.pieces;
  using SpanRows = void (*)(const Span &, int, const uint8_t *, int, float *);
  constexpr SpanRows BY_ROWS[] = {nullptr, span_rows<1, BITS, ZERO, W>, span_rows<2, BITS, ZERO, W>, span_rows<3, BITS, ZERO, W>, span_rows<4, BITS, ZERO, W>};
  Span span;
  alignas(64) float sums[(MAX_ROUND_ROWS + GROUP) * PANEL];
  // Only touched where there are pieces.
  float waiting[MAX_ROUND_ROWS][PIECE_LEVELS][PANEL];
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const uint8_t *record = round.weight + panel * f.panel_bytes();
    memset(sums, 0, (size_t)round.rows * PANEL * sizeof(float));
    int64_t end = piece_steps, done = 0;
    int piece = 0;
    while (done < rows.steps) {
      int count = 0;
      // A block may be as long as a span, never longer; few rows take a block at a time, so that memory is read evenly.
      while (done + count < end && count + block_steps <= SPAN && (count == 0 || round.rows > FEW)) {
        Header header;
        read_header<ZERO>(record, header);
        const uint8_t *lines = record + (ZERO ? 128 : 64);
        for (int64_t ahead = 0; ahead < f.record_bytes(); ahead += 64) _mm_prefetch((const char *)record + AHEAD + ahead, _MM_HINT_T0);
        for (int inner = 0; inner < block_steps; inner++, count++) {
          span.header[count] = header;
          for (int half = 0; half < 2; half++) unpack_step<BITS>(lines + inner * STEP * PANEL * BITS / 8, half, span.codes[count][half]);
        }
        record += f.record_bytes();
      }
      for (int64_t group = 0; group < rows.groups(); group++) {
        BY_ROWS[rows.rows_of(group)](span, count, rows.cell(group, done), rows.group, sums + group * rows.group * PANEL);
      }
      done += count;
      if (done < end) continue;
      for (int64_t row = 0; row < round.rows; row++) end_piece(round, panel, piece, sums + row * PANEL, waiting[row]);
      piece++;
      end += piece_steps;
    }
    for (int64_t row = 0; row < round.rows; row++) store(round, panel, row, sums + row * PANEL);
  }
}

template <int W>
void quantised_by(const Round &round, int64_t first_panel, int64_t end_panel) {
  const bool zero = round.format.zero();
  if (round.format.bits == 4) (zero ? panels<4, true, W> : panels<4, false, W>)(round, first_panel, end_panel);
  else (zero ? panels<8, true, W> : panels<8, false, W>)(round, first_panel, end_panel);
}

void quantised(const Round &round, int64_t first_panel, int64_t end_panel) {
  (round.format.width() == 2 ? quantised_by<2> : quantised_by<1>)(round, first_panel, end_panel);
}

}  // namespace
}  // namespace ss
