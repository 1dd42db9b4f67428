"""Put measured tables where people read them: nothing in README or docs is typed.

    python -m benchmarks.report                      fill every marker from benchmarks/results
    python -m benchmarks.report --keep runs/csp globe   first keep a finished run under that name
    python -m benchmarks.report --check              say whether anything would change

A marker is a pair of comments in a Markdown file, ``<!-- begin NAME/FILE.md -->`` and
``<!-- end -->``; what stands between them is replaced by that file of benchmarks/results.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from benchmarks.shared import RESULTS, ROOT
from geoenc._files import write_text

MARKER = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def keep(run: Path, name: str) -> None:
    """Copy the scores and the table of a finished run to benchmarks/results."""
    folder = RESULTS / name  # may be nested: csp_table1/CSP-MC-BLD
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("results.json", "table.md", "location.md"):
        shutil.copyfile(run / file, folder / file)


def filled(text: str) -> str:
    """The text with every marker filled from its file."""

    def replacement(match: re.Match[str]) -> str:
        path = RESULTS / match[2]
        if not path.is_file():
            raise SystemExit(f"expected {path.relative_to(ROOT)}, found nothing; run its benchmark")
        content = path.read_text(encoding="utf-8").strip()
        return f"{match[1]}\n{content}\n\n{match[3]}"

    return MARKER.sub(replacement, text)


def pages() -> list[Path]:
    """Markdown files that may hold markers."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "benchmarks").rglob("*.md")),
    ]


def main() -> int:
    """Fill the markers, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", nargs=2, metavar=("RUN", "NAME"))
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.keep:
        keep(Path(options.keep[0]), options.keep[1])
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if new != text:
            stale.append(page.relative_to(ROOT))
            if not options.check:
                write_text(page, new)
    for page in stale:
        print(f"{'stale' if options.check else 'filled'}: {page}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
