"""GPS2VecCells against Krueger's projection, the rules of UTM zones, and a loop over cells."""

import math

import numpy as np
import pytest
import torch

import geoenc
from geoenc.position.gps2vec import transverse_mercator

E2 = 0.00669438


def krueger(lon: float, lat: float) -> tuple[float, float]:
    """Transverse Mercator in km by the series in the third flattening, exact to nanometres."""
    f = 1 - math.sqrt(1 - E2)
    n = f / (2 - f)
    radius = 6378.137 / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    alpha = [
        n / 2 - 2 * n**2 / 3 + 5 * n**3 / 16 + 41 * n**4 / 180,
        13 * n**2 / 48 - 3 * n**3 / 5 + 557 * n**4 / 1440,
        61 * n**3 / 240 - 103 * n**4 / 140,
        49561 * n**4 / 161280,
    ]
    phi, lam, e = math.radians(lat), math.radians(lon), math.sqrt(E2)
    t = math.sinh(math.atanh(math.sin(phi)) - e * math.atanh(e * math.sin(phi)))
    xi = math.atan2(t, math.cos(lam))
    eta = math.asinh(math.sin(lam) / math.hypot(t, math.cos(lam)))
    x = eta + sum(a * math.cos(2 * j * xi) * math.sinh(2 * j * eta) for j, a in enumerate(alpha, 1))
    y = xi + sum(a * math.sin(2 * j * xi) * math.cosh(2 * j * eta) for j, a in enumerate(alpha, 1))
    return 0.9996 * radius * x, 0.9996 * radius * y


def zone(lon: float, lat: float) -> tuple[float, float, float, float, float]:
    """West, east, central meridian, south and north of a place's UTM zone and band."""
    lon = (lon + 180) % 360 - 180
    number = int((lon + 180) // 6) + 1
    south = min(-80 + 8 * int((lat + 80) // 8), 72)
    north = 84 if south == 72 else south + 8
    edges = (6 * number - 186, 6 * number - 180)
    if south == 56 and 0 <= lon < 12:
        edges, number = ((0, 3), 31) if lon < 3 else ((3, 12), 32)
    if south == 72 and 0 <= lon < 42:
        for west, east, other in ((0, 9, 31), (9, 21, 33), (21, 33, 35), (33, 42, 37)):
            if west <= lon < east:
                edges, number = (west, east), other
    return (*edges, 6 * number - 183, south, north)


def reference(lon: float, lat: float, columns: int, rows: int, sigma_km: float) -> np.ndarray:
    lat = min(max(lat, -80), 84)
    west, east, meridian, south, north = zone(lon, lat)
    lon = (lon + 180) % 360 - 180
    steps = [west + k / 10 for k in range(10 * int(east - west) + 1)]
    edge = [krueger(x - meridian, y) for y in (south, north - 1e-8) for x in steps]
    left = min(edge[0][0], edge[len(steps)][0])
    bottom, top = min(y for _, y in edge), max(y for _, y in edge)
    x, y = krueger(lon - meridian, lat)
    cells = [
        math.hypot(
            x - left - (i + 0.5) * -2 * left / columns,
            y - bottom - (j + 0.5) * (top - bottom) / rows,
        )
        for i in range(columns)
        for j in range(rows)
    ]
    return np.exp(-np.array(cells) / sigma_km)


SPECIAL = [
    *((1.0, 60.0), (2.99, 63.9), (3.0, 56.0), (11.9, 60.0), (12.0, 60.0)),
    *(
        (0.5, 72.0),
        (8.9, 75.0),
        (9.0, 80.0),
        (20.0, 83.9),
        (30.0, 78.0),
        (41.9, 79.0),
        (42.0, 79.0),
    ),
    *((180.0, 10.0), (-180.0, 10.0), (179.999, -10.0), (0.0, 0.0), (0.0, -1e-6), (6.0, 0.0)),
    *((10.0, -80.0), (10.0, 84.0), (10.0, 90.0), (-50.0, -90.0), (33.3, -85.0)),
    *((42.0, 79.0), (33.0, 71.9), (-0.1, 75.0)),
]


@pytest.mark.parametrize(("columns", "rows", "sigma_km"), [(20, 20, 20.0), (3, 5, 400.0)])
def test_gps2vec(columns: int, rows: int, sigma_km: float) -> None:
    encoder = geoenc.GPS2VecCells(columns, rows, sigma_km=sigma_km).double()
    uniform = geoenc.sampling.uniform(150)
    lonlat = torch.cat([torch.tensor(SPECIAL, dtype=torch.float64), uniform])
    for (lon, lat), code in zip(lonlat.tolist(), encoder(lonlat), strict=True):
        wanted = reference(lon, lat, columns, rows, sigma_km)
        assert np.abs(code.numpy() - wanted).max() < 1e-6, (lon, lat)


def test_projection_is_good_to_a_millimetre_within_a_zone() -> None:
    lon, lat = torch.cartesian_prod(
        torch.linspace(-3, 3, 13, dtype=torch.float64),
        torch.linspace(-80, 84, 42, dtype=torch.float64),
    ).unbind(-1)
    easting, northing = transverse_mercator(lon, lat)
    for x, y, *place in zip(*(v.tolist() for v in (easting, northing, lon, lat)), strict=True):
        assert math.dist((x, y), krueger(*place)) < 2e-6


def test_the_sea_west_of_norway_has_a_zone_of_its_own() -> None:
    code = geoenc.GPS2VecCells(sigma_km=100.0)(torch.tensor([(2.0, 60.0), (4.0, 60.0)]))
    assert code.isfinite().all()
    assert code.amax(1).min() > 0.5
    assert (code[0] - code[1]).abs().max() > 0.1


def test_highest_value_is_in_the_cell_of_the_place() -> None:
    encoder = geoenc.GPS2VecCells(4, 8, sigma_km=100.0)
    places = torch.tensor([(6.1, 0.1), (11.9, 0.1), (6.1, 7.9), (9.01, 4.01)])
    assert encoder(places).argmax(1).tolist() == [0, 24, 7, 20]


def test_slopes_inside_a_zone() -> None:
    encoder = geoenc.GPS2VecCells(5, 5, sigma_km=100.0).double()
    lonlat = torch.tensor([(8.1, 50.3), (-70.2, -33.1), (5.0, 60.0), (14.4, 78.8)]).double()
    assert torch.autograd.gradcheck(encoder, lonlat.requires_grad_(), eps=1e-6, atol=1e-6)


def test_slope_at_a_centre_is_finite() -> None:
    """The centre of a zone's only cell, found by bisection."""
    encoder = geoenc.GPS2VecCells(1, 1, sigma_km=10.0).double()
    low, high = 0.0, 8.0
    for _ in range(60):
        lat = torch.tensor([9.0, (low + high) / 2], dtype=torch.float64)
        slope = torch.func.jacrev(encoder)(lat)[0, 1].item()
        low, high = ((low + high) / 2, high) if slope > 0 else (low, (low + high) / 2)
        assert math.isfinite(slope)
    assert encoder(lat).item() > 1 - 1e-9


def test_gps2vec_refuses() -> None:
    for columns, rows in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match=f"of at least 1, got {columns} and {rows}"):
            geoenc.GPS2VecCells(columns, rows)
    for sigma_km in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma_km above 0, got"):
            geoenc.GPS2VecCells(sigma_km=sigma_km)
