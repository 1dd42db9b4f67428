"""Sphinx configuration. Build offline: python -m sphinx -W -b html docs docs/_build/html"""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import draw  # noqa: E402
import generate  # noqa: E402

import geoenc  # noqa: E402

project = "geoenc"
author = "The geoenc developers"
copyright = f"2026, {author}"
version = release = geoenc.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "formulas",
]
exclude_patterns = ["_build", "generated"]
default_role = "py:obj"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Docstrings have plain formulas, formulas.toml their LaTeX, and pages MathML: no script, no font.
html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shape", "Reference", "Differs"]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "geoenc"
html_static_path = ["_static"]
html_css_files = ["geoenc.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "geoenc"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
html_sidebars = {"index": [], "changelog": []}


def plain_formulas(_app: Any, _what: str, _name: str, _obj: Any, _opts: Any, lines: list[str]):
    """Docstrings write |x| for lengths, which reStructuredText would take for a substitution."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[number] = "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in parts)


def write_generated_pages(_app: Any) -> None:
    """Tables and pictures that would go stale if they were typed."""
    generate.write(HERE / "generated")
    draw.write(HERE / "gallery", HERE / "generated")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_generated_pages)
    app.connect("autodoc-process-docstring", plain_formulas)
