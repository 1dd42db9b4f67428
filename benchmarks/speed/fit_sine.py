"""The coefficients of `geoenc.native`, for |r| <= 1/2 turns.

    python -m benchmarks.speed.fit_sine

    sin(2 pi r) = r (1 - 4 r^2) P(r^2)        cos(2 pi r) = (1 - 16 r^2) Q(r^2)

The zeros are factors, so that they are exact. Chebyshev nodes, weights by the Lawson iteration:
the error becomes level (minimax).
"""

import numpy as np


def zeros(r: np.ndarray, odd: bool) -> np.ndarray:
    """The factor of all zeros of the sine (odd) or the cosine."""
    return r * (1 - 4 * r * r) if odd else 1 - 16 * r * r


def fit(terms: int, odd: bool, nodes: int = 4001, rounds: int = 600) -> np.ndarray:
    """Coefficients, lowest power first, that minimise the largest error of sine or cosine."""
    r = 0.5 * np.cos(np.linspace(0, np.pi / 2, nodes))
    basis = zeros(r, odd)[:, None] * (4 * r[:, None] ** 2) ** np.arange(terms)
    wanted = np.sin(2 * np.pi * r) if odd else np.cos(2 * np.pi * r)
    weight = np.full(nodes, 1 / nodes)
    best, least = np.zeros(terms), np.inf
    for _ in range(rounds):
        root = np.sqrt(weight)
        found = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(basis @ found - wanted)
        if error.max() < least:
            best, least = found, error.max()
        weight = weight * error
        weight /= weight.sum()
    return best * 4.0 ** np.arange(terms)


def errors(coefficients: np.ndarray, odd: bool) -> tuple[float, float]:
    """Largest error in float64 and with float32 arithmetic."""
    r = np.linspace(-0.5, 0.5, 400_001).astype(np.float32)
    exact = (np.sin if odd else np.cos)(2 * np.pi * r.astype(float))
    result = []
    for dtype in (np.float64, np.float32):
        x = r.astype(dtype)
        value = np.zeros_like(x)
        for one in coefficients[::-1].astype(dtype):
            value = value * (x * x) + one
        result.append(float(np.abs(value * zeros(x, odd) - exact).max()))
    return result[0], result[1]


if __name__ == "__main__":
    for odd, name in ((True, "sine"), (False, "cosine")):
        for terms in (5, 6, 7):
            found = fit(terms, odd)
            wide, narrow = errors(found, odd)
            print(f"{name}, {terms} terms: {', '.join(f'{one:.10g}' for one in found)}")
            print(f"    error {wide:.1e}, in float32 {narrow:.1e}")
