"""How far a predicted place is from the true one."""

from torch import Tensor

from geoenc.coordinates import great_circle_km


def accuracy_within_km(predicted: Tensor, true: Tensor, radius_km: float) -> Tensor:
    """Share of predictions within ``radius_km`` of the true place, along the great circle.

    Args:
        predicted, true: places, ``(N, 2)`` degrees. A missing prediction (NaN) is no success.
        radius_km: for example 1, 25, 200, 750 and 2500: street, city, region, country, continent.

    Shape:
        a scalar in [0, 1], float64.

    Example:
        >>> import torch
        >>> from geoenc.metrics import accuracy_within_km
        >>> places = torch.tensor([(2.35, 48.86), (13.4, 52.52)])
        >>> accuracy_within_km(places, places.flip(0), radius_km=1000)
        tensor(1., dtype=torch.float64)

    Reference:
        Hays and Efros, IM2GPS, CVPR 2008; the thresholds of GeoCLIP, NeurIPS 2023.
    """
    if not radius_km > 0:
        raise ValueError(f"expected radius_km above 0, got {radius_km}")
    return (great_circle_km(predicted, true) <= radius_km).double().mean()


def median_error_km(predicted: Tensor, true: Tensor) -> Tensor:
    """Median great-circle distance between predicted and true places; the lower of two medians.

    Shape:
        two of ``(N, 2)`` degrees; a scalar in kilometres.

    Example:
        >>> import torch
        >>> from geoenc.metrics import median_error_km
        >>> round(median_error_km(torch.zeros(1, 2), torch.tensor([[0.0, 90.0]])).item())
        10008
    """
    return great_circle_km(predicted, true).median()
