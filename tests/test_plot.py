"""Maps: the numbers that are drawn."""

import pytest
import torch

import geoenc
from geoenc import sampling
from geoenc.coordinates import to_xyz
from geoenc.plot import similarity_map

pytest.importorskip("matplotlib")


def drawn(ax) -> torch.Tensor:
    return torch.as_tensor(ax.collections[0].get_array()).double()


def test_similarity_of_a_position_encoder_is_its_kernel() -> None:
    """For the unit vector, the cosine of the angle between the places."""
    at = torch.tensor([10.0, 50.0], dtype=torch.float64)
    ax = similarity_map(geoenc.XYZ(), at, height=12)
    expected = to_xyz(sampling.lattice(12)) @ to_xyz(at)
    torch.testing.assert_close(drawn(ax).view(12, 24), expected, atol=1e-6, rtol=0)


def test_similarity_of_a_location_encoder_is_that_of_its_embeddings() -> None:
    encoder = geoenc.LocationEncoder(geoenc.XYZ(), geoenc.FFN(3, 8))
    ax = similarity_map(encoder, (10.0, 50.0), height=6)
    cosine = torch.nn.functional.cosine_similarity(
        encoder.embed(sampling.lattice(6)), encoder.embed((10.0, 50.0)), dim=-1
    )
    torch.testing.assert_close(drawn(ax).view(6, 12), cosine.double(), atol=1e-6, rtol=0)


def test_similarity_is_asked_at_one_place() -> None:
    with pytest.raises(ValueError, match="one place"):
        similarity_map(geoenc.XYZ(), [(0.0, 0.0), (1.0, 1.0)])
