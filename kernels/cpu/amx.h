/* amx.h: products by AMX, the matrix registers of newer Xeons: a tile is 16 rows of 64 bytes, and one instruction multiplies two of them
 * and adds to a third. (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; volume 2, TDPBSSD, TDPBF16PS.)
 *
 * Both take b as the other kernels have it packed, and are chosen by tables like theirs: only the innermost part is here.
 */
#ifndef MBK_CPU_AMX_H
#define MBK_CPU_AMX_H

#include "gemm.h"
#include "int8.h"

#ifdef __x86_64__
enum { AMX_ROWS = 16, AMX_COLUMNS = 48 }; /* of c at a time: three tiles beside each other */

/* Whether the processor has it, the kernel lets this process use it (it must be asked once; threads started afterwards may too), and a
 * product comes out right. Changes nothing where it says no. */
int cpu_amx_usable(void);

void cpu_amx_tile_int8(const struct cpu_int8_tile *t);
/* Floats are pairs of bfloat16, as gemm_bf16.c makes them. Sums of pairs go upwards in k; subnormals count as 0. */
void cpu_amx_tile_bf16(const struct cpu_tile *t);
#endif

#endif
