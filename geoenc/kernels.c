/* Kernels for the processor; `geoenc.native` builds and calls them.

   Places go in groups that lie side by side in the registers: a column of a group is one line of
   numbers. All lines of a group are made in memory that stays in the cache, and turned into rows,
   tile by tile, as they are written. Arithmetic keeps NaN: a place of NaN has a row of NaN.

   Kernels return 0, or 1 where there is no memory for lines. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define inlined static inline __attribute__((always_inline))

/* A group of places: as many as a register has room for floats. Two registers hold its doubles. */
#if defined(__AVX512F__)
#define GROUP 16
#elif defined(__AVX__)
#define GROUP 8
#else
#define GROUP 4
#endif

#define LANES (GROUP / 2)
#define HALVES for (int h = 0; h < 2; h++)

#define VECTOR(kind, lanes) kind __attribute__((vector_size((lanes) * sizeof(kind))))
typedef VECTOR(float, GROUP) Floats;
typedef VECTOR(float, LANES) HalfFloats;
typedef VECTOR(double, LANES) Doubles;
typedef VECTOR(int32_t, GROUP) Integers;
typedef Floats LooseFloats __attribute__((aligned(4), may_alias));
typedef Doubles LooseDoubles __attribute__((aligned(8), may_alias));

/* ---- tiles: lines to rows and back ---------------------------------------------------------- */

#define MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

#if GROUP == 16

#define MIX_PAIRS(a, b, ...) (Floats) MIX((Doubles)(a), (Doubles)(b), __VA_ARGS__)
#define EVEN_QUARTERS 0, 1, 4, 5, 8, 9, 12, 13
#define ODD_QUARTERS 2, 3, 6, 7, 10, 11, 14, 15

/* 16 x 16: first within the quarters of a register, then the quarters. */
inlined void transpose_floats(Floats *v) {
  Floats w[16];
  for (int i = 0; i < 16; i += 2) {
    w[i] = MIX(v[i], v[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    w[i + 1] = MIX(v[i], v[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; i += 4)
    for (int k = 0; k < 2; k++) {
      v[i + 2 * k] = MIX_PAIRS(w[i + k], w[i + k + 2], 0, 8, 2, 10, 4, 12, 6, 14);
      v[i + 2 * k + 1] = MIX_PAIRS(w[i + k], w[i + k + 2], 1, 9, 3, 11, 5, 13, 7, 15);
    }
  for (int i = 0; i < 4; i++)
    for (int half = 0; half < 2; half++) {
      Floats a = v[8 * half + i], b = v[8 * half + 4 + i];
      w[i + 4 * half] = MIX_PAIRS(a, b, EVEN_QUARTERS);
      w[i + 4 * half + 8] = MIX_PAIRS(a, b, ODD_QUARTERS);
    }
  for (int i = 0; i < 4; i++)
    for (int half = 0; half < 2; half++) {
      Floats a = w[i + 8 * half], b = w[i + 8 * half + 4];
      v[i + 4 * half] = MIX_PAIRS(a, b, EVEN_QUARTERS);
      v[i + 4 * half + 8] = MIX_PAIRS(a, b, ODD_QUARTERS);
    }
}

#define ZIP_DOUBLES_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_DOUBLES_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define JOINED 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define LOWER_HALVES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#elif GROUP == 8
#define ZIP_FLOATS_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_FLOATS_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define ZIP_DOUBLES_LOW 0, 4, 1, 5
#define ZIP_DOUBLES_HIGH 2, 6, 3, 7
#define JOINED 0, 1, 2, 3, 4, 5, 6, 7
#define LOWER_HALVES 0, 2, 4, 6, 8, 10, 12, 14
#else
#define ZIP_FLOATS_LOW 0, 4, 1, 5
#define ZIP_FLOATS_HIGH 2, 6, 3, 7
#define ZIP_DOUBLES_LOW 0, 2
#define ZIP_DOUBLES_HIGH 1, 3
#define JOINED 0, 1, 2, 3
#define LOWER_HALVES 0, 2, 4, 6
#endif

/* A square of registers: zipping its halves log2(lanes) times transposes it. */
#define ZIP_TRANSPOSE(Kind, lanes, v, LOW, HIGH)                   \
  for (int round = 1; round < (lanes); round *= 2) {               \
    Kind w[lanes];                                                 \
    for (int i = 0; i < (lanes) / 2; i++) {                        \
      w[2 * i] = MIX(v[i], v[i + (lanes) / 2], LOW);               \
      w[2 * i + 1] = MIX(v[i], v[i + (lanes) / 2], HIGH);          \
    }                                                              \
    for (int i = 0; i < (lanes); i++) v[i] = w[i];                 \
  }

#if GROUP < 16
inlined void transpose_floats(Floats *v) {
  ZIP_TRANSPOSE(Floats, GROUP, v, ZIP_FLOATS_LOW, ZIP_FLOATS_HIGH)
}
#endif

inlined void transpose_doubles(Doubles *v) {
  ZIP_TRANSPOSE(Doubles, LANES, v, ZIP_DOUBLES_LOW, ZIP_DOUBLES_HIGH)
}

#define NARROW(a, b) \
  MIX(__builtin_convertvector(a, HalfFloats), __builtin_convertvector(b, HalfFloats), JOINED)

/* Store a register; STREAM does it past the cache, for outputs that do not fit there, and `to` has
   to be a whole line of it. */
#define KEEP(to, v) *(LooseFloats *)(to) = (Floats)(v)
#if defined(__AVX512F__)
#define STREAM(to, v) _mm512_stream_ps((float *)(to), (__m512)(v))
#else
#define STREAM KEEP
#endif

/* The first `many` of `count` registers, one a row. They stay registers: a copy is indexed. */
#define STORE_ROWS(out, stride, v, count, many, past_cache)                 \
  if ((many) >= (count) && (past_cache))                                    \
    for (int i = 0; i < (count); i++) STREAM((out) + i * (stride), (v)[i]); \
  else if ((many) >= (count))                                               \
    for (int i = 0; i < (count); i++) KEEP((out) + i * (stride), (v)[i]);   \
  else {                                                                    \
    Floats some[count];                                                     \
    for (int i = 0; i < (count); i++) some[i] = (Floats)(v)[i];             \
    for (int i = 0; i < (many); i++) KEEP((out) + i * (stride), some[i]);   \
  }

/* Whether `past_cache` can be done for rows `bytes` apart. */
inlined int lines_of_cache(const void *to, int64_t bytes) {
  return ((uintptr_t)to | (uintptr_t)bytes) % 64 == 0;
}

/* Memory for so many bytes of lines. */
inlined void *room(int64_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

inlined int finish(void *lines) {
  free(lines);
#if defined(__AVX512F__)
  _mm_sfence();
#endif
  return 0;
}

/* Coordinates of a group of places; beyond `many` those of the first place again. */
inlined void read_places(const double *given, int64_t by_place, int64_t by_axis, int axes, int many,
                         Doubles place[][2]) {
  for (int axis = 0; axis < axes; axis++)
    for (int i = 0; i < GROUP; i++)
      place[axis][i / LANES][i % LANES] = given[(i < many ? i : 0) * by_place + axis * by_axis];
}

/* ---- waves ---------------------------------------------------------------------------------- */

/* sin(2 pi r) and cos(2 pi r) for |r| <= 1/2: the factors of `geoenc.waves`. */
static const float SINE[6] = {SINE_COEFFICIENTS}, COSINE[6] = {COSINE_COEFFICIENTS};
#define POLYNOMIAL(p, x) \
  (p[0] + x * (p[1] + x * (p[2] + x * (p[3] + x * (p[4] + x * p[5])))))

/* What is left of a number of turns, from -1/2 to 1/2. */
#if defined(__AVX512DQ__)
#define REST(turns) (Doubles) _mm512_reduce_pd((__m512d)(turns), 0)
#else
#define ROUND 6755399441055744.0 /* 1.5 times 2^52: after it is added no fraction is left */
#define REST(turns) ((turns) - (((turns) + ROUND) - ROUND))
#endif

#define NARROW_ROUND 12582912.0f /* 1.5 times 2^23 */

/* Added to turns that are finite and below 2^19 in size, this leaves in their lower 32 bits what is
   left of them, signed. */
#define FRACTION (1.5 * (1 << 20))

inlined Floats fractions(Doubles a, Doubles b) {
  Integers low = MIX((Integers)a, (Integers)b, LOWER_HALVES);
  return __builtin_convertvector(low, Floats) * (1 / 4294967296.0f);
}

/* Lines of sine and cosine of `count` phases, a . c + p turns, of which `axes` terms are not zero.
   The a of a phase lie together, `step` numbers after those of the phase before. `near` is the
   quick way, for turns that are finite and below 2^19. */
inlined void sines(Doubles c[][2], int axes, const double *a, const double *p, int step, int count,
                   int near, float *lines) {
  for (int k = 0; k < count; k++, a += step, p += step, lines += 2 * GROUP) {
    double start = near ? *p + FRACTION : *p;
    Doubles turns[2];
    HALVES {
      turns[h] = start + a[0] * c[0][h];
      for (int axis = 1; axis < axes; axis++) turns[h] += a[axis] * c[axis][h];
    }
    Floats r = near ? fractions(turns[0], turns[1]) : NARROW(REST(turns[0]), REST(turns[1]));
    Floats square = r * r;
    *(LooseFloats *)lines = r * (1 - 4 * square) * POLYNOMIAL(SINE, square);
    *(LooseFloats *)(lines + GROUP) = (1 - 16 * square) * POLYNOMIAL(COSINE, square);
  }
}

/* The same for phases (a, p) of which the first counts[0] have only a term of the first axis, the
   next counts[1] one of the second, and so on, and the last counts[axes] have all. */
inlined void all_sines(Doubles c[][2], int axes, const double *phases, const int64_t *counts,
                       int near, float *lines) {
  int step = axes + 1;
  for (int axis = 0; axis < axes; axis++) {
    sines(c + axis, 1, phases + axis, phases + axes, step, counts[axis], near, lines);
    phases += counts[axis] * step, lines += counts[axis] * 2 * GROUP;
  }
  if (axes == 2) sines(c, 2, phases, phases + axes, step, counts[axes], near, lines);
  if (axes == 3) sines(c, 3, phases, phases + axes, step, counts[axes], near, lines);
}

/* Whether no coordinate is beyond `reach`, and none is NaN. */
inlined int are_near(Doubles c[][2], int axes, double reach) {
  int far = 0;
  for (int axis = 0; axis < axes; axis++)
    for (int i = 0; i < GROUP; i++) {
      double one = ((const double *)c[axis])[i];
      far |= !(one <= reach) | !(one >= -reach);
    }
  return !far;
}

int geoenc_group(void) { return GROUP; }

/* out[i, j] = amplitude line[first[j]] line[second[j]], for n places of `axes` coordinates c.

   Lines 2 k and 2 k + 1 are sine and cosine of phase k, see `all_sines`; line 2 `one` is one. Lines
   are named by where they begin, `geoenc_group` numbers apart. `second` may be absent.
   Rows of `out` are dense and start `stride` numbers apart. No phase of coordinates up to `reach`
   is 2^19 turns long. */
int geoenc_waves(const double *c, int64_t n, int axes, double reach, const double *phases,
                 const int64_t *counts, int one, const int64_t *first, const int64_t *second,
                 int columns, float amplitude, float *out, int64_t stride, int past_cache) {
  float *lines = room((2 * one + 1) * (int64_t)sizeof(Floats));
  if (!lines) return 1;
  past_cache &= lines_of_cache(out, 4 * stride);
  for (int i = 0; i < GROUP; i++) lines[2 * one * GROUP + i] = 1;
  for (int64_t start = 0; start < n; start += GROUP, out += GROUP * stride) {
    int many = n - start < GROUP ? (int)(n - start) : GROUP, j = 0;
    Doubles place[3][2] = {};
    read_places(c + start * axes, axes, 1, axes, many, place);
    if (are_near(place, axes, reach)) all_sines(place, axes, phases, counts, 1, lines);
    else all_sines(place, axes, phases, counts, 0, lines);
    for (; j + GROUP <= columns; j += GROUP) {
      Floats v[GROUP];
      for (int i = 0; i < GROUP; i++) {
        v[i] = *(LooseFloats *)(lines + first[j + i]);
        if (second) v[i] *= *(LooseFloats *)(lines + second[j + i]);
        else if (amplitude != 1) v[i] *= amplitude;
      }
      transpose_floats(v);
      STORE_ROWS(out + j, stride, v, GROUP, many, past_cache);
    }
    for (; j < columns; j++)
      for (int i = 0; i < many; i++) {
        float value = lines[first[j] + i];
        out[i * stride + j] = second ? value * lines[second[j] + i] : amplitude * value;
      }
  }
  return finish(lines);
}

/* ---- layers --------------------------------------------------------------------------------- */

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

#define PANEL_LINE(lines, j, c) (*(LooseFloats *)((lines) + (j) * PANEL + (c) * GROUP))

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
  for (int c = 0; c < 2; c++) mean[c] = (Floats){};
  for (int64_t start = 0; start < n; start += GROUP) {
    int64_t stop = start + GROUP < n ? start + GROUP : n;
    Floats some[2] = {};
    for (int64_t j = start; j < stop; j++)
      for (int c = 0; c < 2; c++) {
        Floats off = PANEL_LINE(y, j, c) - from[c];
        some[c] += square ? off * off : off;
      }
    for (int c = 0; c < 2; c++) mean[c] += some[c];
  }
  for (int c = 0; c < 2; c++) mean[c] *= 1.0f / n;
}

/* Subtract the mean of each place, divide by its deviation, take scale and shift. */
static void normalise(const Layer *layer, float *y) {
  Floats mean[2], factor[2];
  mean_of(y, layer->outputs, 0, (const Floats[2]){}, mean);
  mean_of(y, layer->outputs, 1, mean, factor);
  for (int c = 0; c < 2; c++)
    for (int i = 0; i < GROUP; i++)
      factor[c][i] = 1 / __builtin_sqrtf(factor[c][i] + layer->epsilon);
  for (int64_t j = 0; j < layer->outputs; j++)
    for (int c = 0; c < 2; c++) {
      Floats v = (PANEL_LINE(y, j, c) - mean[c]) * factor[c];
      PANEL_LINE(y, j, c) = v * layer->scale[j] + layer->shift[j];
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

/* Rows of a panel of `many` places to lines; beyond `many` the first place again. */
static void panel_of(const float *rows, int64_t stride, int64_t columns, int64_t many, float *lines) {
  for (int c = 0; c < 2; c++) {
    int64_t j = 0;
    for (; j + GROUP <= columns; j += GROUP) {
      Floats v[GROUP];
      for (int i = 0; i < GROUP; i++) {
        int row = c * GROUP + i < many ? c * GROUP + i : 0;
        v[i] = *(const LooseFloats *)(rows + row * stride + j);
      }
      transpose_floats(v);
      for (int i = 0; i < GROUP; i++) PANEL_LINE(lines, j + i, c) = v[i];
    }
    for (; j < columns; j++)
      for (int i = 0; i < GROUP; i++) {
        int row = c * GROUP + i < many ? c * GROUP + i : 0;
        lines[j * PANEL + c * GROUP + i] = rows[row * stride + j];
      }
  }
}

static void panel_to_rows(const float *lines, int64_t columns, int64_t many, float *out,
                          int64_t stride, int past_cache) {
  for (int c = 0; c < 2 && c * GROUP < many; c++, out += GROUP * stride) {
    int left = many - c * GROUP < GROUP ? (int)many - c * GROUP : GROUP;
    int64_t j = 0;
    for (; j + GROUP <= columns; j += GROUP) {
      Floats v[GROUP];
      for (int i = 0; i < GROUP; i++) v[i] = PANEL_LINE(lines, j + i, c);
      transpose_floats(v);
      STORE_ROWS(out + j, stride, v, GROUP, left, past_cache);
    }
    for (; j < columns; j++)
      for (int i = 0; i < left; i++) out[i * stride + j] = lines[j * PANEL + c * GROUP + i];
  }
}

static void some_layers(const float *x, int64_t n, int64_t stride, const Layer *layers, int count,
                        int64_t width, float *lines, float *out, int64_t out_stride,
                        int past_cache) {
  const int64_t apart = width * PANEL;
  float *parts[3] = {lines, lines + PANELS * apart, lines + 2 * PANELS * apart};
  int panels = 0;
  for (; panels < PANELS && panels * PANEL < n; panels++) {
    int64_t at = panels * PANEL;
    panel_of(x + at * stride, stride, layers->inputs, n - at, parts[0] + panels * apart);
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

/* All layers for n rows of x, into rows of `out`. Rows are dense and start `stride` numbers apart.

   act is a sine of so many `turns`, or without turns `slope` times what is negative; bias, and
   scale and shift of the norm, may be absent; skip is what this layer reads (1), or what the layer
   before read (2), or nothing (0). */
int geoenc_layers(const float *x, int64_t n, int64_t stride, const Layer *layers, int count,
                  float *out, int64_t out_stride, int past_cache) {
  int64_t width = layers->inputs;
  for (int i = 0; i < count; i++) width = layers[i].outputs > width ? layers[i].outputs : width;
  float *lines = room(3 * PANELS * PANEL * width * (int64_t)sizeof(float));
  if (!lines) return 1;
  past_cache &= lines_of_cache(out, 4 * out_stride);
  FLUSH(before);
  for (int64_t start = 0; start < n; start += PANELS * PANEL)
    some_layers(x + start * stride, n - start, stride, layers, count, width, lines,
                out + start * out_stride, out_stride, past_cache);
  UNFLUSH(before);
  return finish(lines);
}

/* ---- spherical harmonics -------------------------------------------------------------------- */

/* The recurrence of `geoenc.harmonics`, order by order, with Y(l, -m) = q(l) s, Y(l, m) = q(l) c:

       c + i s = D (x + i y) (c + i s) of the order before,    q(l) = A z q(l - 1) - C q(l - 2)

   `coefficients`: for each order D, then A and C for l = m + 1 .. degree. */

inlined void next_order(double d, Doubles p[3][2], Doubles c[2], Doubles s[2]) {
  HALVES {
    Doubles cosine = d * (p[0][h] * c[h] - p[1][h] * s[h]);
    s[h] = d * (p[0][h] * s[h] + p[1][h] * c[h]);
    c[h] = cosine;
  }
}

#define LINE(l, m) ((LooseDoubles *)(lines + ((int64_t)(l) * (l) + (l) + (m)) * GROUP))

/* sin(r) = r P(r^2) and cos(r) = Q(r^2) for |r| <= 90 degrees, by as many terms of the series of
   Taylor as doubles can tell. */
static const double WIDE_SINE[] = {WIDE_SINE_COEFFICIENTS};
static const double WIDE_COSINE[] = {WIDE_COSINE_COEFFICIENTS};
#define TERMS (int)(sizeof(WIDE_SINE) / sizeof(*WIDE_SINE))

inlined void wide_sine(Doubles degrees, Doubles *sine, Doubles *cosine) {
  Doubles halves = degrees * (1 / 180.0), r;
  halves = halves - REST(halves);
  r = degrees - 180 * halves; /* nothing is rounded here */
  Doubles odd_half = REST(halves / 2), sign = 1 - 8 * odd_half * odd_half, square = r * r;
  Doubles odd = WIDE_SINE[TERMS - 1] + 0 * r, even = WIDE_COSINE[TERMS - 1] + 0 * r;
  for (int i = TERMS - 2; i >= 0; i--) {
    odd = odd * square + WIDE_SINE[i];
    even = even * square + WIDE_COSINE[i];
  }
  *sine = sign * r * odd, *cosine = sign * even;
}

/* Points of the unit sphere for longitudes and latitudes. */
inlined void unit_vectors(Doubles p[3][2]) {
  HALVES {
    Doubles sine, cosine, across;
    wide_sine(p[1][h], &p[2][h], &across);
    wide_sine(p[0][h], &sine, &cosine);
    p[0][h] = across * cosine, p[1][h] = across * sine;
  }
}

static void harmonics_of(Doubles p[3][2], int degree, const double *coefficients, double *lines) {
  Doubles c[2], s[2] = {};
  HALVES c[h] = coefficients[0] + 0 * p[2][h];
  for (int m = 0; m <= degree; m++) {
    if (m) next_order(*coefficients, p, c, s);
    coefficients++;
    Doubles q[2], last[2] = {};
    HALVES { q[h] = (Doubles){} + 1; LINE(m, -m)[h] = s[h]; LINE(m, m)[h] = c[h]; }
    for (int l = m + 1; l <= degree; l++, coefficients += 2)
      HALVES {
        Doubles value = coefficients[0] * p[2][h] * q[h] - coefficients[1] * last[h];
        last[h] = q[h], q[h] = value;
        LINE(l, -m)[h] = value * s[h];
        LINE(l, m)[h] = value * c[h];
      }
  }
}

/* Sums over l of g q, and of g dq/dz, for both signs of m, give the slopes by x, y and z. */
static void slopes_of(Doubles p[3][2], int degree, const double *coefficients, double *lines,
                      Doubles slope[3][2]) {
  Doubles c[2], s[2] = {}, zero = {};
  HALVES c[h] = coefficients[0] + 0 * p[2][h];
  HALVES slope[0][h] = slope[1][h] = slope[2][h] = zero;
  for (int m = 0; m <= degree; m++) {
    Doubles c_before[2], s_before[2];
    double d = *coefficients++;
    HALVES c_before[h] = c[h], s_before[h] = s[h];
    if (m) next_order(d, p, c, s);
    Doubles q[2], last[2], dq[2], dlast[2], east[2], west[2], deast[2], dwest[2];
    HALVES {
      q[h] = zero + 1, last[h] = dq[h] = dlast[h] = deast[h] = dwest[h] = zero;
      east[h] = LINE(m, m)[h], west[h] = LINE(m, -m)[h];
    }
    for (int l = m + 1; l <= degree; l++, coefficients += 2)
      HALVES {
        Doubles az = coefficients[0] * p[2][h], a = coefficients[0] * q[h];
        Doubles value = az * q[h] - coefficients[1] * last[h];
        Doubles dvalue = az * dq[h] + a - coefficients[1] * dlast[h];
        last[h] = q[h], q[h] = value, dlast[h] = dq[h], dq[h] = dvalue;
        Doubles ge = LINE(l, m)[h], gw = LINE(l, -m)[h];
        east[h] += ge * value, west[h] += gw * value;
        deast[h] += ge * dvalue, dwest[h] += gw * dvalue;
      }
    HALVES {
      slope[2][h] += c[h] * deast[h] + s[h] * dwest[h];
      if (m) {
        slope[0][h] += m * d * (c_before[h] * east[h] + s_before[h] * west[h]);
        slope[1][h] += m * d * (c_before[h] * west[h] - s_before[h] * east[h]);
      }
    }
  }
}

/* One group of `many` places between lines and rows that start `stride` numbers apart. */

static void write_floats(const double *lines, int64_t columns, int many, float *out,
                         int64_t stride, int past_cache) {
  int64_t j = 0;
  for (; j + GROUP <= columns; j += GROUP) {
    Floats v[GROUP];
    for (int i = 0; i < GROUP; i++) {
      const LooseDoubles *line = (const LooseDoubles *)(lines + (j + i) * GROUP);
      v[i] = NARROW(line[0], line[1]);
    }
    transpose_floats(v);
    STORE_ROWS(out + j, stride, v, GROUP, many, past_cache);
  }
  for (; j < columns; j++)
    for (int i = 0; i < many; i++) out[i * stride + j] = (float)lines[j * GROUP + i];
}

static void write_doubles(const double *lines, int64_t columns, int many, double *out,
                          int64_t stride, int past_cache) {
  int64_t j = 0;
  for (; j + LANES <= columns; j += LANES)
    HALVES {
      Doubles v[LANES];
      for (int i = 0; i < LANES; i++) v[i] = ((const LooseDoubles *)(lines + (j + i) * GROUP))[h];
      transpose_doubles(v);
      STORE_ROWS(out + h * LANES * stride + j, stride, v, LANES, many - h * LANES, past_cache);
    }
  for (; j < columns; j++)
    for (int i = 0; i < many; i++) out[i * stride + j] = lines[j * GROUP + i];
}

static void read_floats(double *lines, int64_t columns, int many, const float *given,
                        int64_t stride) {
  int64_t j = 0;
  for (; j + GROUP <= columns; j += GROUP) {
    Floats v[GROUP];
    for (int i = 0; i < GROUP; i++)
      v[i] = *(const LooseFloats *)(given + (i < many ? i : 0) * stride + j);
    transpose_floats(v);
    for (int i = 0; i < GROUP; i++)
      for (int k = 0; k < GROUP; k++) lines[(j + i) * GROUP + k] = v[i][k];
  }
  for (; j < columns; j++)
    for (int i = 0; i < many; i++) lines[j * GROUP + i] = given[i * stride + j];
}

static void read_doubles(double *lines, int64_t columns, int many, const double *given,
                         int64_t stride) {
  int64_t j = 0;
  for (; j + LANES <= columns; j += LANES)
    HALVES {
      Doubles v[LANES];
      for (int i = 0; i < LANES; i++) {
        int row = LANES * h + i;
        v[i] = *(const LooseDoubles *)(given + (row < many ? row : 0) * stride + j);
      }
      transpose_doubles(v);
      for (int i = 0; i < LANES; i++) ((LooseDoubles *)(lines + (j + i) * GROUP))[h] = v[i];
    }
  for (; j < columns; j++)
    for (int i = 0; i < many; i++) lines[j * GROUP + i] = given[i * stride + j];
}

/* Y of n places into the rows of `out`, floats if `single`, else doubles. Places are unit vectors,
   or longitude and latitude in degrees: 3 or 2 `axes`, `by_place` and `by_axis` numbers apart. */
int geoenc_harmonics(const double *places, int axes, int64_t n, int64_t by_place, int64_t by_axis,
                     int degree, const double *coefficients, void *out, int64_t stride,
                     int single, int past_cache) {
  int64_t columns = (int64_t)(degree + 1) * (degree + 1);
  double *lines = room(columns * GROUP * (int64_t)sizeof(double));
  if (!lines) return 1;
  past_cache &= lines_of_cache(out, (single ? 4 : 8) * stride);
  for (int64_t start = 0; start < n; start += GROUP) {
    int many = n - start < GROUP ? (int)(n - start) : GROUP;
    Doubles p[3][2] = {};
    read_places(places + start * by_place, by_place, by_axis, axes, many, p);
    if (axes == 2) unit_vectors(p);
    harmonics_of(p, degree, coefficients, lines);
    if (single)
      write_floats(lines, columns, many, (float *)out + start * stride, stride, past_cache);
    else
      write_doubles(lines, columns, many, (double *)out + start * stride, stride, past_cache);
  }
  return finish(lines);
}

/* Slopes by x, y and z of the sum over columns of Y times `given`, for n unit vectors, into rows of
   `out` that start `out_stride` apart. */
int geoenc_harmonics_slopes(const double *xyz, int64_t n, int64_t by_place, int64_t by_axis,
                            int degree, const double *coefficients, const void *given,
                            int64_t stride, int single, double *out, int64_t out_stride) {
  int64_t columns = (int64_t)(degree + 1) * (degree + 1);
  double *lines = room(columns * GROUP * (int64_t)sizeof(double));
  if (!lines) return 1;
  memset(lines, 0, columns * GROUP * sizeof(double));
  for (int64_t start = 0; start < n; start += GROUP) {
    int many = n - start < GROUP ? (int)(n - start) : GROUP;
    Doubles p[3][2] = {}, slope[3][2];
    read_places(xyz + start * by_place, by_place, by_axis, 3, many, p);
    if (single) read_floats(lines, columns, many, (const float *)given + start * stride, stride);
    else read_doubles(lines, columns, many, (const double *)given + start * stride, stride);
    slopes_of(p, degree, coefficients, lines, slope);
    for (int axis = 0; axis < 3; axis++)
      for (int i = 0; i < many; i++)
        out[axis * out_stride + start + i] = ((const double *)slope[axis])[i];
  }
  return finish(lines);
}
