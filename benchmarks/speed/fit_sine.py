"""The coefficients of `geoenc.waves`: sin(2 pi r) = r P(r^2) for |r| <= 1/4, minimax.

    python -m benchmarks.speed.fit_sine

Chebyshev nodes in r^2, weights by the Lawson iteration: the error of r P(r^2) becomes level.
"""

import numpy as np


def fit(terms: int, nodes: int = 4001, rounds: int = 400) -> np.ndarray:
    """Coefficients of P, lowest power first, that minimise the largest error of r P(r^2)."""
    r = 0.25 * np.cos(np.linspace(0, np.pi / 2, nodes, endpoint=False))
    basis = r[:, None] * (16 * r[:, None] ** 2) ** np.arange(terms)
    wanted = np.sin(2 * np.pi * r)
    weight = np.full(nodes, 1 / nodes)
    best, least = None, np.inf
    for _ in range(rounds):
        root = np.sqrt(weight)
        found = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(basis @ found - wanted)
        if error.max() < least:
            best, least = found, error.max()
        weight = weight * error
        weight /= weight.sum()
    return best * 16.0 ** np.arange(terms)


if __name__ == "__main__":
    for terms in (5, 6, 7):
        found = fit(terms)
        r = np.linspace(-0.25, 0.25, 200_001)
        exact = np.sin(2 * np.pi * r)
        wide = r * np.polynomial.polynomial.polyval(r**2, found)
        narrow = np.float32(0)
        r32 = r.astype(np.float32)
        for one in found[::-1].astype(np.float32):
            narrow = narrow * (r32 * r32) + one
        print(
            f"{terms} terms: {', '.join(f'{one:.10g}' for one in found)}\n"
            f"    error {np.abs(wide - exact).max():.1e}, "
            f"in float32 {np.abs(narrow * r32 - np.sin(2 * np.pi * r32.astype(float))).max():.1e}"
        )
