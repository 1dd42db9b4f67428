"""The self-check: it passes here, tells what fails, and knows every part."""

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc import selftest
from geoenc.component import Component

PARTS = ("Space2VecGrid", "RBF", "FFN", "CyclicTime", "LocationEncoder", "InfoNCELoss")


def test_a_part_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """The contract of all of them, with more settings, is in test_contract.py."""
    known = dict(selftest.checks())
    names = [f"contract {name}" for name in PARTS]
    names += ["import geoenc.cli", "save and load LocationClassifier", "places", "training"]
    assert selftest.main([(name, known[name]) for name in names]) == 0
    told = capsys.readouterr().out
    assert "10 ok, 0 absent, 0 FAILED" in told
    for line in (f"torch             {torch.__version__}", "platform          "):
        assert line in told
    for name in names:
        assert f"ok      {name} " in told


def test_every_part_can_be_made_small() -> None:
    known = [cls for cls in Component.registry.values() if cls.__module__.startswith("geoenc.")]
    kinds = tuple(kind for kind, _ in selftest.CONTRACTS)
    parts = [selftest.small(cls) for cls in known if issubclass(cls, kinds)]
    assert len(parts) > 20
    assert max(sum(p.numel() for p in part.parameters()) for part in parts) < 20_000


def test_modules_are_the_files() -> None:
    names = selftest.modules()
    assert {"geoenc.coordinates", "geoenc.cli.run", "geoenc.losses.csp"} <= set(names)
    assert "geoenc.__main__" not in names


def test_failures_are_told_and_do_not_stop_it(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise RuntimeError("no such thing")

    def extra() -> None:
        raise ImportError("install it with: pip install 'geoenc[eval]'")

    def other() -> None:
        raise ImportError("cannot import name")

    found = selftest.main([("a", broken), ("b", extra), ("c", other), ("d", lambda: None)])
    told = capsys.readouterr().out
    assert found == 1
    assert "RuntimeError: no such thing" in told
    assert "absent  b " in told
    assert "1 ok, 1 absent, 2 FAILED" in told


def test_a_class_of_ones_own_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class _Constant(geoenc.PositionEncoder):
        def __init__(self) -> None:
            super().__init__(out_features=1)

        def encode(self, lonlat: Tensor) -> Tensor:
            return torch.ones_like(lonlat[..., :1])

    monkeypatch.setitem(Component.registry, "_Constant", _Constant)
    check = dict(selftest.checks())["contract _Constant"]
    result, message = selftest.outcome(check)
    assert result == "FAILED"
    assert "NaN where the place is NaN" in message or "wraps" in message


def test_what_has_no_known_size_is_named() -> None:
    class _Demanding:
        def __init__(self, colour: str) -> None:
            self.colour = colour

    with pytest.raises(TypeError, match=r"got \['colour'\] of _Demanding"):
        selftest.small(_Demanding)


def test_changed_weights_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = selftest.models()[0]
    monkeypatch.setattr(geoenc, "from_pretrained", lambda _: selftest.models()[0])
    with pytest.raises(AssertionError, match="as it was saved"):
        selftest.check_saved(model)


def test_a_gate_that_lets_all_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoenc, "as_lonlat", lambda _: torch.tensor([[-170.0, 10.0]]))
    with pytest.raises(AssertionError, match="to be refused"):
        selftest.check_places()
