/**
 * Linears by NEON, included by linear_dotprod.cpp and linear_i8mm.cpp, which say how codes lie when they are unpacked (`arrange`) and how they are
 * multiplied (`multiply`); floats by NEON's FMA.
 *
 * A span of the panel is unpacked into the first-level cache, and groups of up to four rows go over it, 16 outputs at a time.
 */
#pragma once
#include <arm_neon.h>
#include <string.h>

#include "linear.h"
#include "numbers.h"

namespace ss {
namespace {

constexpr int GROUP = 4;
/** Steps of a panel that are unpacked at once: 8 KB. */
constexpr int SPAN = 8;

int group_of(int64_t rows) {
  if (rows <= GROUP) return (int)(rows < 1 ? 1 : rows);
  if (rows >= 8 * GROUP) return GROUP;
  const int64_t groups = (rows + GROUP - 1) / GROUP;
  return (int)((rows + groups - 1) / groups);
}

/** 16 codes of four vectors. */
inline void store_codes(const int32x4_t *code, int8_t *to) {
  const int16x8_t a = vcombine_s16(vmovn_s32(code[0]), vmovn_s32(code[1]));
  const int16x8_t b = vcombine_s16(vmovn_s32(code[2]), vmovn_s32(code[3]));
  vst1q_s8(to, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
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
        int32_t total;
        if (inputs - step * STEP < STEP) {
          total = round_step(row, inputs, step, codes, to.second(cell, r), to.scales(cell)[r]);
        } else {
          float32x4_t value[8];
          uint32x4_t most = vdupq_n_u32(0);
          for (int i = 0; i < 8; i++) {
            value[i] = vld1q_f32(row + step * STEP + i * 4);
            most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(value[i]), vdupq_n_u32(0x7fffffff)));
          }
          const uint32_t largest = vmaxvq_u32(most);
          const float magnitude = from_bits(largest);
          const bool is_number = largest < 0x7f800000, counts = is_number && magnitude >= SMALLEST_MAGNITUDE;
          const float factor = counts ? LARGEST / magnitude : 0.0f;
          const int32x4_t keep = vdupq_n_s32(counts ? -1 : 0);
          int32x4_t code[8], second[8], sum = vdupq_n_s32(0);
          for (int i = 0; i < 8; i++) {
            code[i] = vandq_s32(keep, vcvtnq_s32_f32(vmulq_n_f32(value[i], factor)));
            if (W == 2) {
              const int32x4_t high = vshrq_n_s32(vaddq_s32(code[i], vdupq_n_s32(128)), 8), upper = vshlq_n_s32(high, 8);
              second[i] = vmaxq_s32(vsubq_s32(code[i], upper), vdupq_n_s32(-127));
              sum = vaddq_s32(sum, vaddq_s32(upper, second[i]));
              code[i] = high;
            } else {
              sum = vaddq_s32(sum, code[i]);
            }
          }
          for (int i = 0; i < 8; i += 4) {
            store_codes(code + i, codes + i * 4);
            if (W == 2) store_codes(second + i, to.second(cell, r) + i * 4);
          }
          total = vaddvq_s32(sum);
          to.scales(cell)[r] = counts ? magnitude / LARGEST : is_number ? 0.0f : from_bits(0x7fc00000);
        }
        to.corrections(cell)[r] = -to.offset * total;
        to.sums(cell)[r] = (float)total;
      }
    }
  }
}

void round_rows(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  (to.width == 2 ? round_groups<2> : round_groups<1>)(to, x, x_stride, inputs, first, end);
}

inline float32x4_t halves(const uint8_t *values) {
  uint16x4_t bits;
  memcpy(&bits, values, 8);
  return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

struct Header {
  float scales[PANEL], zeros[PANEL];
};

/** Signed codes: of 4 bits 0 … 15, of 8 bits as stored. */
struct alignas(64) Span {
  int8_t codes[SPAN][STEP / 4][128];
  Header header[SPAN];
};

/** R rows of a cell and 16 outputs from `output` on. `sums`: of row r at r · PANEL. */
template <int R, int BITS, bool ZERO, int W>
inline void step_rows(const int8_t (*codes)[128], const Header &header, int output, const uint8_t *cell, int group, float *sums) {
  const float *row_scales = (const float *)(cell + group * W * STEP);
  const int32_t *corrections = (const int32_t *)(cell + group * (W * STEP + 4));
  const float *row_sums = (const float *)(cell + group * (W * STEP + 8));
  int32x4_t dot[R][4];
  multiply<R, W>(codes[0], output, (const int8_t *)cell, group, dot);
#pragma clang loop unroll(full)
  for (int r = 0; r < R; r++) {
#pragma clang loop unroll(full)
    for (int q = 0; q < 4; q++) {
      if (BITS == 4) dot[r][q] = vaddq_s32(dot[r][q], vdupq_n_s32(corrections[r]));
      float32x4_t product = vcvtq_f32_s32(dot[r][q]);
      if (ZERO) product = vfmsq_f32(product, vld1q_f32(header.zeros + output + q * 4), vdupq_n_f32(row_sums[r]));
      const float32x4_t scale = vmulq_n_f32(vld1q_f32(header.scales + output + q * 4), row_scales[r]);
      float *sum = sums + r * PANEL + output + q * 4;
      vst1q_f32(sum, vfmaq_f32(vld1q_f32(sum), product, scale));
    }
  }
}

template <int R, int BITS, bool ZERO, int W>
void span_rows(const Span &span, int steps, const uint8_t *cell, int group, float *sums) {
  for (int output = 0; output < PANEL; output += 16) {
    for (int s = 0; s < steps; s++) {
      step_rows<R, BITS, ZERO, W>(span.codes[s], span.header[s], output, cell + s * group * cell_row(W), group, sums);
    }
  }
}

/** Signed codes of a step, as `multiply` takes them: [STEP · PANEL]. */
template <int BITS>
inline void unpack_step(const uint8_t *lines, int8_t *to) {
  for (int k = 0; k < STEP; k += 8, to += 8 * PANEL) {
    for (int part = 0; part < 4 * PANEL; part += 16) {
      if (BITS == 8) {
        const int8_t *at = (const int8_t *)lines + k * PANEL + part;
        arrange(vld1q_s8(at), vld1q_s8(at + 4 * PANEL), part, to);
      } else {
        const uint8x16_t codes = vld1q_u8(lines + k / 2 * PANEL + part);
        arrange(vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(codes, 4)), part, to);
      }
    }
  }
}

struct Sum {
  float of[PANEL];
};

/** The sum of a piece is whole: the last leaves the sum of all in `sum`, the others 0. */
void end_piece(const Round &round, int64_t panel, int piece, Sum &sum, Sum *waiting) {
  if (round.bias && piece == 0) {
    for (int c = 0; c < PANEL && panel * PANEL + c < round.format.outputs; c++) sum.of[c] += round.bias[panel * PANEL + c];
  }
  if (round.format.pieces == 1) return;
  add_piece(waiting, piece, sum, round.format.pieces, [](Sum &right, const Sum &left) {
    for (int c = 0; c < PANEL; c++) right.of[c] = left.of[c] + right.of[c];
  });
  if (piece + 1 < round.format.pieces) memset(&sum, 0, sizeof sum);
}

void store(const Round &round, int64_t panel, int64_t row, const float *sums) {
  const int64_t left = round.format.outputs - panel * PANEL;
  memcpy(round.y + row * round.y_stride + panel * PANEL, sums, (size_t)(left < PANEL ? left : PANEL) * sizeof(float));
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
  Sum sums[MAX_ROUND_ROWS];
  // Only touched where there are pieces.
  Sum waiting[MAX_ROUND_ROWS][PIECE_LEVELS];
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const uint8_t *record = round.weight + panel * f.panel_bytes();
    memset(sums, 0, (size_t)round.rows * sizeof(Sum));
    int64_t end = piece_steps, done = 0;
    int piece = 0;
    while (done < rows.steps) {
      int count = 0;
      while (done + count < end && count + block_steps <= SPAN) {
        Header header;
        for (int c = 0; c < PANEL; c += 4) {
          vst1q_f32(header.scales + c, halves(record + c * 2));
          if (ZERO) vst1q_f32(header.zeros + c, halves(record + 64 + c * 2));
        }
        const uint8_t *lines = record + (ZERO ? 128 : 64);
        for (int inner = 0; inner < block_steps; inner++, count++) {
          span.header[count] = header;
          unpack_step<BITS>(lines + inner * STEP * PANEL * BITS / 8, span.codes[count][0]);
        }
        record += f.record_bytes();
      }
      for (int64_t group = 0; group < rows.groups(); group++) {
        BY_ROWS[rows.rows_of(group)](span, count, rows.cell(group, done), rows.group, sums[group * rows.group].of);
      }
      done += count;
      if (done < end) continue;
      for (int64_t row = 0; row < round.rows; row++) end_piece(round, panel, piece, sums[row], waiting[row]);
      piece++;
      end += piece_steps;
    }
    for (int64_t row = 0; row < round.rows; row++) store(round, panel, row, sums[row].of);
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

enum Type { FP32, FP16, BF16 };

template <Type TYPE>
inline float32x4_t weights(const uint8_t *at, int64_t index) {
  if (TYPE == FP32) return vld1q_f32((const float *)at + index);
  if (TYPE == FP16) return halves(at + index * 2);
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)at + index), 16));
}

/** R rows and 16 outputs, one chain of FMA a row and output. */
template <int R, Type TYPE>
void float_rows(const uint8_t *panel, const float *x, int64_t stride, int64_t first, int64_t end, int output, Sum *sums) {
  float32x4_t sum[R][4];
  for (int r = 0; r < R; r++) {
    for (int q = 0; q < 4; q++) sum[r][q] = vdupq_n_f32(0);
  }
  for (int64_t k = first; k < end; k++) {
    float32x4_t w[4];
    for (int q = 0; q < 4; q++) w[q] = weights<TYPE>(panel, k * PANEL + output + q * 4);
#pragma clang loop unroll(full)
    for (int r = 0; r < R; r++) {
      for (int q = 0; q < 4; q++) sum[r][q] = vfmaq_n_f32(sum[r][q], w[q], x[r * stride + k]);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int q = 0; q < 4; q++) vst1q_f32(sums[r].of + output + q * 4, sum[r][q]);
  }
}

template <Type TYPE>
void float_panels(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  using FloatRows = void (*)(const uint8_t *, const float *, int64_t, int64_t, int64_t, int, Sum *);
  constexpr FloatRows BY_ROWS[] = {nullptr, float_rows<1, TYPE>, float_rows<2, TYPE>, float_rows<3, TYPE>, float_rows<4, TYPE>};
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const uint8_t *at = round.weight + panel * f.panel_bytes();
    for (int64_t row = 0; row < round.rows; row += GROUP) {
      const int count = round.rows - row < GROUP ? (int)(round.rows - row) : GROUP;
      Sum sums[GROUP], waiting[GROUP][PIECE_LEVELS];
      for (int piece = 0; piece < f.pieces; piece++) {
        const int64_t first = piece * f.piece_inputs(), end = first + f.piece_inputs();
        for (int output = 0; output < PANEL; output += 16) {
          BY_ROWS[count](at, round.x + row * round.x_stride, round.x_stride, first, end, output, sums);
        }
        for (int r = 0; r < count; r++) end_piece(round, panel, piece, sums[r], waiting[r]);
      }
      for (int r = 0; r < count; r++) store(round, panel, row + r, sums[r].of);
    }
  }
}

void floats(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  (f.bits == 32 ? float_panels<FP32> : f.flags & SS_BFLOAT ? float_panels<BF16> : float_panels<FP16>)(round, first_panel, end_panel);
}

}  // namespace
}  // namespace ss
