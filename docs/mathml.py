"""LaTeX to MathML, which browsers set themselves: no script and no font to load."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

from latex2mathml.converter import convert

SCRIPTS = {"msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3}
CHILDREN = {**SCRIPTS, "mfrac": 2}
LIMITS = {"msub": "munder", "msubsup": "munderover"}
ROWS = ("math", "mrow", "mtd", "msqrt", "mstyle")
SIGNS = ("−", "-", "+", "±")
FLOORS = {"⌊": "prefix", "⌈": "prefix", "⌋": "postfix", "⌉": "postfix"}
OPENING = ("", "(", "[", "{", "=", "<", ">", "≤", "≥", ",", "·", "←")
NAMESPACE = "http://www.w3.org/1998/Math/MathML"


def mathml(latex: str, *, display: bool = False) -> str:
    """One formula as a ``<math>`` element.

    Raises:
        ValueError: a command that is not known, or braces and arguments that do not agree.
    """
    plain = re.sub(r"\\[\\{}|]", "", latex)
    if "|" in latex or plain.count("{") != plain.count("}"):
        raise ValueError(f"expected pairs of braces, and \\lvert for a bar, got {latex!r}")
    if latex.count(r"\left") != latex.count(r"\right") + latex.count(r"\leftarrow"):
        raise ValueError(f"expected a \\right for each \\left, got {latex!r}")
    try:
        root = ET.fromstring(convert(latex, display="block" if display else "inline"))
    except Exception as error:
        raise ValueError(f"expected LaTeX that can be read, got {latex!r}: {error}") from error
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    for element in root.iter():
        text = (element.text or "").strip()
        wanted = CHILDREN.get(element.tag, len(element))
        if text.startswith(("\\", "&")) or len(element) != wanted:
            raise ValueError(f"expected known commands with their arguments, got {text or latex!r}")
        if element.tag == "mo" and len(text) > 1 and text.isalpha():
            element.tag, element.attrib = "mi", {}
        if element.tag in LIMITS and element[0].text == "∑":
            element.tag = LIMITS[element.tag]
    for element in root.iter():
        if element.tag in ROWS:
            _set_forms(element)
            _space_names(element)
    for element in root.iter():
        _join_letters(element)
    attributes = ' display="block"' if display else ""
    inner = "".join(ET.tostring(child, encoding="unicode") for child in root)
    return f"<math{attributes}>{inner}</math>"


def lines(latex: str) -> list[str]:
    """The lines of a displayed formula: ``\\\\`` outside of environments breaks it."""
    parts = re.split(r"(\\begin\{.*?\\end\{\w+\*?\})", latex, flags=re.S)
    marked = "".join(p if p.startswith(r"\begin") else p.replace(r"\\", "\0") for p in parts)
    return [" ".join(line.split()) for line in marked.split("\0") if line.strip()]


def _set_forms(row: ET.Element) -> None:
    """Bars, floors and ceilings as brackets; a sign after a bracket or an operator as its own."""
    before, bars = "", 0
    for child in row:
        text = child.text or ""
        if child.tag == "mi" and text in FLOORS:
            child.tag, child.attrib = "mo", {"form": FLOORS[text], "stretchy": "false"}
        elif text == "~":
            child.tag, child.text = "mo", "∼"
        elif text == "|" and "form" not in child.attrib:
            child.attrib = {"form": ("prefix", "postfix")[bars % 2], "stretchy": "false"}
            bars += 1
        elif child.tag == "mo" and text in SIGNS and before in OPENING:
            child.set("form", "prefix")
        if child.tag != "mspace":
            before = text if child.tag == "mo" else "x"


def _space_names(row: ET.Element) -> None:
    """A thin space between the name of a function and what has no bracket, as TeX has it."""
    children = list(row)
    for index, (before, after) in reversed(list(enumerate(pairwise(children)))):
        if (_is_name(before) and not _opens(after)) or (_is_name(after) and _ends(before)):
            row.insert(index + 1, ET.Element("mspace", width="0.2em"))


def _is_name(element: ET.Element) -> bool:
    """sin, log, softmax, and these with an index or a power."""
    if element.tag in SCRIPTS:
        return _is_name(element[0])
    plain = element.tag == "mi" and "mathvariant" not in element.attrib
    return plain and len(element.text or "") > 1 and (element.text or "").isascii()


def _opens(element: ET.Element) -> bool:
    """A bracket, an operator or a space: nothing that a name would run into."""
    if element.tag == "mrow" and len(element):
        return _opens(element[0])
    return element.tag in ("mo", "mspace", "mtext")


def _ends(element: ET.Element) -> bool:
    """A letter, a number, or what closes a bracket."""
    if element.tag == "mrow" and len(element):
        return _ends(element[-1])
    return element.tag not in ("mo", "mspace", "mtext") or (element.text or "") in (")", "]", "}")


def _join_letters(element: ET.Element) -> None:
    """A name of upright letters as one word; text as a word, beside which a minus has space."""
    if element.tag == "mtext":
        element.tag, element.attrib = "mi", {"mathvariant": "normal"}
    letters = list(element)
    upright = {"mathvariant": "normal"}
    if len(letters) > 1 and all(one.tag == "mi" and one.attrib == upright for one in letters):
        word = ET.Element("mi")
        word.text = "".join(one.text or "" for one in letters)
        element[:] = [word]
