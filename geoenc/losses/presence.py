"""PresenceAbsenceLoss: learning where a class occurs from presences alone."""

from torch import Tensor, nn

from geoenc.losses.rowwise import presence_absence


class PresenceAbsenceLoss(nn.Module):
    """Binary cross-entropy over all classes, the true one weighted, and random places without any.

    mean_ik [ lambda l(p_ik) if k = y_i else l(1 - p_ik) ] + background_weight mean_ik l(1 - r_ik)
    with l(p) = -log p, p = sigma(logits) and r the same at random places; lambda is the number of
    classes Q, so that a presence weighs as much as all absences of its row.

    Args:
        positive_weight: lambda; the number of classes if None.
        background_weight: of the random places.

    Shape:
        logits ``(B, Q)``, target ``(B,)``, background_logits ``(N, Q)`` or None if its weight is
        0; a scalar.

    Raises:
        ValueError: no background logits although they have a weight.

    Example:
        >>> import torch, geoenc
        >>> loss = geoenc.PresenceAbsenceLoss()
        >>> zeros = torch.zeros(3, 62)
        >>> round(loss(zeros, torch.tensor([0, 1, 2]), zeros).item(), 4)
        2.0683

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, equation 5; Mai et al., CSP, ICML 2023, equation 5.

    Differs:
        The published code takes log(p + 1e-5); here the logarithm is exact, so that confident
        mistakes keep their gradient. CSP's code has one flag for ``background_weight`` and for
        the random-location term of pre-training.
    """

    positive_weight: float | None
    background_weight: float

    def __init__(
        self, positive_weight: float | None = None, *, background_weight: float = 1.0
    ) -> None:
        super().__init__()
        if positive_weight is not None and not positive_weight > 0:
            raise ValueError(f"expected positive_weight above 0 or None, got {positive_weight}")
        if background_weight < 0:
            raise ValueError(f"expected background_weight of at least 0, got {background_weight}")
        self.positive_weight, self.background_weight = positive_weight, background_weight

    def forward(
        self, logits: Tensor, target: Tensor, background_logits: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch of presences; see the class."""
        if logits.ndim != 2 or target.shape != logits.shape[:1]:
            raise ValueError(
                f"expected logits (B, Q) and target (B,), got {tuple(logits.shape)} and "
                f"{tuple(target.shape)}"
            )
        weight = logits.shape[1] if self.positive_weight is None else self.positive_weight
        loss = presence_absence(logits, target, weight) / logits.numel()
        if self.background_weight == 0:
            return loss
        if background_logits is None:
            raise ValueError(
                "expected background_logits at random places, got None; pass them, or set "
                "background_weight=0"
            )
        absent = presence_absence(background_logits, None, weight) / background_logits.numel()
        return loss + self.background_weight * absent

    def extra_repr(self) -> str:
        """Settings as they would be written in the constructor."""
        return f"positive_weight={self.positive_weight}, background_weight={self.background_weight}"
