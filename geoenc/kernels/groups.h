/* What the kernels share; `geoenc.native` builds and calls them.

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
