"""The embedded globe: geometry of chips against pyproj, facts about countries, sizes, errors."""

import functools
import hashlib
import json
import math
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
import torch

from geoenc.coordinates import EARTH_RADIUS_KM, great_circle_km
from geoenc.data import globe as module
from geoenc.data.geotagged import GeotaggedImages
from geoenc.data.globe import LABELS, chips, countries, load_globe, picture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def decoded_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "picture", functools.cache(picture))
        yield


@pytest.fixture(scope="module")
def globe() -> GeotaggedImages:
    return load_globe()


@pytest.fixture(scope="module")
def table():
    return countries()


@pytest.fixture
def blank(monkeypatch):
    """A small picture, for tests that look only at places and labels."""
    monkeypatch.setattr(module, "picture", lambda: np.zeros((90, 180, 3), np.uint8))


@pytest.fixture
def painted(monkeypatch):
    """Replace the picture by a function of longitude and latitude in degrees."""

    def paint(function, rows=1350):
        lat = 90 - 180 * (np.arange(rows) + 0.5) / rows
        lon = 360 * (np.arange(2 * rows) + 0.5) / (2 * rows) - 180
        image = np.stack(np.broadcast_arrays(*function(*np.meshgrid(lon, lat))), -1)
        monkeypatch.setattr(module, "picture", lambda: np.round(image).astype(np.uint8))

    return paint


def pixel_places(lon, lat, size, side_km):
    """Longitude and latitude of the pixels of a chip, by PROJ."""
    plane = pyproj.Transformer.from_crs(
        f"+proj=aeqd +lon_0={lon} +lat_0={lat} +R={EARTH_RADIUS_KM} +units=m",
        f"+proj=longlat +R={EARTH_RADIUS_KM}",
        always_xy=True,
    )
    steps = [side_km * ((index + 0.5) / size - 0.5) for index in range(size)]
    east, south = np.meshgrid(steps, steps)
    return plane.transform(east, -south)


def ground_km(centre, lon, lat):
    """Distances from one place by PROJ; infinity outside the band of latitudes worth asking."""
    geod = pyproj.Geod(a=EARTH_RADIUS_KM * 1000, b=EARTH_RADIUS_KM * 1000)
    far = np.full(lon.shape, np.inf)
    near = abs(lat - centre[1]) < 5
    near &= abs((lon - centre[0] + 180) % 360 - 180) * np.cos(np.radians(lat)) < 5
    start = np.broadcast_to(np.array(centre)[:, None], (2, near.sum()))
    far[near] = geod.inv(*start, lon[near], lat[near])[2] / 1000
    return far


# ---------------------------------------------------------------- the data as a whole


def test_there_are_about_15000_places_with_chips_and_targets(globe):
    assert abs(len(globe) - 15_000) < 150
    assert globe.lonlat.shape == (len(globe), 2)
    assert globe.lonlat.dtype == torch.float64
    assert globe.images.shape == (len(globe), 3, 16, 16)
    assert globe.images.dtype == torch.uint8
    assert globe.target.dtype == torch.int64
    assert globe.image_paths is None
    assert globe.features is None


def test_two_calls_give_the_same(globe):
    again = load_globe(num_points=15_000)
    assert torch.equal(globe.lonlat, again.lonlat)
    assert torch.equal(globe.images, again.images)
    assert torch.equal(globe.target, again.target)
    assert globe.classes == again.classes


def test_places_are_evenly_spread(globe):
    nearest = []
    for block in globe.lonlat[::500]:
        nearest.append(great_circle_km(block, globe.lonlat).sort().values[1].item())
    assert min(nearest) > 70
    assert np.median(nearest) < 110


def test_every_class_has_enough_places_for_few_shot_labels(globe):
    counts = globe.target.bincount(minlength=len(globe.classes))
    assert counts.min() >= 90
    assert globe.target.max() == len(globe.classes) - 1
    assert len(set(globe.classes)) == len(globe.classes) == 26
    assert counts.max() / len(globe) < 0.1


def test_every_place_is_inside_the_country_of_its_label(table, blank):
    named = load_globe(label="country", chip_size=1)
    shapes = dict(zip(table["name"], table.geometry, strict=True))
    assert not {"Antarctica", "Fr. S. Antarctic Lands"} & set(named.classes)
    for index, name in enumerate(named.classes):
        lonlat = named.lonlat[named.target == index].numpy()
        assert shapely.contains_xy(shapes[name], lonlat).all(), name


def test_labels_of_the_same_places_agree(globe, table, blank):
    facts = table.set_index("name")
    country = load_globe(label="country", chip_size=1)
    name = np.array(country.classes)[country.target]
    for label in ("continent", "subregion"):
        other = load_globe(label=label, chip_size=1)
        assert torch.equal(other.lonlat, globe.lonlat)
        got = np.array(other.classes)[other.target]
        fact = facts[label].loc[name].to_numpy(dtype=str)
        merged = np.array([module._MERGED.get(value, value) for value in fact])
        assert (got == (merged if label == "subregion" else fact)).all()
    landscape = np.array([globe.classes[index].split(", ")[0] for index in globe.target])
    assert (landscape == facts["continent"].loc[name].to_numpy(dtype=str)).all()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((12.0, 24.0), "Africa, sand"),  # Sahara
        ((22.0, -1.0), "Africa, dark green"),  # Congo basin
        ((-42.0, 72.0), "North America, white"),  # Greenland
        ((-62.0, -4.0), "South America, dark green"),  # Amazon
        ((48.0, 20.0), "Asia, sand"),  # Arabia
    ],
)
def test_labels_at_known_places(globe, place, expected):
    nearest = great_circle_km(torch.tensor(place).double(), globe.lonlat).argmin()
    assert globe.classes[globe.target[nearest]] == expected


def test_landscape_reads_the_ring_and_not_the_chip(painted):
    def ring(lon, lat):  # sand within 45 km and beyond 400, dark green between
        far = ground_km((20.0, 0.0), lon, lat)
        sandy = (far < 45) | (far > 400)
        return [np.where(sandy, sand, green) for sand, green in zip(*colours, strict=True)]

    colours = module._COLOURS["sand"], module._COLOURS["dark green"]
    painted(ring, rows=2700)
    names = module._landscape(module.picture(), np.array([(20.0, 0.0)]), np.array(["Africa"]))
    assert names.tolist() == ["Africa, dark green"]


def test_landscape_leaves_water_out_and_keeps_to_the_colours_of_a_continent(painted):
    sea, land = np.array([[20, 40, 120], [99, 86, 57]])[:, :, None, None]
    painted(lambda lon, lat: np.where(lon < 20, sea, land))
    places, names = np.array([(20.3, 0.0), (100.0, 0.0)]), np.array(["Africa", "Africa"])
    assert (module._landscape(module.picture(), places, names) == "Africa, brown").all()
    painted(lambda lon, lat: (lon * 0 + 226, lon * 0 + 228, lon * 0 + 228))
    names = np.array(["Europe", "Africa"])
    assert module._landscape(module.picture(), places, names).tolist() == [
        "Europe, white",
        "Africa, sand",
    ]


# ---------------------------------------------------------------- chips


@pytest.mark.parametrize(
    "place",
    [(0.0, 0.0), (36.8, -1.3), (-179.99, 66.0), (180.0, -17.0), (20.0, 70.0), (-40.0, 83.0)],
)
def test_pixels_lie_where_proj_says(painted, place):
    """A picture whose three colours tell the place gives back the place of every pixel."""

    def colours(lon, lat):
        lon, lat = np.radians(lon), np.radians(lat)
        xyz = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
        return [128 + 120 * np.sin(6 * axis) for axis in xyz]

    painted(colours)
    chip = chips([place], chip_size=80, chip_km=5000.0)[0].numpy()
    expected = np.stack(colours(*pixel_places(*place, 80, 5000.0)))
    assert np.abs(chip - expected).max() < 2.5


def test_the_seam_of_the_picture_is_nowhere(monkeypatch):
    """Turning the picture and the places by half a turn changes nothing, even in pure noise."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 180, 3), dtype=np.uint8)
    lon, lat = np.linspace(-180, 180, 73), np.array([-80.0, -20.0, 0.0, 44.0, 88.0])
    places = np.stack(np.meshgrid(lon, lat), -1).reshape(-1, 2)
    monkeypatch.setattr(module, "picture", lambda: noise)
    here = chips(places, chip_km=900.0).int()
    monkeypatch.setattr(module, "picture", lambda: np.roll(noise, 90, axis=1))
    there = chips(places + np.array([180.0, 0.0]), chip_km=900.0).int()
    assert (here - there).abs().max() <= 1


@pytest.mark.parametrize("lat", [0.0, 45.0, -55.0, 70.0, 83.5])
def test_a_disc_on_the_ground_is_a_disc_in_the_chip_at_any_latitude(painted, lat):
    painted(lambda *place: [np.where(ground_km((178.0, lat), *place) < 150, 255, 0)] * 3)
    chip = chips([(178.0, lat)], chip_size=40, chip_km=400.0)[0, 0].double() / 255
    assert chip.sum().item() * 100 == pytest.approx(math.pi * 150**2, rel=0.03)
    offset = (torch.arange(40) + 0.5) * 10 - 200
    for axis in (0, 1):  # centred, and as wide as high
        mass = chip.sum(axis) / chip.sum()
        assert abs((mass * offset).sum()) < 2
        assert (mass * offset**2).sum().sqrt().item() == pytest.approx(75, rel=0.03)


def test_north_is_up_and_east_is_right(painted):
    painted(lambda lon, lat: (lat + 90, (lon + 180) / 2, lon * 0))
    chip = chips([(30.0, 10.0)], chip_km=1000.0)[0].int()
    assert (chip[0].diff(dim=0) <= 0).all()
    assert (chip[1].diff(dim=1) >= 0).all()
    assert chip[0, 0].min() > chip[0, -1].max()
    assert chip[1, :, 0].max() < chip[1, :, -1].min()


def test_a_chip_on_the_antimeridian_is_continuous():
    """Across the seam of the picture neighbours differ as they do elsewhere in the chip."""
    for lat in (67.0, 68.0):  # Chukotka
        chip = chips([(180.0, lat)], chip_size=48, chip_km=300.0)[0].double()
        steps = chip.diff(dim=2).abs().mean((0, 1))
        assert steps[23] < 1.5 * steps.mean() + 2
    west, east = chips([(-180.0, 66.0), (180.0, 66.0)], chip_size=32)
    assert torch.equal(west, east)


def test_a_chip_over_the_pole_is_the_same_seen_from_any_meridian(painted):
    painted(lambda lon, lat: ((90 - lat) * 8, lon * 0, lon * 0))
    chip = chips([(0.0, 90.0), (90.0, 90.0), (-77.0, 90.0)], chip_km=2000.0)[:, 0].int()
    for other in (chip[1], chip[2], chip[0].flip(0), chip[0].flip(1), chip[0].T):
        assert (chip[0] - other).abs().max() <= 2


def test_fine_stripes_are_averaged_towards_the_pole(painted):
    """Stripes narrower than a chip's pixel come out grey, not as a moiré pattern."""
    painted(lambda lon, lat: [np.arange(lon.shape[1])[None] % 2 * 255 + 0 * lat] * 3, rows=2700)
    chip = chips([(25.0, 75.0)])[0].double()
    assert (chip - 127.5).abs().max() < 50  # unfiltered: up to 127
    coarse = chips([(25.0, 0.0)], chip_size=4, chip_km=400.0).double()
    assert (coarse - 127.5).abs().max() < 15


def test_a_constant_picture_gives_constant_chips(painted):
    painted(lambda lon, lat: (lon * 0 + 200, lon * 0 + 3, lon * 0 + 255))
    chip = chips([(0, 0), (100, 80), (-50, -89)], chip_size=8, chip_km=700.0)
    assert (chip == torch.tensor([200, 3, 255])[:, None, None]).all()


def test_real_chips_show_what_is_there():
    desert, forest, ice, sea = (
        chips([(12, 24), (22, -1), (-42, 72), (-30, 0)]).double().mean((2, 3)).numpy()
    )
    assert desert[0] > 150
    assert desert[0] > desert[2] + 30
    assert forest[1] == forest.max()
    assert forest.max() < 80
    assert ice.min() > 215
    assert sea[2] == sea.max()


def test_chips_of_no_places_and_of_arrays():
    assert chips(np.empty((0, 2)), chip_size=5).shape == (0, 3, 5, 5)
    places = np.array([(190.0, 10.0)])
    assert torch.equal(chips(places), chips([(-170.0, 10.0)]))
    assert places[0, 0] == 190.0


def test_chip_size_and_width_are_arguments():
    small = load_globe(num_points=1000, chip_size=8, chip_km=300.0)
    assert small.images.shape[1:] == (3, 8, 8)
    assert abs(len(small) - 1000) <= 10
    row = 321
    assert (
        (small.images[row].int() - chips(small.lonlat[[row]], chip_size=8, chip_km=300.0)[0].int())
        .abs()
        .max()
        <= 1  # the band of rows averaged together starts elsewhere
    )


# ---------------------------------------------------------------- countries and picture


def test_countries_are_valid_and_complete(table):
    assert len(table) == 178
    assert table.crs.to_epsg() == 4326
    assert table.is_valid.all()
    assert not table.is_empty.any()
    assert table["name"].is_unique
    codes = table["iso_a3"][table["iso_a3"] != ""]
    assert codes.is_unique
    assert codes.str.fullmatch("[A-Z]{3}").all()
    assert set(table["name"][table["iso_a3"] == ""]) == {"N. Cyprus", "Somaliland"}
    assert table["subregion"].nunique() == 21
    assert table["pop_est"].sum() == pytest.approx(7.4e9, rel=0.05)


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ((2.35, 48.86), "FRA"),
        ((-53.0, 4.0), "GUF"),
        ((10.0, 61.0), "NOR"),
        ((139.5, 36.0), "JPN"),
        ((-58.5, -34.7), "ARG"),
        ((37.0, -1.0), "KEN"),
    ],
)
def test_places_lie_in_the_country_they_lie_in(table, place, code):
    inside = table[shapely.contains_xy(table.geometry.to_numpy(), *place)]
    assert inside["iso_a3"].tolist() == [code]


def test_areas_are_those_of_the_countries(table):
    area = table.set_index("iso_a3").to_crs("ESRI:54034").area / 1e12
    for code, million_km2 in {"RUS": 17.0, "BRA": 8.5, "AUS": 7.7, "IND": 3.2, "FRA": 0.55}.items():
        assert area[code] == pytest.approx(million_km2, rel=0.04)


def test_picture_is_the_whole_earth():
    image = picture()
    assert image.shape == (2700, 5400, 3)
    assert image.dtype == np.uint8
    assert image[-30:].min() > 200  # Antarctica
    assert image[1350, 2700 - 30 * 15].argmax() == 2  # the Atlantic at the equator


def test_assets_fit_into_the_wheel_and_need_no_other_package():
    assets = resources.files("geoenc.data").joinpath("assets")
    sizes = {file.name: len(file.read_bytes()) for file in assets.iterdir() if file.is_file()}
    assert set(sizes) == {"README.md", "blue_marble.jpg", "countries.npz"}
    assert sum(sizes.values()) <= 2_300_000
    code = (
        "import sys\n"
        "for name in ('pyogrio', 'fiona', 'pyarrow', 'matplotlib', 'mpl_toolkits'):\n"
        "    sys.modules[name] = None\n"
        "from geoenc.data.globe import countries\n"
        "assert len(countries()) == 178\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_checksums_in_the_provenance_are_those_of_the_files():
    assets = resources.files("geoenc.data").joinpath("assets")
    provenance = assets.joinpath("README.md").read_text(encoding="utf-8")
    for name in ("blue_marble.jpg", "countries.npz"):
        assert hashlib.sha256(assets.joinpath(name).read_bytes()).hexdigest() in provenance


def test_pillow_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"geoenc\[train\]"):
        picture()


# ---------------------------------------------------------------- errors and documentation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "biome"}, "expected label one of .*landscape.*got 'biome'"),
        ({"num_points": 0}, "num_points of at least 1, got 0"),
        ({"chip_size": 0}, "chip_size of at least 1 pixel, got 0"),
        ({"chip_km": 0.0}, "chip_km above 0 and at most 5000, got 0"),
        ({"chip_km": math.nan}, "chip_km above 0"),
        ({"chip_km": 9000.0}, "got 9000"),
    ],
)
def test_impossible_arguments_are_refused_before_any_work(monkeypatch, arguments, message):
    monkeypatch.setattr(module, "picture", lambda: pytest.fail("read the picture first"))
    with pytest.raises(ValueError, match=message):
        load_globe(**arguments)


def test_chips_refuse_places_that_are_none():
    with pytest.raises(ValueError, match="one row per chip"):
        chips([0.0, 0.0])
    with pytest.raises(ValueError, match="order="):
        chips([(48.0, 151.0)])
    with pytest.raises(ValueError, match="NaN"):
        chips([(math.nan, 0.0)])


def test_the_table_of_the_page_is_that_of_the_result_file():
    page = ROOT / "docs" / "explanation" / "globe-data.md"
    result = ROOT / "benchmarks" / "results" / "globe_labels.json"
    if not (page.exists() and result.exists()):
        pytest.skip("not a checkout: docs and benchmarks are not there")
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in page.read_text(encoding="utf-8").split("<!-- table: begin -->")[1].splitlines()
        if line.startswith("|")
    ][2:]
    measured = {
        (row["label"], row["split"], f"{row['fraction']:.0%}"): row
        for row in json.loads(result.read_text(encoding="utf-8"))["rows"]
    }
    assert {row[0] for row in rows} == {row[0] for row in measured} >= set(LABELS)
    for row in rows:
        numbers = measured[row[0], row[2], row[3]]
        assert int(row[1]) == numbers["classes"]
        for cell, model in zip(row[4:8], ("majority", "image", "place", "both"), strict=True):
            assert cell == f"{np.mean(numbers[model]):.1f}"


def test_the_label_needs_image_and_place_by_the_measurement():
    result = ROOT / "benchmarks" / "results" / "globe_labels.json"
    if not result.exists():
        pytest.skip("not a checkout: benchmarks are not there")
    for row in json.loads(result.read_text(encoding="utf-8"))["rows"]:
        if row["label"] == "landscape" and row["split"] != "random":
            gain = np.array(row["both"]) - np.maximum(row["image"], row["place"])
            assert gain.min() > 0
            assert gain.mean() > 5
