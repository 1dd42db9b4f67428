"""Time encoders, and the fraction of the year from days, months and dates."""

import calendar
import datetime as dt
import math

import numpy as np
import pytest
import torch

import geoenc
from geoenc.temporal import (
    year_fraction_of_dates,
    year_fraction_of_days,
    year_fraction_of_months,
)


@pytest.mark.parametrize("offset", [0.5, 0.0, -1 / 24, 3.25])
def test_cyclic_time_is_a_circle_that_starts_at_the_offset(offset: float) -> None:
    code = geoenc.CyclicTime(offset)
    time = torch.linspace(0, 1, 13, dtype=torch.float64)
    for t, (sin, cos) in zip(time.tolist(), code(time).tolist(), strict=True):
        angle = 2 * math.pi * (t - offset)
        assert (sin, cos) == pytest.approx((math.sin(angle), math.cos(angle)), abs=1e-12)
    start = torch.tensor(offset, dtype=torch.float64)
    assert code(start).tolist() == [0.0, 1.0]
    assert torch.allclose(code(time), code(time + 1), atol=1e-12)


def test_climplicit_sees_the_month_over_twelve() -> None:
    code = geoenc.CyclicTime(offset=-1 / 24)
    months = np.arange(1, 13)
    wanted = [[np.sin(2 * np.pi * m / 12), np.cos(2 * np.pi * m / 12)] for m in months]
    assert code(year_fraction_of_months(months)).numpy() == pytest.approx(
        np.array(wanted), abs=1e-15
    )


def test_linear_time_runs_from_minus_one_to_one() -> None:
    time = torch.tensor([[0.0, 0.5], [0.75, 1.0]])
    assert geoenc.LinearTime()(time).tolist() == [[[-1.0], [0.0]], [[0.5], [1.0]]]


def test_days_of_the_year() -> None:
    got = year_fraction_of_days([[1, 32], [183.625, 366]])
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(np.array([[0, 31 / 365.25], [0.5, 365 / 365.25]]))
    assert got.max() < 1


def test_months_are_their_middle() -> None:
    """So a date in the middle of a month is the month, to two days."""
    for month in range(1, 13):
        length = calendar.monthrange(2023, month)[1]
        middle = dt.datetime(2023, month, 1) + dt.timedelta(days=length / 2)
        got = year_fraction_of_months(month).item()
        assert abs(got - year_fraction_of_dates(middle).item()) < 2 / 365


@pytest.mark.parametrize("year", [1969, 2000, 2023, 2024, 2100])
def test_dates_against_the_calendar(year: int) -> None:
    days = 365 + calendar.isleap(year)
    dates = [dt.date(year, 1, 1) + dt.timedelta(days=day) for day in range(days)]
    wanted = [day / days for day in range(days)]
    assert year_fraction_of_dates(dates).tolist() == pytest.approx(wanted, abs=1e-15)
    last = np.datetime64(f"{year}-12-31T23:59:59.999999999")
    assert 1 - 1e-12 < year_fraction_of_dates(last).item() < 1


def test_dates_of_all_kinds() -> None:
    text = [["2024-01-01", "2024-07-02"], ["2024-07-02T00:00", "NaT"]]
    wanted = torch.tensor([[0.0, 0.5], [0.5, math.nan]], dtype=torch.float64)
    arrays = [text, np.array(text, dtype="datetime64[s]"), np.array(text, dtype="datetime64[ns]")]
    for dates in arrays:
        assert year_fraction_of_dates(dates).equal(wanted) or torch.allclose(
            year_fraction_of_dates(dates), wanted, equal_nan=True
        )
    assert year_fraction_of_dates(dt.datetime(2023, 7, 2, 12)).item() == 0.5
    assert year_fraction_of_dates([]).shape == (0,)


def test_dates_of_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(pandas.to_datetime(["2024-07-02", None]))
    got = year_fraction_of_dates(series)
    assert got[0].item() == 0.5
    assert got[1].isnan()


def test_missing_times_stay_missing() -> None:
    for function in (year_fraction_of_days, year_fraction_of_months):
        assert function([math.nan, 1.0]).isnan().tolist() == [True, False]
    model = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.Linear(5, 2), geoenc.CyclicTime())
    code = model.embed([(0, 0), (0, 0)], year_fraction_of_days([math.nan, 9]))
    assert code.isnan().all(-1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: year_fraction_of_days([3, 0.5]), ValueError, "from 1 to 366, got 0.5"),
        (lambda: year_fraction_of_days(367), ValueError, "days of the year from 1 to 366, got 367"),
        (lambda: year_fraction_of_months([0]), ValueError, "months from 1 to 12, got 0"),
        (lambda: year_fraction_of_months([[1], [13]]), ValueError, "from 1 to 12, got 13"),
        (lambda: year_fraction_of_dates([1, 2]), TypeError, "got int64; use year_fraction_of_days"),
        (lambda: year_fraction_of_dates([0.5]), TypeError, "got float64"),
        (lambda: year_fraction_of_dates([None, 17]), TypeError, "got int; use"),
        (lambda: year_fraction_of_dates("yesterday"), ValueError, "such as 2024-07-02"),
        (lambda: geoenc.CyclicTime(math.nan), ValueError, "a finite offset, got nan"),
    ],
)
def test_refuses(call: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        call()
