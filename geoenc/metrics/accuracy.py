"""Rank of the right class, and the product of what image and place say."""

import torch
from torch import Tensor


def target_rank(scores: Tensor, target: Tensor) -> Tensor:
    """1-based rank of the right class: how many classes score at least as high.

    Ties count against the right class, so that constant scores are no success. A row with NaN
    ranks last.

    Shape:
        scores ``(..., Q)``, target ``(...)``; ``(...)`` int64 in [1, Q].

    Example:
        >>> import torch
        >>> from geoenc.metrics import target_rank
        >>> target_rank(torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.3, 0.3]]), torch.tensor([2, 0]))
        tensor([2, 3])
    """
    if target.shape != scores.shape[:-1]:
        raise ValueError(
            f"expected scores (..., Q) and target (...), got {tuple(scores.shape)} and "
            f"{tuple(target.shape)}"
        )
    right = scores.gather(-1, target[..., None])
    rank = (scores >= right).sum(-1)
    return torch.where(scores.isnan().any(-1), scores.shape[-1], rank)


def top_k_accuracy(scores: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Whether the right class is among the k highest: the mean over rows.

    Args:
        scores: any monotone function of probability. NaN rows count as wrong.
        target: the right class.
        k: how many guesses; as many as there are classes are always right.

    Shape:
        scores ``(N, Q)``, target ``(N,)``; a scalar in [0, 1], float64.

    Example:
        >>> import torch
        >>> from geoenc.metrics import top_k_accuracy
        >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
        >>> top_k_accuracy(scores, torch.tensor([2, 0]), k=1)
        tensor(0.5000, dtype=torch.float64)
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    within = (target_rank(scores, target) <= k) & ~scores.isnan().any(-1)
    return within.double().mean()


def reciprocal_rank(scores: Tensor, target: Tensor) -> Tensor:
    """1 / rank of the right class, per row; the mean is the MRR.

    Shape:
        scores ``(N, Q)``, target ``(N,)``; ``(N,)`` float64.
    """
    return 1 / target_rank(scores, target).double()


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
    if image_probs.shape != location_probs.shape:
        raise ValueError(
            f"expected image_probs and location_probs of one shape (N, Q), got "
            f"{tuple(image_probs.shape)} and {tuple(location_probs.shape)}"
        )
    if missing not in ("image", "drop", "error"):
        raise ValueError(f"expected missing to be 'image', 'drop' or 'error', got {missing!r}")
    if not bool((image_probs >= 0).all()):
        raise ValueError(
            "expected image_probs of at least 0, got negative numbers or NaN; pass probabilities, "
            "for example logits.softmax(-1), not logits"
        )
    known = ~location_probs.isnan().any(-1)
    posterior = image_probs.double() * location_probs.double() ** weight
    if class_prior is not None:
        if class_prior.shape != image_probs.shape[-1:] or not bool((class_prior > 0).all()):
            raise ValueError(
                f"expected class_prior above 0 of shape {tuple(image_probs.shape[-1:])}, got "
                f"shape {tuple(class_prior.shape)} with minimum {class_prior.min().item():g}"
            )
        posterior = posterior / class_prior.double()
    if missing == "drop":
        return posterior[known]
    if missing == "error":
        return posterior
    return torch.where(known[..., None], posterior, image_probs.double())
