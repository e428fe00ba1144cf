/* Self-attention among the fields on all edges that leave a node, y_f = V sum_g softmax_g(x_f' M x_g) x_g, and its gradients;
   see vectors.h. A vector of rows goes through all steps at once and never leaves the core's first cache; the backward pass
   weighs anew, which is cheaper than to read weights from memory. */

#include "vectors.h"

/* exp of what is not above 0. For float: 2^n times the Taylor polynomial of 2^r, r in -.5 .. .5, to 2 units in the last place. */
INLINE v exponential(v x) {
  if (sizeof(REAL) == sizeof(double)) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = exp(x[lane]);
    return x;
  }
  v scaled = larger((v){0} - (REAL)87, x) * (REAL)1.4426950408889634;
  v shifted = scaled + (REAL)12582912; /* 1.5 * 2^23: the mantissa's last places hold the rounded integer */
  v r = scaled - (shifted - (REAL)12582912);
  v power = (v){0} + (REAL)1.5403530393381608e-4;
  power = power * r + (REAL)1.3333558146428443e-3;
  power = power * r + (REAL)9.6181291076284772e-3;
  power = power * r + (REAL)5.5504108664821580e-2;
  power = power * r + (REAL)2.4022650695910071e-1;
  power = power * r + (REAL)6.9314718055994531e-1;
  power = power * r + (REAL)1;
  mask exponent = ((mask)shifted - 0x4b400000) << 23;
  return pick(x == x, (v)((mask)power + exponent), x);
}

/* out[i, j] = sum_k a[i, k] b[k, j], added to what is there if `adds`; every element of `out` and `a` is a vector, of `b` a
   vector or a number. Strides: o, a, b by the letter of the axis. Five by five sums at a time are what registers hold. */
#define PRODUCT(NAME, RIGHT)                                                                                          \
  INLINE void NAME##_tile(v *out, long oi, long oj, const v *a, long ai, long ak, const RIGHT *b, long bk, long bj,   \
                          int ni, int nj, int nk, int adds) {                                                         \
    v sums[5][5];                                                                                                     \
    UNROLL for (int i = 0; i < ni; i++) UNROLL for (int j = 0; j < nj; j++)                                           \
      sums[i][j] = adds ? out[i * oi + j * oj] : (v){0};                                                              \
    for (int k = 0; k < nk; k++) {                                                                                    \
      v left[5];                                                                                                      \
      UNROLL for (int i = 0; i < ni; i++) left[i] = a[i * ai + k * ak];                                               \
      UNROLL for (int j = 0; j < nj; j++) {                                                                           \
        const RIGHT right = b[k * bk + j * bj];                                                                       \
        UNROLL for (int i = 0; i < ni; i++) sums[i][j] += left[i] * right;                                            \
      }                                                                                                               \
    }                                                                                                                 \
    UNROLL for (int i = 0; i < ni; i++) UNROLL for (int j = 0; j < nj; j++) out[i * oi + j * oj] = sums[i][j];        \
  }                                                                                                                   \
  INLINE void NAME##_rows(v *out, long oi, long oj, const v *a, long ai, long ak, const RIGHT *b, long bk, long bj,   \
                          int ni, int nj, int nk, int adds) {                                                         \
    int j = 0;                                                                                                        \
    for (; j + 5 <= nj; j += 5)                                                                                       \
      NAME##_tile(out + j * oj, oi, oj, a, ai, ak, b + j * bj, bk, bj, ni, 5, nk, adds);                              \
    for (; j < nj; j++) NAME##_tile(out + j * oj, oi, oj, a, ai, ak, b + j * bj, bk, bj, ni, 1, nk, adds);            \
  }                                                                                                                   \
  INLINE void NAME(v *out, long oi, long oj, const v *a, long ai, long ak, const RIGHT *b, long bk, long bj,          \
                   int ni, int nj, int nk, int adds) {                                                                \
    int i = 0;                                                                                                        \
    for (; i + 5 <= ni; i += 5)                                                                                       \
      NAME##_rows(out + i * oi, oi, oj, a + i * ai, ai, ak, b, bk, bj, 5, nj, nk, adds);                              \
    for (; i < ni; i++) NAME##_rows(out + i * oi, oi, oj, a + i * ai, ai, ak, b, bk, bj, 1, nj, nk, adds);            \
  }
PRODUCT(by_vectors, v)
PRODUCT(by_numbers, REAL)

/* What every field asks for, x_f' M (F, D), and how much it takes of each field (F, F). */
static void weigh(const v *x, const REAL *pairing, v *asked, v *weights) {
  by_numbers(asked, D, 1, x, D, 1, pairing, D, 1, F, D, D, 0);
  by_vectors(weights, F, 1, asked, D, 1, x, 1, D, F, F, D, 0);
  for (int f = 0; f < F; f++) {
    v *row = weights + f * F, most = row[0], sum = {0};
    for (int g = 1; g < F; g++) most = larger(row[g], most);
    for (int g = 0; g < F; g++) sum += row[g] = exponential(row[g] - most);
    sum = 1 / sum;
    for (int g = 0; g < F; g++) row[g] *= sum;
  }
}

/* x (F, D, B), pairing M and value V (E, D, D) -> y (E, F, D, B), its rows `from` to `to`. */
int attend(const REAL *x_fdb, const REAL *pairing_edd, const REAL *value_edd, REAL *y_efdb, long num_edges, long num_rows,
           long from, long to) {
  v *x = aligned_alloc(sizeof(v), (4 * F * D + F * F) * sizeof(v));
  if (!x) return 1;
  v *asked = x + F * D, *attended = asked + F * D, *y = attended + F * D, *weights = y + F * D;
  for (long row = from; row < to; row += LANES) {
    long count = to - row;
    for (long i = 0; i < F * D; i++) x[i] = get(x_fdb + i * num_rows + row, count);
    for (long e = 0; e < num_edges; e++) {
      weigh(x, pairing_edd + e * D * D, asked, weights);
      by_vectors(attended, D, 1, weights, F, 1, x, D, 1, F, D, F, 0);
      by_numbers(y, D, 1, attended, D, 1, value_edd + e * D * D, 1, D, F, D, D, 0);
      for (long i = 0; i < F * D; i++) put(y_efdb + (e * F * D + i) * num_rows + row, count, y[i]);
    }
  }
  free(x);
  return 0;
}

/* The gradients of x (F, D, B), its rows `from` to `to`, and of M and V, what these rows add to them (2, E, D, D); either may be NULL. */
int attend_backward(const REAL *x_fdb, const REAL *pairing_edd, const REAL *value_edd, const REAL *y_grad_efdb,
                    REAL *x_grad_fdb, REAL *weights_grad_2edd, long num_edges, long num_rows, long from, long to) {
  v *x = aligned_alloc(sizeof(v), (7 * F * D + 2 * F * F + 2 * num_edges * D * D) * sizeof(v));
  if (!x) return 1;
  v *x_grad = x + F * D, *asked = x_grad + F * D, *asked_grad = asked + F * D, *attended = asked_grad + F * D;
  v *attended_grad = attended + F * D, *y_grad = attended_grad + F * D, *weights = y_grad + F * D;
  v *scores_grad = weights + F * F, *sums = scores_grad + F * F;
  memset(sums, 0, 2 * num_edges * D * D * sizeof(v));
  for (long row = from; row < to; row += LANES) {
    long count = to - row;
    for (long i = 0; i < F * D; i++) x[i] = get(x_fdb + i * num_rows + row, count);
    memset(x_grad, 0, F * D * sizeof(v));
    for (long e = 0; e < num_edges; e++) {
      const REAL *pairing = pairing_edd + e * D * D;
      for (long i = 0; i < F * D; i++) y_grad[i] = get(y_grad_efdb + (e * F * D + i) * num_rows + row, count);
      weigh(x, pairing, asked, weights);
      by_numbers(attended_grad, D, 1, y_grad, D, 1, value_edd + e * D * D, D, 1, F, D, D, 0);
      by_vectors(scores_grad, F, 1, attended_grad, D, 1, x, 1, D, F, F, D, 0);
      for (int f = 0; f < F; f++) {
        v *own = scores_grad + f * F, *weight = weights + f * F, mean = {0};
        for (int g = 0; g < F; g++) mean += weight[g] * own[g];
        for (int g = 0; g < F; g++) own[g] = weight[g] * (own[g] - mean);
      }
      by_vectors(asked_grad, D, 1, scores_grad, F, 1, x, D, 1, F, D, F, 0);
      if (x_grad_fdb) {
        by_vectors(x_grad, D, 1, weights, 1, F, attended_grad, D, 1, F, D, F, 1);
        by_vectors(x_grad, D, 1, scores_grad, 1, F, asked, D, 1, F, D, F, 1);
        by_numbers(x_grad, D, 1, asked_grad, D, 1, pairing, 1, D, F, D, D, 1);
      }
      if (weights_grad_2edd) {
        by_vectors(attended, D, 1, weights, F, 1, x, D, 1, F, D, F, 0);
        by_vectors(sums + e * D * D, D, 1, x, 1, D, asked_grad, D, 1, D, D, F, 1);
        by_vectors(sums + (num_edges + e) * D * D, D, 1, y_grad, 1, D, attended, D, 1, D, D, F, 1);
      }
    }
    for (long i = 0; x_grad_fdb && i < F * D; i++) put(x_grad_fdb + i * num_rows + row, count, x_grad[i]);
  }
  for (long i = 0; weights_grad_2edd && i < 2 * num_edges * D * D; i++) weights_grad_2edd[i] = sum_of(sums[i]);
  free(x);
  return 0;
}
