/** quantise_lanes.h, compiled for this set of instructions. */
#include "quantise_lanes.h"

namespace ss {

int64_t quantise_avx2(const Source &from, const Format &f, bool search, int64_t panel, uint8_t *record) {
  return quantise_panel(from, f, search, panel, record);
}

}  // namespace ss
