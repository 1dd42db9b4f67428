"""Pictures of the gallery: its code blocks are run, and what they draw is saved."""

import hashlib
import re
from pathlib import Path
from typing import Any

import geoenc

FENCE = re.compile(r"^```python\n(?P<code>.*?)^```", re.M | re.S)
PICTURE = re.compile(r"^!\[(?P<words>[^]]*)\]\(\.\./generated/gallery/(?P<name>[^)]*)\)", re.M)
HEADING = re.compile(r"^##? (?P<words>.*)", re.M)


def write(pages: Path, folder: Path) -> None:
    """Draw the pages that have changed, and write their thumbnails for the index.

    The code of `geoenc.plot` counts as a part of each page, other code of the library does not:
    delete the folder to draw everything again.
    """
    pictures = folder / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    plot = b"".join(
        path.read_bytes() for path in sorted(Path(geoenc.plot.__path__[0]).glob("*.py"))
    )
    lines = [":::{container} gallery", ""]
    for page in sorted(set(pages.glob("*.md")) - {pages / "index.md"}):
        text = page.read_text(encoding="utf-8")
        stamp = pictures / f"{page.stem}.sha256"
        digest = hashlib.sha256(plot + text.encode()).hexdigest()
        if not stamp.is_file() or stamp.read_text() != digest:
            draw(page, pictures)
            stamp.write_text(digest)
        for found in PICTURE.finditer(text):
            heading = [h["words"] for h in HEADING.finditer(text, 0, found.start())][-1]
            anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            image = f"![{found['words']}](../generated/gallery/{found['name']})"
            lines += [f"[{image} {heading}]({page.name}#{anchor})", ""]
    (folder / "gallery.md").write_text("\n".join([*lines, ":::", ""]), encoding="utf-8")


def draw(page: Path, folder: Path) -> None:
    """Run the blocks of a page in one namespace; a figure that one leaves open is saved."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        exec(compile(block["code"], str(page), "exec"), names)
        if pyplot.get_fignums():
            number += 1
            pyplot.savefig(folder / f"{page.stem}-{number}.png", dpi=150)
            pyplot.close("all")
