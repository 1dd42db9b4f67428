"""The self-check: it passes here, tells what fails, and knows every part."""

import pytest
import torch
from torch import Tensor

import geoenc
from geoenc import selftest
from geoenc.component import Component


def test_all_of_it_but_the_imports(capsys: pytest.CaptureFixture[str]) -> None:
    """The modules are imported by the tests of documentation anyway."""
    some = [check for check in selftest.checks() if not check[0].startswith("import ")]
    assert selftest.main(some) == 0
    told = capsys.readouterr().out
    assert f"{len(some)} ok, 0 absent, 0 FAILED" in told
    for line in (f"torch             {torch.__version__}", "platform          "):
        assert line in told
    for name in ("Space2VecGrid", "FFN", "CyclicTime", "LocationEncoder", "CSPLoss"):
        assert f"contract {name} " in told
    assert "save and load LocationClassifier " in told


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
