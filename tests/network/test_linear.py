"""Linear is a matrix."""

import pytest
import torch

import geoenc


@pytest.mark.parametrize("bias", [True, False])
def test_formula(bias: bool) -> None:
    net = geoenc.Linear(4, 3, bias=bias).double()
    assert sum(p.numel() for p in net.parameters()) == 12 + 3 * bias
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    wanted = torch.einsum("oi,abi->abo", net.linear.weight, x)
    if bias:
        wanted = wanted + net.linear.bias
    assert torch.allclose(net(x), wanted, atol=1e-14)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="in_features of at least 1, got 0"):
        geoenc.Linear(0, 3)
