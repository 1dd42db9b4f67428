"""Formulas of docstrings in type: docs/formulas.toml has them in LaTeX, the page has MathML."""

import functools
import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

from mathml import lines, mathml

TABLE = Path(__file__).with_name("formulas.toml")
EXAMPLE = re.compile(r"^Example:\n(?:[ \t].*(?:\n|\Z)|\n)*", re.M)
Formulas = dict[str, str | list[str]]


@functools.cache
def table() -> dict[str, Formulas]:
    """Of each object, by name: text of its docstring, and the same in LaTeX.

    A list of LaTeX lines is displayed; a string stays in its sentence.
    """
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def find(name: str) -> Any:
    """The object of a dotted name.

    Raises:
        ValueError: there is none.
    """
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise ValueError(f"expected names of geoenc in {TABLE.name}, got {name}; correct or remove it")


def typeset(docstring: str, formulas: Formulas, name: str) -> str:
    """A docstring without indentation, its formulas in LaTeX; the example stays as it is.

    Raises:
        ValueError: the docstring has no such text (any more).
    """
    by_words = {tuple(text.split()): text for text in formulas}
    longest_first = sorted(formulas, key=len, reverse=True)
    texts = "|".join(r"\s+".join(map(re.escape, text.split())) for text in longest_first)
    found = re.compile(rf"(?<![\w`])(?P<text>{texts})(?![\w`])(?P<after>[.,:;]?\s*)|``[^`]+``")
    missing = set(formulas)

    def in_type(match: re.Match[str]) -> str:
        if match["text"] is None:
            return match[0]
        text = by_words[tuple(match["text"].split())]
        missing.discard(text)
        latex = formulas[text]
        if isinstance(latex, str):
            return f":math:`{latex}`{match['after']}"
        return "\n\n.. math::\n\n" + "".join(rf"    {line} \\" + "\n" for line in latex) + "\n"

    parts = re.split(f"({EXAMPLE.pattern})", docstring, flags=re.M)
    parts[::2] = [found.sub(in_type, part) for part in parts[::2]]
    if missing:
        raise ValueError(
            f"expected {sorted(missing)} in the docstring of {name}, got none; {TABLE.name} sets "
            "text of docstrings in type, so change both together"
        )
    return "".join(parts)


def docstring(_app: Any, _what: str, name: str, obj: Any, _opts: Any, text: list[str]) -> None:
    """Typeset the docstring that autodoc has read, if the table has the object."""
    formulas = _by_object().get(id(obj))
    if formulas is not None:
        text[:] = typeset("\n".join(text), formulas, name).splitlines()


@functools.cache
def _by_object() -> dict[int, Formulas]:
    return {id(find(name)): formulas for name, formulas in table().items()}


def inline(writer: Any, node: Any) -> None:
    """A formula within a sentence, for Sphinx."""
    writer.body.append(mathml(node.astext()))
    _done()


def block(writer: Any, node: Any) -> None:
    """A displayed formula, for Sphinx: a line of its own for each ``\\\\``."""
    writer.body.append('<div class="formula">')
    writer.body += [mathml(line, display=True) for line in lines(node.astext())]
    writer.body.append("</div>\n")
    _done()


def _done() -> None:
    from docutils import nodes

    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    app.connect("autodoc-process-docstring", docstring, priority=100)
