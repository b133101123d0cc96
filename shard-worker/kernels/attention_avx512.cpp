/** Attention by AVX-512: 32 registers of 16 floats. */
#if defined(__x86_64__)
#define SS_ROWS 4
#define SS_WIDE 4
#define SS_FEW_ROWS 8
#define SS_FEW_WIDE 2
#include "attention_rows.h"

const ss::AttendVariant ss::attend_avx512 = {ss::attend_rows, ss::store_halves, ss::store_bytes};
#endif
