/**
 * A linear in rounds of rows: rounds activations, then multiplies panels, both split over threads.
 *
 * In      a call whose format and sizes were checked, or C arguments, which are checked here
 * Limits  scratch memory: rounded rows of one round, about 1.3 MB or one group of rows
 * Errors  SS_… codes; nothing is written unless it is SS_OK
 */
#include "linear.h"

#include <stdlib.h>

namespace ss {

bool Format::valid() const {
  if (inputs < 1 || outputs < 1 || inputs > SS_MAX_SIZE || outputs > SS_MAX_SIZE) return false;
  if (pieces < 1 || pieces > MAX_PIECES || (pieces & (pieces - 1)) != 0 || inputs % pieces != 0) return false;
  if (bits == 4 || bits == 8) {
    if (pieces > 1 && (block < 1 || inputs / pieces % block != 0)) return false;
    return (block == 32 || block == 64 || block == 128 || block == 256) && (flags & ~(SS_ZERO | SS_ROWS16)) == 0;
  }
  if (block != 0) return false;
  return bits == 16 ? (flags & ~SS_BFLOAT) == 0 : bits == 32 && flags == 0;
}

namespace {

struct Work {
  const Variant *kernels;
  const Round *round;
  int64_t first, end, parts;
};

void part_of(const Work &work, size_t index, int64_t &first, int64_t &end) {
  const int64_t count = work.end - work.first;
  first = work.first + count * (int64_t)index / work.parts;
  end = work.first + count * ((int64_t)index + 1) / work.parts;
}

void multiply_part(void *data, size_t index) {
  const Work &work = *(const Work *)data;
  int64_t first, end;
  part_of(work, index, first, end);
  (work.round->format.quantised() ? work.kernels->quantised : work.kernels->floats)(*work.round, first, end);
}

void round_part(void *data, size_t index) {
  const Work &work = *(const Work *)data;
  const Round &round = *work.round;
  int64_t first, end;
  part_of(work, index, first, end);
  work.kernels->round_rows(round.rounded, round.x, round.x_stride, round.format.inputs, first, end);
}

int32_t split(void (*part)(void *, size_t), Work &work, const Parallel &parallel, int64_t parts) {
  work.parts = parts < work.end - work.first ? parts : work.end - work.first;
  if (work.parts > 1) return parallel.run(parallel.context, part, (size_t)work.parts, &work);
  if (work.parts == 1) part(&work, 0);
  return SS_OK;
}

/** Rows of a round: as many as stay in the cache, whole groups. */
int64_t round_rows(const Call &call) {
  const int64_t row_bytes = call.format.quantised() ? call.format.steps() * cell_row(call.format.width()) : call.format.inputs * 4;
  int64_t rows = ROUND_BYTES / row_bytes;
  if (rows > MAX_ROUND_ROWS) rows = MAX_ROUND_ROWS;
  rows = rows / 48 * 48;  // 48: whole groups of every variant
  if (rows < 48) rows = 48;
  return rows < call.rows ? rows : call.rows;
}

}  // namespace

int32_t linear(const Variant &kernels, const Call &call, const Parallel &parallel) {
  if (call.rows == 0 || call.first_panel == call.end_panel) return SS_OK;
  const int64_t most = round_rows(call);
  Round round{};
  round.format = call.format;
  round.weight = call.weight;
  round.bias = call.bias;
  round.x_stride = call.x_stride;
  round.y_stride = call.y_stride;
  void *scratch = nullptr;
  if (call.format.quantised()) {
    round.rounded.steps = call.format.steps();
    round.rounded.offset = call.format.offset();
    round.rounded.width = call.format.width();
    // The last group of a round may be partly empty.
    const size_t bytes = (size_t)((most + MAX_GROUP) * round.rounded.steps * cell_row(round.rounded.width));
    scratch = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!scratch) return SS_NO_MEMORY;
    round.rounded.cells = (uint8_t *)scratch;
  }
  int32_t error = SS_OK;
  for (int64_t row = 0; row < call.rows && error == SS_OK; row += most) {
    round.rows = call.rows - row < most ? call.rows - row : most;
    round.x = call.x + row * call.x_stride;
    round.y = call.y + row * call.y_stride;
    Work work{&kernels, &round, 0, 0, 1};
    if (call.format.quantised()) {
      round.rounded.rows = round.rows;
      round.rounded.group = kernels.group(round.rows);
      work.end = round.rounded.groups();
      // A few rows are rounded faster than another thread is woken.
      error = split(round_part, work, parallel, round.rows > 16 ? parallel.threads : 1);
      if (error != SS_OK) break;
    }
    work.first = call.first_panel;
    work.end = call.end_panel;
    error = split(multiply_part, work, parallel, parallel.threads);
  }
  free(scratch);
  return error;
}

}  // namespace ss

int64_t ss_panel_bytes(int64_t inputs, int64_t outputs, int32_t bits, int32_t block, int32_t flags) {
  const ss::Format format{inputs, outputs, bits, block, flags, 1};
  return format.valid() ? format.panels() * format.panel_bytes() : 0;
}

int32_t ss_linear(const float *x, int64_t x_stride, const void *weight, const float *bias, float *y, int64_t y_stride,
                  int64_t rows, int64_t inputs, int64_t outputs, int32_t bits, int32_t block, int32_t flags,
                  int32_t pieces, int64_t first_panel, int64_t end_panel) {
  const ss::Format format{inputs, outputs, bits, block, flags, pieces};
  if (!format.valid()) {
    return inputs < 1 || outputs < 1 || inputs > SS_MAX_SIZE || outputs > SS_MAX_SIZE ? SS_BAD_SIZE : SS_BAD_FORMAT;
  }
  if (rows < 0 || first_panel < 0 || first_panel > end_panel || end_panel > format.panels()) return SS_BAD_SIZE;
  if (x_stride < inputs || y_stride < outputs) return SS_BAD_SIZE;
  const ss::Call call{format, x, x_stride, (const uint8_t *)weight, bias, y, y_stride, rows, first_panel, end_panel};
  return ss::linear(ss::variant(), call, ss::Parallel{nullptr, nullptr, 1});
}
