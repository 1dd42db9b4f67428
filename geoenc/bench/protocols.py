"""What is asked of an encoder: each protocol is one function with one signature."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geoenc.bench import neighbours as near
from geoenc.bench.entries import Entry
from geoenc.bench.parts import Parts
from geoenc.bench.probes import logistic, ridge, standardised
from geoenc.bench.settings import Settings
from geoenc.bench.training import Fitted, built, codes, fit, one_answer

Options = dict[str, Any]
_KEPT = 2
"""Codes of so many encoders are remembered."""


@dataclass(frozen=True)
class Said:
    """What was said of the validation and the test rows, and how it came about.

    Args:
        validation, test: outputs: scores of classes ``(n, classes)``, or numbers ``(n,)``.
        chosen: what validation chose.
        search: every candidate: ``{"settings", "validation", "seconds"}``.
        deterministic: whether other seeds would say the same.
        num_train: training rows that were used.
        more: other scores of the test rows, by name.
    """

    validation: Tensor
    test: Tensor
    chosen: Options = field(default_factory=dict)
    search: list[Options] = field(default_factory=list)
    deterministic: bool = False
    num_train: int = 0
    more: Mapping[str, float] = field(default_factory=dict)


Protocol = Callable[[Parts, Entry | None, Settings, int, Options | None], Said]
"""(parts, entry, settings, seed, chosen): without chosen, the candidates are searched."""


def majority(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """The most frequent class, or the mean, of the training rows for every row."""
    said, count = one_answer(parts), len(parts["train"].target)
    return Said(said["validation"], said["test"], deterministic=True, num_train=count)


def image(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """P(y | image) alone."""
    return Said(*_images(parts), deterministic=True, num_train=len(parts["train"].target))


def neighbours(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """The k nearest training rows: on the sphere, or by Euclidean distance in the embedding.

    k and the weights (uniform, or 1 / distance) are chosen on validation, and the scale of an
    encoder together with them.
    """
    names, most = ("validation", "test"), max(settings.neighbours)

    def tried(option: Options) -> Said:
        start = time.process_time()
        used = parts if entry is None else parts.fewer(settings.max_train)
        train = used["train"]
        if entry is None:
            found = {n: near.on_sphere(train.lonlat, used[n].lonlat, most) for n in names}
        else:
            code = frozen(used, entry, _scale(option), seed)
            found = {n: near.in_space(code["train"], code[n], most) for n in names}
        spent = time.process_time() - start
        counts: tuple[int, ...] = settings.neighbours
        weights: tuple[str, ...] = near.WEIGHTS
        if "k" in option:
            counts, weights = (option["k"],), (option["weights"],)
        outputs, candidates = near.chosen_answers(
            train, found, used["validation"], counts=counts, weights=weights
        )
        seconds = (spent + time.process_time() - start) / 2 / len(candidates)
        search: list[Options] = [
            {
                "settings": {**_scale(option), "k": k, "weights": weight},
                "validation": value,
                "seconds": seconds,
            }
            for k, weight, value in candidates
        ]
        return Said(
            outputs["validation"],
            outputs["test"],
            chosen=search[0]["settings"],
            search=search,
            deterministic=entry is None or not chance(used, entry),
            num_train=len(train.target),
        )

    return searched(tried, entry, chosen)


def probe(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """A linear model on the frozen embedding: logistic regression, or ridge regression."""
    assert entry is not None
    used = parts.fewer(settings.max_train)
    train = used["train"]

    def tried(option: Options) -> Said:
        code = standardised(frozen(used, entry, _scale(option), seed))
        penalties = (option["penalty"],) if "penalty" in option else settings.penalties
        judged = used["validation"].score
        if train.classes:
            outputs, search = logistic(
                code, train.target, train.classes, judged,
                penalties=penalties, iterations=settings.iterations,
            )  # fmt: skip
        else:
            outputs, search = ridge(code, train.target, judged, penalties=penalties)
        search = [{**one, "settings": {**_scale(option), **one["settings"]}} for one in search]
        return Said(
            outputs["validation"],
            outputs["test"],
            chosen=search[0]["settings"],
            search=search,
            deterministic=not chance(used, entry),
            num_train=len(train.target),
        )

    return searched(tried, entry, chosen)


def trained(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """Position encoder, network and linear head, trained together.

    The scale of the encoder is chosen at the first learning rate, then the learning rate.
    """
    assert entry is not None
    if entry.position is None:
        raise ValueError(
            f"expected a position encoder for the protocol trained, got the trained model "
            f"{entry.name!r}; ask for --protocol probe neighbours"
        )
    used = parts.fewer(settings.max_train)
    network = settings.network if entry.network is None else entry.network
    rates = entry.rates or settings.rates
    fits: dict[str, Fitted] = {}
    search: list[Options] = []

    def fitted(option: Options) -> Fitted:
        key = repr(sorted(option.items()))
        if key not in fits:
            encoder, code = _encoder(used, entry, _scale(option), seed)
            fits[key] = fit(
                encoder, network, used, code,
                rate=option["rate"], training={**settings.training, **entry.training}, seed=seed,
            )  # fmt: skip
            one = fits[key]
            search.append(
                {"settings": option, "validation": one.validation, "seconds": one.seconds}
            )
        return fits[key]

    if chosen is None:
        scales = [{**option, "rate": rates[0]} for option in entry.candidates]
        best = max(scales, key=lambda option: fitted(option).validation)
        tuned = [{**best, "rate": rate} for rate in rates]
        chosen = max(tuned, key=lambda option: fitted(option).validation)
    found = fitted(chosen)
    said = Said(
        found.outputs["validation"],
        found.outputs["test"],
        chosen=chosen,
        search=search,
        num_train=len(used["train"].target),
        more={"step": found.step},
    )
    parts.memory["trained", entry.name, seed] = said
    return said


def prior_times_image(
    parts: Parts, entry: Entry | None, settings: Settings, seed: int, chosen: Options | None
) -> Said:
    """P(y | image) P(y | place)^w / P(y)^v of a trained classifier of places.

    w, v and the least P(y | place) are chosen on validation; the plain product is in ``more``.
    """
    from geoenc.metrics import geo_posterior
    from geoenc.priors import GeoPrior, class_frequencies

    validation, test = _images(parts)
    assert entry is not None
    said = parts.memory.get(("trained", entry.name, seed))
    if said is None:
        said = trained(parts, entry, settings, seed, chosen)
    places = [one.softmax(-1) for one in (said.validation, said.test)]
    frequency = class_frequencies(parts["train"].target, parts["train"].classes)
    prior = GeoPrior(class_prior=frequency).fit(
        validation, places[0], parts["validation"].target, prior_weights=(0.0, 0.5, 1.0)
    )
    plain = parts["test"].scores(geo_posterior(test, places[1]))
    weights = {"weight": prior.weight, "floor": prior.floor, "prior_weight": prior.prior_weight}
    return Said(
        prior(validation, places[0]),
        prior(test, places[1]),
        chosen={**said.chosen, **weights},
        search=said.search,
        num_train=said.num_train,
        more={f"product_{name}": value for name, value in plain.items()},
    )


PROTOCOLS: dict[str, Protocol] = {
    "majority": majority,
    "neighbours": neighbours,
    "probe": probe,
    "trained": trained,
    "prior-times-image": prior_times_image,
    "image": image,
}
"""By name, as results have them; the image alone is told as prior-times-image."""


def searched(tried: Callable[[Options], Said], entry: Entry | None, chosen: Options | None) -> Said:
    """The best scale of an encoder, with all that was tried; or the chosen one."""
    if chosen is not None:
        return tried(chosen)
    found = [tried(option) for option in (entry.candidates if entry else [{}])]
    best = max(found, key=lambda one: one.search[0]["validation"])
    search = [one for said in found for one in said.search]
    return Said(best.validation, best.test, best.chosen, search, best.deterministic, best.num_train)


def _images(parts: Parts) -> tuple[Tensor, Tensor]:
    validation, test = (parts[name].image_probs for name in ("validation", "test"))
    if validation is None or test is None:
        raise ValueError(
            "expected probabilities of an image classifier in the task, got none; ask for another "
            "protocol"
        )
    return validation, test


_NOT_SCALE = ("k", "weights", "penalty", "rate", "weight", "floor", "prior_weight")


def _scale(option: Options) -> Options:
    """Arguments of the position encoder among what was chosen."""
    return {key: value for key, value in option.items() if key not in _NOT_SCALE}


def _encoder(
    parts: Parts, entry: Entry, scale: Options, seed: int
) -> tuple[Any, dict[str, Tensor] | None]:
    """The position encoder, and the codes of all places where training does not change them."""
    assert entry.position is not None
    key = repr(({**entry.position, **scale}, seed))
    memory = parts.memory.setdefault("codes", {})
    if key not in memory:
        encoder = built({**entry.position, **scale}, parts["train"], seed)
        while len(memory) >= _KEPT:
            del memory[next(iter(memory))]
        memory[key] = encoder, codes(encoder, parts)
    encoder, code = memory[key]
    if code is None:  # its own parameters start anew
        encoder = built({**entry.position, **scale}, parts["train"], seed)
    return encoder, code


def frozen(parts: Parts, entry: Entry, scale: Options, seed: int) -> dict[str, Tensor]:
    """Embeddings of all places: of a trained model, or the code itself."""
    if entry.model is not None:
        if "model" not in parts.memory or parts.memory["model"][0] != entry.model:
            from geoenc.hub import from_pretrained

            model = from_pretrained(entry.model)
            found = {name: model.embed(part.lonlat) for name, part in parts.items()}
            parts.memory["model"] = entry.model, found
        embedded: dict[str, Tensor] = parts.memory["model"][1]
        return embedded
    encoder, code = _encoder(parts, entry, scale, seed)
    if any(True for _ in encoder.parameters()):
        raise ValueError(
            f"expected an encoder without parameters to learn, or a trained model, for a frozen "
            f"embedding, got {entry.name!r} untrained; ask for --protocol trained"
        )
    if code is None:  # too wide to keep
        return {name: encoder.write(part.lonlat) for name, part in parts.items()}
    return code


def chance(parts: Parts, entry: Entry) -> bool:
    """Whether the code depends on the seed."""
    if entry.position is None:
        return False
    key = "chance", entry.name
    if key not in parts.memory:
        position = {**entry.position, **entry.candidates[0]}
        few = parts["train"].lonlat[:8]
        with torch.no_grad():
            first, second = (built(position, parts["train"], seed)(few) for seed in (0, 1))
        parts.memory[key] = not torch.equal(first, second)
    return bool(parts.memory[key])
