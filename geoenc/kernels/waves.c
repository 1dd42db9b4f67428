/* Products of two sines: all sinusoidal encoders. */

#include "groups.h"

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
   are named by where they begin, `geoenc_group` numbers apart. `second` may be absent. Rows of `out`
   are dense, or its columns (`by_place` 1), which need not be turned. No phase of coordinates up to
   `reach` is 2^19 turns long. */
int geoenc_waves(const double *c, int64_t n, int axes, double reach, const double *phases,
                 const int64_t *counts, int one, const int64_t *first, const int64_t *second,
                 int columns, float amplitude, float *out, int64_t by_place, int64_t by_column,
                 int past_cache) {
#define LINE_AT(start) (*(const LooseFloats *)(lines + (start)))
#define COLUMN(j) (second ? LINE_AT(first[j]) * LINE_AT(second[j]) : LINE_AT(first[j]) * amplitude)
  float *lines = room((2 * one + 1) * (int64_t)sizeof(Floats));
  if (!lines) return 1;
  past_cache &= lines_of_cache(out, 4 * by_place);
  for (int i = 0; i < GROUP; i++) lines[2 * one * GROUP + i] = 1;
  for (int64_t start = 0; start < n; start += GROUP, out += GROUP * by_place) {
    int many = n - start < GROUP ? (int)(n - start) : GROUP, j = 0;
    Doubles place[3][2] = {};
    read_places(c + start * axes, axes, 1, axes, many, place);
    if (are_near(place, axes, reach)) all_sines(place, axes, phases, counts, 1, lines);
    else all_sines(place, axes, phases, counts, 0, lines);
    if (by_place == 1 && many == GROUP)
      for (; j < columns; j++) KEEP(out + j * by_column, COLUMN(j));
    for (; by_column == 1 && j + GROUP <= columns; j += GROUP) {
      Floats v[GROUP];
      for (int i = 0; i < GROUP; i++) v[i] = COLUMN(j + i);
      transpose_floats(v);
      STORE_ROWS(out + j, by_place, v, GROUP, many, past_cache);
    }
    for (; j < columns; j++) {
      Floats v = COLUMN(j);
      for (int i = 0; i < many; i++) out[i * by_place + j * by_column] = v[i];
    }
  }
  return finish(lines);
}
