"""Time of the year as a vector, and dates as the fraction of the year."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoenc.component import Component


class TimeEncoder(Component, root=True):
    """Fraction of the year ``(...)`` in [0, 1) -> ``(..., out_features)``.

    Args:
        out_features: width of the code.
    """

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, time: Tensor) -> Tensor:
        """Encode fractions of the year."""
        raise NotImplementedError


class CyclicTime(TimeEncoder):
    """[sin(2 pi (t - o)), cos(2 pi (t - o))] for t, the fraction of the year, and the offset o.

    Args:
        offset: the fraction of the year where the angle is 0. 0.5 is the geographic prior, whose
            year runs from -pi to pi. -1/24 is Climplicit, whose angle is 2 pi month / 12: the
            middle of month m is the fraction (m - 1/2) / 12.

    Shape:
        ``(...)`` to ``(..., 2)``, in the dtype of the argument.

    Example:
        >>> import torch, geoenc
        >>> geoenc.CyclicTime()(torch.tensor([0.5])).round(decimals=3)
        tensor([[0., 1.]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 3.2; Climplicit, 2025.
    """

    def __init__(self, offset: float = 0.5) -> None:
        super().__init__(out_features=2)
        self.offset = offset
        if not math.isfinite(offset):
            raise ValueError(f"expected a finite offset, got {offset}")

    def forward(self, time: Tensor) -> Tensor:
        """See the class."""
        angle = 2 * math.pi * (time - self.offset)
        return torch.stack([angle.sin(), angle.cos()], -1)


class LinearTime(TimeEncoder):
    """[2 t - 1] for t, the fraction of the year: the end of the year is far from its beginning.

    Shape:
        ``(...)`` to ``(..., 1)``, in the dtype of the argument.

    Example:
        >>> import torch, geoenc
        >>> geoenc.LinearTime()(torch.tensor([0.0, 0.75]))
        tensor([[-1.0000],
                [ 0.5000]])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 3.2: the date as it is.
    """

    def __init__(self) -> None:
        super().__init__(out_features=1)

    def forward(self, time: Tensor) -> Tensor:
        """See the class."""
        return (2 * time - 1)[..., None]


def year_fraction_of_days(days: Any) -> Tensor:
    """(day - 1) / 365.25 for days of the year from 1 to 366, whatever year it was.

    Args:
        days: numbers ``(...)``, with fractions for the time of the day; NaN where not known.

    Shape:
        ``(...)`` to ``(...)`` float64.

    Raises:
        ValueError: a day below 1 or above 366.

    Example:
        >>> from geoenc.temporal import year_fraction_of_days
        >>> year_fraction_of_days([1, 183.625])
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    return (_within("days of the year", days, 366) - 1) / 365.25


def year_fraction_of_months(months: Any) -> Tensor:
    """(month - 1/2) / 12 for months from 1 to 12: the middle of each.

    Missing months, shapes and errors are as for `year_fraction_of_days`.

    Example:
        >>> from geoenc.temporal import year_fraction_of_months
        >>> year_fraction_of_months([1, 12])
        tensor([0.0417, 0.9583], dtype=torch.float64)
    """
    return (_within("months", months, 12) - 0.5) / 12


def year_fraction_of_dates(dates: Any) -> Tensor:
    """(date - start of its year) / (length of its year), leap years being longer.

    Args:
        dates: ``(...)`` of datetime64, datetime, date or ISO 8601 text; NaT where not known.

    Shape:
        ``(...)`` to ``(...)`` float64.

    Raises:
        TypeError: numbers, which could mean anything.
        ValueError: text that is no date.

    Example:
        >>> from geoenc.temporal import year_fraction_of_dates
        >>> year_fraction_of_dates(["2024-01-01", "2024-07-02"])
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    given = np.asarray(dates)
    kinds = {given.dtype.name} if given.size and given.dtype.kind not in "MOU" else set()
    if given.dtype.kind == "O":
        kinds = {type(one).__name__ for one in given.flat if isinstance(one, int | float)}
    if kinds:
        raise TypeError(
            f"expected dates, got {' and '.join(sorted(kinds))}; use year_fraction_of_days or "
            "year_fraction_of_months for numbers"
        )
    try:
        moment = given.astype("datetime64[us]")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected dates such as 2024-07-02, got what is none ({error}); parse them first, "
            "for instance with pandas.to_datetime"
        ) from error
    year = moment.astype("datetime64[Y]")
    start, end = (one.astype("datetime64[us]") for one in (year, year + 1))
    return torch.from_numpy(np.asarray((moment - start) / (end - start)))


def _within(what: str, values: Any, last: float) -> Tensor:
    numbers = torch.as_tensor(values, dtype=torch.float64)
    wrong = numbers[(numbers < 1) | (numbers > last)]
    if len(wrong):
        raise ValueError(
            f"expected {what} from 1 to {last}, got {wrong[0]:g}; look at the unit, and "
            "leave fractions of the year as they are"
        )
    return numbers
