/* Spherical harmonics and their slopes. */

#include "groups.h"

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
