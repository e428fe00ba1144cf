/* Each field times all the others, y_f = x_f (s - x_f) with s the sum of the fields, and its gradient; see vectors.h. */

#include "vectors.h"

/* x (F, D, B) -> y (F, D, B), its places `from` to `to` of the last two axes as one. */
int multiply_others(const REAL *x_fdb, REAL *y_fdb, long num_rows, long from, long to) {
  for (long i = from; i < to; i += LANES) {
    v sum = {0};
    for (long f = 0; f < F; f++) sum += get(x_fdb + f * D * num_rows + i, to - i);
    for (long f = 0; f < F; f++) {
      v x = get(x_fdb + f * D * num_rows + i, to - i);
      put(y_fdb + f * D * num_rows + i, to - i, x * (sum - x));
    }
  }
  return 0;
}

/* x's gradient, grad_f (s - 2 x_f) + sum_g grad_g x_g. */
int multiply_others_backward(const REAL *x_fdb, const REAL *y_grad_fdb, REAL *x_grad_fdb, long num_rows, long from, long to) {
  for (long i = from; i < to; i += LANES) {
    v sum = {0}, product = {0};
    for (long f = 0; f < F; f++) {
      v x = get(x_fdb + f * D * num_rows + i, to - i);
      sum += x;
      product += x * get(y_grad_fdb + f * D * num_rows + i, to - i);
    }
    for (long f = 0; f < F; f++) {
      long at = f * D * num_rows + i;
      put(x_grad_fdb + at, to - i, get(y_grad_fdb + at, to - i) * (sum - 2 * get(x_fdb + at, to - i)) + product);
    }
  }
  return 0;
}
