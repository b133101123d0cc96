/** Attention by What every processor has: NEON on arm64, SSE2 and the C library's fma on x64. */
#define SS_ROWS 2
#define SS_WIDE 2
#include "attention_rows.h"

const ss::AttendVariant ss::attend_portable = {ss::attend_rows, ss::store_halves, ss::store_bytes};
