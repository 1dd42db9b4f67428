"""Regions of places: by polygons looked up one by one, the shore, the antimeridian, the poles."""

import pytest
import shapely
import torch

from geoenc.coordinates import great_circle_km
from geoenc.data.globe import countries
from geoenc.data.regions import region_of
from geoenc.sampling import uniform


@pytest.mark.parametrize("level", ["continent", "subregion", "country"])
def test_inside_a_polygon_it_is_that_of_the_polygon(level):
    lonlat = uniform(300)
    region, names = region_of(lonlat, level, coast_km=0)
    table = countries()
    column = table["name" if level == "country" else level]
    for place, number in zip(lonlat.tolist(), region.tolist(), strict=True):
        inside = [
            name
            for name, shape in zip(column, table.geometry, strict=True)
            if shape.intersects(shapely.Point(place))
        ]
        assert names[number] == (inside[0] if inside else "open sea")
    assert list(names) == sorted(set(names))


def test_off_the_shore_it_is_that_of_the_nearest_border():
    lonlat = uniform(2000)
    alone, _ = region_of(lonlat, coast_km=0)
    region, names = region_of(lonlat, coast_km=300)
    table = countries()
    borders = shapely.segmentize(table.geometry.boundary.to_numpy(), 0.1)
    parts = [torch.from_numpy(shapely.get_coordinates(line)) for line in borders]
    sea = alone == alone.max()  # "open sea" is the last name: it is in small letters
    checked = 0
    for index in sea.nonzero()[:60, 0].tolist():
        distance = torch.stack([great_circle_km(lonlat[index], part).min() for part in parts])
        nearest, found = distance.argmin(), names[region[index]]
        assert found == (table["name"][int(nearest)] if distance.min() <= 300 else "open sea")
        checked += found != "open sea"
    assert checked > 5


def test_across_the_antimeridian_and_at_the_poles():
    # 80 km east of Taveuni (Fiji), beyond 180 degrees; the poles; Wrangel, which 180 degrees cuts
    lonlat = [(-179.3, -16.8), (0.0, -90.0), (123.0, 90.0), (179.99, 71.0), (-179.99, 71.0)]
    region, names = region_of(lonlat)
    found = [names[number] for number in region.tolist()]
    assert found == ["Fiji", "Antarctica", "open sea", "Russia", "Russia"]


def test_missing_places_have_none():
    region, names = region_of([(float("nan"), 0.0), (2.35, 48.86)])
    assert region.tolist() == [-1, 0]
    assert names == ("France",)
    assert region_of(torch.full((2, 2), torch.nan))[1] == ()


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="got 'county'"):
        region_of([(0, 0)], "county")
    with pytest.raises(ValueError, match="at least 0"):
        region_of([(0, 0)], coast_km=-1)
    with pytest.raises(ValueError, match="one row per sample"):
        region_of((0.0, 0.0))
