"""What all tests share: chance that repeats itself, one thread, the device, the real data."""

import os
import random
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")
torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "geoenc", max_examples=25, deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("geoenc")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn; skipped where the machine has none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden numbers, which are not part of the repository."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("GEOENC_SHARED", default))
    if not folder.is_dir():
        pytest.skip(
            f"real data expected in {folder}, got no such folder; put the folder `shared` beside "
            "the repository, or set GEOENC_SHARED to where it is"
        )
    return folder
