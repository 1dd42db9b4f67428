"""Where a kernel computes all layers, and where they have to be called."""

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import geoenc
from geoenc import native
from geoenc.network.fused import fused

needs_compiler = pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")

NETWORKS: dict[str, Callable[[], geoenc.Network]] = {
    "FFN": lambda: geoenc.FFN(20, 8, hidden_features=64),
    "FFN, skip and two norms": lambda: geoenc.FFN(64, 5, hidden_features=64, depth=2),
    "FFN, leaky": lambda: geoenc.FFN(33, 70, hidden_features=51, activation="leaky_relu"),
    "FFN, one layer": lambda: geoenc.FFN(300, 200, depth=0, final_activation=False),
    "ResidualNet": lambda: geoenc.ResidualNet(20, 64),
    "ResidualNet, hidden": lambda: geoenc.ResidualNet(7, 19, hidden_features=100, depth=2),
    "ResidualNet, no block": lambda: geoenc.ResidualNet(300, 100, depth=0),
    "Siren": lambda: geoenc.Siren(20, 8, hidden_features=64),
    "Siren, 700 inputs": lambda: geoenc.Siren(
        700, 3, hidden_features=31, depth=1, first_frequency=2.0
    ),
}


@pytest.fixture(autouse=True)
def little_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoenc.network.fused.WORTH_BUILDING", 1)


@pytest.fixture(params=NETWORKS)
def net(request: pytest.FixtureRequest) -> geoenc.Network:
    torch.manual_seed(0)
    made = NETWORKS[request.param]().eval()
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return made


@needs_compiler
@pytest.mark.parametrize("rows", [1000, 1024, 2100])
def test_the_kernel_computes_what_the_layers_compute(net: geoenc.Network, rows: int) -> None:
    """Widths and rows that are no multiple of anything; inputs and outputs that are views."""
    x = torch.randn(rows, net.in_features + 3)[:, 1:-2]
    wanted = net.double()(x.double()).detach()
    net.float()
    out = torch.full((rows, net.out_features + 2), 7.0)
    with torch.no_grad(), mock.patch.object(nn.Linear, "forward", side_effect=AssertionError):
        got = net(x)
        assert torch.equal(got, net(x.mT.contiguous().mT))
        net.write(x, out[:, 1:-1])
    assert (got - wanted).abs().max() < 3e-5
    assert torch.equal(out[:, 1:-1], got)
    assert (out[:, [0, -1]] == 7).all()


@needs_compiler
def test_in_threads_and_past_the_cache_it_is_the_same(
    net: geoenc.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1001, net.in_features)
    with torch.no_grad():
        alone = net(x)
        monkeypatch.setattr(native, "_A_PART", 2**10)
        monkeypatch.setattr(native, "_PAST_CACHE", 2**10)
        threads = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            together = net(x)
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(alone, together)


@needs_compiler
def test_a_row_of_nan_stays_alone(net: geoenc.Network) -> None:
    x = torch.randn(1500, net.in_features)
    x[[3, 700], 2] = torch.nan
    with torch.no_grad():
        y = net(x)
    assert y.isnan().any(1).nonzero()[:, 0].tolist() == [3, 700]


@needs_compiler
def test_numbers_too_small_for_a_float_are_nothing_and_only_here() -> None:
    net = geoenc.FFN(300, 200, depth=0, final_activation=False)
    with torch.no_grad():
        tiny = torch.full((2000, 300), 1e-40)
        assert torch.equal(net(tiny), net.layers[0].linear.bias.expand(2000, 200))
        assert torch.equal(tiny + 0, tiny)


@needs_compiler
def test_a_changed_weight_is_seen(net: geoenc.Network) -> None:
    """Nothing of the weights is kept, however they are changed."""
    x = torch.randn(1500, net.in_features)
    with torch.no_grad():
        before = net(x)
        next(net.parameters()).data.mul_(2)
        after = net(x)
    assert not torch.equal(before, after)
    assert torch.allclose(after, net(x).detach(), atol=1e-4)  # with gradients: the layers


def test_of_a_subclass_or_a_watched_network_the_own_forward_is_written() -> None:
    class _Doubled(geoenc.FFN):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    x, out = torch.randn(2000, 20), torch.empty(2000, 8)
    doubled = _Doubled(20, 8, hidden_features=64).eval()
    doubled.write(x, out)
    assert torch.allclose(out, doubled(x), atol=1e-5)
    watched = geoenc.FFN(20, 8, hidden_features=64).eval()
    watched.register_forward_hook(lambda module, given, result: 3 * result)
    watched.write(x, out)
    assert torch.allclose(out, watched(x), atol=1e-5)


def test_the_output_may_be_of_another_dtype(net: geoenc.Network) -> None:
    x = torch.randn(1000, net.in_features)
    wide = torch.empty(1000, net.out_features, dtype=torch.float64)
    net.write(x, wide)
    assert torch.allclose(wide.float(), net(x), atol=1e-4)


@pytest.mark.parametrize(
    "why", ["gradient", "few", "float64", "hook", "another", "turned", "strided", "put"]
)
def test_where_it_would_change_what_happens_it_is_not_used(why: str, net: geoenc.Network) -> None:
    x = torch.randn(30 if why == "few" else 2100, net.in_features)
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    if why == "float64":
        net, x = net.double(), x.double()
    if why == "hook":
        linear[0].register_forward_hook(lambda module, given, result: result + 1)
    if why == "another":
        nn.utils.parametrizations.weight_norm(linear[-1])
    if why == "strided":
        linear[0].bias = nn.Parameter(torch.randn(len(linear[0].weight), 2)[:, 0])
    if why == "put":
        linear[0].forward = lambda x: x  # type: ignore[method-assign]
    if why == "turned":
        linear[-1].weight = nn.Parameter(torch.randn(linear[-1].weight.T.shape).T)
    with torch.set_grad_enabled(why == "gradient"):
        assert fused(net, x) is None


def test_layers_that_do_not_fit_are_refused_by_torch() -> None:
    """A kernel would read what is not there."""
    x = torch.randn(2000, 20)
    for attribute, other in {"linear": nn.Linear(20, 50), "layernorm": nn.LayerNorm(50)}.items():
        net = geoenc.FFN(20, 8, hidden_features=64).eval()
        setattr(net.layers[0], attribute, other)
        with torch.no_grad(), pytest.raises(RuntimeError):
            net(x)
    net = geoenc.FFN(20, 8, hidden_features=64).eval()
    net.layers[1].linear.bias = nn.Parameter(torch.zeros(3))
    with torch.no_grad(), pytest.raises(RuntimeError):
        net(x)
    net = geoenc.FFN(20, 8, hidden_features=64).eval()
    net.layers[0].skip = True
    with torch.no_grad(), pytest.raises(RuntimeError):
        net(x)
    far = geoenc.FFN(20, 8, hidden_features=64).eval().to("meta")
    with torch.no_grad():
        assert fused(far, x) is None


def test_exported_without_gradient_it_takes_any_number_of_rows(net: geoenc.Network) -> None:
    """The choice of the kernel leaves no mark in the program."""
    batch = torch.export.Dim("batch", min=2)
    with torch.no_grad():
        given = torch.randn(5, net.in_features)
        program = torch.export.export(net, (given,), dynamic_shapes=({0: batch},))
        x = torch.randn(3000, net.in_features)
        assert torch.allclose(program.module()(x), net(x), atol=5e-5)


def test_under_autocast_the_layers_are_called(net: geoenc.Network) -> None:
    x = torch.randn(3000, net.in_features)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused(net, x) is None
        assert net(x).isfinite().all()


def test_an_input_of_another_width_is_refused(net: geoenc.Network) -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="shape"):
        net(torch.randn(3000, net.in_features + 1))
