"""Maps and curves: the numbers that are drawn, where they are drawn, and their colours."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import geoenc
from geoenc import plot, sampling
from geoenc.coordinates import EARTH_RADIUS_KM, equal_earth, great_circle_km, to_xyz
from geoenc.plot import colours

matplotlib = pytest.importorskip("matplotlib")
pyplot = pytest.importorskip("matplotlib.pyplot")

EUROPE = plot.Region((-25, 34, 45, 72))
FIJI = plot.Region((170, -25, -170, -10))
CAP = plot.Region((-180, 60, 180, 90))
VIEWS = [plot.World(), plot.Globe((100, -40)), plot.Globe((0, 90)), EUROPE, FIJI, CAP]


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def drawn(ax) -> torch.Tensor:
    return torch.as_tensor(np.ma.filled(ax.collections[0].get_array(), np.nan)).double()


def lat_map(view, height=20, **options):
    return plot.draw_map(lambda places: places[..., 1], view=view, height=height, **options)


# Maps of models


def test_similarity_of_a_position_encoder_is_its_kernel() -> None:
    """For the unit vector, the cosine of the angle between the places."""
    at = torch.tensor([10.0, 50.0], dtype=torch.float64)
    ax = plot.similarity_map(geoenc.XYZ(), at, height=12)
    expected = to_xyz(sampling.lattice(12)) @ to_xyz(at)
    torch.testing.assert_close(drawn(ax).view(12, 24), expected, atol=1e-6, rtol=0)


def test_similarity_of_a_location_encoder_is_that_of_its_embeddings() -> None:
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8))
    ax = plot.similarity_map(encoder, (10.0, 50.0), height=6)
    cosine = torch.nn.functional.cosine_similarity(
        encoder.embed(sampling.lattice(6)), encoder.embed((10.0, 50.0)), dim=-1
    )
    torch.testing.assert_close(drawn(ax).view(6, 12), cosine.double(), atol=1e-6, rtol=0)


def test_similarity_is_asked_at_one_place() -> None:
    with pytest.raises(ValueError, match="one place"):
        plot.similarity_map(geoenc.XYZ(), [(0.0, 0.0), (1.0, 1.0)])


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_similarity_on_every_view_is_evaluated_at_its_places(view) -> None:
    ax = plot.similarity_map(geoenc.XYZ(), (10.0, 50.0), view=view, height=10)
    places = view.places(10)
    expected = to_xyz(places) @ to_xyz(geoenc.as_lonlat((10.0, 50.0)))
    torch.testing.assert_close(drawn(ax).view_as(expected), expected, atol=1e-6, rtol=0)


class Known(geoenc.LocationEncoder):
    """An embedding with two directions: latitude, and much less longitude."""

    def __init__(self) -> None:
        super().__init__(geoenc.Direct(), geoenc.Linear(2, 2))

    def embed(self, locations, time=None, *, batch_size=65536):
        return torch.stack([locations[..., 1], 0.1 * locations[..., 0], 0 * locations[..., 0]], -1)


def test_main_component_is_lightness() -> None:
    """Ranks of lightness over land are those of the component that varies most: the latitude."""
    ax = plot.pca_map(Known(), height=60)
    rgb = ax.collections[0].get_array().reshape(-1, 3)
    places = sampling.lattice(60).flatten(0, 1)
    land = plot.on_land(places).numpy()
    north = places[land, 1].numpy()
    middle = np.abs(north - np.median(north)) < 25
    light = luminance(torch.as_tensor(np.asarray(rgb))[land]).numpy()
    correlation = abs(np.corrcoef(light[middle], north[middle])[0, 1])
    assert correlation > 0.9


def test_components_do_not_depend_on_the_sign_of_eigenvectors(monkeypatch) -> None:
    encoder = geoenc.published.encoder("SINR")
    first = plot.pca_map(encoder, height=20).collections[0].get_array()
    eigh = torch.linalg.eigh

    def mirrored(matrix):
        values, vectors = eigh(matrix)
        return values, -vectors

    monkeypatch.setattr(torch.linalg, "eigh", mirrored)
    second = plot.pca_map(encoder, height=20).collections[0].get_array()
    np.testing.assert_array_equal(first, second)


def test_components_need_land() -> None:
    with pytest.raises(ValueError, match="sea only"):
        plot.pca_map(geoenc.published.encoder("SINR"), view=plot.Region((-40, 10, -30, 20)))


def test_probability_of_a_class_over_land() -> None:
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8))
    classifier = geoenc.LocationClassifier(encoder, num_classes=3)
    places = sampling.lattice(20)
    probability = classifier.probabilities(places)
    land = plot.on_land(places)
    shown = drawn(plot.class_map(classifier, 1, height=20)).view(20, 40)
    torch.testing.assert_close(shown[land], probability[..., 1][land].double())
    assert bool(shown[~land].isnan().all())
    shown = drawn(plot.class_map(classifier, 1, height=20, normalised=True)).view(20, 40)
    share = (probability / probability.sum(-1, keepdim=True))[..., 1]
    torch.testing.assert_close(shown[land], share[land].double())
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        plot.class_map(classifier, 3)


# Views


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_the_cell_of_a_place_holds_it(view) -> None:
    """places and corners agree: a place lies at the middle of its cell on the plane."""
    places, corners = view.places(200), view.corners(200)
    middle = (corners[:-1, :-1] + corners[1:, 1:] + corners[:-1, 1:] + corners[1:, :-1]) / 4
    plane = view.project(places)
    cell = (corners[1:, 1:] - corners[:-1, :-1]).norm(dim=-1)
    off = (plane - middle).norm(dim=-1) / cell
    if isinstance(view, plot.Globe):
        off = off[middle.norm(dim=-1) < 1]
    assert off.max() < 0.1


@pytest.mark.parametrize("view", [plot.World(), EUROPE, FIJI, CAP], ids=str)
def test_equal_area_views_keep_areas(view) -> None:
    """The ratio of a cell's area on the plane to that on the sphere is one everywhere."""
    corners = view.corners(90)
    across, down = corners[:-1, 1:] - corners[1:, :-1], corners[1:, 1:] - corners[:-1, :-1]
    plane = 0.5 * (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).abs()
    lat = view.places(90)[..., 1].deg2rad()
    ratio = plane / lat.cos()
    assert view.equal_area
    torch.testing.assert_close(ratio / ratio.mean(), torch.ones_like(ratio), atol=2e-3, rtol=0)


def test_globe_shows_one_half() -> None:
    view = plot.Globe((100.0, -40.0))
    places = sampling.uniform(2000)
    near = great_circle_km(places, geoenc.as_lonlat(view.centre)) < math.pi / 2 * EARTH_RADIUS_KM
    plane = view.project(places)
    assert bool((plane.isnan().any(-1) == ~near).all())
    distance = great_circle_km(places, geoenc.as_lonlat(view.centre))[near] / EARTH_RADIUS_KM
    torch.testing.assert_close(plane[near].norm(dim=-1), distance.sin())


def test_globe_has_north_up_and_east_right() -> None:
    view = plot.Globe((100.0, 40.0))
    north, east = view.project(geoenc.as_lonlat([(100.0, 50.0), (110.0, 40.0)]))
    assert abs(north[0]) < 1e-12
    assert north[1] > 0
    assert east[0] > 0


def test_region_is_centred() -> None:
    assert pytest.approx(180) == abs(FIJI.centre[0])
    assert pytest.approx(10) == EUROPE.centre[0]
    assert pytest.approx(90) == CAP.centre[1]
    west, east = FIJI.places(9)[..., 0].flatten().aminmax()
    assert west >= -180
    assert east <= 180
    assert bool((FIJI.places(9)[..., 0].abs() > 170).all())


@pytest.mark.parametrize(
    "extent",
    [(0, 10, 10, 10), (0, 20, 10, 10), (0, -100, 10, 10), (5, 0, 5, 10), (-180, -90, 180, 90)],
)
def test_impossible_extents_are_refused(extent) -> None:
    with pytest.raises(ValueError, match="extent"):
        plot.Region(extent)


# Drawing


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_axes_in_axes_out(view) -> None:
    figure, ax = pyplot.subplots()
    assert lat_map(view, ax=ax) is ax
    assert plot.graticule(ax, view=view) is ax
    assert figure.axes == [ax]  # the caller makes the colour bar
    frame = view.frame()
    for line in ax.lines:
        x, y = line.get_data()
        jump = np.hypot(np.diff(x), np.diff(y))
        assert np.nanmax(jump) < 0.3  # no line runs across the map
    left, right = ax.get_xlim()
    assert left < frame[:, 0].min() < frame[:, 0].max() < right
    figure.canvas.draw()


def test_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyplot, "show", lambda *_, **__: pytest.fail("shown"))
    lat_map(plot.World())
    plot.kernel_curve(geoenc.XYZ())
    plot.points_map(sampling.uniform(10))


def test_new_axes_have_a_colour_bar_if_it_is_labelled() -> None:
    assert len(lat_map(plot.World()).figure.axes) == 1
    labelled = lat_map(plot.World(), label="latitude")
    assert len(labelled.figure.axes) == 2
    assert labelled.figure.axes[1].get_ylabel() == "latitude"


def test_coasts_need_no_side_of_the_map() -> None:
    """Chukotka and Antarctica, which the data cut at 180 degrees, are whole on a globe."""
    view = plot.Globe((180.0, -70.0))
    ax = lat_map(view)
    seam = view.project(geoenc.as_lonlat([(180.0, lat) for lat in np.linspace(-89, -86, 30)]))
    coasts = np.stack(ax.lines[0].get_data(), -1)
    middles = (coasts[1:] + coasts[:-1]) / 2  # of what is drawn; NaN where the line is broken
    distance = np.nanmin(np.linalg.norm(middles[:, None] - seam.numpy(), axis=-1))
    assert distance > 0.01


def test_values_must_fit_the_view() -> None:
    with pytest.raises(ValueError, match=r"view\.places\(10\)"):
        plot.draw_map(torch.zeros(10, 20), view=plot.Globe((0, 0)))
    with pytest.raises(ValueError, match=r"\(10, 20, 3\)"):
        plot.draw_map(torch.zeros(10, 20, 4))


def test_mean_of_blocks() -> None:
    places = torch.tensor([[5.0, 5.0], [6.0, 6.0], [-100.0, 40.0], [math.nan, math.nan]])
    score = torch.tensor([1.0, 0.0, 1.0, 7.0])
    shown = drawn(plot.block_map(places, score, degrees=10, height=180)).view(180, 360)
    assert shown[84, 185] == 0.5  # 5.5 north, 5.5 east
    assert shown[49, 80] == 1.0
    assert bool((shown[~shown.isnan()] <= 1).all())
    assert 0 < (~shown.isnan()).sum() < 400


def test_few_points_are_drawn_one_by_one() -> None:
    places = sampling.uniform(50)
    ax = plot.points_map(places, values=places[:, 1])
    offsets = torch.as_tensor(np.asarray(ax.collections[1].get_offsets()))
    torch.testing.assert_close(offsets, equal_earth(places))
    np.testing.assert_allclose(ax.collections[1].get_array(), places[:, 1])


def test_many_points_are_counted_by_area() -> None:
    """On an equal-area map a uniform sample has the same density at the poles."""
    places = sampling.fibonacci(200_000)
    ax = plot.points_map(places)
    counts = ax.collections[1].get_array()
    assert counts.sum() == 200_000
    offsets = ax.collections[1].get_offsets()
    inner = np.abs(offsets[:, 0]) < 1
    polar = inner & (np.abs(offsets[:, 1]) > 1.0) & (np.abs(offsets[:, 1]) < 1.25)
    middle = inner & (np.abs(offsets[:, 1]) < 0.3)
    assert counts[polar].mean() == pytest.approx(counts[middle].mean(), rel=0.02)


def test_many_points_with_values_and_classes() -> None:
    places = sampling.fibonacci(20_000)
    mean = plot.points_map(places, values=places[:, 1]).collections[1]
    at = mean.get_offsets()[:, 1]
    assert np.corrcoef(mean.get_array(), at)[0, 1] > 0.99
    north = (places[:, 1] > 0).long()
    most = plot.points_map(places, values=north, labels=["south", "north"]).collections[1]
    assert (most.get_array()[at > 0.05] == 1).all()
    assert (most.get_array()[at < -0.05] == 0).all()
    assert [t.get_text() for t in most.axes.get_legend().get_texts()] == ["south", "north"]


def test_points_of_the_far_side_and_missing_ones_are_left_out() -> None:
    places = [(0.0, 0.0), (180.0, 0.0), (math.nan, math.nan)]
    ax = plot.points_map(places, view=plot.Globe((0, 0)))
    assert len(ax.collections[1].get_offsets()) == 1


def test_points_and_values_belong_together() -> None:
    with pytest.raises(ValueError, match="shape"):
        plot.points_map(sampling.uniform(5), values=torch.zeros(4))
    with pytest.raises(ValueError, match="below 2"):
        plot.points_map(sampling.uniform(2), values=torch.tensor([0, 2]), labels=["a", "b"])


# Curves


def test_kernel_of_the_unit_vector_is_the_cosine_of_the_distance() -> None:
    ax = plot.kernel_curve(geoenc.XYZ(), [(10.0, 50.0), (0.0, 90.0), (-180.0, -20.0)])
    distance, similarity = ax.lines[0].get_data()
    np.testing.assert_allclose(similarity, np.cos(distance / EARTH_RADIUS_KM), atol=1e-6)
    band = ax.collections[0].get_paths()[0].vertices
    assert np.abs(band[:, 1] - np.cos(band[:, 0] / EARTH_RADIUS_KM)).max() < 1e-6


def test_kernel_of_the_plane_depends_on_the_direction() -> None:
    ax = plot.kernel_curve(geoenc.Space2VecGrid(8), (10.0, 50.0), label="plane")
    ax = plot.kernel_curve(geoenc.SphericalHarmonics(4), (10.0, 50.0), label="sphere", ax=ax)

    def width(band):
        y = band.get_paths()[0].vertices[1:-1, 1]
        return np.abs(y[: len(y) // 2] - y[::-1][: len(y) // 2]).max()

    assert width(ax.collections[0]) > 0.1
    assert width(ax.collections[1]) < 1e-5
    assert len({line.get_color() for line in ax.lines}) == 2
    with pytest.raises(ValueError, match="reach_km"):
        plot.kernel_curve(geoenc.XYZ(), reach_km=30_000)


def results(splits=("random",)):
    return {
        "summary": [
            {"split": s, "method": m, "fraction": f, "top1": t, "top1_std": t / 10}
            for s in splits
            for m, t in (("A", 0.4), ("B", 0.5))
            for f in (1.0, 0.05)
        ]
    }


def test_few_shot_curves_are_means_and_deviations(tmp_path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results(("random", "blocked"))))
    ax = plot.few_shot_curves(path, split="blocked", methods=["B"])
    (container,) = ax.containers
    shares, scores = container[0].get_data(orig=False)
    np.testing.assert_allclose(shares, [0.05, 1.0])
    np.testing.assert_allclose(scores, [50, 50])
    (low, high) = container[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((45, 55))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["5%", "100%"]


def test_few_shot_curves_of_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="split"):
        plot.few_shot_curves(results(("random", "blocked")))
    with pytest.raises(ValueError, match="mrr"):
        plot.few_shot_curves(results(), metric="mrr")
    with pytest.raises(ValueError, match=r"\['A', 'B'\]"):
        plot.few_shot_curves(results(), methods=["C"])
    assert len(plot.few_shot_curves(results()).containers) == 2


# Colours. Dichromats as in Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.

DICHROMATS = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "normal": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}


def linear(srgb: torch.Tensor) -> torch.Tensor:
    srgb = srgb.double()
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def luminance(srgb: torch.Tensor) -> torch.Tensor:
    return linear(srgb) @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)


def lab(srgb: torch.Tensor, eyes: str) -> torch.Tensor:
    """CIELAB (D65) of colours as such eyes see them."""
    seen = (linear(srgb) @ torch.tensor(DICHROMATS[eyes], dtype=torch.float64).mT).clamp(0, 1)
    matrix = [
        [0.412456, 0.357576, 0.180438],
        [0.212673, 0.715152, 0.072175],
        [0.019334, 0.119192, 0.950304],
    ]
    xyz = seen @ torch.tensor(matrix, dtype=torch.float64).mT
    ratio = xyz / torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
    root = torch.where(ratio > (6 / 29) ** 3, ratio ** (1 / 3), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def rgb(names) -> torch.Tensor:
    return torch.tensor([matplotlib.colors.to_rgb(name) for name in names])


@pytest.mark.parametrize("eyes", DICHROMATS)
def test_palette_can_be_told_apart(eyes) -> None:
    """At least 10 units of CIELAB between any two: a just noticeable difference is about 2."""
    seen = lab(rgb(plot.PALETTE), eyes)
    least = min((a - b).norm() for a, b in itertools.combinations(seen, 2))
    assert least > 10


def test_a_palette_of_red_and_green_would_fail() -> None:
    """The measure itself: matplotlib's default colours have a pair that deutans confuse."""
    seen = lab(rgb(["tab:green", "tab:red", "tab:brown", "tab:olive"]), "deutan")
    assert min((a - b).norm() for a, b in itertools.combinations(seen, 2)) < 10


@pytest.mark.parametrize("eyes", DICHROMATS)
def test_scales_are_ordered_by_lightness(eyes) -> None:
    steps = np.linspace(0, 1, 33)
    rising = lab(torch.tensor(matplotlib.colormaps[colours.SEQUENTIAL](steps)[:, :3]), eyes)
    assert bool((rising[:, 0].diff() > 0).all())
    seen = lab(torch.tensor(matplotlib.colormaps[colours.DIVERGING](steps)[:, :3]), eyes)
    assert bool((seen[:17, 0].diff() > 0).all())
    assert bool((seen[16:, 0].diff() < 0).all())
    below, above = seen[:14], seen[19:].flip(0)
    assert (below - above).norm(dim=-1).min() > 10  # the same distance from zero on either side


@pytest.mark.parametrize("eyes", ["protan", "deutan"])
def test_two_components_of_three_are_seen_without_red_and_green(eyes) -> None:
    def step(axis: int, by: str) -> float:
        ends = torch.full((2, 3), 0.5)
        ends[0, axis], ends[1, axis] = 0.1, 0.9
        low, high = lab(colours.three_colours(ends), by)
        return (high - low).norm().item()

    assert step(0, eyes) > 30
    assert step(1, eyes) > 30
    assert step(2, eyes) < step(2, "normal")
    everything = colours.three_colours(torch.rand(1000, 3))
    assert everything.min() >= 0
    assert everything.max() <= 1


def test_models_that_a_map_is_not_for_are_named() -> None:
    encoder = geoenc.published.encoder("SINR")
    with pytest.raises(TypeError, match=r"a LocationClassifier, got LocationEncoder, without"):
        plot.class_map(encoder, 0)
    with pytest.raises(TypeError, match=r"an encoder with embed, got str; .*from_pretrained"):
        plot.pca_map("sinr")
    with pytest.raises(TypeError, match=r"an encoder with embed, got LocationClassifier"):
        plot.similarity_map(geoenc.LocationClassifier(encoder, 2), at=(0, 0))
