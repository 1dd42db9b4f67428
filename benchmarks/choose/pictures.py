"""Two pictures of every position encoder: a linear function of its code, and its kernel."""

import io
import math
from typing import Any

import torch

from benchmarks.choose.cost import example
from benchmarks.choose.run import read_settings
from benchmarks.shared import ROOT
from geoenc import PositionEncoder, plot, sampling

FOLDER = ROOT / "docs" / "_static"
AT = (-105.0, 55.0)
HEIGHT = 150
ACROSS = 3
CMAP = "RdBu_r"


def linear_map(encoder: PositionEncoder, ax: Any, *, height: int = HEIGHT) -> None:
    """w . PE(x) with weights w drawn once: what a linear layer sees before it is trained."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(encoder.out_features, generator=generator)
    with torch.no_grad():
        values = encoder.write(sampling.lattice(height).flatten(0, 1)) @ weights
    values = (values - values.mean()) / values.std()
    plot.draw_map(values.view(height, -1), ax=ax, cmap=CMAP, low=-2.5, high=2.5)


def kernel_map(encoder: PositionEncoder, ax: Any, *, height: int = HEIGHT) -> None:
    """The cosine of the code here and at one place."""
    plot.similarity_map(encoder, AT, ax=ax, height=height)


def figure(entries: list[dict[str, Any]], drawn: Any, *, height: int = HEIGHT) -> bytes:
    """One small map for each encoder, with the middle of the scales to choose from."""
    import matplotlib.pyplot as plt
    from PIL import Image

    places = sampling.fibonacci(2000)
    down = math.ceil(len(entries) / ACROSS)
    picture, axes = plt.subplots(
        down, ACROSS, figsize=(8, 1.6 * down), layout="constrained", squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for entry, ax in zip(entries, axes.flat, strict=False):
        drawn(example(entry, places), ax, height=height)
        for outlines in ax.lines[:2]:
            outlines.set(color="0.3", linewidth=0.2)
        title = entry["name"].replace("great_circle", "sphere").replace("equal_earth", "map")
        ax.set_title(title, fontsize=14, pad=2)
    saved = io.BytesIO()
    picture.savefig(saved, dpi=108, format="png")
    plt.close(picture)
    image = Image.open(saved).convert("RGB")
    small = io.BytesIO()
    few = image.quantize(palette=_palette(), dither=Image.Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def _palette() -> Any:
    """Few colours make small files: those of the maps, and greys for lines and words."""
    import matplotlib.pyplot as plt
    import numpy as np
    from PIL import Image

    colours = plt.get_cmap(CMAP)(np.linspace(0, 1, 25))[:, :3]
    greys = np.linspace(0, 1, 7)[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(
        (255 * np.concatenate([colours, greys])).round().astype(int).ravel().tolist()
    )
    return palette


def draw() -> None:
    """Draw both pictures of the how-to page."""
    entries = read_settings()["encoders"]
    for name, drawn in (("encoders-linear", linear_map), ("encoders-kernel", kernel_map)):
        path = FOLDER / f"{name}.png"
        path.write_bytes(figure(entries, drawn))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
