"""DualEncoder and LocationClassifier."""

import pytest
import torch
from torch import nn

import geoenc


def location(out: int = 6) -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, out, hidden_features=8))


def image(out: int = 6) -> geoenc.FFN:
    return geoenc.FFN(11, out, depth=0, final_activation=False)


LONLAT = torch.tensor([(-122.27, 37.87), (2.35, 48.86), (0.0, -90.0)], dtype=torch.float64)


def test_dual_encoder_is_two_encoders() -> None:
    model = geoenc.DualEncoder(location(), image()).eval()
    features = torch.randn(3, 11)
    place, picture = model(LONLAT, features)
    assert place.equal(model.location(LONLAT))
    assert picture.equal(model.image(features))
    linear = features @ model.image.layers[0].linear.weight.T + model.image.layers[0].linear.bias
    assert torch.allclose(picture, linear, atol=1e-6)


def test_dual_encoder_returns_raw_embeddings() -> None:
    model = geoenc.DualEncoder(location(), image()).eval()
    place, picture = model(LONLAT, torch.randn(3, 11))
    assert not torch.allclose(place.norm(dim=1), torch.ones(3))
    assert not torch.allclose(picture.norm(dim=1), torch.ones(3))


def test_two_passes_differ_in_training_and_agree_in_evaluation() -> None:
    """The dropout objective relies on it: the last layer has dropout too."""
    model = geoenc.DualEncoder(location(64), image(64)).train()
    assert not model.location(LONLAT).equal(model.location(LONLAT))
    model.eval()
    assert model.location(LONLAT).equal(model.location(LONLAT))


def test_dual_encoder_with_time_and_with_foreign_image_modules() -> None:
    timed = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 6), geoenc.CyclicTime())
    model = geoenc.DualEncoder(timed, nn.Linear(11, 6))
    assert model(LONLAT, torch.randn(3, 11), torch.rand(3))[0].shape == (3, 6)
    unsized = geoenc.DualEncoder(location(), nn.Sequential(nn.Linear(11, 6)))
    assert unsized(LONLAT, torch.randn(3, 11))[1].shape == (3, 6)


def test_dual_encoder_refuses_other_widths() -> None:
    with pytest.raises(ValueError, match=r"image.out_features=6 as the location .* got 7"):
        geoenc.DualEncoder(location(6), image(7))


def test_classifier_is_one_vector_per_class_without_bias() -> None:
    model = geoenc.LocationClassifier(location(), 4).eval()
    embedding = model.encoder(LONLAT)
    assert torch.allclose(model(LONLAT), embedding @ model.head.weight.T, atol=1e-6)
    assert model.head.bias is None
    assert model.probabilities(LONLAT).equal(model(LONLAT).sigmoid())
    assert model(torch.zeros(2, 5, 2)).shape == (2, 5, 4)


def test_probabilities_need_no_gradient_and_restore_each_mode() -> None:
    model = geoenc.LocationClassifier(location(), 4).train()
    model.encoder.eval()  # frozen
    modes = {name: part.training for name, part in model.named_modules()}
    first = model.probabilities(LONLAT)
    assert not first.requires_grad
    assert first.equal(model.probabilities(LONLAT))
    assert {name: part.training for name, part in model.named_modules()} == modes


def test_missing_places_have_missing_probabilities() -> None:
    model = geoenc.LocationClassifier(location(), 4)
    lonlat = torch.stack([LONLAT[0], LONLAT[1] * torch.nan])
    assert model.probabilities(lonlat).isnan().all(1).tolist() == [False, True]


def test_classifier_over_a_sum_and_with_time() -> None:
    model = geoenc.LocationClassifier(geoenc.SumEncoder([location(), location()]), 2)
    assert model.probabilities(LONLAT).shape == (3, 2)
    timed = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(5, 6), geoenc.CyclicTime())
    assert geoenc.LocationClassifier(timed, 2).probabilities(LONLAT, torch.rand(3)).shape == (3, 2)


def test_classifier_refuses_no_classes() -> None:
    with pytest.raises(ValueError, match="num_classes of at least 1, got 0"):
        geoenc.LocationClassifier(location(), 0)


@pytest.mark.parametrize(
    ("frequencies", "width", "parameters"),
    [(32, 256, 198_400), (32, 512, 329_728), (64, 512, 395_264)],
)
def test_csp_encoder_has_the_published_number_of_parameters(
    frequencies: int, width: int, parameters: int
) -> None:
    model = geoenc.LocationEncoder(
        geoenc.Space2VecGrid(frequencies), geoenc.FFN(4 * frequencies, width)
    )
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_wrap_encoder_has_the_published_number_of_parameters() -> None:
    model = geoenc.LocationEncoder(geoenc.Wrap(), geoenc.ResidualNet(4, 256))
    assert sum(p.numel() for p in model.parameters()) == 527_616
