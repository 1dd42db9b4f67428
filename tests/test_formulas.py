"""Formulas of the documentation: they exist, belong to their docstrings, and can be set in type."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

import geoenc
import geoenc.losses
from geoenc.component import Component

pytest.importorskip("latex2mathml")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not here", allow_module_level=True)
WITHOUT = {"RetrievalDatabase", "LocationQueue"}
"""They store things; there is nothing to calculate."""


def imported(name: str) -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


formulas, mathml = imported("formulas"), imported("mathml")
TABLE: dict[str, dict[str, str | list[str]]] = formulas.table()


def test_every_component_and_loss_has_a_formula() -> None:
    importlib.import_module("geoenc.retrieval")
    components = {
        cls for cls in Component.registry.values() if cls.__module__.startswith("geoenc.")
    }
    public = [getattr(geoenc.losses, name) for name in geoenc.losses.__all__]
    losses = {one for one in public if inspect.isfunction(one) or issubclass(one, nn.Module)}
    found = {formulas.find(name) for name in TABLE}
    missing = {one.__name__ for one in components | losses if one not in found}
    assert missing == WITHOUT


@pytest.mark.parametrize("name", TABLE)
def test_text_is_in_the_docstring(name: str) -> None:
    doc = inspect.getdoc(formulas.find(name)) or ""
    done = formulas.typeset(doc, TABLE[name], name)
    example = formulas.EXAMPLE.search(doc)
    assert example is None or example[0] in done
    assert ".. math::" in done or ":math:" in done


@pytest.mark.parametrize("name", TABLE)
def test_latex_converts(name: str) -> None:
    for latex in TABLE[name].values():
        for line in [latex] if isinstance(latex, str) else latex:
            assert mathml.mathml(line, display=not isinstance(latex, str)).startswith("<math")


def test_a_changed_docstring_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"expected .*W x"):
        formulas.typeset("W y + b: a linear map.", {"W x + b": ["W x + b"]}, "geoenc.Linear")


def test_names_that_are_none_are_noticed() -> None:
    with pytest.raises(ValueError, match="NoSuchEncoder"):
        formulas.find("geoenc.NoSuchEncoder")


def test_text_is_set_where_it_stands_alone() -> None:
    doc = "a b: of ``a b``, and\na\nb, not a bc.\n\nExample:\n    >>> a b\n\nDiffers:\n    a b."
    done = formulas.typeset(doc, {"a b": r"\alpha"}, "x")
    m = r":math:`\alpha`"
    assert done == (
        f"{m}: of ``a b``, and\n{m}, not a bc.\n\nExample:\n    >>> a b\n\nDiffers:\n    {m}."
    )


def test_displayed_formulas_leave_their_sentence() -> None:
    done = formulas.typeset("It is x: a letter.", {"x": ["x", "y"]}, "x")
    assert done.split("\n\n") == ["It is ", ".. math::", "    x \\\\\n    y \\\\", "a letter."]


@pytest.mark.parametrize(
    "latex", [r"\nosuch x", r"\frac{a}", r"{x", r"\left( x", "a & b", r"x^", "|x|"]
)
def test_wrong_latex_is_refused(latex: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        mathml.mathml(latex)


def words(latex: str) -> str:
    """The symbols of a formula, with a blank for a space."""
    spaced = re.sub(r'<mspace width="0\.\d+em" />', " ", mathml.mathml(latex))
    return re.sub(r"<[^>]*>", "", spaced)


def test_names_of_functions_keep_their_distance() -> None:
    assert words(r"2\sin P\cos\mathrm{lat}") == "2 sin P cos lat"
    assert words(r"\sin(x)") == "sin(x)"
    assert words(r"-\log\sigma(x)") == "−log σ(x)"
    assert words(r"\operatorname{softmax}\left(x\right) y") == "softmax(x)y"


def test_a_sign_belongs_to_what_follows() -> None:
    assert mathml.mathml(r"(-1)^l").count('form="prefix"') == 1
    assert mathml.mathml(r"\exp\left( -x \right) - y").count('form="prefix">−') == 1
    assert 'form="prefix"' not in mathml.mathml("x - y")


def test_bars_and_floors_are_brackets() -> None:
    for latex in (r"\lvert x \rvert", r"\lfloor x \rfloor", r"\lceil x \rceil"):
        forms = re.findall(r'form="(\w+)"', mathml.mathml(latex))
        assert forms == ["prefix", "postfix"]


def test_lines_break_outside_of_environments() -> None:
    cases = r"\begin{cases} a & b \\ c & d \end{cases}"
    assert mathml.lines(f"x \\\\\n {cases} \\\\ y") == ["x", cases, "y"]


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "{math}" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_formulas_of_pages_convert(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\{math\}\n(.*?)^```", text, flags=re.M | re.S)
    inline = re.findall(r"\{math\}`([^`]+)`", text)
    assert blocks or inline
    for latex in [line for block in blocks for line in mathml.lines(block)] + inline:
        mathml.mathml(latex)
