/**
 * Rows of a checkpoint become panels: quantised, or converted to another float.
 *
 * In      float32, float16 or bfloat16 [outputs, inputs]
 * Out     whole panels; bytes are the same on every machine
 * Errors  SS_BAD_NUMBER with the place of a NaN, an infinity, or a number that the format cannot hold; the panels are not to be used then
 */
#include "quantise.h"

#include "quantise_lanes.h"
#if defined(__x86_64__)
#include "cpu.h"
#endif

namespace ss {

int64_t quantise_plain(const Source &from, const Format &f, bool search, int64_t panel, uint8_t *record) {
  return quantise_panel(from, f, search, panel, record);
}

namespace {

QuantisePanel best_quantise() {
#if defined(__x86_64__)
  if (cpu().avx512) return quantise_avx512;
  if (cpu().avx2) return quantise_avx2;
#endif
  return quantise_plain;
}

int64_t convert_panel(const Source &from, const Format &f, int64_t panel, uint8_t *to) {
  for (int64_t c = 0; c < PANEL; c++) {
    const int64_t row = panel * PANEL + c;
    for (int64_t k = 0; k < f.inputs; k++) {
      const float value = row < f.outputs ? from.at(row, k) : 0;
      const int64_t index = k * PANEL + c;
      if (f.bits == 32) {
        memcpy(to + index * 4, &value, 4);
        continue;
      }
      const uint16_t half = f.flags & SS_BFLOAT ? float_to_bfloat(value) : float_to_half(value);
      const uint16_t infinity = f.flags & SS_BFLOAT ? 0x7f80 : 0x7c00;
      if ((half & 0x7fff) >= infinity) return row * f.inputs + k;
      memcpy(to + index * 2, &half, 2);
    }
  }
  return -1;
}

}  // namespace
}  // namespace ss

int32_t ss_quantise(const void *rows, int32_t type, int64_t row_stride, int64_t outputs, int64_t inputs, int32_t bits,
                    int32_t block, int32_t flags, const float *importance, uint8_t *panels, int64_t first_panel,
                    int64_t end_panel, int64_t *bad) {
  using namespace ss;
  const Format f{inputs, outputs, bits, block, flags & ~SS_SEARCH, 1};
  if (!f.valid() || type < 0 || type > 2) return SS_BAD_FORMAT;
  if (row_stride < inputs || first_panel < 0 || first_panel > end_panel || end_panel > f.panels()) return SS_BAD_SIZE;
  const QuantisePanel quantise = best_quantise();
  const Source from{(const uint8_t *)rows, (Type)type, row_stride, importance};
  for (int64_t panel = first_panel; panel < end_panel; panel++) {
    uint8_t *to = panels + (panel - first_panel) * f.panel_bytes();
    const int64_t at = f.quantised() ? quantise(from, f, (flags & SS_SEARCH) != 0, panel, to) : convert_panel(from, f, panel, to);
    if (at < 0) continue;
    *bad = at;
    return SS_BAD_NUMBER;
  }
  return SS_OK;
}
