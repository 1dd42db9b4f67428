/* Multiplications and additions of floats that never leave the registers: as fast as it gets. */

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define SUMS 12 /* that do not wait for each other */

typedef float Floats __attribute__((vector_size(LANES * sizeof(float))));

int per_step(void) { return 2 * SUMS * LANES; }

float run(long steps, float x) {
  Floats sum[SUMS], total = {};
  for (int i = 0; i < SUMS; i++) sum[i] = (Floats){} + (float)i;
  for (long k = 0; k < steps; k++)
    for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * x + 1;
  for (int i = 0; i < SUMS; i++) total += sum[i];
  return total[0];
}
