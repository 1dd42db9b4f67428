"""Climplicit: climate as a function of the place and the month."""

import os

from geoenc.convert._checkpoint import Checkpoint, prefixed
from geoenc.convert._codes import Code
from geoenc.convert._networks import siren
from geoenc.encoder import LocationEncoder
from geoenc.network import Siren
from geoenc.position import Direct
from geoenc.temporal import CyclicTime


def climplicit(path: str | os.PathLike[str]) -> LocationEncoder:
    """ReSiren([lon / 180, lat / 90, sin, cos of 2 pi month / 12]) of Climplicit, equal numbers.

    Time is that of `geoenc.temporal.year_fraction_of_months`. The original's embedding of 1,024
    numbers, for no month, is those of months 3, 6, 9 and 12 side by side. The regressor to
    CHELSA's variables is left out.

    Args:
        path: ``model.safetensors`` or another state dict with ``location_encoder``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file; all differences are listed.

    Example:
        >>> import geoenc
        >>> geoenc.convert.climplicit("absent.safetensors")
        Traceback (most recent call last):
        FileNotFoundError: expected a file with weights, got 'absent.safetensors', which is no ...

    Reference:
        Dollinger et al., Climplicit, 2025.

    Differs:
        Places are scaled in float64; in the original in float32.
    """
    file = Checkpoint.open(path, "a Climplicit model")
    file.merge(r"location_encoder\.", "")
    file.drop(r"chelsa_regressor\.(weight|bias)$")
    hidden, outputs = file.size("layers.0.weight", 0), file.size("last_layer.weight", 0)
    depth = 1
    while f"layers.{depth}.weight" in file:
        depth += 1
    position, time = Direct(), CyclicTime(-1 / 24)
    width = position.out_features + time.out_features
    state = siren(file, "", Code(position, width), hidden, depth, outputs)
    file.check()
    network = Siren(
        width, outputs, hidden_features=hidden, depth=depth, residual=True, hyperbolic=True
    )
    model: LocationEncoder = file.filled(
        LocationEncoder(position, network, time),
        prefixed("network", state),
        format="climplicit",
        paper="Dollinger et al., Climplicit, 2025",
        source="https://github.com/ecovision-uzh/climplicit",
        licence="none stated",
        training_data="CHELSA climatologies",
        coordinates="longitude, latitude in degrees, as in the original; time is the month",
    )
    return model
