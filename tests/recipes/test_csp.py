"""The three stages of CSP on invented data, whose labels and features follow from the place."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import geoenc
from geoenc import sampling
from geoenc.coordinates import to_xyz
from geoenc.data import LocationDataset, few_shot
from geoenc.metrics import top_k_accuracy
from geoenc.priors import GeoPrior
from geoenc.recipes import csp, engine
from geoenc.recipes.config import Config, Encoder, Finetune, Hardware, Image, Pretrain
from geoenc.recipes.image import classify_images


def invented(rows: int = 1200, classes: int = 6, seed: int = 0) -> LocationDataset:
    """Each place belongs to the nearest of a few centres; features are noisy class vectors."""
    generator = torch.Generator().manual_seed(seed)
    lonlat = sampling.uniform(rows, generator=generator)
    centres = to_xyz(sampling.fibonacci(4 * classes))
    target = (to_xyz(lonlat) @ centres.mT).argmax(1) % classes
    meaning = torch.randn(classes, 16, generator=torch.Generator().manual_seed(99))
    features = meaning[target] + 1.5 * torch.randn(rows, 16, generator=generator)
    return LocationDataset(lonlat, target, features)


CONFIG = Config(
    encoder=Encoder(
        position={"name": "Space2VecGrid", "num_frequencies": 8, "min_radius": 5.0},
        network={"name": "FFN", "out_features": 32, "hidden_features": 64, "dropout": 0.25},
    ),
    pretrain=Pretrain(temperature=0.2, epochs=40, batch_size=256, learning_rate=3e-3),
    finetune=Finetune(epochs=30, min_steps=60, batch_size=128, learning_rate=3e-3),
    image=Image(penalties=(1e-1, 1e-2)),
    hardware=Hardware(accelerator="cpu"),
)


def replaced(**pretrain: object) -> Config:
    return dataclasses.replace(CONFIG, pretrain=dataclasses.replace(CONFIG.pretrain, **pretrain))


@pytest.fixture(scope="module")
def data() -> LocationDataset:
    return invented()


@pytest.fixture(scope="module")
def pretrained(data: LocationDataset) -> tuple[geoenc.DualEncoder, list[float]]:
    history: list[float] = []
    return csp.pretrain(CONFIG, data, history=history), history


def test_pretraining_learns_to_find_the_image_of_a_place(data, pretrained) -> None:
    model, history = pretrained
    assert history[-1] < history[0]
    held_out = invented(300, seed=1)
    with torch.no_grad():
        location, image = model(held_out.lonlat, held_out.features)
    untrained = geoenc.LocationEncoder.from_config(vars(CONFIG.encoder)).eval()

    def own_class_first(place: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize
        best = (unit(place, dim=1) @ unit(image, dim=1).mT).argmax(1)
        return (held_out.target[best] == held_out.target).double().mean().item()

    with torch.no_grad():
        assert own_class_first(location) > own_class_first(untrained(held_out.lonlat)) + 0.2


def test_pretraining_does_not_look_at_labels(data) -> None:
    config = replaced(epochs=2)
    shuffled = data.replace(target=data.target.flip(0))
    without = data.replace(target=None)
    states = [csp.pretrain(config, d).state_dict() for d in (data, shuffled, without)]
    for other in states[1:]:
        assert all(torch.equal(states[0][key], other[key]) for key in other)


def test_few_labels_gain_from_pretraining(data, pretrained) -> None:
    labelled = data.subset(few_shot(data.target, 0.05, generator=torch.Generator().manual_seed(3)))
    held_out = invented(600, seed=1)
    scores = {}
    for name, encoder in (("none", None), ("csp", pretrained[0].location)):
        classifier = csp.finetune(CONFIG, encoder, labelled, num_classes=6)
        scores[name] = csp.evaluate(CONFIG, classifier, held_out)["location_top1"]
    assert scores["csp"] > scores["none"] + 0.03


def test_finetuning_leaves_the_given_encoder_alone(data, pretrained) -> None:
    before = {k: v.clone() for k, v in pretrained[0].location.state_dict().items()}
    classifier = csp.finetune(CONFIG, pretrained[0].location, data.subset(range(100)))
    after = pretrained[0].location.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    moved = classifier.encoder.state_dict()
    assert any(not torch.equal(before[key], moved[key]) for key in before)


def test_a_frozen_encoder_stays(data, pretrained) -> None:
    config = dataclasses.replace(
        CONFIG, finetune=dataclasses.replace(CONFIG.finetune, encoder_rate=0.0, epochs=2)
    )
    classifier = csp.finetune(config, pretrained[0].location, data.subset(range(100)))
    before, after = pretrained[0].location.state_dict(), classifier.encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "mse"},
        {"criterion": "nce"},
        {"location_weight": 0.0, "dropout_weight": 0.0},
        {"symmetric": True, "negatives": "legacy_disc", "num_negatives": 3},
    ],
)
def test_every_objective_lowers_its_loss(data, settings) -> None:
    history: list[float] = []
    model = csp.pretrain(replaced(epochs=8, **settings), data, history=history)
    assert len(history) == 8
    assert history[-1] < history[0]
    assert isinstance(model, geoenc.DualEncoder)


def test_the_same_seed_gives_the_same_model_and_another_another(data) -> None:
    first = csp.pretrain(replaced(epochs=2), data)
    torch.manual_seed(12345)  # the caller's own random state plays no part
    second = csp.pretrain(replaced(epochs=2), data)
    other = csp.pretrain(dataclasses.replace(replaced(epochs=2), seed=1), data)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(first.state_dict().values(), other.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_the_random_state_of_the_caller_is_kept(data) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    csp.pretrain(replaced(epochs=1), data)
    assert torch.equal(torch.rand(3), expected)


class _Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_an_interrupted_stage_goes_on_bit_by_bit(data, tmp_path, monkeypatch, stage) -> None:
    config = dataclasses.replace(
        replaced(epochs=6),
        finetune=dataclasses.replace(CONFIG.finetune, epochs=6, min_steps=0),
        hardware=Hardware(accelerator="cpu", checkpoint_seconds=0.0),
    )

    def run(**arguments: object) -> tuple[torch.nn.Module, list[float]]:
        history: list[float] = []
        if stage == "pretrain":
            return csp.pretrain(config, data, history=history, **arguments), history
        return csp.finetune(config, None, data, history=history, **arguments), history

    expected, expected_history = run()
    checkpoint = tmp_path / "checkpoint.pt"
    end_epoch, calls = engine.Training.end_epoch, []

    def killed(training: engine.Training, **arguments: object) -> None:
        end_epoch(training, **arguments)
        calls.append(None)
        if len(calls) == 3:
            raise _Killed

    monkeypatch.setattr(engine.Training, "end_epoch", killed)
    with pytest.raises(_Killed):
        run(checkpoint=checkpoint)
    assert checkpoint.is_file()
    monkeypatch.setattr(engine.Training, "end_epoch", end_epoch)
    resumed, history = run(checkpoint=checkpoint)
    assert history == expected_history
    for key, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert not checkpoint.exists()


def test_a_damaged_checkpoint_is_explained(data, tmp_path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="expected a training checkpoint"):
        csp.pretrain(replaced(epochs=1), data, checkpoint=path)


def test_a_loss_that_explodes_is_explained(data) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        csp.pretrain(replaced(objective="mse", epochs=30, learning_rate=1e30), data)


def test_places_that_are_missing_are_left_out_of_training_and_judged_by_the_image(data) -> None:
    lonlat = data.lonlat.clone()
    lonlat[::10] = math.nan
    holes = data.replace(lonlat=lonlat)
    known = holes.with_location()
    config = replaced(epochs=2)
    first, second = csp.pretrain(config, holes), csp.pretrain(config, known)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    classifier = csp.finetune(config, None, holes)
    probs = torch.rand(len(holes), 6, dtype=torch.float64)
    result = csp.evaluate(config, classifier, holes.replace(image_probs=probs))
    place = classifier.probabilities(holes.lonlat)
    fused = torch.where(place.isnan(), probs, probs * place.double())
    assert result["top1"] == top_k_accuracy(fused, holes.target).item()
    assert result["image_top1"] == top_k_accuracy(probs, holes.target).item()


def test_evaluation_of_the_image_alone(data) -> None:
    probs = torch.eye(6, dtype=torch.float64)[data.target]
    result = csp.evaluate(CONFIG, None, data.replace(image_probs=probs))
    assert result["top1"] == result["image_top1"] == 1.0
    assert "location_top1" not in result


def test_the_best_exponents_are_found_on_validation(data) -> None:
    candidates = {"weights": (1.0, 0.0, 2.0), "prior_weights": (0.0, 1.0)}
    config = dataclasses.replace(
        CONFIG, evaluate=dataclasses.replace(CONFIG.evaluate, **candidates)
    )
    labelled = data.subset(range(30))
    classifier = csp.finetune(config, None, labelled, num_classes=6)
    noise = torch.rand(len(data), 6, generator=torch.Generator().manual_seed(0))
    noisy = data.replace(image_probs=noise)
    prior = labelled.target.bincount(minlength=6).double() + 1
    tops = {
        (w, p): csp.evaluate(
            config,
            classifier,
            noisy,
            geo_prior=GeoPrior(w, prior_weight=p, class_prior=prior / prior.sum()),
        )["top1"]
        for w in candidates["weights"]
        for p in candidates["prior_weights"]
    }
    found = csp.best_geo_prior(config, classifier, labelled, noisy)
    assert tops[found.weight, found.prior_weight] == max(tops.values())
    assert torch.allclose(found.class_prior, prior / prior.sum())
    certain = data.replace(image_probs=torch.eye(6)[data.target])
    first = csp.best_geo_prior(config, classifier, labelled, certain)
    assert (first.weight, first.prior_weight) == (1.0, 0.0)  # the first of equals


def test_without_candidates_nothing_is_chosen_and_with_them_validation_is_needed(data) -> None:
    classifier = csp.finetune(CONFIG, None, data.subset(range(50)), num_classes=6)
    published = csp.best_geo_prior(CONFIG, classifier, data, None)
    assert (published.weight, published.prior_weight, published.floor) == (1.0, 0.0, 1e-12)
    config = dataclasses.replace(
        CONFIG, evaluate=dataclasses.replace(CONFIG.evaluate, weights=(1.0, 0.5))
    )
    with pytest.raises(ValueError, match="expected a validation part to choose"):
        csp.best_geo_prior(config, classifier, data, None)


def test_calibrated_evaluation_undoes_the_weight_of_presences(data) -> None:
    """sigma(z - log L) is o / (L + o) with odds o: the optimum of the loss, inverted."""
    config = dataclasses.replace(
        CONFIG, evaluate=dataclasses.replace(CONFIG.evaluate, calibrated=True)
    )
    classifier = csp.finetune(CONFIG, None, data.subset(range(200)), num_classes=6)
    sigma = classifier.probabilities(data.lonlat).double()
    odds = sigma / (1 - sigma)
    image = torch.rand(len(data), 6, generator=torch.Generator().manual_seed(0)).double()
    expected = top_k_accuracy(image * odds / (6 + odds), data.target).item()
    result = csp.evaluate(config, classifier, data.replace(image_probs=image))
    assert result["top1"] == pytest.approx(expected, abs=2e-3)  # float32 logits
    plain = csp.evaluate(CONFIG, classifier, data.replace(image_probs=image))
    assert result["top1"] != plain["top1"]


def test_the_linear_probe_minimises_the_penalised_cross_entropy() -> None:
    """Against scikit-learn's formula of the optimum: the gradient vanishes."""
    data = invented(400)
    config = dataclasses.replace(CONFIG, image=Image(penalties=(0.05,), max_iterations=500))
    probs = classify_images(config, data, data, data.features)
    x, y = data.features.double(), torch.nn.functional.one_hot(data.target, 6).double()
    logits = probs.log() - probs.log().mean(1, keepdim=True)
    design = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    weight = torch.linalg.lstsq(design, logits).solution
    gradient = x.mT @ (probs - y) / len(x) + 0.05 * weight[:-1]
    assert gradient.abs().max() < 2e-4
    assert torch.allclose(probs.sum(1), torch.ones(400, dtype=torch.float64))


def test_the_penalty_is_chosen_on_validation() -> None:
    train, validation = invented(60), invented(400, seed=1)

    def cross_entropy(*penalties: float) -> float:
        config = dataclasses.replace(CONFIG, image=Image(penalties=penalties))
        probs = classify_images(config, train, validation, validation.features)
        return -probs.log().gather(1, validation.target[:, None]).mean().item()

    single = [cross_entropy(penalty) for penalty in (1.0, 0.1, 1e-5)]
    assert cross_entropy(1.0, 0.1, 1e-5) == pytest.approx(min(single), rel=0.02)
    assert max(single) > 1.1 * min(single)


def test_what_a_stage_needs_is_said(data) -> None:
    with pytest.raises(ValueError, match="expected a data set with features"):
        csp.pretrain(CONFIG, data.replace(features=None))
    with pytest.raises(ValueError, match="expected a data set with target"):
        csp.finetune(CONFIG, None, data.replace(target=None))


def test_mixed_precision_stays_close(data) -> None:
    plain, mixed = [], []
    csp.pretrain(replaced(epochs=3), data, history=plain)
    config = dataclasses.replace(
        replaced(epochs=3), hardware=Hardware(accelerator="cpu", precision="bf16-mixed")
    )
    csp.pretrain(config, data, history=mixed)
    assert np.allclose(plain, mixed, rtol=2e-2)
