"""LocationQueue: past places as more negatives, encoded afresh at every step."""

import torch
from torch import Tensor, nn


class LocationQueue(nn.Module):
    """The last ``size`` places that were pushed, oldest first.

    It stores places, not embeddings: two numbers each, and never stale. It starts empty and
    takes batches of any length.

    Args:
        size: how many places to remember.

    Shape:
        `push` takes ``(B, 2)`` degrees; `locations` gives ``(n, 2)`` float64, n <= size.

    Example:
        >>> import torch, geoenc
        >>> queue = geoenc.LocationQueue(3)
        >>> queue.push(torch.tensor([(0.0, 0.0), (1.0, 1.0)]))
        >>> queue.push(torch.tensor([(2.0, 2.0), (3.0, 3.0)]))
        >>> queue.locations()[:, 0]
        tensor([1., 2., 3.], dtype=torch.float64)

    Reference:
        Vivanco Cepeda, Nayak and Shah, GeoCLIP, NeurIPS 2023, section 3.2.

    Differs:
        GeoCLIP's queue starts with places within one degree of (0, 0) and takes only batches that
        divide its size.
    """

    _places: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"expected size of at least 1, got {size}")
        self.size = size
        self.register_buffer("_places", torch.empty(0, 2, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def push(self, lonlat: Tensor) -> None:
        """Remember places and forget the oldest beyond ``size``."""
        if lonlat.ndim != 2 or lonlat.shape[1] != 2:
            raise ValueError(f"expected lonlat of shape (B, 2), got {tuple(lonlat.shape)}")
        places = torch.cat([self._places.to(lonlat.device), lonlat.to(self._places.dtype)])
        self._places = places[-self.size :].clone()

    def locations(self) -> Tensor:
        """The remembered places, oldest first."""
        return self._places
