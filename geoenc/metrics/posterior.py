"""What image and place say together: the product of probabilities, and its logarithm."""

import math

import torch
from torch import Tensor


def log_posterior(
    image_probs: Tensor,
    location_probs: Tensor,
    *,
    weight: float = 1.0,
    floor: float = 0.0,
    class_prior: Tensor | None = None,
    missing: str = "image",
) -> Tensor:
    """log P(y | image) + weight log max(P(y | place), floor) - log P(y), not normalised.

    The logarithm of `geo_posterior`, which ranks classes alike but whose small products vanish.

    Args:
        image_probs, location_probs, weight, class_prior, missing: as for `geo_posterior`.
        floor: no class is less probable at a place than this. Above 0 the place cannot exclude
            what the image sees.

    Shape:
        two of ``(N, Q)``, class_prior ``(Q,)``; ``(N, Q)`` float64, fewer rows for ``"drop"``.
        Minus infinity where a factor is 0.

    Example:
        >>> import torch
        >>> from geoenc.metrics import log_posterior
        >>> image, place = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.0, 1.0]])
        >>> log_posterior(image, place).exp()
        tensor([[0.0000, 0.4000]], dtype=torch.float64)
        >>> log_posterior(image, place, floor=0.5).exp()
        tensor([[0.3000, 0.4000]], dtype=torch.float64)
    """
    check_factors(image_probs, location_probs, class_prior, missing)
    if not floor >= 0:
        raise ValueError(f"expected floor of at least 0, got {floor}")
    image, place = image_probs.double().log(), location_probs.double().log()
    prior = None if class_prior is None else class_prior.double().log()
    scores = weighted_sum(image, place, weight, floor, prior)
    return _where_missing(scores, image, location_probs, missing)


def weighted_sum(
    image: Tensor, place: Tensor, weight: float, floor: float, prior: Tensor | None
) -> Tensor:
    """`log_posterior` from the logarithms of its factors, so that many weights share them."""
    scores = image
    if weight != 0:  # 0 times minus infinity
        bounded = place.clamp_min(math.log(floor)) if floor > 0 else place
        scores = torch.add(image, bounded, alpha=weight)
    return scores if prior is None else scores - prior


def geo_posterior(
    image_probs: Tensor,
    location_probs: Tensor,
    *,
    weight: float = 1.0,
    class_prior: Tensor | None = None,
    missing: str = "image",
) -> Tensor:
    """P(y | image) P(y | place)^weight / P(y), not normalised: it is for ranking.

    Dividing by P(y) is Bayes' rule for an image and a place that are independent given the class;
    the published product leaves it out.

    Args:
        image_probs: from an image classifier, at least 0.
        location_probs: from a location classifier; a row of NaN says that the place is missing.
        weight: exponent of what the place says; the published product has 1, and 0 leaves the
            image alone.
        class_prior: P(y), above 0, or a power of it; None leaves it out.
        missing: what becomes of rows without a place. ``"image"`` keeps the image's own
            probabilities; ``"drop"`` leaves the rows out of the result; ``"error"`` counts them
            as wrong (rows of NaN), as the published batch evaluation does.

    Shape:
        two of ``(N, Q)``, class_prior ``(Q,)``; ``(N, Q)`` float64, fewer rows for ``"drop"``.

    Example:
        >>> import torch
        >>> from geoenc.metrics import geo_posterior
        >>> geo_posterior(torch.tensor([[0.6, 0.4]]), torch.tensor([[0.1, 0.9]]))
        tensor([[0.0600, 0.3600]], dtype=torch.float64)

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, equation 2; Mai et al., CSP, ICML 2023, section 3.4.
    """
    check_factors(image_probs, location_probs, class_prior, missing)
    posterior = image_probs.double() * location_probs.double() ** weight
    if class_prior is not None:
        posterior = posterior / class_prior.double()
    return _where_missing(posterior, image_probs.double(), location_probs, missing)


def _where_missing(both: Tensor, image: Tensor, place: Tensor, missing: str) -> Tensor:
    known = ~place.isnan().any(-1)
    if missing == "drop":
        return both[known]
    if missing == "error":
        return torch.where(known[..., None], both, torch.nan)
    return torch.where(known[..., None], both, image)


def check_factors(
    image_probs: Tensor,
    location_probs: Tensor,
    class_prior: Tensor | None = None,
    missing: str = "image",
) -> None:
    """Refuse what are no probabilities, and shapes that do not agree."""
    if image_probs.shape != location_probs.shape:
        raise ValueError(
            f"expected image_probs and location_probs of one shape (N, Q), got "
            f"{tuple(image_probs.shape)} and {tuple(location_probs.shape)}"
        )
    if missing not in ("image", "drop", "error"):
        raise ValueError(f"expected missing to be 'image', 'drop' or 'error', got {missing!r}")
    for name, probs in (("image_probs", image_probs), ("location_probs", location_probs)):
        if bool((probs < 0).any()) or (name == "image_probs" and bool(probs.isnan().any())):
            raise ValueError(
                f"expected {name} of at least 0, got negative numbers or NaN; pass probabilities, "
                "for example logits.softmax(-1), not logits"
            )
    if class_prior is not None and (
        class_prior.shape != image_probs.shape[-1:] or not bool((class_prior > 0).all())
    ):
        raise ValueError(
            f"expected class_prior above 0 of shape {tuple(image_probs.shape[-1:])}, got "
            f"shape {tuple(class_prior.shape)} with minimum {class_prior.min().item():g}"
        )
