"""SphericalHarmonics as a position encoder."""

import math

import pytest
import torch
from reference import places
from torch import Tensor

import geoenc
from geoenc import harmonics, sampling

CHECK = (0.282095, 0.172747, 0.345494, 0.299207, 0.236544, 0.273137, 0.157696, 0.473087, 0.136569)
"""Columns 0 to 8 at longitude 30, latitude 45, from the specification."""


def test_values_of_degree_two() -> None:
    code = geoenc.SphericalHarmonics(2).double()(torch.tensor([30.0, 45.0]))
    assert code.tolist() == pytest.approx(CHECK, abs=1e-6)


def test_degree_two_written_out() -> None:
    """Polynomials in x, y, z as in any table."""
    code = geoenc.SphericalHarmonics(2).double()(places())
    x, y, z = geoenc.coordinates.to_xyz(places()).unbind(-1)
    half = math.sqrt(15 / math.pi) / 2
    quadratic = [half * x * y, half * y * z, math.sqrt(5 / math.pi) / 4 * (3 * z * z - 1)]
    quadratic += [half * x * z, half / 2 * (x * x - y * y)]
    assert torch.allclose(code[:, 4:], torch.stack(quadratic, -1), atol=1e-14)


def test_wavelengths_are_the_longitudes_after_which_an_order_repeats() -> None:
    encoder = geoenc.SphericalHarmonics(4).double()
    lonlat = torch.tensor([12.3, 45.6], dtype=torch.float64)
    moved = {m: 360 / m for m in (4, 3, 2, 1)}
    assert encoder.wavelengths.tolist() == list(moved.values())
    for order, wavelength in moved.items():
        change = (encoder(lonlat + torch.tensor([wavelength, 0.0])) - encoder(lonlat)).abs()
        assert change[16 + 4 + order] < 1e-12, "column l^2 + l + m of degree 4"
        if order > 1:
            assert change[16 + 4 + 1] > 1e-3
    assert geoenc.SphericalHarmonics(0).wavelengths.tolist() == [360]


def test_width_and_settings() -> None:
    assert geoenc.SphericalHarmonics().out_features == 100
    encoder = geoenc.SphericalHarmonics(degree=39)
    assert encoder.out_features == 1600
    assert encoder.config == {"name": "SphericalHarmonics", "degree": 39}
    assert encoder.wraps_antimeridian
    assert encoder.wraps_poles
    constant = geoenc.SphericalHarmonics(0).double()(places())
    assert torch.allclose(constant, torch.full_like(constant, math.sqrt(1 / (4 * math.pi))))


@pytest.mark.parametrize("degree", [-1, 1024, 2.5, 9.0, "9", None, True])
def test_refuses(degree: object) -> None:
    with pytest.raises(ValueError, match="expected degree as an integer from 0 to 1023, got"):
        geoenc.SphericalHarmonics(degree)  # type: ignore[arg-type]


def test_one_code_at_each_pole_and_at_the_seam() -> None:
    encoder = geoenc.SphericalHarmonics(100).double()
    lon = torch.tensor([-180.0, -20.0, 0.0, 90.0, 180.0], dtype=torch.float64)
    for lat in (90.0, -90.0):
        code = encoder(torch.stack([lon, torch.full_like(lon, lat)], -1))
        assert (code - code[0]).abs().max() < 1e-12
    west = torch.tensor([(-180.0, lat) for lat in (-75.0, 0.0, 33.3)], dtype=torch.float64)
    east = west * torch.tensor([-1.0, 1.0])
    assert (encoder(west) - encoder(east)).abs().max() < 1e-12


def test_float32_module_rounds_only_the_result() -> None:
    exact = geoenc.SphericalHarmonics(100).double()(places())
    code = geoenc.SphericalHarmonics(100)(places())
    assert code.dtype == torch.float32
    assert (code - exact).abs().max() < 1e-6 * exact.abs().max()


def layouts(rows: int, columns: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "rows": torch.zeros(rows, columns, dtype=dtype),
        "columns": torch.zeros(columns, rows, dtype=dtype).mT,
        "every other": torch.zeros(rows, 2 * columns, dtype=dtype)[:, ::2],
    }


@pytest.mark.parametrize("degree", [0, 1, 5, 19])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("compile", [False, True])
def test_write_into_any_layout(degree: int, dtype: torch.dtype, compile: bool) -> None:
    encoder = geoenc.SphericalHarmonics(degree).to(dtype)
    lonlat = sampling.fibonacci(harmonics.block_rows(degree) + 11)
    wanted = geoenc.SphericalHarmonics(degree).double().encode(lonlat)
    tolerance = 1e-13 if dtype == torch.float64 else 2e-7
    for name, out in layouts(len(lonlat), encoder.out_features, dtype).items():
        out.fill_(torch.nan)
        assert encoder.write(lonlat, out, compile=compile) is out
        assert not (out - wanted).abs().gt(tolerance).any(), name
        assert not out.isnan().any(), name
    for rows, code in encoder.blocks(lonlat.float(), rows=100, compile=compile):
        assert (code - encoder(lonlat.float()[rows])).abs().max() < tolerance


def test_blocks_are_transposed_views_in_one_buffer() -> None:
    encoder = geoenc.SphericalHarmonics(19)
    lonlat = sampling.fibonacci(2 * harmonics.block_rows(19) + 5)
    weight = torch.randn(8, encoder.out_features)
    got, buffers = torch.empty(len(lonlat), 8), set()
    for rows, code in encoder.blocks(lonlat, compile=False):
        assert code.mT.stride(1) == 1
        buffers.add(code.data_ptr())
        got[rows] = code @ weight.T
    assert len(buffers) == 1
    assert torch.allclose(got, encoder(lonlat) @ weight.T, atol=1e-4)


def test_embedding_of_many_places_with_gradient() -> None:
    """The published encoder, SH and Siren: places far from one block, gradient to the places."""
    position = geoenc.SphericalHarmonics(10)
    encoder = geoenc.LocationEncoder(position, geoenc.Siren(position.out_features, 4))
    lonlat = sampling.fibonacci(harmonics.block_rows(10) + 1).requires_grad_()
    encoder(lonlat).square().sum().backward()
    assert lonlat.grad is not None
    assert lonlat.grad.isfinite().all()
    assert (lonlat.grad.abs().sum(-1) > 0).all()


def test_compiles_exports_and_traces() -> None:
    encoder = geoenc.SphericalHarmonics(4)
    lonlat = sampling.fibonacci(9)
    wanted = encoder(lonlat)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(lonlat), wanted, atol=1e-7)
    rows = torch.export.Dim("rows")
    exported = torch.export.export(encoder, (lonlat,), dynamic_shapes=({0: rows},)).module()
    assert torch.allclose(exported(lonlat[:5]), wanted[:5], atol=1e-7)
