/**
 * The kernels in plain C++, for no processor in particular: what every other variant must give to the bit.
 *
 * Slow; the loader takes another variant or none.
 */
#include <math.h>
#include <string.h>

#include "linear.h"
#include "numbers.h"

namespace ss {
namespace {

bool always() { return true; }
int one(int64_t) { return 1; }

void round_rows(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end) {
  for (int64_t group = first; group < end; group++) {
    for (int r = 0; r < to.group && group * to.group + r < to.rows; r++) {
      const float *row = x + (group * to.group + r) * x_stride;
      for (int64_t step = 0; step < to.steps; step++) {
        uint8_t *cell = to.cell(group, step);
        const int32_t sum = round_step(row, inputs, step, to.codes(cell) + r * STEP, to.second(cell, r), to.scales(cell)[r]);
        to.corrections(cell)[r] = -to.offset * sum;
        to.sums(cell)[r] = (float)sum;
      }
    }
  }
}

/** Code of output `c` at `k` of a block. */
int code_at(const uint8_t *codes, int bits, int c, int k) {
  if (bits == 8) return (int8_t)codes[k / 4 * 128 + c * 4 + k % 4];
  const uint8_t byte = codes[k / 8 * 128 + c * 4 + k % 4];
  return k % 8 < 4 ? byte & 15 : byte >> 4;
}

/** The sum of a piece is whole: the last leaves the sum of all in `sum`, the others 0. */
void end_piece(const Round &round, int64_t output, int piece, float &sum, float *waiting) {
  if (round.bias && piece == 0) sum += round.bias[output];
  add_piece(waiting, piece, sum, round.format.pieces, [](float &right, float left) { right = left + right; });
  if (piece + 1 < round.format.pieces) sum = 0;
}

void quantised(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  const Rows &rows = round.rounded;
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    for (int64_t row = 0; row < round.rows; row++) {
      for (int c = 0; c < PANEL && panel * PANEL + c < f.outputs; c++) {
        float sum = 0, waiting[PIECE_LEVELS];
        int piece = 0;
        for (int64_t step = 0; step < rows.steps; step++) {
          const uint8_t *record = round.weight + panel * f.panel_bytes() + step * STEP / f.block * f.record_bytes();
          const uint8_t *codes = record + (f.zero() ? 128 : 64);
          uint8_t *cell = rows.cell(row / rows.group, step);
          const int r = (int)(row % rows.group);
          int32_t dot = f.bits == 4 ? rows.corrections(cell)[r] : 0;
          for (int k = 0; k < STEP; k++) {
            const int32_t first = rows.codes(cell)[r * STEP + k];
            const int32_t value = rows.width == 2 ? 256 * first + rows.second(cell, r)[k] : first;
            dot += code_at(codes, f.bits, c, (int)(step * STEP % f.block) + k) * value;
          }
          float product = (float)dot;
          if (f.zero()) product = fmaf(-half_at(record + 64, c), rows.sums(cell)[r], product);
          sum = fmaf(product, half_at(record, c) * rows.scales(cell)[r], sum);
          if ((step + 1) * f.pieces % rows.steps == 0) end_piece(round, panel * PANEL + c, piece++, sum, waiting);
        }
        round.y[row * round.y_stride + panel * PANEL + c] = sum;
      }
    }
  }
}

float float_at(const uint8_t *values, const Format &f, int64_t index) {
  if (f.bits == 32) {
    float value;
    memcpy(&value, values + index * 4, 4);
    return value;
  }
  return f.flags & SS_BFLOAT ? bfloat_at(values, index) : half_at(values, index);
}

void floats(const Round &round, int64_t first_panel, int64_t end_panel) {
  const Format &f = round.format;
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    const uint8_t *values = round.weight + panel * f.panel_bytes();
    for (int64_t row = 0; row < round.rows; row++) {
      for (int c = 0; c < PANEL && panel * PANEL + c < f.outputs; c++) {
        float sum = 0, waiting[PIECE_LEVELS];
        int piece = 0;
        for (int64_t k = 0; k < f.inputs; k++) {
          sum = fmaf(float_at(values, f, k * PANEL + c), round.x[row * round.x_stride + k], sum);
          if ((k + 1) % f.piece_inputs() == 0) end_piece(round, panel * PANEL + c, piece++, sum, waiting);
        }
        round.y[row * round.y_stride + panel * PANEL + c] = sum;
      }
    }
  }
}

}  // namespace

const Variant portable = {"portable", always, one, round_rows, quantised, floats};

}  // namespace ss
