/** scan_lanes.h, compiled for this set of instructions. */
#include "scan_lanes.h"

const ss::Scans ss::scans_avx512 = {scan_blocks, scan_mass, scan_reach, scan_noise};
