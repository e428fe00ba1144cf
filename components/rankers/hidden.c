/* A hidden layer between its matrix products: batch norm, ReLU and dropout, and their slopes; see hidden_kernels.py for what is
   computed. Each function goes once through rows `start` to `end` of tensors (B, H), rows one after another; H is `width`, and
   REAL the type of number. Sums over rows are taken of a few at a time, which lie in the core's own cache, and added up in
   double. Each gives 0, or 1 where memory is short. */

#include <stdlib.h>
#include <string.h>

#define ROWS 64

static long end_of(long row, long end) { return row + ROWS < end ? row + ROWS : end; }

/* Of each column: its mean, and the sum of squared distances from it; to moments (2, H). */
int measure(const REAL *restrict z, double *restrict moments, long width, long start, long end) {
  REAL *restrict near = malloc(3 * width * sizeof(REAL)), *restrict sum = near + width, *restrict squares = sum + width;
  if (!near) return 1;
  double *restrict mean_so_far = moments, *restrict squares_so_far = moments + width;
  memset(moments, 0, 2 * width * sizeof(double));
  for (long row = start; row < end; row = end_of(row, end)) {
    long last = end_of(row, end);
    memset(near, 0, 3 * width * sizeof(REAL));
    for (long r = row; r < last; r++)
      for (long h = 0; h < width; h++) near[h] += z[r * width + h];
    for (long h = 0; h < width; h++) near[h] /= (REAL)(last - row);
    for (long r = row; r < last; r++)
      for (long h = 0; h < width; h++) {
        REAL apart = z[r * width + h] - near[h];
        sum[h] += apart;
        squares[h] += apart * apart;
      }
    double before = row - start, here = last - row, all = last - start;
    for (long h = 0; h < width; h++) {
      double beside = sum[h] / here, apart = near[h] + beside - mean_so_far[h]; /* near is the mean but for rounding */
      mean_so_far[h] += apart * here / all;
      squares_so_far[h] += squares[h] - beside * sum[h] + apart * apart * before * here / all;
    }
  }
  free(near);
  return 0;
}

/* y = max(0, (z - mean) gain + shift) where `passed` is 1, else 0; then passed is 1 where y is not 0. What is no number stays none. */
int activate(const REAL *restrict z, const REAL *restrict mean, const REAL *restrict gain, const REAL *restrict shift,
             unsigned char *restrict passed, REAL *restrict y, long width, long start, long end) {
  for (long r = start; r < end; r++)
    for (long h = 0; h < width; h++) {
      long at = r * width + h;
      REAL value = (z[at] - mean[h]) * gain[h] + shift[h];
      unsigned char passes = passed[at] & !(value <= 0);
      y[at] = passes ? value : 0;
      passed[at] = passes;
    }
  return 0;
}

/* Of each column, over the rows that passed: the sums of slope and of slope (z - mean); to sums (2, H). */
int sum_slopes(const REAL *restrict slope, const unsigned char *restrict passed, const REAL *restrict z, const REAL *restrict mean,
               double *restrict sums, long width, long start, long end) {
  REAL *restrict plain = malloc(2 * width * sizeof(REAL)), *restrict with_z = plain + width;
  if (!plain) return 1;
  memset(sums, 0, 2 * width * sizeof(double));
  for (long row = start; row < end; row = end_of(row, end)) {
    memset(plain, 0, 2 * width * sizeof(REAL));
    for (long r = row; r < end_of(row, end); r++)
      for (long h = 0; h < width; h++) {
        long at = r * width + h;
        REAL own = passed[at] ? slope[at] : 0;
        plain[h] += own;
        with_z[h] += own * (z[at] - mean[h]);
      }
    for (long h = 0; h < width; h++) sums[h] += plain[h], sums[width + h] += with_z[h];
  }
  free(plain);
  return 0;
}

/* z's slope: gain slope where it passed, minus of_z (z - mean) and constant everywhere. */
int slopes_of_z(const REAL *restrict slope, const unsigned char *restrict passed, const REAL *restrict z, const REAL *restrict mean,
                const REAL *restrict gain, const REAL *restrict of_z, const REAL *restrict constant, REAL *restrict slope_z,
                long width, long start, long end) {
  for (long r = start; r < end; r++)
    for (long h = 0; h < width; h++) {
      long at = r * width + h;
      REAL own = passed[at] ? slope[at] : 0;
      slope_z[at] = own * gain[h] - ((z[at] - mean[h]) * of_z[h] + constant[h]);
    }
  return 0;
}
