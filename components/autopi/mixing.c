/* The mixture: rectify, normalise and add up what all operators yield on all edges that leave a node, and its gradients; see
   vectors.h, and mixing.py for the mathematics. Field by field, all edges and operators in turn: one field of a node lies in
   the core's own cache, and whatever several sums are taken of is read once for all of them. */

#include "vectors.h"

#define STEP 4 /* vectors at once */
#define EACH _Pragma("GCC unroll 4") for (long s = 0; s < steps; s++)

/* One operator's y: (V, F, D, B), V being 1 (one y for all edges) or E, plus bias (V, F, D) where there is one; or, with
   gates (E, F, B), base (F, D, B) times them. */
struct result {
  const REAL *y, *bias, *gates;
  REAL *mean, *scale;                    /* (V, F): of y, and 1 / its standard deviation */
  REAL *y_grad, *bias_grad, *gates_grad; /* like y, bias and gates, or NULL: not asked for */
  long num_views, is_rectified;
};

/* What is known of one result on one edge and in one field; length is D B. */
struct share {
  const REAL *y, *biases, *gates;
  REAL *y_grad, *bias_grad, *gates_grad;
  REAL *mean, *scale;
  REAL bias;                   /* at the place that is worked on */
  REAL weight, of_y, constant; /* of y in the sum; of y and of 1 in y's gradient, beside weight * grad */
  long is_rectified, is_own;   /* is_own: no other edge shares y */
};

static struct share share_of(const struct result *r, long edge, long num_edges, long field, long num_rows) {
  long view = r->num_views > 1 ? edge : 0, length = D * num_rows, place = view * F + field;
  long at = r->gates ? field : place;
  return (struct share){
      .y = r->y + at * length,
      .biases = r->bias ? r->bias + place * D : NULL,
      .gates = r->gates ? r->gates + place * num_rows : NULL,
      .y_grad = r->y_grad ? r->y_grad + at * length : NULL,
      .bias_grad = r->bias_grad ? r->bias_grad + place * D : NULL,
      .gates_grad = r->gates_grad ? r->gates_grad + place * num_rows : NULL,
      .mean = r->mean + place,
      .scale = r->scale + place,
      .is_rectified = r->is_rectified,
      .is_own = r->num_views == num_edges,
  };
}

static void go_to_place(struct share *shares, long num_results, long d) {
  for (long o = 0; o < num_results; o++) shares[o].bias = shares[o].biases ? shares[o].biases[d] : 0;
}

/* y, or base, as it counts: with its bias, and rectified where it must be. */
INLINE v y_at(const struct share *of, long i, long count) {
  v y = first(count, get(of->y + i, count) + of->bias);
  return of->is_rectified ? larger((v){0}, y) : y;
}

/* A gradient of what y_at gives, as one of y. */
INLINE v through_y(const struct share *of, v y, v grad) { return of->is_rectified ? pick(y > (v){0}, grad, (v){0}) : grad; }

/* ---- Forwards ---- */

INLINE void measure_at(const struct share *of, long i, long steps, long count, v *sum, v *square) {
  EACH {
    v y = y_at(of, i + s * LANES, count - s * LANES);
    sum[s] += y;
    square[s] += y * y;
  }
}

/* The sums of y and of its square. */
static void measure(struct share *of, long num_rows, REAL *sum, REAL *square) {
  v sums[STEP] = {0}, squares[STEP] = {0};
  for (long d = 0; d < D; d++) {
    long b = 0, i = d * num_rows;
    go_to_place(of, 1, d);
    for (; b + STEP * LANES <= num_rows; b += STEP * LANES) measure_at(of, i + b, STEP, STEP * LANES, sums, squares);
    for (; b < num_rows; b += LANES) measure_at(of, i + b, 1, num_rows - b, sums, squares);
  }
  *sum = sum_of(sums[0] + sums[1] + sums[2] + sums[3]);
  *square = sum_of(squares[0] + squares[1] + squares[2] + squares[3]);
}

/* The sums over D of base and of its square, (B,) each. */
static void measure_width(const struct share *of, long num_rows, REAL *sum_b, REAL *square_b) {
  for (long b = 0; b < num_rows; b += LANES) {
    v sum = {0}, square = {0};
    for (int d = 0; d < D; d++) {
      v y = y_at(of, d * num_rows + b, num_rows - b);
      sum += y;
      square += y * y;
    }
    put(sum_b + b, num_rows - b, sum);
    put(square_b + b, num_rows - b, square);
  }
}

static void measure_gated(const REAL *gates_b, const REAL *sum_b, const REAL *square_b, long num_rows, REAL *sum, REAL *square) {
  v sums = {0}, squares = {0};
  for (long b = 0; b < num_rows; b += LANES) {
    v gate = get(gates_b + b, num_rows - b);
    sums += gate * get(sum_b + b, num_rows - b);
    squares += gate * gate * get(square_b + b, num_rows - b);
  }
  *sum = sum_of(sums);
  *square = sum_of(squares);
}

INLINE void add_up_at(const struct share *shares, long num_results, REAL shift, REAL *part, long i, long b, long steps, long count) {
  v total[STEP];
  EACH total[s] = (v){0} + shift;
  for (long o = 0; o < num_results; o++) {
    const struct share *of = shares + o;
    if (of->gates) EACH total[s] += of->weight * get(of->gates + b + s * LANES, count - s * LANES) * y_at(of, i + s * LANES, count - s * LANES);
    else EACH total[s] += of->weight * y_at(of, i + s * LANES, count - s * LANES);
  }
  EACH put(part + i + s * LANES, count - s * LANES, total[s]);
}

/* Writes what each edge adds to its target, parts (E, F, D, B), fields `from` to `to`: the sum of strength * normalised y, and
   shift. Where it measures, also every result's mean and scale, which are given else. */
int mix(const struct result *results, long num_results, const REAL *strength_eof, const REAL *shift_ef, double epsilon,
        REAL *parts_efdb, long measures, long num_edges, long num_rows, long from, long to) {
  long length = D * num_rows;
  struct share *shares = malloc(num_results * sizeof(struct share));
  REAL *sums_o2b = malloc(num_results * 2 * num_rows * sizeof(REAL));
  int is_short = !shares || !sums_o2b;
  for (long f = from; f < to && !is_short; f++)
    for (long e = 0; e < num_edges; e++) {
      REAL shift = shift_ef[e * F + f];
      for (long o = 0; o < num_results; o++) {
        struct share *of = shares + o;
        *of = share_of(results + o, e, num_edges, f, num_rows);
        if (measures && (e == 0 || of->is_own)) {
          REAL sum, square, *sum_b = sums_o2b + o * 2 * num_rows;
          if (of->gates && e == 0) measure_width(of, num_rows, sum_b, sum_b + num_rows);
          if (of->gates) measure_gated(of->gates, sum_b, sum_b + num_rows, num_rows, &sum, &square);
          else measure(of, num_rows, &sum, &square);
          REAL mean = sum / length, variance = square / length - mean * mean;
          *of->mean = mean;
          *of->scale = 1 / sqrt((variance > 0 ? variance : 0) + epsilon);
        }
        of->weight = *of->scale * strength_eof[(e * num_results + o) * F + f];
        shift -= of->weight * *of->mean;
      }
      REAL *part = parts_efdb + (e * F + f) * length;
      for (long d = 0; d < D; d++) {
        long b = 0, i = d * num_rows;
        go_to_place(shares, num_results, d);
        for (; b + STEP * LANES <= num_rows; b += STEP * LANES)
          add_up_at(shares, num_results, shift, part, i + b, b, STEP, STEP * LANES);
        for (; b < num_rows; b += LANES) add_up_at(shares, num_results, shift, part, i + b, b, 1, num_rows - b);
      }
    }
  free(shares), free(sums_o2b);
  return is_short;
}

/* ---- Backwards ---- */

INLINE void dot_at(const struct share *shares, long num_results, const REAL *grad, long i, long steps, long count, v *sum, v *dots) {
  v g[STEP];
  EACH *sum += g[s] = get(grad + i + s * LANES, count - s * LANES);
  for (long o = 0; o < num_results; o++) {
    if (shares[o].gates) continue;
    v dot = {0};
    EACH dot += g[s] * y_at(shares + o, i + s * LANES, count - s * LANES);
    dots[o] += dot;
  }
}

/* The sums over D of grad * base, (B,), and gives that of gates times them. */
static REAL dot_gated(const struct share *of, const REAL *grad, long num_rows, REAL *product_b) {
  v total = {0};
  for (long b = 0; b < num_rows; b += LANES) {
    v product = {0};
    for (int d = 0; d < D; d++)
      product += get(grad + d * num_rows + b, num_rows - b) * y_at(of, d * num_rows + b, num_rows - b);
    put(product_b + b, num_rows - b, product);
    total += product * get(of->gates + b, num_rows - b);
  }
  return sum_of(total);
}

/* y's gradient and its sums where the edge has a y of its own; where edges share one, only the part of grad, added up over edges. */
INLINE void push_at(const struct share *shares, long num_results, const REAL *grad, long is_first, long i, long steps, long count,
                    v *bias_sums) {
  v g[STEP];
  EACH g[s] = get(grad + i + s * LANES, count - s * LANES);
  for (long o = 0; o < num_results; o++) {
    const struct share *of = shares + o;
    if (of->gates || !of->y_grad) continue;
    EACH {
      long at = i + s * LANES, left = count - s * LANES;
      v own = of->weight * g[s];
      if (of->is_own) {
        v y = y_at(of, at, left);
        own = through_y(of, y, own + (of->of_y * y + of->constant));
        bias_sums[o] += first(left, own);
      } else if (!is_first) own += get(of->y_grad + at, left);
      put(of->y_grad + at, left, own);
    }
  }
}

/* Base's and gates' gradients; the sums over edges of of_y * gates^2 and constant * gates, (2, B), wait for the last edge. */
static void push_gated(const struct share *of, const REAL *grad, const REAL *sum_b, const REAL *square_b, const REAL *product_b,
                       REAL *waiting_2b, long is_first, long is_last, long num_rows) {
  for (long b = 0; b < num_rows; b += LANES) {
    long left = num_rows - b;
    v gate = get(of->gates + b, left), zero = {0};
    put(of->gates_grad + b, left,
        of->weight * get(product_b + b, left) + of->of_y * gate * get(square_b + b, left) + of->constant * get(sum_b + b, left));
    put(waiting_2b + b, left, (is_first ? zero : get(waiting_2b + b, left)) + of->of_y * gate * gate);
    put(waiting_2b + num_rows + b, left, (is_first ? zero : get(waiting_2b + num_rows + b, left)) + of->constant * gate);
  }
  for (long d = 0; d < D; d++)
    for (long b = 0; b < num_rows; b += LANES) {
      long at = d * num_rows + b, left = num_rows - b;
      v own = of->weight * get(of->gates + b, left) * get(grad + at, left);
      if (!is_first) own += get(of->y_grad + at, left);
      if (is_last) {
        v y = y_at(of, at, left);
        own = through_y(of, y, own + get(waiting_2b + b, left) * y + get(waiting_2b + num_rows + b, left));
      }
      put(of->y_grad + at, left, own);
    }
}

/* What waited for the last edge: of_y * y + constant, summed up over edges, and the rectifier. */
static void finish_shared(const struct share *of, REAL of_y, REAL constant, long length) {
  for (long i = 0; i < length; i += LANES) {
    v y = y_at(of, i, length - i);
    put(of->y_grad + i, length - i, through_y(of, y, get(of->y_grad + i, length - i) + (of_y * y + constant)));
  }
}

/* From the parts' gradients, E pointers to (F, D, B): the gradients of strength and shift, which are the sums of grad * y_hat,
   dots (E, O, F), and of grad, sums (E, F), and whichever of the results' gradients is asked for; fields `from` to `to`. */
int mix_backward(const struct result *results, long num_results, const REAL *strength_eof, const REAL *const *grads_e,
                 REAL *dots_eof, REAL *sums_ef, long num_edges, long num_rows, long from, long to) {
  long length = D * num_rows;
  struct share *shares = malloc(num_results * sizeof(struct share));
  v *dots = aligned_alloc(sizeof(v), 2 * num_results * sizeof(v)), *places = dots + num_results;
  REAL *of_shared_o2 = malloc(num_results * 2 * sizeof(REAL));
  REAL *rows_o5b = malloc(num_results * 5 * num_rows * sizeof(REAL)); /* gated: sum, square, product, and two that wait */
  int is_short = !shares || !dots || !of_shared_o2 || !rows_o5b;
  for (long f = from; f < to && !is_short; f++) {
    memset(of_shared_o2, 0, num_results * 2 * sizeof(REAL));
    for (long e = 0; e < num_edges; e++) {
      const REAL *grad = grads_e[e] + f * length;
      v sums = {0};
      memset(dots, 0, num_results * sizeof(v));
      for (long o = 0; o < num_results; o++) shares[o] = share_of(results + o, e, num_edges, f, num_rows);
      for (long d = 0; d < D; d++) {
        long b = 0, i = d * num_rows;
        go_to_place(shares, num_results, d);
        for (; b + STEP * LANES <= num_rows; b += STEP * LANES)
          dot_at(shares, num_results, grad, i + b, STEP, STEP * LANES, &sums, dots);
        for (; b < num_rows; b += LANES) dot_at(shares, num_results, grad, i + b, 1, num_rows - b, &sums, dots);
      }
      REAL sum = sums_ef[e * F + f] = sum_of(sums);
      for (long o = 0; o < num_results; o++) {
        struct share *of = shares + o;
        REAL *sum_b = rows_o5b + o * 5 * num_rows;
        if (of->gates && e == 0) measure_width(of, num_rows, sum_b, sum_b + num_rows);
        REAL raw = of->gates ? dot_gated(of, grad, num_rows, sum_b + 2 * num_rows) : sum_of(dots[o]);
        REAL dot = (raw - *of->mean * sum) * *of->scale;
        dots_eof[(e * num_results + o) * F + f] = dot;
        /* dy = weight * (grad - mean(grad) - y_hat * mean(grad * y_hat)), y_hat = (y - mean) * scale */
        of->weight = *of->scale * strength_eof[(e * num_results + o) * F + f];
        of->of_y = -of->weight * *of->scale * dot / length;
        of->constant = -of->weight * sum / length - of->of_y * *of->mean;
        of_shared_o2[2 * o] += of->of_y;
        of_shared_o2[2 * o + 1] += of->constant;
      }
      for (long d = 0; d < D; d++) {
        long b = 0, i = d * num_rows;
        go_to_place(shares, num_results, d);
        memset(places, 0, num_results * sizeof(v));
        for (; b + STEP * LANES <= num_rows; b += STEP * LANES)
          push_at(shares, num_results, grad, e == 0, i + b, STEP, STEP * LANES, places);
        for (; b < num_rows; b += LANES) push_at(shares, num_results, grad, e == 0, i + b, 1, num_rows - b, places);
        for (long o = 0; o < num_results; o++)
          if (shares[o].bias_grad) shares[o].bias_grad[d] = sum_of(places[o]);
      }
      for (long o = 0; o < num_results; o++) {
        const REAL *sum_b = rows_o5b + o * 5 * num_rows;
        if (shares[o].gates && shares[o].y_grad)
          push_gated(shares + o, grad, sum_b, sum_b + num_rows, sum_b + 2 * num_rows, rows_o5b + (o * 5 + 3) * num_rows, e == 0,
                     e == num_edges - 1, num_rows);
      }
    }
    for (long o = 0; o < num_results; o++)
      if (!shares[o].gates && !shares[o].is_own && shares[o].y_grad)
        finish_shared(shares + o, of_shared_o2[2 * o], of_shared_o2[2 * o + 1], length);
  }
  free(shares), free(dots), free(of_shared_o2), free(rows_o5b);
  return is_short;
}
