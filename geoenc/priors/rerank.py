"""GeoPrior: what the place says as a boost of what the image says."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import torch
from torch import Tensor

from geoenc.metrics import log_posterior, target_rank
from geoenc.metrics.posterior import check_factors, weighted_sum

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
FLOORS = (1e-12, 1e-6, 1e-4, 1e-3, 1e-2)
_NUMBERS = 2**20
"""Scores at once while fitting."""


@dataclass(eq=False)
class GeoPrior:
    """log P(y | image) + weight log max(P(y | place), floor) - prior_weight log P(y).

    A boost, never a filter: a class that the image sees keeps a finite score at every place. With
    weight 0, and where the place is missing (a row of NaN), the scores are log P(y | image).

    Args:
        weight: exponent of what the place says, at least 0; the published product has 1.
        floor: no class is less probable at a place than this; above 0.
        prior_weight: exponent of 1 / P(y); the published product has 0, Bayes' rule for an image
            and a place that are independent given the class has 1.
        class_prior: P(y), ``(Q,)``; needed where ``prior_weight`` is not 0. See
            `geoenc.priors.class_frequencies`.

    Example:
        >>> import torch
        >>> from geoenc.priors import GeoPrior
        >>> image, place = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.0, 1.0]])
        >>> GeoPrior(0.5, floor=0.01)(image, place).exp()
        tensor([[0.0600, 0.4000]], dtype=torch.float64)

    Reference:
        Mac Aodha, Cole and Perona, ICCV 2019, equation 2; Mai et al., CSP, ICML 2023, section 3.4.

    Differs:
        The originals have neither exponents nor a floor, which weight 1 and a small floor repeat.
    """

    weight: float = 1.0
    floor: float = 1e-12
    prior_weight: float = 0.0
    class_prior: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"expected weight of at least 0, got {self.weight}")
        if not 0 < self.floor <= 1:
            raise ValueError(
                f"expected floor in (0, 1], got {self.floor}; at 0 a place could exclude what the "
                "image sees"
            )
        if self.prior_weight != 0 and self.class_prior is None:
            raise ValueError(
                f"expected class_prior with prior_weight={self.prior_weight}, got None; pass "
                "class_prior=geoenc.priors.class_frequencies(target, num_classes)"
            )

    def __call__(
        self, image_probs: Tensor, location_probs: Tensor, missing: str = "image"
    ) -> Tensor:
        """Scores in log space, not normalised: ``.softmax(-1)`` makes them probabilities.

        Args:
            image_probs, location_probs: at least 0; a row of NaN in the second is a missing place.
            missing: see `geoenc.metrics.geo_posterior`.

        Shape:
            two of ``(N, Q)`` to ``(N, Q)`` float64.
        """
        return log_posterior(
            image_probs,
            location_probs,
            weight=self.weight,
            floor=self.floor,
            class_prior=self._divisor(),
            missing=missing,
        )

    def _divisor(self) -> Tensor | None:
        """P(y)^prior_weight; None where the place says nothing, or P(y) is left in."""
        if self.class_prior is None or self.prior_weight == 0 or self.weight == 0:
            return None
        return self.class_prior.double() ** self.prior_weight

    def fit(
        self,
        image_probs: Tensor,
        location_probs: Tensor,
        target: Tensor,
        *,
        weights: Sequence[float] = WEIGHTS,
        floors: Sequence[float] = FLOORS,
        prior_weights: Sequence[float] = (0.0,),
    ) -> Self:
        """Choose the numbers with the highest top-1 accuracy, and return the prior itself.

        Every combination is tried: weights slowest, then prior weights, then floors. Of equals
        the first is chosen, so list first what you prefer without evidence.

        Args:
            image_probs, location_probs, target: validation data, which trained neither classifier.
                Samples with target -1 are left out.
            weights, floors, prior_weights: candidates.

        Raises:
            ValueError: no candidates, or no sample with a class.
        """
        rows = (target >= 0).nonzero()[:, 0]
        candidates = [
            GeoPrior(weight, floor, prior_weight, self.class_prior)
            for weight, prior_weight, floor in product(weights, prior_weights, floors)
        ]
        if not candidates or len(rows) == 0:
            raise ValueError(
                f"expected candidates and samples with a class, got {len(candidates)} and "
                f"{len(rows)}; pass more of either"
            )
        hits = [0] * len(candidates)
        for chunk in rows.split(max(1, _NUMBERS // image_probs.shape[-1])):
            check_factors(image_probs[chunk], location_probs[chunk], self.class_prior)
            image, place = image_probs[chunk].double().log(), location_probs[chunk].double().log()
            missing = place.isnan().any(-1, keepdim=True)
            for i, it in enumerate(candidates):
                divisor = it._divisor()
                prior = None if divisor is None else divisor.log()
                scores = weighted_sum(image, place, it.weight, it.floor, prior)
                rank = target_rank(torch.where(missing, image, scores), target[chunk])
                hits[i] += int((rank == 1).sum())
        best = candidates[hits.index(max(hits))]
        self.weight, self.floor, self.prior_weight = best.weight, best.floor, best.prior_weight
        return self
