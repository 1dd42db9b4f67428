"""``geoenc explore``: a model as a page for the browser."""

import re
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from geoenc.cli.output import new_path, print_json

HELP = "a model as a page: click a place, see what is like it"
DESCRIPTION = (
    "Writes one HTML file that works without a network, and opens it: a globe and a map where a "
    "click shows the most similar places, the class probabilities, and the nearest training points."
)
EXAMPLES = """\
  geoenc explore models/satclip            writes explore-satclip.html and opens it
  geoenc explore models/birds --data train.parquet --label species
  geoenc explore sinr-an-full --out page.html --no-open
  geoenc explore "SphericalHarmonics(degree=10)"     a kernel, before anything is learned
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("model", metavar="MODEL", help="a folder, a name, or a position encoder")
    command.add_argument("--data", metavar="FILE", help="table of training points to show")
    command.add_argument("--label", metavar="COLUMN", help="of the table, shown beside a point")
    command.add_argument("--lon", metavar="COLUMN", help="longitude in degrees (the geometry, lon)")
    command.add_argument("--lat", metavar="COLUMN", help="latitude in degrees (the geometry, lat)")
    command.add_argument("--time", metavar="WHEN", help="a date, or fraction of the year")
    command.add_argument("--out", metavar="FILE", help="page to write (explore-MODEL.html)")
    command.add_argument("--rows", type=int, default=120, help="of the grid of places (120)")
    command.add_argument("--no-open", action="store_true", help="do not open the browser")
    command.add_argument("--json", action="store_true", help="what was written, as JSON")
    command.add_argument("--force", action="store_true", help="replace FILE")


def run(options: Any) -> int:
    """``geoenc explore``: the page of one model."""
    name = Path(options.model).name
    file = re.sub(r"[^\w.-]+", "-", name).strip("-")
    out = new_path(options.out or f"explore-{file}.html", force=options.force)
    if options.data is None and (options.label or options.lon or options.lat):
        raise ValueError(
            "expected --data with --label, --lon or --lat, got none; name the table of points"
        )
    from geoenc._files import write_text
    from geoenc.explore import explore_page, read_training

    training = None
    if options.data is not None:
        training = read_training(
            options.data, label=options.label, lon=options.lon, lat=options.lat
        )
    model = _model(options.model)
    time = None if options.time is None else _moment(options.time)
    page = explore_page(model, name=name, training=training, time=time, rows=options.rows)
    write_text(out, page)
    if options.json:
        points = None if training is None else training.total
        print_json({"page": out, "bytes": out.stat().st_size, "training_points": points})
    else:
        print(f"{out.stat().st_size / 1e6:.1f} MB: {out}")
    if not options.no_open:
        _open(out)
    return 0


def _model(text: str) -> Any:
    """A trained model, or a position encoder by itself."""
    from geoenc import PositionEncoder, from_pretrained
    from geoenc.bench.entries import entries
    from geoenc.component import Component

    if text.partition("(")[0].strip() not in Component.registry:
        return from_pretrained(text)
    return PositionEncoder.from_config(entries(text)[0].position or {})


def _moment(text: str) -> float:
    from geoenc.temporal import year_fraction_of_dates

    try:
        fraction = float(text)
    except ValueError:
        return float(year_fraction_of_dates(text))
    if not 0 <= fraction < 1:
        raise ValueError(
            f"expected a fraction of the year in [0, 1) or a date such as 2024-07-02, got {text!r}"
        )
    return fraction


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        print("no browser found here; open the file in yours", file=sys.stderr)
