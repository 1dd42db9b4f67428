"""An encoder that is interrupted, for tests of what goes on afterwards."""

import pytest

import geoenc


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> list[int]:
    """Interrupt the encoder at the block after so many; the list counts."""
    calls: list[int] = []
    embed = geoenc.LocationEncoder.embed

    def counted(self, locations, time=None, **options):
        if len(locations):
            calls.append(len(locations))
        if len(calls) > blocks:
            raise KeyboardInterrupt
        return embed(self, locations, time, **options)

    monkeypatch.setattr(geoenc.LocationEncoder, "embed", counted)
    return calls
