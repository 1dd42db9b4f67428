"""Networks: trainable maps from position codes, or image features, to embeddings."""

from geoenc.network.base import Network
from geoenc.network.ffn import FFN
from geoenc.network.residual import ResidualNet

__all__ = ["FFN", "Network", "ResidualNet"]
