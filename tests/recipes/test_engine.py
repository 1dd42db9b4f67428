"""What happens around a stage: several processes, interruptions, full disks, and bad numbers."""

import contextlib
import csv
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geoenc.data import LocationDataset, NpyRows, make_published
from geoenc.losses import CSPLoss
from geoenc.recipes import csp, engine, study
from geoenc.recipes.batches import share
from geoenc.recipes.config import Config, Hardware, load_config

sys.path.insert(0, str(Path(__file__).parent))
import workers

WORKER = str(Path(workers.__file__))
WITHOUT_CHANCE = "encoder.network.dropout=0.0"


@pytest.fixture(scope="module")
def data() -> LocationDataset:
    return workers.dataset()


def process(*arguments: object, module: str = "", **environment: str) -> subprocess.Popen:
    program = ["-m", module] if module else [WORKER]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def group(
    count: int, *arguments: object, module: str = "", **environment: str
) -> list[subprocess.Popen]:
    """Processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        "TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": str(count), "WORLD_SIZE": str(count),
        "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    return [
        process(*arguments, module=module, **common, RANK=str(i), LOCAL_RANK=str(i), **environment)
        for i in range(count)
    ]


def wait_for(one: subprocess.Popen, line: str) -> None:
    assert one.stdout is not None
    for said in one.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"ended before {line!r}: {one.stderr.read()}")


def finished(*processes: subprocess.Popen) -> list[str]:
    said = [one.communicate(timeout=120)[1] for one in processes]
    assert [one.returncode for one in processes] == [0] * len(processes), said
    return said


def equal(first: dict, second: dict) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first | second)


# --- several processes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (2, ["pretrain.num_negatives=2"]),
        pytest.param(
            4, ["pretrain.criterion=nce", "pretrain.micro_batch=10"], marks=pytest.mark.slow
        ),
    ],
)
def test_many_processes_are_as_one(data, tmp_path, count, settings) -> None:
    """Losses and weights of every epoch: negatives span all, and gradients are averaged."""
    settings = [WITHOUT_CHANCE, *settings]
    finished(*group(count, tmp_path / "many.pt", "", *settings))
    many = torch.load(tmp_path / "many.pt")
    losses: list[float] = []
    one = csp.pretrain(workers.config(*settings), data, history=losses)
    assert many["losses"] == pytest.approx(losses, rel=1e-5)
    for key, value in one.state_dict().items():
        assert torch.allclose(many["weights"][key], value, atol=2e-5), key


def test_a_process_that_loses_the_other_says_so_and_ends(tmp_path) -> None:
    first, second = group(2, tmp_path / "out.pt", tmp_path / "checkpoint.pt", WAIT_AFTER_STEP="8")
    try:
        wait_for(first, "step 8")
        wait_for(second, "step 8")
        os.kill(second.pid, signal.SIGKILL)
        _, said = first.communicate(timeout=60)  # closes stdin: the survivor goes on
        assert first.returncode == 1, said
        assert "expected 2 processes to go on together, but process 0 lost another" in said
        assert "goes on from the last checkpoint" in said
        assert (tmp_path / "checkpoint.pt").is_file()
    finally:
        for one in (first, second):
            one.kill()
            one.wait()


def test_processes_share_a_batch_without_remainder(monkeypatch) -> None:
    monkeypatch.setattr("geoenc.recipes.batches.world_size", lambda: 3)
    parts = []
    for number in range(3):
        monkeypatch.setattr("geoenc.recipes.batches.rank", lambda number=number: number)
        parts.append(share(torch.arange(11)).tolist())
    assert parts == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


# --- interruptions ------------------------------------------------------------------------------


def test_killed_in_the_middle_of_an_epoch_it_goes_on_bit_by_bit(data, tmp_path) -> None:
    """kill -9 in the third of five steps of the second epoch, with dropout and random places."""
    out, checkpoint = tmp_path / "out.pt", tmp_path / "checkpoint.pt"
    one = process(out, checkpoint, WAIT_AFTER_STEP="8")
    try:
        wait_for(one, "step 8")
        assert checkpoint.is_file()
    finally:
        one.kill()
        one.wait()
    assert not out.exists()
    again = process(out, checkpoint)
    finished(again)
    resumed = torch.load(out)
    losses: list[float] = []
    expected = csp.pretrain(workers.config(), data, history=losses)
    assert resumed["losses"] == losses
    assert equal(resumed["weights"], expected.state_dict())
    assert not checkpoint.exists()


def test_a_full_disk_leaves_the_old_checkpoint(data, tmp_path, monkeypatch) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    write, kept = Path.write_bytes, []

    def full(path: Path, content: bytes) -> int:
        if checkpoint.exists():
            kept.append(checkpoint.read_bytes())
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"expected room for checkpoint\.pt.*nothing was changed"):
        csp.pretrain(workers.config(), data, checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert checkpoint.read_bytes() == kept[0]
    monkeypatch.undo()
    resumed = csp.pretrain(workers.config(), data, checkpoint=checkpoint)
    assert equal(resumed.state_dict(), csp.pretrain(workers.config(), data).state_dict())


def test_the_log_of_a_resumed_stage_has_every_epoch_once(data, tmp_path, monkeypatch) -> None:
    checkpoint, logs = tmp_path / "checkpoint.pt", tmp_path / "logs"
    end_epoch, calls = engine.Training.end_epoch, []

    def interrupted(training: engine.Training, **arguments: object) -> None:
        end_epoch(training, **arguments)
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.Training, "end_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        csp.pretrain(workers.config(), data, checkpoint=checkpoint, logs=logs)
    monkeypatch.undo()
    losses: list[float] = []
    csp.pretrain(workers.config(), data, checkpoint=checkpoint, logs=logs, history=losses)
    with (logs / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["loss"]) for row in rows] == losses
    assert {"learning_rate", "seconds", "rows_per_second"} <= set(rows[0])


# --- bad numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_refused_before_training(data, tmp_path, value) -> None:
    features = data.features.clone()
    broken = data.replace(features=features)
    features[123, 4] = value
    with pytest.raises(ValueError, match=f"expected finite features, got {value} in row 123"):
        csp.pretrain(workers.config(), broken, logs=tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
    np.save(tmp_path / "features.npy", features.numpy())
    rows = NpyRows(tmp_path / "features.npy")
    with pytest.raises(ValueError, match=r"features\.npy: expected finite numbers.*row 123"):
        csp.pretrain(workers.config(), data.replace(features=rows))


def test_a_feature_file_that_is_cut_short_is_refused_before_training(data, tmp_path) -> None:
    path = tmp_path / "features.npy"
    np.save(path, data.features.numpy())
    rows = NpyRows(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"features\.npy.*cut short"):
        csp.pretrain(workers.config(), data.replace(features=rows))


def test_features_on_disk_train_as_those_in_memory(data, tmp_path) -> None:
    np.save(tmp_path / "features.npy", data.features.numpy())
    rows = NpyRows(tmp_path / "features.npy")
    first = csp.pretrain(workers.config(), data)
    second = csp.pretrain(workers.config(), data.replace(features=rows))
    assert equal(first.state_dict(), second.state_dict())


# --- precision, memory, patience ----------------------------------------------------------------


def test_mixed_precision_leaves_the_encoding_of_places_alone(data, monkeypatch) -> None:
    """The codes of a step, bit by bit those of float64 arithmetic; products are in bfloat16."""
    position = csp.LocationEncoder.from_config(vars(workers.config().encoder)).position
    encode, seen, narrow = type(position).forward, [], []

    def watched(self, lonlat: torch.Tensor) -> torch.Tensor:
        code = encode(self, lonlat)
        seen.append((lonlat, code))
        return code

    linear = torch.nn.functional.linear

    def recorded(*arguments: torch.Tensor) -> torch.Tensor:
        product = linear(*arguments)
        narrow.append(product.dtype)
        return product

    monkeypatch.setattr(type(position), "forward", watched)
    monkeypatch.setattr(torch.nn.functional, "linear", recorded)
    csp.pretrain(workers.config("hardware.precision=bf16-mixed", "pretrain.epochs=1"), data)
    assert torch.bfloat16 in narrow
    assert seen
    for lonlat, code in seen:
        assert lonlat.dtype == torch.float64
        assert torch.equal(code, encode(position, lonlat))


@pytest.mark.parametrize("criterion", ["multiclass", "nce"])
@pytest.mark.parametrize("size", [1, 10, 63])
def test_micro_batches_do_not_change_the_loss(data, criterion, size) -> None:
    settings = [WITHOUT_CHANCE, f"pretrain.criterion={criterion}", "pretrain.symmetric=true"]
    whole, parts = [], []
    first = csp.pretrain(workers.config(*settings), data, history=whole)
    settings.append(f"pretrain.micro_batch={size}")
    second = csp.pretrain(workers.config(*settings), data, history=parts)
    assert parts == pytest.approx(whole, rel=1e-5)
    for key, value in first.state_dict().items():
        assert torch.allclose(value, second.state_dict()[key], atol=1e-4), key


def test_micro_batches_see_the_same_dropout_masks_twice(data) -> None:
    """The gradient is that of the loss which was measured: one pass with the masks recorded."""
    config = workers.config("pretrain.epochs=1", "pretrain.micro_batch=25")
    encoder = csp.LocationEncoder.from_config(vars(config.encoder))
    step = csp._Views(encoder, 8, config)
    training = engine.Training.start(
        config, step, torch.optim.SGD(step.parameters(), lr=0.0), torch.Generator()
    )
    passes: list[dict] = []
    step.register_forward_hook(lambda *arguments: passes.append(arguments[2]))
    random = data.lonlat[:64, None]
    training.step(csp.csp_loss(config.pretrain), (data.lonlat[:64], data.features[:64], random), 25)
    assert len(passes) == 6
    for first, second in zip(passes[:3], passes[3:], strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_patience_stops_and_keeps_the_best_epoch(data, tmp_path) -> None:
    """Validation images of other places: what is learned makes the loss on them rise."""
    settings = ["pretrain.epochs=30", "pretrain.patience=3", "pretrain.learning_rate=0.01"]
    validation = data.subset(range(100))
    validation = validation.replace(features=validation.features.flip(0))
    training = data.subset(range(100, 300))
    losses: list[float] = []
    model = csp.pretrain(
        workers.config(*settings), training, validation=validation, history=losses,
        logs=tmp_path / "logs",
    )  # fmt: skip
    with (tmp_path / "logs" / "metrics.csv").open() as file:
        held_out = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    best = held_out.index(min(held_out))
    assert len(losses) == len(held_out) == best + 1 + 3 < 30
    shorter = workers.config(*settings[1:], f"pretrain.epochs={best + 1}")
    assert equal(
        model.state_dict(), csp.pretrain(shorter, training, validation=validation).state_dict()
    )


def test_validation_does_not_disturb_training(data) -> None:
    plain, watched = [], []
    csp.pretrain(workers.config(), data, history=plain)
    config = workers.config("pretrain.patience=100")
    csp.pretrain(config, data, validation=data.subset(range(90)), history=watched)
    assert plain == watched


def test_patience_needs_a_validation_part(data) -> None:
    with pytest.raises(ValueError, match="expected a validation part for patience=2"):
        csp.pretrain(workers.config("pretrain.patience=2"), data)


def test_finetuning_has_patience_too(data) -> None:
    config = workers.config("finetune.patience=2", "finetune.epochs=50", "finetune.min_steps=0")
    losses: list[float] = []
    csp.finetune(config, None, data, validation=data.subset(range(60)), history=losses)
    assert 2 < len(losses) <= 50


# --- which rows, which places -------------------------------------------------------------------


def test_class_balanced_batches_cap_each_class(data) -> None:
    target = torch.cat([torch.zeros(250, dtype=torch.long), torch.ones(50, dtype=torch.long)])
    config = workers.config(
        "pretrain.batches=class_balanced_leaking_labels", "pretrain.max_per_class=20"
    )
    rows = torch.cat(
        csp._batches(torch.arange(300), config.pretrain, target, torch.Generator().manual_seed(0))
    )
    assert target[rows].bincount().tolist() == [20, 20]
    with pytest.raises(ValueError, match="expected a data set with target"):
        csp.pretrain(config, data.replace(target=None))


def test_weights_of_pretraining_and_of_finetuning_are_two_options(data) -> None:
    """CSP's code had one flag for both: without random places in one, the other keeps its own."""
    config: Config = workers.config("pretrain.location_weight=0", "finetune.background_weight=0.5")
    assert csp.csp_loss(config.pretrain).location_weight == 0
    drawn: list[int] = []

    def counted(num: int, **arguments: object) -> torch.Tensor:
        drawn.append(num)
        return torch.zeros(num, 2, dtype=torch.float64)

    place_sampler, csp.place_sampler = csp.place_sampler, lambda name: counted
    try:
        csp.pretrain(config, data)
        assert not drawn
        csp.finetune(config, None, data)
        assert drawn
    finally:
        csp.place_sampler = place_sampler


def test_each_place_is_encoded_once_a_step(data, monkeypatch) -> None:
    """Three views, two of the same places: 64 of the batch and 64 random ones, once each."""
    position = csp.LocationEncoder.from_config(vars(workers.config().encoder)).position
    encode, rows = type(position).forward, []

    def watched(self, lonlat: torch.Tensor) -> torch.Tensor:
        rows.append(len(lonlat))
        return encode(self, lonlat)

    monkeypatch.setattr(type(position), "forward", watched)
    csp.pretrain(workers.config("pretrain.epochs=1"), data)
    assert rows == [64, 64] * 4 + [44, 44]
    assert isinstance(csp.csp_loss(workers.config().pretrain), CSPLoss)


def test_a_checkpoint_is_written_after_every_epoch(data, tmp_path, monkeypatch) -> None:
    saved: list[float] = []
    save = engine.Training.save
    monkeypatch.setattr(
        engine.Training, "save", lambda self: (save(self), saved.append(time.monotonic()))
    )
    csp.pretrain(workers.config(), data, checkpoint=tmp_path / "checkpoint.pt")
    assert len(saved) == 4


@pytest.mark.slow
def test_the_whole_command_on_two_processes_gives_the_table_of_one(tmp_path) -> None:
    """Both train, the first one writes; without dropout the scores are those of one process."""
    make_published("fmow", tmp_path, num_samples=150, generator=torch.Generator().manual_seed(0))
    methods = ["Image only", "CSP-MC-BLD", "Class frequency", "Tang et al. (gps)"]
    settings = [
        "run", "csp", "--config", "csp-paper-fmow", f"data.path={tmp_path}", "table.seeds=1",
        "table.fractions=[1.0]", f"table.methods={json.dumps(methods)}", "pretrain.epochs=2",
        "pretrain.batch_size=50", "finetune.epochs=2", "joint.epochs=2", WITHOUT_CHANCE,
        "encoder.network.hidden_features=32", "hardware.accelerator=cpu",
    ]  # fmt: skip
    both = process(
        *settings, "hardware.devices=2", "--out", tmp_path / "two", module="geoenc",
        GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    said = both.communicate(timeout=180)
    assert both.returncode == 0, said
    assert said[0].count("| CSP-MC-BLD |") == 1
    config = load_config("csp-paper-fmow", settings[4:])
    expected = study.run(config, tmp_path / "one")["scores"]
    found = json.loads((tmp_path / "two" / "results.json").read_text())["scores"]
    assert [row["method"] for row in found] == methods
    for row, other in zip(found, expected, strict=True):
        assert row["top1"] == pytest.approx(other["top1"], abs=0.03)
        assert row["mrr"] == pytest.approx(other["mrr"], abs=0.03)


@pytest.mark.skipif(
    not hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision"),
    reason="torch 2.9 can choose",
)
@pytest.mark.parametrize("exact", [True, False])
def test_products_by_onednn_only_within_a_step_and_only_where_they_are_exact(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul = torch.backends.mkldnn.matmul
    before, seen = matmul.fp32_precision, []
    monkeypatch.setattr(engine, "_onednn_is_exact", lambda: exact)
    config = Config(hardware=Hardware(products="onednn"))
    with contextlib.suppress(KeyError), engine.products(config):
        seen.append(matmul.fp32_precision)
        raise KeyError
    with engine.products(Config()):
        seen.append(matmul.fp32_precision)
    assert seen == ["bf16" if exact else before, before]
    assert matmul.fp32_precision == before


def test_onednn_that_rounds_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = engine._onednn_is_exact.__wrapped__
    monkeypatch.setattr(engine, "_onednn", contextlib.nullcontext)
    assert exact()
    monkeypatch.setattr(Tensor, "__matmul__", lambda a, b: torch.mm(a, b).bfloat16().to(a.dtype))
    assert not exact()
