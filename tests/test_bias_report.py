"""Geo-bias from a file: what is read, what is reported, and the command."""

import json

import numpy as np
import pandas
import pytest
import torch

from geoenc.bias import (
    as_json,
    as_text,
    bias_figure,
    bias_report,
    people_per_km2,
    read_predictions,
)
from geoenc.cli import main
from geoenc.data.regions import region_of
from geoenc.metrics import relative_information, self_information
from geoenc.predictions import Predictions
from geoenc.sampling import uniform


def predictions(num: int = 300) -> Predictions:
    """Right in the north; three samples have no place."""
    generator = torch.Generator().manual_seed(0)
    lonlat = uniform(num, generator=generator).double()
    target = torch.randint(4, (num,), generator=generator)
    guess = torch.where(lonlat[:, 1] > 0, target, (target + 1) % 4)
    lonlat[:3] = torch.nan
    return Predictions.of(torch.nn.functional.one_hot(guess, 4).float(), target, lonlat=lonlat)


def table(made: Predictions) -> pandas.DataFrame:
    lon, lat = made.lonlat.T.numpy()
    return pandas.DataFrame({"lon": lon, "lat": lat, "correct": made.hits().numpy()})


@pytest.mark.parametrize("kind", ["saved", "parquet", "csv", "integers"])
def test_every_kind_of_file_gives_the_same(tmp_path, kind):
    made, path = predictions(), tmp_path / f"some.{'csv' if kind == 'csv' else 'parquet'}"
    if kind == "saved":
        made.save(path)
    elif kind == "csv":
        table(made).to_csv(path, index=False, float_format="%.17g")
    else:
        frame = table(made)
        frame = frame.astype({"correct": int}) if kind == "integers" else frame
        frame.to_parquet(path)
    lonlat, correct = read_predictions(path)
    torch.testing.assert_close(lonlat, made.lonlat, equal_nan=True)
    assert correct.equal(made.hits())


def test_the_report_is_that_of_a_count():
    made = predictions()
    correct = made.hits()
    report = bias_report(made.lonlat, correct, radius_km=2000, min_samples=5)
    known = ~made.lonlat.isnan().any(-1)
    assert (report.samples, report.located) == (300, 297)
    assert report.accuracy == pytest.approx(correct[known].double().mean().item())
    scores = self_information(made.lonlat, correct, radius_km=2000)
    assert report.unmarked == pytest.approx(scores.unmarked[known].mean().item())
    assert report.marked == pytest.approx(scores.marked[known].mean().item())
    assert (report.unmarked_weighted, report.marked_weighted) == scores.weighted_mean()

    relative = relative_information(made.lonlat, correct, radius_km=2000)
    assert report.relative == pytest.approx(relative.nanmean().item())
    assert f"{report.relative:.4f}" in as_text(report)

    region, names = region_of(made.lonlat, "continent")
    assert [part.name for part in report.continents] == list(names)
    for number, part in enumerate(report.continents):
        inside = correct[region == number].double()
        assert part.samples == len(inside)
        assert part.accuracy == pytest.approx(inside.mean().item())
        spread = inside.std(correction=0).item() / len(inside) ** 0.5
        assert part.standard_error == pytest.approx(spread, abs=1e-6)
    assert report.worst_country is not None
    assert report.worst_country.name == "Antarctica"
    assert report.worst_country.accuracy == 0
    assert sum(part.samples for part in report.density) == 297
    assert len(report.density) == 5


def test_people_per_km2_are_those_of_the_countries():
    """Against the figures of the United Nations for 2019, when the map was made."""
    people = people_per_km2()
    expected = {"India": 416, "Brazil": 25, "Canada": 4, "Germany": 234, "Nigeria": 218}
    for name, density in expected.items():
        assert people[name] == pytest.approx(density, rel=0.15), name


def test_accuracy_by_population_is_that_of_a_count():
    """Right where few people live, wrong where many do; one sample at sea."""
    crowded, empty = [(77.2, 28.6), (90.4, 24.0)], [(103.8, 46.9), (-100.0, 60.0), (134.0, -25.0)]
    lonlat = torch.tensor([*crowded, *empty, (-47.0, -15.0), (-30.0, 30.0)], dtype=torch.float64)
    report = bias_report(lonlat, torch.tensor([0, 0, 1, 1, 1, 1, 0]).bool())
    assert [(part.name, part.samples, part.accuracy) for part in report.population] == [
        ("below 10", 3, 1.0),
        ("10 to 30", 1, 1.0),
        ("300 or more", 2, 0.0),
    ]
    assert "people per km² of the country" in as_text(report)
    assert json.loads(as_json(report))["population"][0]["name"] == "below 10"


def test_samples_of_the_benchmark_are_read(tmp_path, capsys):
    made = predictions()
    hits = made.hits().numpy()
    beside = {"row": np.arange(len(hits)), "lonlat": made.lonlat.numpy()}
    np.savez_compressed(tmp_path / "a.npz", correct=np.stack([hits, ~hits]), **beside)
    lonlat, correct = read_predictions(tmp_path / "a.npz")
    torch.testing.assert_close(lonlat, made.lonlat, equal_nan=True)
    assert correct.equal(made.hits())  # of the first seed
    assert main(["bias", str(tmp_path / "a.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["located"] == 297
    np.savez_compressed(tmp_path / "b.npz", error=np.ones((1, len(hits))), **beside)
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    for name, message in (("b.npz", "task with classes"), ("c.npz", "run that row again")):
        assert main(["bias", str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err


def test_of_few_samples_what_can_be_said():
    report = bias_report([(2.35, 48.86), (13.4, 52.5)], torch.tensor([True, False]))
    assert report.worst_country is None
    assert report.density == ()
    assert [part.name for part in report.continents] == ["Europe"]
    assert "worst country" not in as_text(report)
    assert bias_report([(-30.0, 30.0)], torch.tensor([True])).worst_country is None  # all at sea
    with pytest.raises(ValueError, match="predict with lonlat="):
        bias_report(torch.full((4, 2), torch.nan), torch.ones(4))


def test_the_command_prints_tables_json_and_a_map(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    made, path, picture = predictions(), tmp_path / "p.parquet", tmp_path / "maps" / "bias.png"
    made.save(path)
    assert main(["bias", str(path), "--radius-km", "500", "--map", str(picture)]) == 0
    report = bias_report(made.lonlat, made.hits(), radius_km=500)
    assert capsys.readouterr().out == as_text(report) + "\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["bias", str(path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = bias_report(made.lonlat, made.hits())
    assert printed == json.loads(as_json(expected))
    assert printed["radius_km"] == 100
    assert printed["marked"] == expected.marked


def test_the_map_shows_the_accuracy_of_blocks():
    pytest.importorskip("matplotlib")
    made = predictions()
    report = bias_report(made.lonlat, made.hits())
    top, bottom = bias_figure(made.lonlat, made.hits(), report).axes[:2]
    shares = np.ma.filled(top.collections[0].get_array().reshape(180, 360), np.nan)
    assert np.nanmin(shares[:85]) == np.nanmax(shares[:85]) == 1  # north of 5 degrees
    assert np.nanmin(shares[95:]) == np.nanmax(shares[95:]) == 0
    scores = np.ma.filled(bottom.collections[0].get_array(), np.nan)
    assert 0 <= np.nanmin(scores) <= np.nanmax(scores) <= report.scores.marked.nan_to_num().max()


def test_files_that_cannot_be_read_say_what_to_do(tmp_path, capsys):
    frame = table(predictions())

    def fails(name: str, message: str, *more: str) -> None:
        assert main(["bias", str(tmp_path / name), *more]) == 1
        assert message in capsys.readouterr().err

    fails("nothing.parquet", "No such file")
    (tmp_path / "text.parquet").write_text("no")
    fails("text.parquet", "write it again")
    (tmp_path / "p.json").write_text("{}")
    fails("p.json", ".parquet or .csv")
    frame.drop(columns=["lat", "correct"]).to_csv(tmp_path / "a.csv")
    fails("a.csv", "no lat and no correct")
    frame.assign(correct=0.5).to_csv(tmp_path / "b.csv")
    fails("b.csv", "in 300 of 300 rows")
    frame.rename(columns={"lon": "lat", "lat": "lon"}).to_csv(tmp_path / "c.csv")
    fails("c.csv", "outside [-90, 90]")
    frame.to_parquet(tmp_path / "d.parquet")
    fails("d.parquet", "above 0", "--radius-km", "0")
    fails("d.parquet", "*.png", "--map", str(tmp_path / "map.xyz"))
    assert not (tmp_path / "map.xyz").exists()


@pytest.mark.real_data
def test_on_the_image_classifier_of_inat2018(shared, tmp_path):
    """Published: 60.2 % of 24,343 located samples (data/README.md, TorchSpatial)."""
    file = shared / "data" / "inat2018_val.parquet"
    if not file.is_file():
        pytest.skip(f"real data expected in {file}, got no such file")
    frame = pandas.read_parquet(file).rename(columns={"image_hit1": "correct"})
    frame.sample(3000, random_state=0).to_parquet(tmp_path / "p.parquet")
    report = bias_report(*read_predictions(tmp_path / "p.parquet"))
    assert report.accuracy == pytest.approx(0.602, abs=0.03)
    names = [part.name for part in report.continents]
    assert {"Africa", "Asia", "Europe", "North America", "Oceania", "South America"} <= set(names)
    assert max(report.continents, key=lambda part: part.samples).name == "North America"
    assert report.unmarked > 10 * report.marked > 0
