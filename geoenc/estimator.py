"""A scikit-learn transformer: columns of longitude and latitude become an embedding."""

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from geoenc._optional import require
from geoenc.coordinates import as_lonlat
from geoenc.frames import off_earth
from geoenc.hub import from_pretrained
from geoenc.position import PositionEncoder, SphericalHarmonics

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator, TransformerMixin
else:
    _base = require("sklearn.base", extra="eval")
    BaseEstimator, TransformerMixin = _base.BaseEstimator, _base.TransformerMixin


class GeoEncoder(TransformerMixin, BaseEstimator):
    """Columns [lon, lat, z] to [e(lon, lat), z]: an embedding in place of two columns.

    It passes scikit-learn's ``check_estimator`` and so works in pipelines, cross-validation,
    grid search and ``set_output``. Nothing is learned from the data: an encoder is trained
    before, or needs no training.

    Args:
        encoder: a model with ``embed``; a position encoder, which needs no training; or a folder
            or name that `geoenc.from_pretrained` reads. None: ``SphericalHarmonics(15)``.
        lon, lat: number or name of the columns, in degrees. Rows without a place give NaN, and so
            do, with a warning, rows that are no degrees, such as a latitude of 151.

    Attributes:
        encoder_: the encoder, after ``fit``.

    Shape:
        ``(N, F)`` to ``(N, D + F - 2)``; other columns stay, behind the embedding. float32 if
        there are none.

    Raises:
        ValueError: no such column.
        ImportError: scikit-learn is not installed.

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> from geoenc.estimator import GeoEncoder
        >>> X, y = [[2.35, 48.86], [-122.27, 37.87]], [11.0, 14.0]
        >>> model = make_pipeline(GeoEncoder(), Ridge()).fit(X, y)
        >>> model[0].transform(X).shape
        (2, 256)
    """

    def __init__(self, encoder: Any = None, *, lon: int | str = 0, lat: int | str = 1) -> None:
        self.encoder, self.lon, self.lat = encoder, lon, lat

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the encoder and find the columns."""
        checked = self._validated(X, reset=True)
        given = self.encoder
        if given is None:
            self.encoder_ = SphericalHarmonics(15)
        elif isinstance(given, PositionEncoder) or hasattr(given, "embed"):
            self.encoder_ = given
        else:
            self.encoder_ = from_pretrained(given)
        self._places = [self._index(one, checked.shape[1]) for one in (self.lon, self.lat)]
        if self._places[0] == self._places[1]:
            raise ValueError(
                f"expected two columns, got {self.lon!r} as lon and {self.lat!r} as lat, which are "
                "one; give their names or numbers as lon= and lat="
            )
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Replace the two columns."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        checked = self._validated(X, reset=False)
        embedding = self._embed(checked[:, self._places])
        if checked.shape[1] == 2:
            return embedding
        return np.concatenate([embedding, np.delete(checked, self._places, axis=1)], 1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """``emb_0``, ``emb_1``, ... and the names of the columns that stay."""
        from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        made = [f"emb_{column}" for column in range(self.encoder_.out_features)]
        return np.array([*made, *np.delete(names, self._places)], dtype=object)

    def _validated(self, X: Any, *, reset: bool) -> NDArray[Any]:
        from sklearn.utils.validation import validate_data

        if hasattr(X, "to_crs"):
            raise TypeError(
                "expected columns of longitude and latitude, got geometries; give "
                "frame.to_crs(4326).get_coordinates(), or use geoenc.frames.embed_frame"
            )
        numbers: NDArray[Any] = validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        return numbers

    def _index(self, column: int | str, width: int) -> int:
        if isinstance(column, str):
            names = list(getattr(self, "feature_names_in_", []))
            if column in names:
                return names.index(column)
            raise ValueError(
                f"expected a column {column!r}, got {names or 'columns without names'}; give its "
                "name or number as lon= and lat="
            )
        if not 0 <= column < width:
            raise ValueError(
                f"expected columns of longitude and latitude, numbers {self.lon} and {self.lat}, "
                f"got {width} feature(s); give their numbers as lon= and lat="
            )
        return column

    def _embed(self, places: NDArray[Any]) -> NDArray[Any]:
        off = off_earth(places)
        if off.any():
            rows = np.flatnonzero(off)
            worst = ", ".join(f"{one:g}" for one in places[rows[0]])
            warnings.warn(
                f"expected (lon, lat) in degrees, got ({worst}) in row {rows[0]}, and {len(rows)} "
                "such rows in all, which become NaN; if the columns are (lat, lon), pass lon=1, "
                "lat=0; if they are metres, reproject to EPSG:4326",
                stacklevel=3,
            )
            places = np.where(off[:, None], np.nan, places)
        if isinstance(self.encoder_, PositionEncoder):
            with torch.no_grad():
                code = self.encoder_.write(as_lonlat(places, missing=True))
        else:
            code = self.encoder_.embed(places)
        numbers: NDArray[Any] = code.cpu().numpy()
        return numbers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags
