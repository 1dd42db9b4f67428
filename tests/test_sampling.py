"""Points on the sphere: where they fall, whether they repeat, and what the originals drew."""

import math

import pytest
import shapely
import torch

from geoenc import sampling
from geoenc.coordinates import great_circle_km, to_xyz

RING = shapely.box(-20, -10, 30, 50) - shapely.box(0, 0, 10, 20)
DRAWS = [
    sampling.uniform,
    sampling.legacy_disc,
    sampling.legacy_quadrant,
    sampling.Within([RING, shapely.box(100, 60, 101, 61)]),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("num", [0, 1, 17])
def test_shape_and_range(draw, num: int) -> None:
    places = draw(num, generator=seeded())
    assert places.shape == (num, 2)
    assert places.dtype == torch.float64
    assert (places[:, 0].abs() <= 180).all()
    assert (places[:, 1].abs() <= 90).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_generator_decides(draw) -> None:
    assert draw(9, generator=seeded()).equal(draw(9, generator=seeded()))
    assert not draw(9, generator=seeded()).equal(draw(9, generator=seeded(1)))
    state = torch.get_rng_state()
    draw(9, generator=seeded())
    assert torch.get_rng_state().equal(state)
    generator = seeded()
    assert not draw(9, generator=generator).equal(draw(9, generator=generator))


@pytest.mark.parametrize("draw", DRAWS)
def test_without_generator_the_global_seed_decides(draw) -> None:
    torch.manual_seed(3)
    first = draw(9)
    torch.manual_seed(3)
    assert draw(9).equal(first)


def test_uniform_is_uniform_on_the_sphere() -> None:
    places = sampling.uniform(200_000, generator=seeded())
    sine = places[:, 1].deg2rad().sin()
    assert sine.abs().mean().item() == pytest.approx(0.5, abs=0.004)
    assert (places[:, 1].abs() > 60).double().mean().item() == pytest.approx(0.134, abs=0.003)
    xyz = to_xyz(places)
    assert xyz.mean(0).abs().max() < 0.006
    moments = xyz.T @ xyz / len(xyz)
    assert torch.allclose(moments, torch.eye(3, dtype=torch.float64) / 3, atol=0.004)
    for cells in (places[:, 0] / 360, sine / 2):  # each marginal, in ten equal parts
        counts = torch.histc(cells, 10, -0.5, 0.5) / len(places)
        assert (counts - 0.1).abs().max() < 0.003


def test_legacy_disc_is_the_disc_of_the_published_scripts() -> None:
    places = sampling.legacy_disc(200_000, generator=seeded())
    radius = (places / torch.tensor([180.0, 90.0])).norm(dim=1)
    assert radius.max() <= 1 + 1e-12
    assert radius.max() > 0.999
    assert (radius > 0.9).double().mean().item() == pytest.approx(0.436, abs=0.004)
    assert (places[:, 1].abs() > 60).double().mean().item() == pytest.approx(1 / 3, abs=0.004)
    for column, half in ((0, 180), (1, 90)):  # both marginals are uniform (Archimedes)
        counts = torch.histc(places[:, column] / half, 10, -1, 1) / len(places)
        assert (counts - 0.1).abs().max() < 0.003


def test_legacy_quadrant_is_the_default_of_the_published_code() -> None:
    places = sampling.legacy_quadrant(200_000, generator=seeded())
    assert places.min() >= 0
    for column, side in ((0, 180), (1, 90)):
        counts = torch.histc(places[:, column] / side, 10, 0, 1) / len(places)
        assert (counts - 0.1).abs().max() < 0.003


def test_places_within_a_region_are_uniform_over_its_area() -> None:
    """In a ring and a far box: each piece has its share of the area of the sphere, none a hole."""
    far = shapely.box(100, 60, 140, 80)
    places = sampling.Within([RING, far])(100_000, generator=seeded())
    assert shapely.contains_xy(shapely.union(RING, far), *places.T.numpy()).all()

    def area(west: float, south: float, east: float, north: float) -> float:
        return (east - west) * (math.sin(math.radians(north)) - math.sin(math.radians(south)))

    boxes = [(-20, -10, 0, 50), (0, 20, 10, 50), (0, -10, 10, 0), (10, -10, 30, 50)]
    boxes += [(100, 60, 140, 80)]
    total = sum(area(*box) for box in boxes)
    for box in boxes:
        share = shapely.contains_xy(shapely.box(*box), *places.T.numpy()).mean()
        assert share == pytest.approx(area(*box) / total, abs=0.005)


def test_the_whole_globe_as_a_region_is_uniform() -> None:
    places = sampling.Within(shapely.box(-180, -90, 180, 90))(50_000, generator=seeded())
    assert places[:, 1].deg2rad().sin().abs().mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_region_across_the_antimeridian() -> None:
    places = sampling.Within(shapely.box(170, -10, 190, 10))(2000, generator=seeded())
    assert (places[:, 0].abs() >= 170).all()
    assert (places[:, 0] > 0).double().mean().item() == pytest.approx(0.5, abs=0.05)


def test_overlapping_polygons_count_once() -> None:
    twice = [shapely.box(0, 0, 10, 10), shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)]
    places = sampling.Within(twice)(20_000, generator=seeded())
    assert (places[:, 0] > 10).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_thin_region_is_found() -> None:
    """A diagonal strip that fills a thousandth of its box."""
    strip = shapely.LineString([(0, 0), (40, 40)]).buffer(0.02)
    places = sampling.Within(strip)(500, generator=seeded())
    assert len(places) == 500
    assert (places[:, 0] - places[:, 1]).abs().max() < 0.1


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (shapely.Point(1, 2), "area, got Point"),
        ([], "expected a region with an area"),
        (shapely.box(0, 0, 500_000, 4_000_000), "EPSG:4326"),
        (shapely.box(0, 80, 1, 91), "bounds 0 to 1 and 80 to 91"),
    ],
)
def test_what_is_no_region_is_refused(region, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampling.Within(region)


@pytest.mark.parametrize("num", [1, 2, 7, 1000])
def test_fibonacci_is_the_formula(num: int) -> None:
    golden = (1 + math.sqrt(5)) / 2
    for index, (lon, lat) in enumerate(sampling.fibonacci(num).tolist()):
        assert math.sin(math.radians(lat)) == pytest.approx(1 - (2 * index + 1) / num, abs=1e-12)
        difference = lon / 360 - index / golden
        assert difference - round(difference) == pytest.approx(0, abs=1e-10)
        assert -180 <= lon <= 180


def test_fibonacci_spreads_evenly() -> None:
    places = sampling.fibonacci(500)
    distance = great_circle_km(places[:, None], places[None])
    nearest = distance.fill_diagonal_(torch.inf).amin(1)
    assert nearest.max() / nearest.min() < 1.5
    assert to_xyz(places).mean(0).abs().max() < 0.01
    assert sampling.fibonacci(0).shape == (0, 2)


@pytest.mark.parametrize(("height", "width"), [(1, None), (4, None), (3, 5), (0, 2)])
def test_lattice_is_cell_centres(height: int, width: int | None) -> None:
    grid = sampling.lattice(height, width)
    columns = 2 * height if width is None else width
    assert grid.shape == (height, columns, 2)
    for row in range(height):
        for column in range(columns):
            lon = -180 + (column + 0.5) * 360 / columns
            lat = 90 - (row + 0.5) * 180 / height
            assert grid[row, column].tolist() == pytest.approx([lon, lat], abs=1e-12)


@pytest.mark.parametrize(
    "draw", [*DRAWS, sampling.fibonacci, sampling.lattice, lambda n: sampling.lattice(2, n)]
)
def test_refuses_negative_numbers(draw) -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        draw(-1)


def test_device() -> None:
    assert sampling.uniform(3, device="cpu", generator=seeded()).device.type == "cpu"
    assert sampling.uniform(3, device=torch.device("meta")).device.type == "meta"
