"""The kernels: how they are built, and that they compute what plain torch computes."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc import harmonics, native, waves
from geoenc.coordinates import to_xyz

needs_compiler = pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
X86 = platform.machine() in ("x86_64", "AMD64")
MACHINES = {
    "native": None,
    "AVX2": ["-march=haswell"],
    "SSE2": ["-march=x86-64"],
    "unknown": [],
}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of its own; what was loaded before is forgotten, and again afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._loaded.cache_clear()
    yield tmp_path / "geoenc"
    native._loaded.cache_clear()


def places() -> Tensor:
    hard = [(0.0, 90.0), (77.0, -90.0), (180.0, 10.0), (-180.0, 10.0), (541.0, 0.0)]
    return torch.cat([geoenc.sampling.fibonacci(200), torch.tensor(hard).double()])


@needs_compiler
@pytest.mark.parametrize("machine", MACHINES)
def test_kernels_of_other_processors_compute_the_same(
    machine: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of 16, 8 and 4 places: each is a translation of its own."""
    flags = MACHINES[machine]
    if machine in ("AVX2", "SSE2") and not X86:
        pytest.skip("not this kind of processor")
    if flags is not None:
        monkeypatch.setattr(native, "_WIDEST", (flags,))
    kernels = native.load_kernels()
    if kernels is None and machine == "AVX2":
        pytest.skip("the processor has no AVX2")
    assert kernels is not None
    if X86 and machine != "native":
        assert kernels.geoenc_group() == (8 if machine == "AVX2" else 4)
    lonlat = places()
    for encoder in (geoenc.Sphere2VecMPlus(5), geoenc.Space2VecTheory(3), geoenc.NeRF(7)):
        fill = waves.native(encoder.waves())
        assert fill is not None
        for count in (len(lonlat), 16, 3):
            out = torch.full((count, encoder.out_features), torch.nan)
            for given in (out, out.clone().mT.contiguous().mT):  # dense rows, dense columns
                fill(lonlat[:count], given)
                assert (given - encoder(lonlat[:count])).abs().max() < 1e-6
    for degree in (0, 1, 6, 20):
        formula = harmonics._formula(to_xyz(lonlat), degree)
        for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-7)):
            kernel = harmonics.native(degree, lonlat.device, dtype)
            assert kernel is not None
            for given in (lonlat, to_xyz(lonlat), to_xyz(lonlat).mT.contiguous().mT):
                out = torch.full(formula.shape, torch.nan, dtype=dtype)
                kernel(given, out)
                assert (out - formula).abs().max() < tolerance
            xyz = to_xyz(lonlat).requires_grad_()
            grad = torch.randn(formula.shape, dtype=dtype)
            wanted = torch.autograd.grad(harmonics._formula(xyz, degree), xyz, grad.double())[0]
            got = kernel.slopes(xyz.detach(), grad)
            assert (got - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    x = torch.randn(1003, 70)
    for net in (geoenc.FFN(70, 37), geoenc.ResidualNet(70, 33, dropout=0), geoenc.Siren(70, 19)):
        out = torch.full((1003, net.out_features), torch.nan)
        for given in (x, x.mT.contiguous().mT):
            net.eval().write(given, out)
            assert torch.allclose(out, net(x), atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_results_in_parts_and_past_the_cache(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_A_PART", 2**10)
    monkeypatch.setattr(native, "_PAST_CACHE", 2**10)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        lonlat = geoenc.sampling.fibonacci(1003)
        for encoder in (geoenc.SphericalHarmonics(7).to(dtype), geoenc.Space2VecGrid(8)):
            out = encoder.write(lonlat, compile=True)
            wanted = encoder.write(lonlat, compile=False)
            assert (out - wanted).abs().max() < 1e-6
        kernel = harmonics.native(7, lonlat.device, dtype)
        assert kernel is not None
        grad = torch.randn(1003, 64, dtype=dtype)
        together = kernel.slopes(to_xyz(lonlat), grad)
        torch.set_num_threads(1)
        assert torch.equal(together, kernel.slopes(to_xyz(lonlat), grad))
    finally:
        torch.set_num_threads(threads)


@needs_compiler
def test_many_points_take_the_kernel_and_have_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lonlat = places()
    weight = torch.randn(len(lonlat), 121).double()

    def gradients(create_graph: bool) -> list[Tensor]:
        given = lonlat.clone().requires_grad_()
        total = (harmonics.spherical_harmonics(to_xyz(given), 10) * weight).sum()
        first = torch.autograd.grad(total, given, create_graph=create_graph)[0]
        if not create_graph:
            return [first]
        return [first, torch.autograd.grad(first.square().sum(), given)[0]]

    wanted = gradients(create_graph=True)
    monkeypatch.setattr(harmonics, "WORTH_BUILDING", 1)
    for got in (gradients(create_graph=False), gradients(create_graph=True)):
        for one, other in zip(got, wanted, strict=False):
            assert (one - other).abs().max() < 1e-10 * other.abs().max()


@needs_compiler
@pytest.mark.parametrize("rows", [None, 64, 100])
def test_blocks_have_dense_columns(rows: int | None) -> None:
    """As the kernel has them; what takes a block does not notice."""
    encoder = geoenc.Sphere2VecMPlus(5)
    lonlat = places()
    got = torch.empty(len(lonlat), encoder.out_features)
    for block, code in encoder.blocks(lonlat, rows=rows, compile=True):
        assert code.stride(0) == 1
        got[block] = code
    assert (got - encoder(lonlat)).abs().max() < 1e-6


@needs_compiler
@pytest.mark.parametrize("encoder", [geoenc.Space2VecGrid(5), geoenc.SphericalHarmonics(4)])
def test_places_of_nan_have_rows_of_nan(encoder: geoenc.PositionEncoder) -> None:
    lonlat = places()
    lonlat[[3, 40]] = torch.nan
    out = encoder.write(lonlat, compile=True)
    assert out.isnan().all(1).nonzero()[:, 0].tolist() == [3, 40]
    assert out.isnan().any(1).sum() == 2


@needs_compiler
def test_built_once_and_kept(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.load_kernels() is not None
    (file,) = fresh.iterdir()
    stamp = file.stat().st_mtime_ns
    native._loaded.cache_clear()
    assert native.load_kernels() is not None
    assert [one.stat().st_mtime_ns for one in fresh.iterdir()] == [stamp]
    native._loaded.cache_clear()
    monkeypatch.setattr(native, "_processor", lambda: "another")
    assert native.load_kernels() is not None
    assert len(list(fresh.iterdir())) == 2


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_no_compiler_no_kernels_and_no_error(
    compiler: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert native.load_kernels() is None
    assert not fresh.exists() or not list(fresh.iterdir())
    lonlat = places()
    encoder = geoenc.SphericalHarmonics(5)
    written = encoder.write(lonlat, compile=True)
    assert torch.equal(written, encoder.write(lonlat, compile=False))


@needs_compiler
def test_kernels_that_compute_something_else_are_not_used(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "SINE", (6.2, *native.SINE[1:]))
    assert native.load_kernels() is None


@needs_compiler
def test_without_a_cache_the_kernels_are_built_for_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "geoenc").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._loaded.cache_clear()
    assert native._cache() is None
    assert native.load_kernels() is not None
    assert [one.name for one in tmp_path.iterdir()] == ["geoenc"]
    native._loaded.cache_clear()
