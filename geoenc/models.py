"""DualEncoder for contrastive pre-training; classifiers of places, with and without images."""

import torch
from torch import Tensor, nn

from geoenc.encoder import LocationEncoder, SumEncoder, _Model, evaluating
from geoenc.network import Linear
from geoenc.position import PositionEncoder


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

    location: LocationEncoder | SumEncoder
    image: nn.Module

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

    encoder: LocationEncoder | SumEncoder
    num_classes: int
    head: nn.Linear

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


class ImageLocationClassifier(_Model):
    """logits = A sigmoid(e(x)) + B f + b: one linear layer on place and image features together.

    It learns P(y | image, place) and so replaces P(y | image) instead of being multiplied with
    it. The published variants are the GPS coordinates, ``e = LocationEncoder(Direct(),
    Linear(2, 256))``, and their cells of one degree, ``e = Tile(256, 1.0)``: a table of
    180 x 360 rows, which is a one-hot vector times a matrix.

    It was trained with the cross-entropy weighted by inverse class frequency, 1 / (Q P(k)) with
    P(k) of `geoenc.priors.class_frequencies`: Adam with learning rate 1e-4, times 0.98 after each
    of 30 epochs, batches of 1,024; the epoch that is best on validation data is kept.

    Args:
        encoder: e, a location encoder or a position encoder.
        in_features: width of the image features f.
        num_classes: Q, rows of A and B.

    Shape:
        lonlat ``(..., 2)`` and features ``(..., in_features)`` to logits ``(..., num_classes)``.
        NaN places give NaN rows: judge those by the image alone.

    Example:
        >>> import torch, geoenc
        >>> from geoenc.models import ImageLocationClassifier
        >>> from geoenc.priors import class_frequencies
        >>> model = ImageLocationClassifier(geoenc.Tile(256, 1.0), 2048, 3)
        >>> target = torch.tensor([0, 0, 2, 1])
        >>> logits = model(torch.zeros(4, 2), torch.randn(4, 2048))
        >>> weight = 1 / (3 * class_frequencies(target, 3))
        >>> loss = torch.nn.functional.cross_entropy(logits, target, weight=weight.float())

    Reference:
        Tang et al., Improving image classification with location context, ICCV 2015, as
        reimplemented for Mac Aodha, Cole and Perona, ICCV 2019, section 4.

    Differs:
        No bias before the sigmoid of the cells, whose table absorbs it; no user tags.
    """

    encoder: LocationEncoder | SumEncoder | PositionEncoder
    in_features: int
    num_classes: int
    image: Linear
    place: nn.Linear

    def __init__(
        self,
        encoder: LocationEncoder | SumEncoder | PositionEncoder,
        in_features: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        if in_features < 1 or num_classes < 1:
            raise ValueError(
                f"expected in_features and num_classes of at least 1, got {in_features} and "
                f"{num_classes}"
            )
        self.encoder, self.in_features, self.num_classes = encoder, in_features, num_classes
        self.image = Linear(in_features, num_classes)
        self.place = nn.Linear(encoder.out_features, num_classes, bias=False)
        bound = (in_features + encoder.out_features) ** -0.5  # as for one layer over both
        for parameter in (*self.image.parameters(), *self.place.parameters()):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, lonlat: Tensor, features: Tensor, time: Tensor | None = None) -> Tensor:
        """Logits of all classes; see the class."""
        return self.place(self.encoder(lonlat, time).sigmoid()) + self.image(features)

    @torch.no_grad()
    def probabilities(self, lonlat: Tensor, features: Tensor, time: Tensor | None = None) -> Tensor:
        """softmax(logits), in evaluation mode, without gradient.

        Shape:
            ``(..., 2)`` and ``(..., in_features)`` to ``(..., num_classes)``; rows sum to 1.
        """
        with evaluating(self):
            return self(lonlat, features, time).softmax(-1)
