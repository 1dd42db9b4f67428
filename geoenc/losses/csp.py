"""CSPLoss: contrastive pre-training with in-batch, random-location and dropout negatives."""

from torch import Tensor, nn

from geoenc.losses.criteria import CRITERIA, check_temperature, full_precision, zero_like
from geoenc.losses.logits import in_batch_columns
from geoenc.losses.rowwise import multiclass_of_sampled, nce_of_sampled
from geoenc.losses.tiled import multiclass_of_pairs, nce_in_batch


class CSPLoss(nn.Module):
    """L = L_B + location_weight L_L + dropout_weight L_D.

    L_B asks each place for its image among the images of the batch. L_L asks each image for its
    place among random places. L_D asks each place for its own second embedding, under another
    dropout mask, among those of the batch. ``B``, ``BL``, ``BD`` and ``BLD`` of the paper are
    weights of 0 and 1.

    Args:
        criterion: ``"multiclass"`` (CSP-MC) or ``"nce"`` (CSP-NCE, where L_L has no positive).
        location_weight: alpha_1 or beta_1 of the paper; 0 leaves random places out.
        dropout_weight: alpha_2 or beta_2; 0 leaves the second pass out.
        temperature, location_temperature, dropout_temperature: divide the cosines of each term.
        symmetric: average L_B with its reverse, which asks each image for its place.
        gather: in-batch negatives of all processes, with gradient.

    Shape:
        location, image and dropout ``(B, D)``, sampled ``(B, C, D)``; a scalar. Embeddings are
        normalised here. An argument whose weight is 0 may be None.

    Raises:
        ValueError: a term with a weight but without its embeddings; shapes that do not agree.

    Example:
        >>> import torch, geoenc
        >>> loss = geoenc.CSPLoss(temperature=0.1)
        >>> location, image, again = torch.randn(3, 8, 16).unbind()
        >>> loss(location, image, sampled=torch.randn(8, 2, 16), dropout=again).shape
        torch.Size([])

    Reference:
        Mai et al., Contrastive Spatial Pre-Training, ICML 2023, equations 1 to 4.

    Differs:
        The published symmetric form sums both directions; here they are averaged, so halve the
        two weights for the same balance.
    """

    location_weight: float
    dropout_weight: float
    symmetric: bool
    gather: bool

    def __init__(
        self,
        criterion: str = "multiclass",
        *,
        location_weight: float = 1.0,
        dropout_weight: float = 1.0,
        temperature: float = 1.0,
        location_temperature: float = 1.0,
        dropout_temperature: float = 1.0,
        symmetric: bool = False,
        gather: bool = False,
    ) -> None:
        super().__init__()
        if criterion not in CRITERIA:
            raise ValueError(
                f"expected criterion to be one of {', '.join(CRITERIA)}, got {criterion!r}"
            )
        check_temperature(
            temperature=temperature,
            location_temperature=location_temperature,
            dropout_temperature=dropout_temperature,
        )
        for name, weight in (("location", location_weight), ("dropout", dropout_weight)):
            if weight < 0:
                raise ValueError(f"expected {name}_weight of at least 0, got {weight}")
        self.criterion = criterion
        self.location_weight, self.dropout_weight = location_weight, dropout_weight
        self.temperature = temperature
        self.location_temperature = location_temperature
        self.dropout_temperature = dropout_temperature
        self.symmetric, self.gather = symmetric, gather

    def forward(
        self,
        location: Tensor,
        image: Tensor,
        sampled: Tensor | None = None,
        dropout: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of places and images; see the class."""
        terms = self.terms(location, image, sampled, dropout)
        return (
            terms["in_batch"]
            + self.location_weight * terms.get("location", zero_like(location))
            + self.dropout_weight * terms.get("dropout", zero_like(location))
        )

    def terms(
        self,
        location: Tensor,
        image: Tensor,
        sampled: Tensor | None = None,
        dropout: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The unweighted scalars ``in_batch``, ``location`` and ``dropout`` that have a weight."""
        with full_precision(location):
            terms = {"in_batch": self._in_batch(location, image, self.temperature, self.symmetric)}
            if self.location_weight > 0:
                negative = _given("sampled", "location_weight", sampled)
                terms["location"] = self._random_location(image, location, negative)
            if self.dropout_weight > 0:
                again = _given("dropout", "dropout_weight", dropout)
                terms["dropout"] = self._in_batch(location, again, self.dropout_temperature)
        return terms

    def _in_batch(
        self, anchor: Tensor, candidate: Tensor, temperature: float, symmetric: bool = False
    ) -> Tensor:
        if self.criterion == "nce":  # over all processes it is its own reverse
            columns, first = in_batch_columns(anchor, candidate, gather=self.gather)
            return nce_in_batch(anchor, columns, first, temperature)
        return multiclass_of_pairs(
            anchor, candidate, temperature, symmetric=symmetric, gather=self.gather
        )

    def _random_location(self, image: Tensor, location: Tensor, negative: Tensor) -> Tensor:
        if self.criterion == "nce":
            return nce_of_sampled(image, negative, self.location_temperature)
        return multiclass_of_sampled(image, location, negative, self.location_temperature)

    def extra_repr(self) -> str:
        """Settings as they would be written in the constructor."""
        weights = f"{self.location_weight}, dropout_weight={self.dropout_weight}"
        return (
            f"criterion={self.criterion!r}, location_weight={weights}, "
            f"temperature={self.temperature}, symmetric={self.symmetric}, gather={self.gather}"
        )


def _given(name: str, weight: str, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError(f"expected {name} embeddings, got None; pass them, or set {weight}=0")
    return tensor
