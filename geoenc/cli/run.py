"""``geoenc run``: a recipe, from its settings to a table."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from geoenc.cli.output import print_json

HELP = "run a recipe"
EXAMPLES = """\
  geoenc run csp                                   the whole recipe on the embedded globe
  geoenc run csp --quick                           a small part of it, in under 90 seconds
  geoenc run csp mine.toml --out runs/mine         with your settings
  geoenc run csp --config csp-paper-inat2018 data.path=DIR     a table of the paper
  geoenc run csp data.path=birds.csv data.label=species pretrain.epochs=100
"""
RESUMES = True

_WRITTEN = ("results.json", "scores.jsonl", "table.md", "location.md")


def add_arguments(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("recipe", choices=["csp"])
    command.add_argument("settings", nargs="*", metavar="FILE key=value", help="settings")
    command.add_argument("--config", metavar="FILE", help="settings: a file, or a shipped name")
    only = command.add_mutually_exclusive_group()
    only.add_argument("--dry-run", action="store_true", help="what it would take, then stop")
    only.add_argument("--show-settings", action="store_true", help="explain every setting")
    only.add_argument("--json", action="store_true", help="the scores as JSON, not as a table")
    command.add_argument(
        "--out", metavar="DIR", help="folder of the run (runs/NAME); a started run goes on"
    )
    command.add_argument("--quick", action="store_true", help="a small part of the experiment")
    command.add_argument("--force", action="store_true", help="delete a run with other settings")


def run(options: Any) -> int:
    """The table of the paper, with maps and curves."""
    from geoenc.recipes.config import load_config, parser

    if options.show_settings:
        print(parser().format_help())
        return 0
    from geoenc.recipes import study

    settings = list(options.settings)
    path = settings.pop(0) if settings and "=" not in settings[0] else options.config
    config = load_config(path, settings, quick=options.quick)
    folder = options.out or f"runs/{_run_name(path)}{'-quick' if options.quick else ''}"
    if options.dry_run:
        from geoenc.recipes.plan import plan

        if text := plan(config):
            print(text)
        return 0
    results = study.run(config, _own(folder, options.force), force=options.force)
    if not results:
        return 0  # one of several processes, of which the first reports
    if options.json:
        print_json({"folder": folder, **results})
        return 0
    with open(f"{folder}/table.md", encoding="utf-8") as file:
        print(file.read())
    print(f"scores: {folder}/results.json   figures: {folder}/figures/")
    return 0


def _own(folder: str, force: bool) -> str:
    """The folder, unless it is not that of a run and holds files which one would replace."""
    theirs = [name for name in _WRITTEN if Path(folder, name).exists()]
    if theirs and not Path(folder, "config.json").is_file() and not force:
        raise FileExistsError(
            f"expected a new folder or that of a run, got {folder!r}, which holds {theirs[0]!r} "
            "but no run; choose another with --out, or pass --force to replace it"
        )
    return folder


def _run_name(path: str | None) -> str:
    return "csp" if path is None else Path(path).stem
