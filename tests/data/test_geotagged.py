"""Tables of the user's own: each format comes back, each mistake gets one clear error."""

import geopandas
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from geoenc.data.errors import DatasetNotFoundError
from geoenc.data.geotagged import GeotaggedImages, load_geotagged

LON = [2.35, -122.27, np.nan, 200.0]
LAT = [48.86, 37.87, np.nan, -33.4]
WANTED = torch.tensor(
    [[2.35, 48.86], [-122.27, 37.87], [np.nan, np.nan], [-160.0, -33.4]], dtype=torch.float64
)


def table(**columns):
    return pandas.DataFrame({"lon": LON, "lat": LAT, **columns})


def same_places(lonlat, wanted=WANTED, atol=0.0):
    assert lonlat.dtype == torch.float64
    torch.testing.assert_close(lonlat, wanted, equal_nan=True, rtol=0, atol=atol)


def points(crs="EPSG:4326", **columns):
    geometry = geopandas.points_from_xy([2.35, -122.27, 10.0], [48.86, 37.87, -33.4], crs=4326)
    frame = geopandas.GeoDataFrame(columns, geometry=geometry)
    return frame.to_crs(crs) if crs else frame.set_crs(None, allow_override=True)


# Formats


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_flat_tables_come_back(tmp_path, ending):
    frame = table(
        label=["oak", "birch", None, "oak"],
        feat_0=[0.5, 1, 2, 3],
        feat_1=[4.0, 5, 6, 7],
        split=["train", "val", "test", "train"],
    )
    path = tmp_path / f"trees.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    data = load_geotagged(path)
    assert len(data) == 4
    same_places(data.lonlat)
    assert data.classes == ("birch", "oak")
    assert data.target.tolist() == [1, 0, -1, 1]
    assert data.split.tolist() == [0, 1, 2, 0]
    assert data.features.tolist() == [[0.5, 4], [1, 5], [2, 6], [3, 7]]
    assert data.features.dtype == torch.float32
    assert data.images is None
    assert data.image_paths is None


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "geojson", "parquet"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_geometries_are_reprojected(tmp_path, ending, crs):
    if ending == "geojson" and crs != "EPSG:4326":
        pytest.skip("GeoJSON knows longitude and latitude only")
    path = tmp_path / f"places.{ending}"
    frame = points(crs, species=["b", "a", "b"])
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    data = load_geotagged(path)
    wanted = torch.tensor([[2.35, 48.86], [-122.27, 37.87], [10, -33.4]], dtype=torch.float64)
    # FlatGeobuf sorts rows along a space-filling curve: compare without order.
    order, other = data.lonlat[:, 0].argsort(), wanted[:, 0].argsort()
    same_places(data.lonlat[order], wanted[other], atol=1e-9)
    assert data.target[order].tolist() == torch.tensor([1, 0, 1])[other].tolist()


def test_missing_geometries_are_missing_places(tmp_path):
    frame = points(species=["b", "a", "b"])
    frame.loc[1, "geometry"] = None
    frame.to_file(tmp_path / "places.gpkg")
    data = load_geotagged(tmp_path / "places.gpkg")
    assert data.lonlat.isnan().all(1).tolist() == [False, True, False]
    assert data.target.tolist() == [1, 0, 1]


@pytest.mark.parametrize("channels_first", [False, True])
def test_npz_comes_back(tmp_path, channels_first):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "chips.npz",
        lon=np.array(LON),
        lat=np.array(LAT),
        img=pixels.transpose(0, 3, 1, 2) if channels_first else pixels,
        feat=np.arange(24).reshape(4, 2, 3),
        cover=np.array([3, 1, 1, 0], dtype=np.uint8),
        cover_names=np.array(["water", "wood", "grass", "snow"]),
        part=np.array([0, 1, 2, 2]),
    )
    data = load_geotagged(tmp_path / "chips.npz", label="cover", split="part")
    same_places(data.lonlat)
    assert data.images.shape == (4, 3, 5, 6)
    assert data.images[1, 2, 3, 4] == pixels[1, 3, 4, 2]
    assert data.classes == ("water", "wood", "grass", "snow")
    assert data.target.tolist() == [3, 1, 1, 0]
    assert data.features.tolist() == np.arange(24.0).reshape(4, 6).tolist()
    assert data.split.tolist() == [0, 1, 2, 2]


def test_npz_with_lonlat_together(tmp_path):
    np.savez(tmp_path / "a.npz", lonlat=np.stack([LON, LAT], 1))
    same_places(load_geotagged(tmp_path / "a.npz").lonlat)


@pytest.mark.real_data
def test_globe_chips(shared):
    path = shared / "data_images" / "globe_chips.npz"
    data = load_geotagged(path, label="igbp", image="img", split="split")
    assert data.images.shape == (14594, 3, 32, 32)
    assert len(data.classes) == 17
    assert data.target.unique().tolist() == list(range(1, 17))
    with pytest.raises(ValueError, match=r"0, 1, 2 or train, val, test in every row, got 3, 4;"):
        load_geotagged(path, split="block_fold")


# Images and features


def test_image_paths_start_at_the_table(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / f"{name}.png")
    frame = pandas.DataFrame({"x": [1, 2], "y": [3, 4], "file_name": ["a.png", "b.png"]})
    frame["file_name"] = "pictures/" + frame["file_name"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load_geotagged(tmp_path / "t.csv")
    assert data.image_paths == tuple(str(tmp_path / "pictures" / f"{n}.png") for n in "ab")
    (tmp_path / "pictures" / "b.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"b\.png' \(1 of 2 are missing\)"):
        load_geotagged(tmp_path / "t.csv")


def test_rows_without_an_image_path_are_an_error(tmp_path):
    table(image=["a.png", None, "b.png", None]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"got nan|got None") as error:
        load_geotagged(tmp_path / "t.parquet")
    assert "in row 1 (2 such rows)" in str(error.value)


def test_features_from_every_source(tmp_path):
    wanted = np.arange(12, dtype=np.float32).reshape(4, 3)
    frame = table(vector=list(wanted), **{f"bio_{i}": wanted[:, i] for i in (2, 0, 1)})
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    np.save(tmp_path / "vectors.npy", wanted)
    assert load_geotagged(path).features is None
    ways = ["vector", "bio", "bio_", tmp_path / "vectors.npy", "vectors.npy"]
    for features in [*ways, ["bio_0", "bio_1", "bio_2"]]:
        got = load_geotagged(path, features=features).features
        np.testing.assert_array_equal(got, wanted, err_msg=str(features))
    assert load_geotagged(path, features="bio_1").features.tolist() == wanted[:, 1:2].tolist()


def test_numbered_columns_are_sorted_by_number(tmp_path):
    frame = table(**{f"feat_{i}": [float(i)] * 4 for i in (10, 2, 1)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert load_geotagged(tmp_path / "t.csv").features[0].tolist() == [1, 2, 10]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1.0, 2], [3], [4, 5], [6, 7]], "as many in every row"),
        ([[1.0, 2], [3, np.nan], [4, 5], [6, 7]], r"NaN or infinity in 1 of 4 rows .*row 1\)"),
        ([[1.0, 2], None, [4, 5], [6, 7]], "as many in every row|NaN or infinity"),
        (["[1, 2]"] * 4, "expected numbers"),
    ],
)
def test_bad_features(tmp_path, features, message):
    table(feat=features).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=message):
        load_geotagged(tmp_path / "t.parquet")


def test_features_of_another_length(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "f.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"features of shape \(N, D\) with N = 4.*got \(3, 2\)"):
        load_geotagged(tmp_path / "t.csv", features=tmp_path / "f.npy")
    with pytest.raises(DatasetNotFoundError, match="no such file here or in"):
        load_geotagged(tmp_path / "t.csv", features="g.npy")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 5, 6, 3), dtype=np.float32),
        np.zeros((4, 5, 6, 4), dtype=np.uint8),
        np.zeros((4, 5, 6), dtype=np.uint8),
        np.zeros((4, 3, 6, 3), dtype=np.uint8),
    ],
)
def test_bad_pictures(tmp_path, pixels):
    np.savez(tmp_path / "t.npz", lon=LON, lat=LAT, img=pixels)
    with pytest.raises(ValueError, match=r"expected uint8 pictures \(N, H, W, 3\).*features="):
        load_geotagged(tmp_path / "t.npz")


# Labels and splits


@pytest.mark.parametrize(
    ("labels", "target", "classes"),
    [
        ([7, 3, 7, -1], [1, 0, 1, -1], ("3", "7")),
        ([10.0, 9.0, np.nan, 9.0], [1, 0, -1, 0], ("9", "10")),
        (["NA", "FR", "", "NA"], [1, 0, -1, 1], ("FR", "NA")),
        ([True, False, True, True], [1, 0, 1, 1], ("False", "True")),
        (["only", "x", "x", "x"], [0, 1, 1, 1], ("only", "x")),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_labels_are_numbered_in_sorted_order(tmp_path, labels, target, classes, ending):
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        table(country=labels).to_csv(path, index=False)
    elif ending == "parquet":
        table(country=labels).to_parquet(path)
    else:
        np.savez(path, lon=LON, lat=LAT, country=np.array(labels))
    data = load_geotagged(path, label="country")
    assert data.target.tolist() == target
    assert data.classes == classes


def test_a_measured_label_is_an_error(tmp_path):
    table(label=[0.5, 1.0, 2.0, 3.0]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=r"got 0\.5; bin a measured quantity"):
        load_geotagged(tmp_path / "t.csv")


@pytest.mark.parametrize("split", [[0, 1, 2, 4], ["train", "dev", "test", "val"], [0, 1, None, 2]])
def test_other_split_codings_are_an_error(tmp_path, split):
    table(split=split).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(
        ValueError, match=r"expected 0, 1, 2 or train, val, test .* got (4|dev|nan);"
    ):
        load_geotagged(tmp_path / "t.parquet")


# Columns


@pytest.mark.parametrize(
    ("lon", "lat"),
    [
        ("Longitude", "Latitude"),
        ("lng", "lat"),
        ("decimalLongitude", "decimalLatitude"),
        ("x", "y"),
        ("X", "Y"),
    ],
)
def test_usual_names_of_places(tmp_path, lon, lat):
    pandas.DataFrame({lat: LAT, lon: LON}).to_csv(tmp_path / "t.csv", index=False)
    same_places(load_geotagged(tmp_path / "t.csv").lonlat)


def test_pixel_columns_do_not_compete_with_degrees(tmp_path):
    table(x=[5, 6, 7, 8], y=[5, 6, 7, 8]).to_csv(tmp_path / "t.csv", index=False)
    same_places(load_geotagged(tmp_path / "t.csv").lonlat)


def test_semicolons_and_byte_order_mark(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False, sep=";", encoding="utf-8-sig")
    same_places(load_geotagged(tmp_path / "t.csv").lonlat)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"longitude": LON}, r"one column for lon, got lon, longitude; say which one with lon="),
        ({"label": LON, "species": LON}, "one column for label, got label, species; say which"),
        ({"image": LON, "path": LON}, "one column for image, got image, path"),
        ({"feat_0": LON, "emb_0": LON}, "one source of features, got emb_, feat_"),
    ],
)
def test_ambiguous_columns(tmp_path, columns, message):
    table(**columns).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=message):
        load_geotagged(tmp_path / "t.csv")


def test_explicit_columns_override(tmp_path):
    frame = table(longitude=[1.0, 2, 3, 4], label=list("abab"), species=list("xxyy"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load_geotagged(tmp_path / "t.csv", lon="longitude", label="species")
    assert data.classes == ("x", "y")
    assert data.lonlat[:2, 0].tolist() == [1, 2]
    with pytest.raises(
        ValueError, match=r"a column 'spezies' for label.*did you mean label='species'"
    ):
        load_geotagged(tmp_path / "t.csv", lon="longitude", label="spezies")
    with pytest.raises(ValueError, match=r"a column 'q' for split, got lon, lat, .*split="):
        load_geotagged(tmp_path / "t.csv", lon="longitude", label="label", split="q")


# Bad input


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lon,lat\n48.86,151.2\n", r"lon='lon', lat='lat': latitude 151.2 is outside"),
        ("lon,lat\n448262,5411932\n", "metres|outside"),
        ("lon,lat\n1,2\ninf,3\n", "infinity"),
        ("lon,lat\n1,2\n4°,3\n", "expected numbers in column 'lon'"),
        ("lon;lat\n1,5;2,5\n", "decimal point"),
        ("lon,lat\n", r"at least one row, got \(0, 2\)"),
        ("", "got an empty first line"),
        ("place,label\nhere,1\n", "columns of longitude and latitude.* got place, label; name"),
        ("lon,label\n2,1\n", "columns of longitude and latitude"),
        ("lon,lat\n1,2\n1,2,3,4\n", r"expected a readable '\.csv' table"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_geotagged(write(tmp_path / "t.csv", text))


@pytest.mark.parametrize("ending", ["csv", "parquet", "gpkg", "npz", "xyz"])
def test_damaged_files(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ValueError, match=rf"t\.{ending}: expected a readable '\.{ending}' table"):
        load_geotagged(path)


def test_cut_npz(tmp_path):
    path = tmp_path / "t.npz"
    np.savez_compressed(path, lon=np.random.default_rng(0).normal(size=999), lat=np.zeros(999))
    content = bytearray(path.read_bytes())
    content[300:340] = b"?" * 40
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected array 'lon' as plain numbers"):
        load_geotagged(path)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "t.npz", lon=LON, lat=LAT, label=np.array(["a", None, 3, {}], dtype=object))
    with pytest.raises(ValueError, match=r"array 'label' as plain numbers or text.*allow_pickle"):
        load_geotagged(tmp_path / "t.npz")


def test_missing_file(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"nowhere\.csv', got no such file; check"):
        load_geotagged(tmp_path / "nowhere.csv")


def test_unknown_crs_names_the_remedy(tmp_path):
    points(crs=None).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="set_crs"):
        load_geotagged(tmp_path / "t.parquet")


def test_polygons_name_the_remedy(tmp_path):
    frame = points("EPSG:3857")
    frame.geometry = frame.buffer(1000)
    frame.to_file(tmp_path / "t.gpkg")
    with pytest.raises(ValueError, match="representative_point"):
        load_geotagged(tmp_path / "t.gpkg")


def test_two_layers_are_ambiguous(tmp_path):
    points().to_file(tmp_path / "t.gpkg", layer="one")
    points().to_file(tmp_path / "t.gpkg", layer="two")
    with pytest.raises(ValueError, match="expected one layer, got one, two"):
        load_geotagged(tmp_path / "t.gpkg")


def test_places_of_two_lengths(tmp_path):
    np.savez(tmp_path / "t.npz", lon=LON, lat=LAT[:3])
    with pytest.raises(ValueError, match="of one length, got 4 and 3"):
        load_geotagged(tmp_path / "t.npz")


# The dataclass


def places(rows=3):
    return torch.zeros(rows, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("target", torch.zeros(2, dtype=torch.int64), ValueError),
        ("target", torch.tensor([0, 1, 2]), ValueError),
        ("target", torch.tensor([0, -2, 1]), ValueError),
        ("target", torch.zeros(3), TypeError),
        ("images", torch.zeros(3, 4, 4, 3, dtype=torch.uint8), ValueError),
        ("images", torch.zeros(3, 3, 4, 4), TypeError),
        ("image_paths", ("a", "b"), ValueError),
        ("features", torch.zeros(3), ValueError),
        ("features", np.zeros((3, 2), dtype=np.float32), TypeError),
        ("split", torch.tensor([0, 1, 3]), ValueError),
    ],
)
def test_misaligned_fields(field, value, error):
    with pytest.raises(error, match="expected"):
        GeotaggedImages(places(), classes=("a", "b"), **{field: value})


def test_aligned_fields():
    data = GeotaggedImages(places(), torch.tensor([-1, 0, 1]), ["a", "b"], image_paths=list("xyz"))
    assert len(data) == 3
    assert data.classes == ("a", "b")
    assert data.image_paths == ("x", "y", "z")
    with pytest.raises(AttributeError):
        data.target = None
