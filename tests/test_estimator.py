"""The transformer in scikit-learn's hands: its own checks, pipelines, columns that stay."""

import warnings

import numpy as np
import pandas as pd
import pytest

import geoenc

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from geoenc.estimator import GeoEncoder

CITIES = np.array([(2.35, 48.86), (-122.27, 37.87), (179.9, -16.5)])


def trained() -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 5, hidden_features=16)).eval()


@pytest.mark.filterwarnings("ignore:expected .lon, lat. in degrees")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [pair for one in (GeoEncoder(),) for pair in estimator_checks_generator(one)],
    ids=lambda one: getattr(getattr(one, "func", one), "__name__", ""),
)
def test_scikit_learn_checks(estimator: GeoEncoder, check) -> None:
    check(estimator)


def test_output_is_the_embedding() -> None:
    model = trained()
    got = GeoEncoder(model).fit_transform(CITIES)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, model.embed(CITIES))
    position = geoenc.Space2VecGrid(8)
    code = GeoEncoder(position).fit_transform(CITIES)
    np.testing.assert_allclose(code, position(geoenc.as_lonlat(CITIES)), atol=1e-6)


def test_other_columns_stay_and_names_follow() -> None:
    frame = pd.DataFrame(
        {"height": [35.0, 52.0, np.nan], "lat": CITIES[:, 1], "lon": CITIES[:, 0]}, index=[5, 3, 4]
    )
    encoder = GeoEncoder(trained(), lon="lon", lat="lat").set_output(transform="pandas")
    got = encoder.fit_transform(frame)
    assert list(got.columns) == [*(f"emb_{i}" for i in range(5)), "height"]
    assert got.index.tolist() == [5, 3, 4]
    np.testing.assert_array_equal(got["height"], frame["height"])
    np.testing.assert_allclose(got.iloc[:, :5], GeoEncoder(encoder.encoder).fit_transform(CITIES))
    swapped = GeoEncoder(encoder.encoder, lon=2, lat=1).fit_transform(frame.to_numpy())
    np.testing.assert_array_equal(swapped, got)


def test_pipeline_with_cross_validation_learns_a_field_of_the_globe() -> None:
    places = geoenc.sampling.uniform(400).numpy()
    lon, lat = np.deg2rad(places.T)
    target = np.sin(2 * lon) * np.cos(lat) ** 2 + np.sin(lat)
    raw = cross_val_score(Ridge(1e-3), places, target, cv=4).mean()
    model = make_pipeline(GeoEncoder(geoenc.SphericalHarmonics(4)), Ridge(1e-3))
    score = cross_val_score(model, places, target, cv=4).mean()
    assert score > 0.99 > raw
    search = GridSearchCV(
        model, {"geoencoder__encoder": [geoenc.XYZ(), geoenc.SphericalHarmonics(3)]}, cv=3
    )
    search.fit(places, target)
    assert isinstance(search.best_params_["geoencoder__encoder"], geoenc.SphericalHarmonics)
    parts = ColumnTransformer([("place", GeoEncoder(geoenc.XYZ()), [0, 1])])
    assert parts.fit_transform(np.c_[places, target]).shape == (400, 3)


def test_a_folder_is_loaded_by_fit(tmp_path) -> None:
    model = trained()
    model.save_pretrained(tmp_path / "model")
    encoder = clone(GeoEncoder(str(tmp_path / "model")))
    np.testing.assert_allclose(encoder.fit_transform(CITIES), model.embed(CITIES), atol=1e-6)
    assert encoder.encoder == str(tmp_path / "model"), "the argument stays as it was given"
    with pytest.raises(FileNotFoundError, match="nosuch"):
        GeoEncoder("nosuch").fit(CITIES)


def test_missing_and_impossible_places() -> None:
    places = np.array([(2.0, 48.0), (np.nan, 1.0), (1.0, 151.2), (9e6, 0.0)])
    with pytest.warns(UserWarning, match=r"got \(1, 151.2\) in row 2, and 2 such rows"):
        got = GeoEncoder(trained()).fit_transform(places)
    assert np.isnan(got).all(1).tolist() == [False, True, True, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GeoEncoder(trained()).fit_transform(places[:2])


def test_errors_say_what_to_do() -> None:
    import geopandas as gpd

    with pytest.raises(ValueError, match=r"1 feature\(s\); give their numbers"):
        GeoEncoder().fit(CITIES[:, :1])
    with pytest.raises(ValueError, match="column 'lon', got columns without names"):
        GeoEncoder(lon="lon").fit(CITIES)
    with pytest.raises(TypeError, match=r"get_coordinates\(\)"):
        GeoEncoder().fit(gpd.GeoDataFrame(geometry=gpd.points_from_xy(*CITIES.T), crs=4326))


def test_one_column_cannot_be_both() -> None:
    with pytest.raises(ValueError, match=r"expected two columns, got 1 as lon and 1 as lat"):
        GeoEncoder(lon=1).fit(np.zeros((3, 2)))
