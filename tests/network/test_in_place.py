"""Where layers are computed in place by a kernel, and where they have to be called."""

import pytest
import torch
from torch import Tensor

import geoenc

NETWORKS = [geoenc.FFN, geoenc.Siren]


@pytest.fixture(params=NETWORKS)
def net(request: pytest.FixtureRequest) -> geoenc.Network:
    made: geoenc.Network = request.param(20, 8, hidden_features=64)
    return made.eval()


def test_exported_without_gradient_it_takes_any_number_of_rows(net: geoenc.Network) -> None:
    """The choice of the kernel leaves no mark in the program."""
    batch = torch.export.Dim("batch", min=2)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(5, 20),), dynamic_shapes=({0: batch},))
        x = torch.randn(3000, 20)
        assert torch.allclose(program.module()(x), net(x), atol=1e-5)


def test_under_autocast_the_layers_are_called(net: geoenc.Network) -> None:
    x = torch.randn(3000, 20)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        many: Tensor = net(x)
        few: Tensor = net(x[:50])
    assert many.dtype == few.dtype
    assert many.isfinite().all()
    assert (many[:50].float() - few.float()).abs().max() < 0.05


def test_an_input_of_another_width_is_refused(net: geoenc.Network) -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="shape"):
        net(torch.randn(3000, 40))
