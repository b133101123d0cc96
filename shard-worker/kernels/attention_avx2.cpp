/** Attention by AVX2 with FMA and F16C: 16 registers of 8 floats. */
#if defined(__x86_64__)
#define SS_ROWS 2
#define SS_WIDE 2
#define SS_FEW_ROWS 4
#define SS_FEW_WIDE 1
#include "attention_rows.h"

const ss::AttendVariant ss::attend_avx2 = {ss::attend_rows, ss::store_halves, ss::store_bytes};
#endif
