"""Does my class keep the contract? Checks for components and losses of anyone.

Each check raises AssertionError with what was expected, what was found, and what to do. pytest
is not needed; a test of a class of your own is one line.
"""

from geoenc.testing.loss import check_loss
from geoenc.testing.model import check_model
from geoenc.testing.network import check_network
from geoenc.testing.position import check_position_encoder
from geoenc.testing.temporal import check_time_encoder

__all__ = [
    "check_loss",
    "check_model",
    "check_network",
    "check_position_encoder",
    "check_time_encoder",
]
