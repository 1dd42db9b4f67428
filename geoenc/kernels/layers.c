/* All layers of a network, for places that lie side by side from the first to the last. */

#include "groups.h"

/* y = norm(act(W x + b) + skip), a row of W for each output, see `geoenc_layers`. */
typedef struct {
  const float *weight, *bias, *scale, *shift;
  int64_t inputs, outputs;
  int32_t skip;
  float slope, epsilon;
  double turns;
} Layer;

/* A panel: two registers of places that go through all layers together. Of it, so many lines at a
   time as the nearest cache holds; with as many rows of W as there are registers for sums. */
#define PANEL (2 * GROUP)
#define TERMS_AT_ONCE 256
#define PANELS 4
#if defined(__AVX512F__) || defined(__aarch64__)
#define TALL 12
#else
#define TALL 6
#endif

#define PANEL_LINE(lines, j, h) (*(LooseFloats *)((lines) + (j) * PANEL + (h) * GROUP))

/* Terms start .. stop - 1 of outputs j .. j + tall - 1 of a layer, for a panel of places. */
inlined void add_terms(const Layer *layer, int64_t start, int64_t stop, int64_t j, const int tall,
                       const float *x, float *y) {
  const int64_t n = layer->inputs;
  const float *w = layer->weight + j * n;
  Floats sum[TALL][2];
  for (int i = 0; i < tall; i++) HALVES sum[i][h] = (Floats){};
  for (int64_t k = start; k < stop; k++)
    for (int i = 0; i < tall; i++) HALVES sum[i][h] += w[i * n + k] * PANEL_LINE(x, k, h);
  y += j * PANEL;
  if (start)
    for (int i = 0; i < tall; i++) HALVES PANEL_LINE(y, i, h) += sum[i][h];
  else
    for (int i = 0; i < tall; i++) HALVES PANEL_LINE(y, i, h) = sum[i][h];
}

#define NARROW_ROUND 12582912.0f /* 1.5 times 2^23 */

inlined Floats sine_of(Floats turns, float high, float low) {
  Floats whole = (turns * high + NARROW_ROUND) - NARROW_ROUND;
  Floats r = (turns * high - whole) + turns * low, square = r * r;
  return r * (1 - 4 * square) * POLYNOMIAL(SINE, square);
}

/* Bias, act and skip of the same outputs. */
static void activate(const Layer *layer, int64_t j, int tall, const float *skip, float *y) {
  const float high = (float)layer->turns, low = (float)(layer->turns - high);
  const float slope = layer->slope;
#define EACH(expression)                                            \
  for (int i = 0; i < tall; i++)                                    \
    HALVES {                                                        \
      Floats v = PANEL_LINE(y, i, h) + (bias ? bias[i] : 0);        \
      PANEL_LINE(y, i, h) = (Floats)(expression);                   \
    }
  const float *bias = layer->bias ? layer->bias + j : 0;
  y += j * PANEL;
  if (layer->turns) EACH(sine_of(v, high, low))
  else if (slope == 1) EACH(v)
  else if (slope == 0) EACH((Integers)v & ~(v < 0))
  else EACH(((Integers)v & ~(v < 0)) | ((Integers)(v * slope) & (v < 0)))
  if (skip)
    for (int i = 0; i < tall; i++) HALVES PANEL_LINE(y, i, h) += PANEL_LINE(skip, j + i, h);
}

/* The mean over lines of y - from, or of its square, for each place. */
inlined void mean_of(const float *y, int64_t n, int square, const Floats *from, Floats *mean) {
  HALVES mean[h] = (Floats){};
  for (int64_t start = 0; start < n; start += GROUP) {
    int64_t stop = start + GROUP < n ? start + GROUP : n;
    Floats some[2] = {};
    for (int64_t j = start; j < stop; j++)
      HALVES {
        Floats off = PANEL_LINE(y, j, h) - from[h];
        some[h] += square ? off * off : off;
      }
    HALVES mean[h] += some[h];
  }
  HALVES mean[h] *= 1.0f / n;
}

/* Subtract the mean of each place, divide by its deviation, take scale and shift. */
static void normalise(const Layer *layer, float *y) {
  Floats zero[2] = {}, mean[2], factor[2];
  mean_of(y, layer->outputs, 0, zero, mean);
  mean_of(y, layer->outputs, 1, mean, factor);
  for (int i = 0; i < GROUP; i++)
    HALVES factor[h][i] = 1 / __builtin_sqrtf(factor[h][i] + layer->epsilon);
  for (int64_t j = 0; j < layer->outputs; j++)
    HALVES {
      Floats v = (PANEL_LINE(y, j, h) - mean[h]) * factor[h];
      PANEL_LINE(y, j, h) = v * layer->scale[j] + layer->shift[j];
    }
}

/* A layer for `panels` that lie `apart` numbers from each other. The same terms of the same outputs
   are taken for one panel after the other, so that W is read once for all; sums of some terms are
   added up, which also keeps errors of rounding from adding up. */
static void one_layer(const Layer *layer, int panels, int64_t apart, const float *x,
                      const float *skip, float *y) {
#define FOR_PANELS(tall)                                                      \
  for (int64_t p = 0; p < panels * apart; p += apart) {                       \
    add_terms(layer, start, stop, j, tall, x + p, y + p);                     \
    if (stop == layer->inputs)                                                \
      activate(layer, j, tall, skip ? skip + p : 0, y + p);                   \
  }
  for (int64_t start = 0, stop; start < layer->inputs; start = stop) {
    int64_t j = 0;
    stop = start + TERMS_AT_ONCE < layer->inputs ? start + TERMS_AT_ONCE : layer->inputs;
    for (; j + TALL <= layer->outputs; j += TALL) FOR_PANELS(TALL)
    for (; j + 4 <= layer->outputs; j += 4) FOR_PANELS(4)
    for (; j < layer->outputs; j++) FOR_PANELS(1)
  }
  if (layer->scale)
    for (int p = 0; p < panels; p++) normalise(layer, y + p * apart);
}

/* A panel of `many` places to lines, beyond `many` the first place again: from dense rows, or from
   dense columns. */
static void panel_of(const float *x, int64_t by_place, int64_t by_column, int64_t columns,
                     int64_t many, float *lines) {
  HALVES {
    const float *row[GROUP];
    for (int i = 0; i < GROUP; i++)
      row[i] = x + (h * GROUP + i < many ? h * GROUP + i : 0) * by_place;
    int64_t j = 0;
    if (by_place == 1 && (h + 1) * GROUP <= many)
      for (; j < columns; j++)
        PANEL_LINE(lines, j, h) = *(const LooseFloats *)(row[0] + j * by_column);
    for (; by_column == 1 && j + GROUP <= columns; j += GROUP) {
      Floats v[GROUP];
      for (int i = 0; i < GROUP; i++) v[i] = *(const LooseFloats *)(row[i] + j);
      transpose_floats(v);
      for (int i = 0; i < GROUP; i++) PANEL_LINE(lines, j + i, h) = v[i];
    }
    for (; j < columns; j++)
      for (int i = 0; i < GROUP; i++) lines[j * PANEL + h * GROUP + i] = row[i][j * by_column];
  }
}

/* A panel of `many` places to dense rows. */
static void panel_to_rows(const float *lines, int64_t columns, int64_t many, float *out,
                          int64_t stride, int past_cache) {
  HALVES {
    int64_t left = many - h * GROUP, j = 0;
    float *to = out + h * GROUP * stride;
    for (; j + GROUP <= columns; j += GROUP) {
      Floats v[GROUP];
      for (int i = 0; i < GROUP; i++) v[i] = PANEL_LINE(lines, j + i, h);
      transpose_floats(v);
      STORE_ROWS(to + j, stride, v, GROUP, left, past_cache);
    }
    for (; j < columns; j++)
      for (int i = 0; i < GROUP && i < left; i++)
        to[i * stride + j] = lines[j * PANEL + h * GROUP + i];
  }
}

static void some_layers(const float *x, int64_t n, int64_t by_place, int64_t by_column,
                        const Layer *layers, int count, int64_t width, float *lines, float *out,
                        int64_t out_stride, int past_cache) {
  const int64_t apart = width * PANEL;
  float *parts[3] = {lines, lines + PANELS * apart, lines + 2 * PANELS * apart};
  int panels = 0;
  for (; panels < PANELS && panels * PANEL < n; panels++) {
    int64_t at = panels * PANEL;
    panel_of(x + at * by_place, by_place, by_column, layers->inputs, n - at,
             parts[0] + panels * apart);
  }
  for (int i = 0; i < count; i++) {
    const float *skip = layers[i].skip ? parts[(i + 4 - layers[i].skip) % 3] : 0;
    one_layer(layers + i, panels, apart, parts[i % 3], skip, parts[(i + 1) % 3]);
  }
  for (int p = 0; p < panels; p++) {
    int64_t at = p * PANEL;
    panel_to_rows(parts[count % 3] + p * apart, layers[count - 1].outputs, n - at,
                  out + at * out_stride, out_stride, past_cache);
  }
}

/* Numbers below 1e-38 are taken for zero: high harmonics have them at the poles, and each costs as
   much as a hundred others. */
#if defined(__SSE2__)
#define FLUSH(state) unsigned state = _mm_getcsr(); _mm_setcsr(state | 0x8040)
#define UNFLUSH(state) _mm_setcsr(state)
#else
#define FLUSH(state)
#define UNFLUSH(state)
#endif

/* All layers for n rows of x, into dense rows of `out`; of x, rows or columns are dense.

   act is a sine of so many `turns`, or without turns `slope` times what is negative; bias, and
   scale and shift of the norm, may be absent; skip is what this layer reads (1), or what the layer
   before read (2), or nothing (0). */
int geoenc_layers(const float *x, int64_t n, int64_t by_place, int64_t by_column,
                  const Layer *layers, int count, float *out, int64_t out_stride,
                  int past_cache) {
  int64_t width = layers->inputs;
  for (int i = 0; i < count; i++) width = layers[i].outputs > width ? layers[i].outputs : width;
  float *lines = room(3 * PANELS * PANEL * width * (int64_t)sizeof(float));
  if (!lines) return 1;
  past_cache &= lines_of_cache(out, 4 * out_stride);
  FLUSH(before);
  for (int64_t start = 0; start < n; start += PANELS * PANEL)
    some_layers(x + start * by_place, n - start, by_place, by_column, layers, count, width, lines,
                out + start * out_stride, out_stride, past_cache);
  UNFLUSH(before);
  return finish(lines);
}
