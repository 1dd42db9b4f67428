"""Complete encoders of the literature by name: their published settings, first weights, no data.

A name leads to a configuration, as `LocationEncoder.from_config` reads it and a settings file
holds it. Nothing is built before `encoder` is called. Released weights are another matter: they
are converted, and this module has none.
"""

import copy
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geoenc.component import Component
from geoenc.encoder import LocationEncoder, SumEncoder

Config = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """What is known of a published encoder.

    Attributes:
        config: the model, as ``from_config`` reads it.
        out_features: width of its embedding.
        paper: where it was introduced.
        source: where these settings stand.
        notes: coordinates and time as the original takes them, and what differs.
    """

    config: Config
    out_features: int
    paper: str
    source: str
    notes: str = ""


def names() -> list[str]:
    """Names of all published encoders.

    Example:
        >>> import geoenc
        >>> [name for name in geoenc.published.names() if "CLIP" in name]
        ['SatCLIP-L10', 'SatCLIP-L40', 'GeoCLIP']
    """
    return list(_ENTRIES)


def entry(name: str) -> Published:
    """Settings, paper and notes of a published encoder; nothing is built.

    Args:
        name: one of `names`.

    Raises:
        ValueError: another name.

    Example:
        >>> import geoenc
        >>> geoenc.published.entry("SINR").config["network"]
        {'name': 'ResidualNet', 'out_features': 256, 'depth': 4, 'dropout': 0.5}
    """
    if name not in _ENTRIES:
        lower = {known.lower(): known for known in _ENTRIES}
        close = difflib.get_close_matches(str(name).lower(), lower, n=3, cutoff=0.4)
        matches = [lower[one] for one in close]
        raise ValueError(
            f"expected the name of a published encoder, got {name!r}; "
            f"{'did you mean' if matches else 'there are'} {', '.join(matches or _ENTRIES)}?"
        )
    return copy.deepcopy(_ENTRIES[name])


def encoder(name: str) -> LocationEncoder | SumEncoder:
    """The encoder of the `entry` of this name, with random first weights, ready for training.

    Example:
        >>> import geoenc
        >>> encoder = geoenc.published.encoder("CSP-fMoW")
        >>> encoder.embed([(-122.27, 37.87), (2.35, 48.86)]).shape
        torch.Size([2, 256])
    """
    model: Any = Component.from_config(entry(name).config)
    return model


# --- parts of configurations --------------------------------------------------------------------


def _location(position: Config, network: Config, time: Config | None = None) -> Config:
    config = {"name": "LocationEncoder", "position": position, "network": network}
    return config if time is None else {**config, "time": time}


def _part(name: str, **arguments: Any) -> Config:
    return {"name": name, **arguments}


def _scales(name: str, count: int, low: float, high: float) -> Config:
    return _part(name, num_frequencies=count, min_radius=low, max_radius=high)


def _ffn(hidden_features: int = 512, activation: str = "relu") -> Config:
    return _part(
        "FFN",
        out_features=256,
        hidden_features=hidden_features,
        depth=1,
        activation=activation,
        dropout=0.5,
    )


def _fcnet(out_features: int = 256, depth: int = 4, **arguments: Any) -> Config:
    return _part("ResidualNet", out_features=out_features, depth=depth, dropout=0.5, **arguments)


def _siren(out_features: int, hidden_features: int, depth: int, **arguments: Any) -> Config:
    return _part(
        "Siren",
        out_features=out_features,
        hidden_features=hidden_features,
        depth=depth,
        first_frequency=30.0,
        **arguments,
    )


# --- one function per paper ---------------------------------------------------------------------


def _satclip(degree: int) -> Published:
    return Published(
        _location(_part("SphericalHarmonics", degree=degree), _siren(256, 512, 2, dropout=0.5)),
        256,
        "Klemmer et al., SatCLIP, AAAI 2025",
        "microsoft/satclip, released configurations",
        f"L = {degree + 1} counts degrees from 0. The original runs in float64: call .double(). "
        "Its harmonics differ in sign and scale, which converted weights make up for.",
    )


def _geoclip() -> Published:
    ffn = _part(
        "FFN",
        out_features=512,
        hidden_features=1024,
        depth=3,
        activation="relu",
        dropout=0.0,
        residual=False,
        layer_norm=False,
        final_activation=False,
    )
    encoders = [
        _location(_part("RFF", num_features=256, scale=scale, plane="equal_earth"), ffn)
        for scale in (1.0, 16.0, 256.0)
    ]
    return Published(
        _part("SumEncoder", encoders=encoders),
        512,
        "Vivanco Cepeda, Nayak and Shah, GeoCLIP, NeurIPS 2023",
        "VicenteVivan/geo-clip, location encoder",
        "The original takes latitude first; the place encoder of TaxaBind is the same. First "
        "weights here are Xavier-uniform, there nn.Linear's default, which is smaller.",
    )


def _wrapped(paper: str, source: str, notes: str, time: Config | None = None) -> Published:
    return Published(_location(_part("Wrap"), _fcnet(), time), 256, paper, source, notes)


def _csp(data: str, activation: str) -> Published:
    return Published(
        _location(_scales("Space2VecGrid", 32, 0.1, 360.0), _ffn(512, activation)),
        256,
        "Mai et al., CSP, ICML 2023",
        f"gengchenmai/csp, scripts for {data}",
        "The last layer has activation and dropout too, on which the dropout objective relies.",
    )


def _climplicit() -> Published:
    network = _siren(256, 512, 16, residual=True, hyperbolic=True)
    return Published(
        _location(_part("Direct"), network, _part("CyclicTime", offset=-1 / 24)),
        256,
        "Dollinger et al., Climplicit, 2025",
        "ecovision-uzh/climplicit, model",
        "Time is the month, by geoenc.temporal.year_fraction_of_months. The published embedding "
        "of 1,024 numbers, for no month, is those of months 3, 6, 9 and 12 side by side.",
    )


def _tte() -> Published:
    position = _part(
        "SoftVoronoi", out_features=512, num_sites=4096, site_features=384, num_tokens=64, gate=0.5
    )
    return Published(
        _location(position, _fcnet(512, 2, hidden_features=512)),
        512,
        "Cher et al., Tessellating the Earth, ECCV 2026",
        "mvrl/TTE, model",
        "The original takes latitude first and has embeddings of length 1; normalise for that. "
        "Sites that start denser on land, as there, are taken from places by position.fit.",
    )


_BUG = (
    "TorchSpatial's code ignores min_radius here, so that all scales of its released weights are "
    "1; set min_radius and max_radius to 1 for these."
)
_LEAKY = "leaky_relu"


def _rff(**extent: Any) -> Config:
    """A kernel of size 2 is a variance of 2, in radians per unit of the scaled coordinates."""
    scale = math.sqrt(2) / (2 * math.pi)
    return _part("RFF", num_features=64, scale=scale, plane="degrees", shifted=True, **extent)


_INAT2018: list[tuple[Config, Config, str]] = [
    (_part("XYZ"), _ffn(), ""),
    (_part("Wrap"), _ffn(256, _LEAKY), "wrap_ffn there."),
    (_part("RBF", num_anchors=500, bandwidth=2.0), _ffn(), "Anchors: position.fit(places)."),
    (_rff(), _ffn(), ""),
    (_scales("Space2VecGrid", 32, 1e-4, 360.0), _ffn(512, _LEAKY), ""),
    (_scales("Space2VecTheory", 64, 0.05, 360.0), _ffn(512, _LEAKY), ""),
    (_part("NeRF", num_frequencies=16), _ffn(256, _LEAKY), ""),
    (_scales("Sphere2VecC", 64, 1e-3, 1.0), _ffn(1024, _LEAKY), ""),
    (_scales("Sphere2VecCPlus", 64, 1e-3, 1.0), _ffn(1024, _LEAKY), ""),
    (_scales("Sphere2VecM", 64, 1e-3, 1.0), _ffn(1024, _LEAKY), ""),
    (_scales("Sphere2VecMPlus", 64, 1e-3, 1.0), _ffn(1024, _LEAKY), _BUG),
    (_scales("Sphere2VecDFS", 8, 1e-4, 1.0), _ffn(512, _LEAKY), _BUG),
]
_FMOW: list[tuple[Config, Config, str]] = [
    (_part("XYZ"), _ffn(), ""),
    (_part("Wrap"), _ffn(), "wrap_ffn there."),
    (_part("RBF", num_anchors=200, bandwidth=2.0), _ffn(), "Anchors: position.fit(places)."),
    (
        _rff(extent=[-162.0, -59.0, 20.0, 56.0]),
        _ffn(),
        "The extent of North America for places of the whole globe, as released.",
    ),
    (_scales("Space2VecGrid", 128, 0.02, 360.0), _ffn(512, _LEAKY), ""),
    (_scales("Space2VecTheory", 64, 1e-4, 360.0), _ffn(512, _LEAKY), ""),
    (_part("NeRF", num_frequencies=16), _ffn(256), "64 frequencies were asked for, 16 used."),
    (_scales("Sphere2VecC", 64, 5e-4, 1.0), _ffn(), ""),
    (_scales("Sphere2VecCPlus", 64, 1e-4, 1.0), _ffn(), ""),
    (_scales("Sphere2VecM", 64, 1e-4, 1.0), _ffn(), ""),
    (_scales("Sphere2VecMPlus", 64, 0.066, 1.0), _ffn(1024, _LEAKY), _BUG),
    (_scales("Sphere2VecDFS", 64, 1e-2, 1.0), _ffn(512, _LEAKY), _BUG),
]
_PAPERS = {
    **dict.fromkeys(("XYZ", "Wrap"), "Mac Aodha, Cole and Perona, ICCV 2019"),
    **dict.fromkeys(
        ("RBF", "Space2VecGrid", "Space2VecTheory"), "Mai et al., Space2Vec, ICLR 2020"
    ),
    "RFF": "Rahimi and Recht, NIPS 2007",
    "NeRF": "Mildenhall et al., NeRF, ECCV 2020",
}
_SPHERE2VEC = "Mai et al., Sphere2Vec, ISPRS Journal 2023"


def _torchspatial(data: str, rows: list[tuple[Config, Config, str]]) -> Mapping[str, Published]:
    return {
        f"{position['name']}-{data}": Published(
            _location(position, network),
            256,
            _PAPERS.get(position["name"], _SPHERE2VEC),
            f"TorchSpatial, NeurIPS 2024: released checkpoints and scripts for {data}",
            notes,
        )
        for position, network, notes in rows
    }


def _harmonic(task: str, degree: int, network: Config) -> Published:
    return Published(
        _location(_part("SphericalHarmonics", degree=degree), network),
        network["out_features"],
        "Rußwurm et al., Geographic location encoding, ICLR 2024",
        f"MarcCoru/locationencoder, best settings for {task}",
        f"L = {degree + 1} counts degrees from 0. The output is logits, not an embedding.",
    )


_ENTRIES: dict[str, Published] = {
    "SatCLIP-L10": _satclip(9),
    "SatCLIP-L40": _satclip(39),
    "GeoCLIP": _geoclip(),
    "SINR": _wrapped(
        "Cole et al., SINR, ICML 2023",
        "elijahcole/sinr, default parameters",
        "The codes of the south pole are those of the north pole.",
    ),
    "GeoPrior": _wrapped(
        "Mac Aodha, Cole and Perona, Presence-only geographical priors, ICCV 2019",
        "macaodha/geo_prior, training parameters",
        "Time is the fraction of the year. The network called wrap in CSP and TorchSpatial is "
        "this one without time, which is SINR.",
        _part("CyclicTime", offset=0.5),
    ),
    "CSP-iNat2018": _csp("iNat2018", _LEAKY),
    "CSP-fMoW": _csp("fMoW", "gelu"),
    "Climplicit": _climplicit(),
    "TTE": _tte(),
    **_torchspatial("iNat2018", _INAT2018),
    **_torchspatial("fMoW", _FMOW),
    "SH-Linear-iNat2018": _harmonic("iNat2018", 19, _part("Linear", out_features=8142)),
    "SH-Siren-iNat2018": _harmonic("iNat2018", 24, _siren(8142, 128, 3)),
    "SH-FCNet-iNat2018": _harmonic("iNat2018", 29, _fcnet(8142, hidden_features=64)),
    "SH-Siren-LandOcean": _harmonic("land and ocean", 9, _siren(1, 64, 2)),
    "SH-Siren-Checkerboard": _harmonic("the checkerboard", 14, _siren(16, 128, 1)),
}
