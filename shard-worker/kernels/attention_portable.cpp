/** Attention by what every processor has: NEON on arm64; SSE2 and the C library's fma on x64, where size counts and speed is of no consequence. */
#if defined(__aarch64__)
#define SS_ROWS 2
#define SS_WIDE 2
#define SS_FEW_ROWS 4
#define SS_FEW_WIDE 1
#else
#define SS_ROWS 1
#define SS_WIDE 1
#endif
#include "attention_rows.h"

const ss::AttendVariant ss::attend_portable = {ss::attend_rows, ss::store_halves, ss::store_bytes};
