"""LocationEncoder: a position encoder and a network, from places to embeddings."""

import contextlib
import copy
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from geoenc._memory import keep_freed, new
from geoenc.component import Component
from geoenc.coordinates import as_lonlat
from geoenc.native import has_products
from geoenc.network.base import Network
from geoenc.position.base import PositionEncoder
from geoenc.pretrained import from_pretrained, save_pretrained
from geoenc.temporal import TimeEncoder

_NETWORK_ROWS = 2048
"""Places at once for a thread: their code stays in the cache of a core."""

_SUM_ROWS = 4096
"""Places at once in a sum of encoders, whose hidden layers are wide."""


class _Model(Component):
    """Saving, loading and embedding: what all models share."""

    def save_pretrained(
        self, path: str | os.PathLike[str], *, metadata: dict[str, Any] | None = None
    ) -> None:
        """Write the model to a folder; see `geoenc.pretrained.save_pretrained`."""
        save_pretrained(self, path, metadata=metadata)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **repository: Any) -> Self:
        """Read what `save_pretrained` wrote, a folder or ``"org/name"``, in evaluation mode.

        Args:
            path: a folder, or a repository of the Hugging Face Hub.
            repository: ``revision``, ``cache_dir``, ``token`` and ``local_files_only``; see
                `geoenc.pretrained.from_pretrained`.
        """
        return from_pretrained(path, expected=cls, **repository)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the length of a block; every part then has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _PlaceEncoder(_Model):
    """A model from places to vectors, with `embed`."""

    out_features: int

    @torch.no_grad()
    def embed(
        self,
        locations: Any,
        time: Tensor | None = None,
        *,
        batch_size: int = 65536,
        out: Tensor | None = None,
    ) -> Tensor:
        """Embeddings of places as people have them: checked, in evaluation mode, in chunks.

        A model in half precision computes in float32 where the processor has no such products.

        Args:
            locations: anything `geoenc.as_lonlat` reads; rows with NaN give rows of NaN.
            time: fraction of the year, one number per place, for encoders with time.
            batch_size: places at once; memory, not the result, depends on it.
            out: where to write, a row for each place; made if absent.

        Shape:
            ``(..., 2)`` to ``(..., out_features)``, on the device of the model; ``out`` is
            ``(N, out_features)`` for N places in any arrangement.

        Returns:
            The embeddings, or ``out``.

        Example:
            >>> import geoenc
            >>> position = geoenc.Space2VecGrid(16)
            >>> encoder = geoenc.LocationEncoder(position, geoenc.FFN(64, 256))
            >>> encoder.embed([(-122.27, 37.87), (2.35, 48.86)]).shape
            torch.Size([2, 256])
        """
        lonlat = as_lonlat(locations, missing=True)
        if batch_size < 1:
            raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
        parameter = next(self.parameters(), None)
        device = lonlat.device if parameter is None else parameter.device
        rows = lonlat.reshape(-1, 2).to(device)
        times = None if time is None else torch.as_tensor(time).reshape(-1).to(device)
        if times is not None and len(times) != len(rows):
            raise ValueError(
                f"expected one time per place, got {len(times)} times for {len(rows)} places"
            )
        shape = len(rows), self.out_features
        if out is not None and out.shape != shape:
            raise ValueError(f"expected out of shape {shape}, got {tuple(out.shape)}")
        made = new(shape, self.dtype, device) if out is None else out
        keep_freed()
        with evaluating(self):
            self._write(rows, times, made, batch_size)
        return made.view(*lonlat.shape[:-1], self.out_features) if out is None else out

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the embeddings: that of the position code."""
        return next(part.dtype for part in self.modules() if isinstance(part, PositionEncoder))

    def _write(self, lonlat: Tensor, time: Tensor | None, out: Tensor, size: int) -> None:
        """The embeddings into the rows of ``out``, at most ``size`` at once."""
        for start in range(0, len(lonlat), size):
            rows = slice(start, start + size)
            out[rows] = self(lonlat[rows], None if time is None else time[rows])


def _quick(model: Any) -> Any:
    """The model, or a copy in float32 where the processor would emulate its precision slowly."""
    parameter = next(model.parameters(), None)
    if parameter is None or parameter.device.type != "cpu" or has_products(parameter.dtype):
        return model
    return copy.deepcopy(model).float()


class LocationEncoder(_PlaceEncoder):
    """Enc(x) = NN(PE(x)), or NN([PE(x), T(t)]) with time.

    Args:
        position: PE, a position encoder.
        network: NN, whose ``in_features`` equals the width of PE (plus that of the time).
        time: T, a time encoder.

    Shape:
        lonlat ``(..., 2)`` degrees, longitude first, and time ``(...)``, a fraction of the year,
        to ``(..., out_features)``. Values are not checked in ``forward``; `embed` does.

    Raises:
        ValueError: widths that do not agree.

    Example:
        >>> import geoenc
        >>> position = geoenc.Sphere2VecC(32)
        >>> encoder = geoenc.LocationEncoder(position, geoenc.FFN(position.out_features, 256))
        >>> encoder.out_features
        256

    Reference:
        The form common to Space2Vec, Sphere2Vec, CSP, SatCLIP and TorchSpatial.
    """

    position: PositionEncoder
    network: Network
    time: TimeEncoder | None
    out_features: int

    def __init__(
        self, position: PositionEncoder, network: Network, time: TimeEncoder | None = None
    ) -> None:
        super().__init__()
        width = position.out_features + (0 if time is None else time.out_features)
        if network.in_features != width:
            parts = f"{type(position).__name__} gives {position.out_features}"
            if time is not None:
                parts += f" and {type(time).__name__} {time.out_features}"
            raise ValueError(
                f"expected a network with in_features={width} ({parts}), got "
                f"{network.in_features}; pass position.out_features"
            )
        self.position, self.network, self.time = position, network, time
        self.out_features = network.out_features

    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """Embed places; see the class."""
        return self.network(self.code(lonlat, time))

    def code(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """What the network sees: the position code, and the code of the time beside it.

        Shape:
            ``(..., 2)`` to ``(..., network.in_features)``.
        """
        self._check_time(lonlat, time)
        if self.position.takes_time:
            return self._with_time(self.position(lonlat, time), time)
        return self._with_time(self.position(lonlat), time)

    def _with_time(self, position: Tensor, time: Tensor | None) -> Tensor:
        if self.time is None:
            return position
        return torch.cat([position, self.time(time).to(position.dtype)], -1)

    def _check_time(self, lonlat: Tensor, time: Tensor | None) -> None:
        if self.time is None and not self.position.takes_time:
            if time is not None:
                raise ValueError(
                    "expected no time, because this encoder was built without one, got "
                    f"{tuple(time.shape)}; build it with time=CyclicTime()"
                )
        elif time is None or time.shape != lonlat.shape[:-1]:
            raise ValueError(
                f"expected time of shape {tuple(lonlat.shape[:-1])} (fraction of the year), got "
                f"{None if time is None else tuple(time.shape)}"
            )

    def _write(self, lonlat: Tensor, time: Tensor | None, out: Tensor, size: int) -> None:
        """The network takes each block of the code while it is in cache."""
        mine = type(self)
        own = (mine.forward, mine.code) == (LocationEncoder.forward, LocationEncoder.code)
        if not own or "forward" in self.__dict__:
            super()._write(lonlat, time, out, size)  # a subclass has its own way
            return
        self._check_time(lonlat, time)
        taken, quick = time if self.position.takes_time else None, _quick(self)
        size = min(size, _NETWORK_ROWS * torch.get_num_threads())
        for rows, code in quick.position.blocks(lonlat, time=taken, rows=size):
            code = quick._with_time(code, None if time is None else time[rows])
            quick.network.write(code, out[rows])

    @classmethod
    def _complete(cls, arguments: dict[str, Any]) -> None:
        """``network.in_features`` follows from the position encoder when it is absent."""
        network = arguments.get("network")
        if not isinstance(network, dict) or "in_features" in network:
            return
        position = arguments.get("position")
        if isinstance(position, dict):
            position = arguments["position"] = PositionEncoder.from_config(position)
        time = arguments.get("time")
        if isinstance(time, dict):
            time = arguments["time"] = TimeEncoder.from_config(time)
        if isinstance(position, PositionEncoder):
            width = position.out_features + (0 if time is None else time.out_features)
            arguments["network"] = {**network, "in_features": width}


class SumEncoder(_PlaceEncoder):
    """Enc(x) = Enc_1(x) + ... + Enc_n(x): several scales side by side.

    Args:
        encoders: location encoders with equal ``out_features``.

    Shape:
        lonlat ``(..., 2)`` to ``(..., out_features)``.

    Example:
        >>> import geoenc
        >>> parts = [
        ...     geoenc.LocationEncoder(geoenc.Space2VecGrid(8, min_radius=r), geoenc.FFN(32, 64))
        ...     for r in (0.1, 10.0)
        ... ]
        >>> geoenc.SumEncoder(parts).embed([(2.35, 48.86)]).shape
        torch.Size([1, 64])

    Reference:
        Vivanco Cepeda, Nayak and Shah, GeoCLIP, NeurIPS 2023, section 3.1.
    """

    encoders: nn.ModuleList
    out_features: int

    def __init__(self, encoders: Sequence[LocationEncoder]) -> None:
        super().__init__()
        widths = {encoder.out_features for encoder in encoders}
        if len(widths) != 1:
            raise ValueError(
                f"expected encoders with one out_features, got {sorted(widths) or 'no encoder'}"
            )
        self.encoders = nn.ModuleList(encoders)
        self.out_features = widths.pop()

    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """Embed places; see the class."""
        return torch.stack([encoder(lonlat, time) for encoder in self.encoders]).sum(0)

    def _write(self, lonlat: Tensor, time: Tensor | None, out: Tensor, size: int) -> None:
        _PlaceEncoder._write(_quick(self), lonlat, time, out, min(size, _SUM_ROWS))
