/* What attending.c, multiplying.c and mixing.c are written in: vectors of rows.

   Compiled by kernels.py for one log's shape and one type of number: -DFIELDS= -DWIDTH= -DREAL=. Tensors lie as in the rest
   of this folder, the batch as the last axis; a vector holds 16 (float) or 8 (double) rows of one field and place, whatever
   the processor has, so that sums are added up in one order everywhere. Letters: B rows, F fields, D embedding width,
   E edges, O operators. Each function works on a range of rows or of fields and gives 0, or 1 where memory is short. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define F FIELDS
#define D WIDTH
#define LANES ((long)(64 / sizeof(REAL)))
#define UNROLL _Pragma("GCC unroll 5")
#define INLINE static inline __attribute__((always_inline))

typedef REAL v __attribute__((vector_size(64)));
typedef REAL unaligned __attribute__((vector_size(64), aligned(sizeof(REAL))));
typedef __typeof__((v){0} < (v){0}) mask;

INLINE v pick(mask condition, v yes, v no) { return (v)((condition & (mask)yes) | (~condition & (mask)no)); }
INLINE v larger(v bound, v value) { return pick(bound > value, bound, value); } /* a value that is no number stays one */

/* The vector at `from`, of which `count` places are there; the others are 0. */
INLINE v get(const REAL *from, long count) {
  if (count >= LANES) return *(const unaligned *)from;
  v value = {0};
  memcpy(&value, from, count * sizeof(REAL));
  return value;
}

/* The first `count` places of a vector, the others 0. */
INLINE v first(long count, v value) {
  for (long lane = count; lane < LANES; lane++) value[lane] = 0;
  return value;
}

INLINE void put(REAL *to, long count, v value) {
  if (count >= LANES) *(unaligned *)to = value;
  else memcpy(to, &value, count * sizeof(REAL));
}

INLINE REAL sum_of(v value) {
  REAL sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += value[lane];
  return sum;
}
