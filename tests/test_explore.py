"""The page of a model: its numbers against the library, and what it does in a real browser."""

import base64
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import geoenc
from geoenc.coordinates import equal_earth, great_circle_km, to_xyz
from geoenc.explore import Training, explore_page, numbers, read_training

ROWS = 40
NAMES = ["tundra", "steppe", "</script><b>desert", "forest"]
TRAINED = torch.tensor([[2.35, 48.86], [-122.27, 37.87], [3.0, 47.0], [151.2, -33.9]])
WORDS = ["Paris", None, "<i>France</i>", "Sydney"]


@pytest.fixture(scope="module")
def model() -> geoenc.LocationClassifier:
    torch.manual_seed(0)
    encoder = geoenc.LocationEncoder(
        geoenc.SphericalHarmonics(8), geoenc.FFN(81, 24, hidden_features=32)
    )
    classifier = geoenc.LocationClassifier(encoder, len(NAMES)).eval()
    classifier.metadata = {"classes": NAMES, "training_data": "none & nothing"}
    return classifier


@pytest.fixture(scope="module")
def page(model) -> str:
    training = Training(TRAINED.double(), WORDS, total=4)
    return explore_page(model, name="a <model>", training=training, rows=ROWS)


def document(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.S)
    return json.loads(found[1])


# The numbers


def test_cells_of_the_grid_have_nearly_one_area() -> None:
    columns, places = numbers.grid(120)
    edges = np.sin(np.radians(np.linspace(90, -90, 121)))
    area = -2 * np.pi * np.diff(edges) / columns
    assert len(places) == sum(columns)
    assert columns == columns[::-1]
    away = np.abs(area[2:-2] / (4 * np.pi / len(places)) - 1)
    assert away.max() < 0.05
    row = places[places[:, 1] == places[len(places) // 2, 1]]
    assert np.allclose(np.diff(row[:, 0]), 360 / len(row))
    with pytest.raises(ValueError, match="at least 2 rows"):
        numbers.grid(1)


def test_cosines_are_off_by_no_more_than_the_page_says(model) -> None:
    """Of all pairs, also those that were not looked at; and centred or not, they are cosines."""
    _, places = numbers.grid(ROWS)
    embedding = numbers.embeddings(model.encoder, places, None) + 3.0
    short = numbers.vectors(embedding, 96)
    restored = short.quantised.double() * short.scale
    unit = torch.nn.functional.normalize(embedding.double(), dim=-1)
    error = restored @ restored.mT - unit @ unit.mT
    assert error.abs().max() < 1.5 * short.max
    assert error.square().mean().sqrt().item() == pytest.approx(short.rms, rel=0.2)
    assert short.max < 0.03


def test_few_directions_are_kept_where_few_hold_everything() -> None:
    _, places = numbers.grid(20)
    short = numbers.vectors(to_xyz(places).float().repeat(1, 5), 96)
    assert short.quantised.shape == (len(places), 3)
    assert short.max < 0.02
    wide = torch.randn(500, 200, generator=torch.Generator().manual_seed(0))
    cut = numbers.vectors(wide, 10)
    assert cut.quantised.shape == (500, 10)
    assert cut.max > 0.5  # and the page says so


def test_a_row_that_is_not_finite_is_similar_to_nothing() -> None:
    embedding = torch.eye(4)
    embedding[2] = torch.nan
    short = numbers.vectors(embedding, 96)
    assert short.quantised[2].abs().max() == 0
    assert math.isfinite(short.max)


def test_classes_are_the_most_probable_ones(model) -> None:
    _, places = numbers.grid(10)
    index, probability = numbers.classes(model, places, None)
    exact = model.probabilities(places).double()
    torch.testing.assert_close(
        exact.gather(1, index), probability.double() / 65535, atol=1e-5, rtol=0
    )
    assert index.shape == (len(places), len(NAMES))
    assert (probability.diff(dim=1) <= 0).all()


def test_countries() -> None:
    names, found = numbers.country_of(torch.tensor([[2.35, 48.86], [-140.0, -20.0]]).double())
    assert names[found[0]] == "France"
    assert found[1] == -1
    for name, (lon, lat) in zip(names, numbers.middles(), strict=True):
        _, row = numbers.country_of(torch.tensor([[lon, lat]], dtype=torch.float64))
        assert names[row[0]] == name


def test_outlines_put_antarctica_last() -> None:
    points, lengths, land = numbers.outlines()
    assert sum(lengths) == len(points)
    lat = np.split(points[:, 1] / 100, np.cumsum(lengths)[:-1])
    assert max(ring.max() for ring in lat[land:]) < -60
    assert min(ring.min() for ring in lat[:land]) > -60
    assert np.abs(points).max() <= 18000


def test_text_is_little_endian() -> None:
    values = np.array([-1, 258], dtype=">i2")
    assert base64.b64decode(numbers.text_of(values, "i2")) == b"\xff\xff\x02\x01"


# The file


def test_the_page_is_one_file_and_text_stays_text(page) -> None:
    assert not re.search(r"https?://|<link|<img|<iframe|\bsrc=|@import|url\(", page)
    assert page.count("</script>") == 2
    assert "<title>a &lt;model&gt;</title>" in page
    held = document(page)
    assert held["classes"]["names"] == NAMES
    assert ["Training data", "none & nothing"] in held["facts"]
    assert "{{" not in page
    assert "/* style */" not in page


def test_the_page_is_small_by_default(model) -> None:
    wide = geoenc.LocationEncoder(
        geoenc.Space2VecGrid(64), geoenc.FFN(256, 256, hidden_features=64)
    )
    classifier = geoenc.LocationClassifier(wide, 1000)
    assert len(explore_page(classifier).encode()) < 5e6


def test_position_encoders_and_times() -> None:
    held = document(explore_page(geoenc.SphericalHarmonics(4), rows=10))
    assert held["classes"] is None
    assert held["name"] == "SphericalHarmonics"
    timed = geoenc.LocationEncoder(
        geoenc.XYZ(), geoenc.FFN(5, 8, hidden_features=8), geoenc.CyclicTime()
    )
    with pytest.raises(ValueError, match=r"expected a time, .* got none"):
        explore_page(timed, rows=10)
    winter, summer = (document(explore_page(timed, rows=10, time=t)) for t in (0.0, 0.5))
    assert winter["vectors"] != summer["vectors"]
    with pytest.raises(TypeError, match="embeds places"):
        explore_page(geoenc.FFN(2, 2), rows=10)
    with pytest.raises(ValueError, match="at least 1 dimension"):
        explore_page(geoenc.XYZ(), dimensions=0)


def test_training_points_from_tables(tmp_path) -> None:
    pytest.importorskip("pyarrow")
    import geopandas
    import shapely

    csv = tmp_path / "seen.csv"
    csv.write_text("lon,lat,bird\n2.35,48.86,swift\n,,crow\n190,-20,\n999,99,owl\n")
    found = read_training(csv, label="bird")
    assert found.lonlat[:, 1].tolist() == [48.86, -20]
    assert found.labels == ["swift", None]
    assert read_training(csv).labels is None
    assert read_training(csv, most=1).total == 2
    assert len(read_training(csv, most=1).lonlat) == 1
    shapes = [shapely.box(10, 50, 12, 52), None, shapely.Point(-60, -3)]
    frame = geopandas.GeoDataFrame({"n": [1, 2, 3]}, geometry=shapes, crs="EPSG:4326")
    frame.to_crs(3857).to_parquet(tmp_path / "shapes.parquet")
    found = read_training(tmp_path / "shapes.parquet", label="n")
    assert found.labels == ["1", "3"]
    assert shapely.contains_xy(shapes[0], *found.lonlat[0].tolist())
    torch.testing.assert_close(found.lonlat[1], torch.tensor([-60.0, -3.0]).double())
    with pytest.raises(ValueError, match="column 'plant'"):
        read_training(csv, label="plant")
    csv.write_text("lon,lat\n,\n")
    with pytest.raises(ValueError, match="expected places"):
        read_training(csv)


# The browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install playwright"
    )
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-gpu"]
            )
        except playwright.Error as error:
            pytest.skip(f"needs a Chromium, or `playwright install chromium`: {error}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(page, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("explore") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser, file):
    """A page at a size, and what must stay empty: errors, and requests for anything else."""
    contexts = []

    def opened(width: int = 1300, height: int = 900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.trouble = []
        tab.on("console", lambda message: tab.trouble.append(message.text))
        tab.on("pageerror", lambda error: tab.trouble.append(str(error)))
        tab.on("request", lambda request: tab.trouble.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("#canvas[data-lon]")
        assert tab.trouble.pop(0) == file.as_uri()
        return tab

    yield opened
    for context in contexts:
        context.close()


def go(tab, lon: float, lat: float) -> int:
    tab.fill("#query", f"{lon}, {lat}")
    tab.click("#go button")
    return chosen(tab)


def chosen(tab) -> int:
    return int(tab.get_attribute("#place", "data-place"))


def until(tab, condition: str) -> None:
    """Wait for a condition; the page forbids `wait_for_function`, which evaluates text."""
    for _ in range(100):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"never: {condition}")


def nearest(lon: float, lat: float) -> int:
    _, places = numbers.grid(ROWS)
    return int(great_circle_km(places, torch.tensor([lon, lat], dtype=torch.float64)).argmin())


def looked_at(tab) -> tuple[float, float, float]:
    return tuple(
        float(tab.get_attribute("#canvas", f"data-{key}")) for key in ("lon", "lat", "zoom")
    )


def middle(tab) -> tuple[float, float, float]:
    """The middle of the canvas, and the radius of the globe, in pixels of the window."""
    box = tab.locator("#canvas").bounding_box()
    size = 0.48 * min(box["width"], box["height"])
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, size


def most_similar(model, place: int, apart: float, land: bool) -> tuple[list[int], torch.Tensor]:
    """The list of the page, from the model itself."""
    _, places = numbers.grid(ROWS)
    embedding = model.encoder.embed(places)
    exact = torch.nn.functional.cosine_similarity(embedding, embedding[place], dim=-1).double()
    found = [place]
    for other in exact.argsort(descending=True).tolist():
        away = great_circle_km(places[found], places[other])
        if (numbers.on_land(places[other]) or not land) and other != place and away.min() >= apart:
            found.append(other)
    return found[1:11], exact


@pytest.mark.parametrize(("apart", "land"), [("1000", True), ("3000", False)])
def test_the_most_similar_places_are_those_of_the_model(
    apart, land, model, page, open_page
) -> None:
    tab = open_page()
    place = go(tab, 10.0, 46.0)
    assert place == nearest(10.0, 46.0)
    tab.select_option("#apart", apart)
    tab.set_checked("#land", land)
    shown = tab.locator("#similar li button")
    listed = [int(one.get_attribute("data-place")) for one in shown.all()]
    values = [float(one.get_attribute("data-similarity")) for one in shown.all()]
    expected, exact = most_similar(model, place, float(apart), land)
    bound = 1.5 * document(page)["error"]["max"]
    assert listed[0] == expected[0]
    np.testing.assert_allclose(values, exact[listed], atol=bound)
    np.testing.assert_allclose(exact[listed], exact[expected], atol=2 * bound)
    names, country = numbers.country_of(numbers.grid(ROWS)[1])
    assert tab.inner_text("#place strong") == names[country[place]]
    assert tab.trouble == []


def test_probabilities_and_training_points_are_those_of_the_library(model, open_page) -> None:
    tab = open_page()
    place = go(tab, 3.0, 48.0)
    _, places = numbers.grid(ROWS)
    exact = model.probabilities(places[place])
    shown = tab.locator("#classes li button").all()
    found = {int(one.get_attribute("data-class")): one for one in shown}
    assert list(found) == exact.argsort(descending=True).tolist()
    for number, one in found.items():
        assert float(one.get_attribute("data-probability")) == pytest.approx(
            exact[number].item(), abs=1e-5
        )
        assert one.locator(".where").inner_text() == NAMES[number]
    away = great_circle_km(TRAINED.double(), places[place])
    points = tab.locator("#training li div").all()
    assert [int(one.get_attribute("data-row")) for one in points] == away.argsort().tolist()
    for one in points:
        expected = away[int(one.get_attribute("data-row"))].item()
        assert float(one.get_attribute("data-km")) == pytest.approx(expected, abs=0.1)
    assert "<i>France</i>" in points[0].inner_text() + points[1].inner_text()
    assert "2 within 500 km" in tab.inner_text("#training")
    tab.click("#classes li button")
    assert tab.input_value("#layer") == str(next(iter(found)))
    assert tab.trouble == []


def test_a_click_takes_the_place_under_it_on_the_globe_and_on_the_map(open_page) -> None:
    tab = open_page()
    lon, lat, _ = looked_at(tab)
    x, y, size = middle(tab)
    at = (30.0, -5.0)
    east, up, here = math.radians(at[0] - lon), math.radians(at[1]), math.radians(lat)
    right = math.cos(up) * math.sin(east)
    above = math.sin(up) * math.cos(here) - math.cos(up) * math.cos(east) * math.sin(here)
    tab.mouse.click(x + size * right, y - size * above)
    assert chosen(tab) == nearest(*at)
    tab.mouse.click(x - 1.02 * size, y)  # beside the globe: nothing
    assert chosen(tab) == nearest(*at)

    tab.click("#flat")
    tab.wait_for_selector("#stage.flat")
    at = (-60.0, 40.0)
    box = tab.locator("#canvas").bounding_box()
    wide, high = equal_earth(torch.tensor([[180.0, 0.0], [0.0, 90.0]]).double()).diagonal().tolist()
    scale = 0.97 * min(box["width"] / (2 * wide), box["height"] / (2 * high))
    right, above = equal_earth(torch.tensor([at[0] - lon, at[1]]).double()).tolist()
    x, y, _ = middle(tab)
    tab.mouse.click(x + scale * right, y - scale * above)
    assert chosen(tab) == nearest(*at)
    assert tab.trouble == []


def test_dragging_turns_and_the_wheel_zooms(open_page) -> None:
    tab = open_page()
    lon, lat, zoom = looked_at(tab)
    x, y, size = middle(tab)
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 60, y + 20, steps=6)
    tab.mouse.up()
    turned = looked_at(tab)
    assert turned[0] == pytest.approx(lon - math.degrees(60 / size), abs=0.5)
    assert turned[1] == pytest.approx(lat + math.degrees(20 / size), abs=0.5)
    assert tab.get_attribute("#place", "data-place") is None
    tab.mouse.wheel(0, -200)
    until(tab, f"view.zoom > {zoom}")
    tab.click("#home")
    assert looked_at(tab) == (lon, lat, 1.0)
    assert tab.trouble == []


def test_everything_can_be_done_with_the_keyboard(open_page) -> None:
    tab = open_page()
    tab.focus("#canvas")
    lon, lat, _ = looked_at(tab)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowUp")
    assert looked_at(tab)[:2] == (lon + 12, lat + 12)
    tab.keyboard.press("+")
    assert looked_at(tab)[2] == 1.5
    tab.keyboard.press("Enter")
    assert chosen(tab) == nearest(lon + 12, lat + 12)
    tab.keyboard.press("Home")
    assert looked_at(tab) == (lon, lat, 1.0)
    tab.fill("#query", "brazil")
    tab.press("#query", "Enter")
    assert "Brazil" in tab.inner_text("#place strong")
    tab.fill("#query", "Atlantis")
    tab.press("#query", "Enter")
    assert "Expected a country" in tab.inner_text("#problem")
    reached = []
    tab.focus("#globe")
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id"))
    assert {"flat", "in", "out", "home", "layer", "land", "canvas", "query", "apart"} <= set(
        reached
    )
    unnamed = tab.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas')].filter((one) => "
        "!(one.textContent.trim() || one.labels?.length || one.ariaLabel)).length"
    )
    assert unnamed == 0
    assert tab.trouble == []


def test_the_picture_has_the_colours_of_the_embedding(page, open_page) -> None:
    """At a place of the grid at sea, away from lines, on the globe and on the map."""
    held = document(page)
    _, places = numbers.grid(ROWS)
    place = nearest(-140.0, -20.0)
    colour = base64.b64decode(held["colours"])[3 * place : 3 * place + 3]
    tab = open_page()
    tab.uncheck("#land")
    for button in ("#globe", "#flat"):
        tab.click(button)
        tab.evaluate("([lon, lat]) => { view.zoom = 4; look(lon, lat); }", places[place].tolist())
        until(tab, "moving === 0 && !asked")
        tab.evaluate("draw()")
        pixel = tab.evaluate(
            "(() => { const copy = document.createElement('canvas').getContext('2d', "
            "{ willReadFrequently: true }); copy.drawImage(canvas, -canvas.width / 2, "
            "-canvas.height / 2); return [...copy.getImageData(0, 0, 1, 1).data]; })()"
        )
        np.testing.assert_allclose(pixel[:3], list(colour), atol=5)
    assert tab.trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(scheme, open_page) -> None:
    tab = open_page(390, 844, has_touch=True, color_scheme=scheme, device_scale_factor=2)
    x, y, _ = middle(tab)
    tab.touchscreen.tap(x, y)
    tab.wait_for_selector("#similar li")
    for button in ("#flat", "#globe"):
        tab.click(button)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    small = tab.evaluate(
        "[...document.querySelectorAll('button, select, #query')].filter((one) => "
        "one.offsetHeight && (one.offsetHeight < 44 || !one.matches('button') && "
        "parseInt(getComputedStyle(one).fontSize) < 16)).map((one) => one.outerHTML)"
    )
    assert small == [], "too small for a finger, or a phone zooms in on its text"
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", paper)[0]) < 60) == (scheme == "dark")
    assert tab.trouble == []
