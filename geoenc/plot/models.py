"""Maps of what encoders and classifiers know."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geoenc.coordinates import as_lonlat
from geoenc.encoder import LocationEncoder, SumEncoder
from geoenc.models import LocationClassifier
from geoenc.plot.colours import DIVERGING, three_colours
from geoenc.plot.drawing import draw_map, on_land
from geoenc.plot.views import WORLD, View
from geoenc.position import PositionEncoder
from geoenc.retrieval import RetrievalAugmented

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Encoder = LocationEncoder | SumEncoder | RetrievalAugmented | PositionEncoder
_SEA = 0.25


def similarity_map(
    encoder: Encoder,
    at: Any,
    *,
    view: View = WORLD,
    height: int = 180,
    ax: "Axes | None" = None,
) -> "Axes":
    """cos(e(x), e(at)) for every place x of a map.

    Of a position encoder this is its kernel: which places a network takes to be alike before it
    has learned anything.

    Args:
        encoder: any location encoder, or a position encoder by itself.
        at: one place, (lon, lat) in degrees.
        view, height, ax: see `draw_map`.

    Example:
        >>> import geoenc
        >>> from geoenc.plot import similarity_map
        >>> ax = similarity_map(geoenc.SphericalHarmonics(5), at=(2.35, 48.86), height=30)
    """
    place = as_lonlat(at)
    if place.shape != (2,):
        raise ValueError(f"expected one place (lon, lat), got shape {tuple(place.shape)}")
    there = directions(encoder, place[None])[0]
    values = directions(encoder, view.places(height)) @ there
    ax = draw_map(
        values, view=view, ax=ax, cmap=DIVERGING, low=-1.0, high=1.0, label="cosine similarity"
    )
    x, y = view.project(place).tolist()
    ax.plot(x, y, marker="x", color="white", markersize=8, markeredgewidth=3, zorder=4)
    ax.plot(x, y, marker="x", color="black", markersize=7, markeredgewidth=1.2, zorder=4)
    return ax


def pca_map(
    encoder: LocationEncoder | SumEncoder | RetrievalAugmented,
    *,
    view: View = WORLD,
    height: int = 180,
    ax: "Axes | None" = None,
) -> "Axes":
    """The three main components of e(x) over land, as lightness, yellow to blue and red to green.

    Places with like colours have like embeddings. Who confuses red and green misses only the
    third component. The sea, which no land data trained, is pale.

    Args:
        encoder: any location encoder.
        view, height, ax: see `draw_map`. The components are those of the land on the map.

    Example:
        >>> import geoenc
        >>> from geoenc.plot import pca_map
        >>> ax = pca_map(geoenc.published.encoder("SINR"), height=30)
    """
    places = view.places(height)
    _check_embeds(encoder)
    embedding = encoder.embed(places).cpu().double().flatten(0, 1)
    land = on_land(places).flatten()
    if not bool(land.any()):
        raise ValueError(f"expected land in {view}, got sea only; choose another view")
    colours = component_colours(embedding, land)
    picture = torch.where(land[:, None], colours, 1 - _SEA * (1 - colours))
    return draw_map(picture.view(*places.shape[:2], 3), view=view, ax=ax)


def component_colours(embedding: Tensor, land: Tensor) -> Tensor:
    """The three main components over land, from 2 % to 98 % of each, as `three_colours`.

    Args:
        embedding: e(x) of many places.
        land: those which the components are of.

    Shape:
        ``(N, D)`` and ``(N,)`` booleans to ``(N, 3)`` in [0, 1].
    """
    centred = embedding - embedding[land].mean(0)
    _, vectors = torch.linalg.eigh(centred[land].mT @ centred[land])
    main = vectors[:, -3:].flip(1)
    main = main * main.gather(0, main.abs().argmax(0, keepdim=True)).sign()
    components = torch.nn.functional.pad(centred @ main, (0, 3 - main.shape[1]))
    low, high = (torch.quantile(components[land], q, dim=0) for q in (0.02, 0.98))
    return three_colours((components - low) / (high - low).clamp_min(1e-12))


def class_map(
    classifier: LocationClassifier,
    index: int,
    *,
    view: View = WORLD,
    height: int = 180,
    normalised: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """P(y = index | x) for every place x on land.

    Args:
        classifier: any location classifier.
        index: which class.
        view, height, ax: see `draw_map`.
        normalised: divide by the sum over classes, for comparison between classifiers.

    Example:
        >>> import geoenc
        >>> from geoenc.plot import class_map
        >>> encoder = geoenc.published.encoder("SINR")
        >>> ax = class_map(geoenc.LocationClassifier(encoder, num_classes=3), 0, height=30)
    """
    if not hasattr(classifier, "probabilities"):
        raise TypeError(
            f"expected a LocationClassifier, got {type(classifier).__name__}, without classes; "
            "similarity_map and pca_map show an encoder"
        )
    if not 0 <= index < classifier.num_classes:
        raise ValueError(f"expected a class in [0, {classifier.num_classes}), got {index}")
    places = view.places(height)
    device = next(classifier.parameters()).device
    probability = classifier.probabilities(places.to(device)).cpu()
    if normalised:
        probability = probability / probability.sum(-1, keepdim=True)
    shown = probability[..., index].where(on_land(places), torch.nan)
    return draw_map(shown, view=view, ax=ax, low=0.0, high=1.0, label="probability")


def directions(encoder: Encoder, places: Tensor) -> Tensor:
    """e(x) / |e(x)| on the CPU; of a position encoder, PE(x) / |PE(x)|.

    Shape:
        places ``(..., 2)``; ``(..., out_features)``.
    """
    if isinstance(encoder, PositionEncoder):
        device = encoder._dtype_of_module.device
        with torch.no_grad():
            codes = encoder.write(places.flatten(0, -2).to(device)).unflatten(0, places.shape[:-1])
    else:
        _check_embeds(encoder)
        codes = encoder.embed(places)
    return torch.nn.functional.normalize(codes.cpu(), dim=-1)


def _check_embeds(encoder: Any) -> None:
    if not hasattr(encoder, "embed"):
        raise TypeError(
            f"expected an encoder with embed, got {type(encoder).__name__}; read a model with "
            "geoenc.from_pretrained, and of a classifier give .encoder"
        )
