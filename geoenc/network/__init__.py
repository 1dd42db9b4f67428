"""Networks: trainable maps from position codes, or image features, to embeddings."""

from geoenc.network.base import Network
from geoenc.network.ffn import FFN
from geoenc.network.linear import Linear
from geoenc.network.residual import ResidualNet
from geoenc.network.siren import Siren

__all__ = ["FFN", "Linear", "Network", "ResidualNet", "Siren"]
