"""Tile against a table read one place at a time."""

import math

import pytest
import torch
from reference import places

import geoenc

EXTENTS = [(-180.0, 180.0, -90.0, 90.0), (-162, -59, 20, 56), (-10.5, 30.25, -90.0, 0.0)]


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("cell_size", [30.0, 13, 0.7, 1e6])
def test_tile(cell_size: float, extent: tuple[float, float, float, float]) -> None:
    tile = geoenc.Tile(3, cell_size, extent=extent)
    west, east, south, north = extent
    columns = math.ceil((east - west) / cell_size)
    rows = math.ceil((north - south) / cell_size)
    assert tile.table.shape == (rows * columns, 3)
    for (lon, lat), code in zip(places().tolist(), tile(places()), strict=True):
        column = min(max(math.floor((lon - west) / cell_size), 0), columns - 1)
        row = min(max(math.floor((lat - south) / cell_size), 0), rows - 1)
        assert torch.equal(code, tile.table[row * columns + column])


def test_rows_count_from_the_south_and_edges_belong_to_the_last_cells() -> None:
    tile = geoenc.Tile(1, 90.0)
    tile.load_state_dict({"table": torch.arange(8.0)[:, None]})
    corners = torch.tensor([(-180.0, -90.0), (180.0, -90.0), (-180.0, 90.0), (180.0, 90.0)])
    assert tile(corners)[:, 0].tolist() == [0, 3, 4, 7]


def test_gradient_goes_to_the_visited_cells_and_not_to_the_place() -> None:
    tile = geoenc.Tile(2, 90.0)
    lonlat = torch.tensor([(1.0, 1.0), (2.0, 2.0), (-100.0, -10.0)]).requires_grad_()
    tile(lonlat).sum().backward()
    assert lonlat.grad is None
    assert tile.table.grad is not None
    assert tile.table.grad[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 2, 0]


def test_table_starts_with_the_published_spread() -> None:
    first = geoenc.Tile(16, 5.0, generator=torch.Generator().manual_seed(3))
    again = geoenc.Tile(16, 5.0, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.table, again.table)
    assert not torch.equal(first.table, geoenc.Tile(16, 5.0).table)
    assert first.table.std().item() == pytest.approx(1 / 16, rel=0.02)
    assert first.table.mean().abs().item() < 0.002


def test_one_cell_wraps() -> None:
    for cell_size, wraps in ((360.0, True), (359.0, False)):
        tile = geoenc.Tile(2, cell_size)
        assert tile.wraps_antimeridian is wraps
        assert tile.wraps_poles is wraps


def test_tile_refuses() -> None:
    for size in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="cell_size above 0 degrees, got"):
            geoenc.Tile(2, size)
    with pytest.raises(ValueError, match="out_features of at least 1, got 0"):
        geoenc.Tile(0)
    with pytest.raises(ValueError, match="at most 268,435,456 numbers, got 41,472,000,000"):
        geoenc.Tile(64, 0.01)
    for extent in ((-181, 0, 0, 1), (0, 200, 0, 1), (0, 1, -91, 0), (0, 0, 0, 1), (0, 1, 0)):
        with pytest.raises(ValueError, match="west < east <= 180"):
            geoenc.Tile(2, extent=extent)
