"""``geoenc bias``: where a model is right."""

import sys
from argparse import ArgumentParser
from typing import Any

from geoenc.cli.output import new_path

HELP = "is a model right everywhere? geo-bias scores"
EXAMPLES = """\
  geoenc bias predictions.parquet --map bias.png   is it right everywhere? scores and a map
  geoenc bias correct.csv --radius-km 250          a table with columns lon, lat and correct
  geoenc bias runs/bench/results/TASK/blocked/ROW.npz   the samples of a result of geoenc bench
"""


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("file", metavar="FILE", help="predictions, or lon, lat, correct")
    command.add_argument("--json", action="store_true", help="the numbers as JSON")
    command.add_argument("--map", metavar="FILE", help="draw maps of accuracy and bias")
    command.add_argument("--radius-km", type=float, default=100.0, help="of a neighbourhood (100)")
    command.add_argument("--force", action="store_true", help="replace the map")


def run(options: Any) -> int:
    """``geoenc bias``: where a model is right, from one file of predictions."""
    from geoenc.bias import as_json, as_text, bias_figure, bias_report, read_predictions, save_map

    if options.map:
        new_path(options.map, force=options.force)
    lonlat, correct = read_predictions(options.file)
    report = bias_report(lonlat, correct, radius_km=options.radius_km)
    if options.map:
        save_map(bias_figure(lonlat, correct, report), options.map)
        print(f"map: {options.map}", file=sys.stderr)
    print(as_json(report) if options.json else as_text(report))
    return 0
