"""DualEncoder and LocationClassifier."""

import math

import pytest
import torch
from torch import nn

import geoenc
from geoenc.models import ImageLocationClassifier
from geoenc.priors import class_frequencies


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


# --- place and image in one classifier ----------------------------------------------------------


def gps() -> geoenc.LocationEncoder:
    return geoenc.LocationEncoder(geoenc.Direct(), geoenc.Linear(2, 256))


@pytest.mark.parametrize("encoder", [gps(), geoenc.Tile(256, 1.0)], ids=["gps", "discrete"])
def test_image_location_classifier_is_one_layer_over_both(encoder: nn.Module) -> None:
    model = ImageLocationClassifier(encoder, 11, 4).eval()
    features = torch.randn(3, 11)
    weight = torch.cat([model.place.weight, model.image.linear.weight], 1)
    both = torch.cat([encoder(LONLAT).sigmoid(), features], 1)
    assert torch.allclose(
        model(LONLAT, features), both @ weight.T + model.image.linear.bias, atol=1e-5
    )
    assert weight.abs().max() <= (11 + 256) ** -0.5
    probabilities = model.probabilities(LONLAT, features)
    assert torch.allclose(probabilities, model(LONLAT, features).softmax(-1))
    assert not probabilities.requires_grad


def test_a_tile_is_a_one_hot_vector_times_a_matrix() -> None:
    tile = geoenc.Tile(256, 1.0)
    assert tile.table.shape == (180 * 360, 256)
    places = geoenc.sampling.uniform(20)
    for place, code in zip(places, tile(places), strict=True):
        column, row = math.floor(place[0] + 180), math.floor(place[1] + 90)
        one_hot = torch.zeros(180 * 360)
        one_hot[row * 360 + column] = 1
        assert torch.allclose(one_hot @ tile.table, code)


def test_image_location_classifier_learns_what_neither_knows_alone() -> None:
    """Three classes from two bits, one of the place and one of the image."""
    lonlat = geoenc.sampling.uniform(400)
    bit = torch.randint(2, (400,))
    target = (lonlat[:, 1] > 0).long() + bit
    features = bit[:, None].float() + torch.zeros(400, 3)
    model = ImageLocationClassifier(gps(), 3, 3).train()
    weight = (1 / (3 * class_frequencies(target, 3))).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(lonlat, features), target, weight=weight).backward()
        optimizer.step()
    right = model.probabilities(lonlat, features).argmax(1) == target
    assert right.double().mean() > 0.9


def test_inverse_frequency_weights_are_the_published_ones() -> None:
    target = torch.tensor([0] * 5 + [1])
    counts = torch.tensor([6.0, 2.0, 1.0], dtype=torch.float64)
    assert torch.allclose(1 / (3 * class_frequencies(target, 3)), counts.sum() / (3 * counts))


def test_image_location_classifier_without_a_place_or_classes() -> None:
    model = ImageLocationClassifier(gps(), 3, 2)
    lonlat = torch.tensor([(0.0, 0.0), (torch.nan, torch.nan)])
    assert model.probabilities(lonlat, torch.zeros(2, 3)).isnan().all(1).tolist() == [False, True]
    with pytest.raises(ValueError, match="in_features and num_classes of at least 1, got 3 and 0"):
        ImageLocationClassifier(gps(), 3, 0)
