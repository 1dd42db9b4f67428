"""Every example runs: those of the docstrings, and each Python block of README.md and docs/."""

import doctest
import importlib
import re
import textwrap
from pathlib import Path

import pytest

import geoenc

ROOT = Path(geoenc.__file__).parent
REPOSITORY = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(("geoenc", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.stem != "__main__"
)
PAGES = [
    page
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if page.is_file() and not {"_build", "generated"} & set(page.relative_to(REPOSITORY).parts)
]
FENCE = re.compile(r"^(?P<indent>[ \t]*)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.M | re.S)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report: list[str] = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Python blocks of a page with the line where each begins."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start("code")), textwrap.dedent(found["code"]))
        for found in FENCE.finditer(text)
    ]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(REPOSITORY))
)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks one after the other, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page):
        where = f"{page.relative_to(REPOSITORY)}:{line + 1}"
        assert "+SKIP" not in code, f"{where}: every block must run"
        if code.lstrip().startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(code, namespace, where, where, line)
            runner = doctest.DocTestRunner(optionflags=OPTIONS)
            runner.run(example, clear_globs=False)
            namespace.update(example.globs)
            assert runner.summarize(verbose=False).failed == 0, where
        else:
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_skipped_examples_are_not_allowed_in_docstrings() -> None:
    skipped = [p.name for p in sorted(ROOT.rglob("*.py")) if "+SKIP" in p.read_text()]
    assert not skipped, f"examples that do not run in {skipped}"
