"""DualEncoder for contrastive pre-training, LocationClassifier for P(y given place)."""

import torch
from torch import Tensor, nn

from geoenc.encoder import LocationEncoder, SumEncoder, _Model, evaluating


class DualEncoder(_Model):
    """(e(x), f(I)): a location encoder and an image module with embeddings of one width.

    Args:
        location: e, a location encoder.
        image: f, from image features to embeddings: a Network, for example one linear layer
            ``FFN(2048, 256, depth=0, final_activation=False)``, or any ``nn.Module`` if the
            model need not be saved.

    Shape:
        lonlat ``(B, 2)`` and features ``(B, in_features)`` to two tensors ``(B, out_features)``,
        neither normalised.

    Example:
        >>> import torch, geoenc
        >>> location = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 64))
        >>> image = geoenc.FFN(512, 64, depth=0, final_activation=False)
        >>> model = geoenc.DualEncoder(location, image)
        >>> place, picture = model(torch.zeros(8, 2), torch.zeros(8, 512))
        >>> place.shape == picture.shape == (8, 64)
        True

    Reference:
        Mai et al., CSP, ICML 2023, section 3.1.
    """

    def __init__(self, location: LocationEncoder | SumEncoder, image: nn.Module) -> None:
        super().__init__()
        width = getattr(image, "out_features", location.out_features)
        if width != location.out_features:
            raise ValueError(
                f"expected image.out_features={location.out_features} as the location encoder "
                f"has, got {width}"
            )
        self.location, self.image = location, image

    def forward(
        self, lonlat: Tensor, features: Tensor, time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embed places and their images; see the class."""
        return self.location(lonlat, time), self.image(features)


class LocationClassifier(_Model):
    """logits = T e(x): one vector per class, compared with the embedding of the place.

    Args:
        encoder: e, a location encoder.
        num_classes: Q, rows of T; there is no bias.

    Shape:
        lonlat ``(..., 2)`` to logits ``(..., num_classes)``.

    Example:
        >>> import torch, geoenc
        >>> encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 64))
        >>> geoenc.LocationClassifier(encoder, 15)(torch.zeros(8, 2)).shape
        torch.Size([8, 15])

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, section 3; Mai et al., CSP, ICML 2023, section 3.3.
    """

    def __init__(self, encoder: LocationEncoder | SumEncoder, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"expected num_classes of at least 1, got {num_classes}")
        self.encoder, self.num_classes = encoder, num_classes
        self.head = nn.Linear(encoder.out_features, num_classes, bias=False)

    def forward(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """Logits of all classes; see the class."""
        return self.head(self.encoder(lonlat, time))

    @torch.no_grad()
    def probabilities(self, lonlat: Tensor, time: Tensor | None = None) -> Tensor:
        """sigma(logits): each class by itself, as the presence-absence loss trains it.

        In evaluation mode, without gradient. NaN places give NaN rows.

        Shape:
            ``(..., 2)`` to ``(..., num_classes)``, in [0, 1]; rows do not sum to 1.
        """
        with evaluating(self):
            return self(lonlat, time).sigmoid()
