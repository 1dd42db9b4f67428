"""Which encoder for which places: every position encoder with every network on four real tasks.

    python -m benchmarks.choose run [NAME ...]   train what is not yet measured: about an hour
    python -m benchmarks.choose cost             cost of a million places, each encoder
    python -m benchmarks.choose table            tables from what is measured
    python -m benchmarks.choose pictures         what the encoders look like on the globe

Settings are in settings.toml, results in benchmarks/results/choose. An interrupted run goes on
where it was.
"""

import argparse


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["run", "cost", "table", "pictures"])
    parser.add_argument("encoders", nargs="*", metavar="NAME", help="only these, for run")
    options = parser.parse_args()
    if options.command == "run":
        from benchmarks.choose.run import run

        run(options.encoders)
    elif options.command == "cost":
        from benchmarks.choose.cost import keep

        keep()
    elif options.command == "table":
        from benchmarks.choose.table import write

        write()
    else:
        from benchmarks.choose.pictures import draw

        draw()


if __name__ == "__main__":
    main()
