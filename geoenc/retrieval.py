"""RetrievalAugmented: a location embedding beside what a database knows of similar places."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from geoenc.component import Component
from geoenc.coordinates import as_lonlat, to_xyz, wide_dtype
from geoenc.encoder import LocationEncoder, SumEncoder, _PlaceEncoder

CHUNK = 4096
"""Rows of the database that are compared with the queries at once."""
_QUERIES = 2048
"""Places at once in `embed`: with a chunk, 32 MB of similarities."""


class RetrievalDatabase(Component):
    """K places with the embedding k_i of each and features v_i of its image, to look up.

    Made by `of`; the constructor alone makes an empty one (zeros), to load weights into.

    Args:
        num_entries: K, how many places.
        in_features: width of the keys k_i, the ``out_features`` of the location encoder.
        out_features: width of the features v_i.

    Example:
        >>> import torch, geoenc
        >>> encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 16))
        >>> places = geoenc.sampling.fibonacci(500)
        >>> images = torch.randn(500, 32)  # features of the image at each place
        >>> database = geoenc.RetrievalDatabase.of(places, encoder.embed(places), images)
        >>> database.num_entries, database.in_features, database.out_features
        (500, 16, 32)
    """

    in_features: int
    out_features: int
    lonlat: Tensor
    keys: Tensor
    features: Tensor

    def __init__(self, num_entries: int, in_features: int, *, out_features: int) -> None:
        if min(num_entries, in_features, out_features) < 1:
            raise ValueError(
                "expected num_entries, in_features and out_features of at least 1, got "
                f"{num_entries}, {in_features} and {out_features}"
            )
        super().__init__()
        self.num_entries = num_entries
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("lonlat", torch.zeros(num_entries, 2, dtype=torch.float64))
        self.register_buffer("keys", torch.zeros(num_entries, in_features))
        self.register_buffer("features", torch.zeros(num_entries, out_features))

    @classmethod
    def of(cls, lonlat: Any, keys: Tensor, features: Tensor) -> Self:
        """A database of these places; keys are brought to length 1, both kept in float32.

        Args:
            lonlat: K places that `geoenc.as_lonlat` reads, none of them missing.
            keys: ``(K, in_features)``, what the location encoder gives for them.
            features: ``(K, out_features)``.

        Raises:
            ValueError: numbers of rows that differ; NaN or infinity.
        """
        places = as_lonlat(lonlat).reshape(-1, 2)
        keys, features = (torch.as_tensor(one).detach().float() for one in (keys, features))
        for name, one in (("keys", keys), ("features", features)):
            if one.ndim != 2 or len(one) != len(places):
                raise ValueError(
                    f"expected {name} of shape ({len(places)}, width), one row per place, got "
                    f"{tuple(one.shape)}"
                )
            if not bool(one.isfinite().all()):
                raise ValueError(f"expected finite {name}, got NaN or infinity; leave these out")
        database = cls(len(places), keys.shape[1], out_features=features.shape[1])
        database.lonlat = places
        database.keys = nn.functional.normalize(keys, dim=-1)
        database.features = features.clone()
        return database.to(features.device)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Places move with the module but stay float64, as in position encoders."""
        kept = self.lonlat
        super()._apply(fn, recurse)
        if self.lonlat.dtype != kept.dtype and self.lonlat.device.type != "mps":
            self.lonlat = kept.to(self.lonlat.device)
        return self


class RetrievalAugmented(_PlaceEncoder):
    """[r, q]: q = Enc(x) / |Enc(x)|, r = (1 - w) softmax(q k / t) v + w softmax(x x' / t') v.

    The features v_i of the database are averaged over all entries, weighted by the likeness of
    the embeddings (RANGE) and, with w > 0, by nearness on the sphere (RANGE+), where x and x' are
    unit vectors of the place and of the entries. The database is read in chunks with a running
    softmax, forwards and backwards, so that no matrix of places by entries is held.

    Args:
        encoder: Enc, a location encoder.
        database: places x_i, keys k_i and features v_i.
        temperature: t.
        place_weight: w. RANGE has 0; RANGE+ 0.5 with temperature 1/12.
        place_temperature: t'.

    Shape:
        lonlat ``(..., 2)`` to ``(..., database.out_features + encoder.out_features)``. NaN
        places give NaN rows.

    Raises:
        ValueError: widths that do not agree; a temperature or weight out of range.

    Example:
        >>> import torch, geoenc
        >>> encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 16))
        >>> places, images = geoenc.sampling.fibonacci(500), torch.randn(500, 32)
        >>> database = geoenc.RetrievalDatabase.of(places, encoder.embed(places), images)
        >>> model = geoenc.RetrievalAugmented(
        ...     encoder, database, temperature=1 / 12, place_weight=0.5
        ... )
        >>> model.embed([(2.35, 48.86)]).shape
        torch.Size([1, 48])

    Reference:
        Dhakal et al., RANGE, CVPR 2025, section 3.

    Differs:
        Temperatures divide, as everywhere here: 15 there is 1/15. Their beta is 1 - w.
    """

    encoder: LocationEncoder | SumEncoder
    database: RetrievalDatabase
    temperature: float
    place_weight: float
    out_features: int

    def __init__(
        self,
        encoder: LocationEncoder | SumEncoder,
        database: RetrievalDatabase,
        *,
        temperature: float = 1 / 15,
        place_weight: float = 0.0,
        place_temperature: float = 1 / 40,
    ) -> None:
        super().__init__()
        if encoder.out_features != database.in_features:
            raise ValueError(
                f"expected a database with keys of width {encoder.out_features}, as the encoder "
                f"gives, got {database.in_features}; make it with this encoder's embeddings"
            )
        if not (temperature > 0 and place_temperature > 0):
            raise ValueError(
                f"expected temperatures above 0, got {temperature} and {place_temperature}"
            )
        if not 0 <= place_weight <= 1:
            raise ValueError(f"expected place_weight from 0 to 1, got {place_weight}")
        self.encoder, self.database = encoder, database
        self.temperature, self.place_weight = temperature, place_weight
        self.place_temperature = place_temperature
        self.out_features = database.out_features + encoder.out_features

    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """Embed places; see the class."""
        embedding = self.encoder(lonlat, time)
        working = torch.promote_types(embedding.dtype, torch.float32)
        query = nn.functional.normalize(embedding.to(working), dim=-1)
        database, weight = self.database, self.place_weight
        found = torch.zeros((), dtype=working, device=query.device)
        if weight < 1:
            alike = soft_retrieve(query, database.keys, database.features, self.temperature)
            found = found + (1 - weight) * alike
        if weight > 0:
            wide = wide_dtype(lonlat.device)
            here, there = to_xyz(lonlat.to(wide)), to_xyz(database.lonlat)
            near = soft_retrieve(
                here.to(working), there.to(working), database.features, self.place_temperature
            )
            found = found + weight * near
        return torch.cat([found, query], -1).to(embedding.dtype)

    def _write(self, lonlat: Tensor, time: Tensor | None, out: Tensor, size: int) -> None:
        super()._write(lonlat, time, out, min(size, _QUERIES))


def soft_retrieve(query: Tensor, keys: Tensor, features: Tensor, temperature: float) -> Tensor:
    """softmax(q kᵀ / t) v, by chunks of the database; gradients by chunks too.

    Args:
        query: q.
        keys: k.
        features: v.
        temperature: t.

    Shape:
        ``(..., D)``, ``(K, D)`` and ``(K, F)`` to ``(..., F)``, in the dtype of the query.

    Example:
        >>> import torch
        >>> from geoenc.retrieval import soft_retrieve
        >>> axes = torch.eye(3)
        >>> soft_retrieve(torch.tensor([0.0, 1.0, 0.0]), axes, axes, 0.01).round(decimals=6)
        tensor([0., 1., 0.])
    """
    if torch.compiler.is_compiling():
        return _running_softmax(query, keys, features, 1 / temperature)[0]
    result, _ = _SoftRetrieval.apply(query, keys, features, 1 / temperature)
    return result


def _chunks(query: Tensor, *tables: Tensor) -> Any:
    for start in range(0, len(tables[0]), CHUNK):
        yield [table[start : start + CHUNK].to(query.dtype) for table in tables]


def _running_softmax(
    query: Tensor, keys: Tensor, features: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The average of the features, and the logarithm of the sum of the exponentials."""
    highest = torch.full_like(query[..., :1], -torch.inf)
    total = torch.zeros_like(highest)
    result = torch.zeros_like(query[..., :1])
    for key, feature in _chunks(query, keys, features):
        similarity = scale * (query @ key.T)
        higher = torch.maximum(highest, similarity.amax(-1, keepdim=True))
        shrink, part = (highest - higher).exp(), (similarity - higher).exp()
        total = total * shrink + part.sum(-1, keepdim=True)
        result = result * shrink + part @ feature
        highest = higher
    return result / total, highest + total.log()


class _SoftRetrieval(torch.autograd.Function):
    """The weights p = exp(s - log sum exp s) are made again, chunk by chunk, for the gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        query: Tensor, keys: Tensor, features: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        return _running_softmax(query, keys, features, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        query, keys, features, ctx.scale = inputs
        ctx.save_for_backward(query, keys, features, *output)
        ctx.save_for_forward(query, keys, features, *output)

    @staticmethod
    def backward(ctx: Any, d_result: Tensor, d_log_total: Tensor) -> Any:
        """dp = do v; ds = p (dp - o do); dq = ds k, dk = ds q, dv = p do."""
        query, keys, features, result, log_total = ctx.saved_tensors
        offset = d_log_total - (d_result * result).sum(-1, keepdim=True)
        d_query, d_keys, d_features = torch.zeros_like(query), [], []
        for key, feature in _chunks(query, keys, features):
            weight = (ctx.scale * (query @ key.T) - log_total).exp()
            slope = ctx.scale * weight * (d_result @ feature.T + offset)
            d_query = d_query + slope @ key
            if ctx.needs_input_grad[1]:
                d_keys.append(slope.flatten(0, -2).T @ query.flatten(0, -2))
            if ctx.needs_input_grad[2]:
                d_features.append(weight.flatten(0, -2).T @ d_result.flatten(0, -2))
        wide = [
            torch.cat(parts).to(table.dtype) if parts else None
            for parts, table in ((d_keys, keys), (d_features, features))
        ]
        return d_query, *wide, None

    @staticmethod
    def jvp(ctx: Any, t_query: Any, t_keys: Any, t_features: Any, _: Any) -> Any:
        """ds = scale (dq k + q dk); d log total = sum p ds; do = sum p (ds v + dv - ds o)."""
        query, keys, features, result, log_total = ctx.saved_tensors
        t_query, t_keys, t_features = (
            torch.zeros_like(one) if tangent is None else tangent
            for one, tangent in ((query, t_query), (keys, t_keys), (features, t_features))
        )
        t_result, t_log_total = torch.zeros_like(result), torch.zeros_like(log_total)
        for key, feature, t_key, t_feature in _chunks(query, keys, features, t_keys, t_features):
            weight = (ctx.scale * (query @ key.T) - log_total).exp()
            moved = ctx.scale * weight * (t_query @ key.T + query @ t_key.T)
            t_log_total = t_log_total + moved.sum(-1, keepdim=True)
            t_result = t_result + moved @ feature + weight @ t_feature
        return t_result - result * t_log_total, t_log_total
