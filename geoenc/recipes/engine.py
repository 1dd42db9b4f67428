"""What every stage of a recipe needs: processes, precision, seeds, and a state that survives.

A stage is a loop over epochs and batches; `Training` does what happens around it:

    training = Training.start(config, module, optimizer, generator, checkpoint=path)
    for _ in training.epochs(10, "training"):
        for rows in batches:
            training.step(objective, (lonlat[rows], features[rows]))
        training.end_epoch()
"""

import atexit
import contextlib
import datetime
import functools
import io
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoenc._files import atomic_path
from geoenc._optional import require
from geoenc.distributed import is_distributed, rank, world_size
from geoenc.losses import cached_backward
from geoenc.recipes.config import Config

logger = logging.getLogger(__name__)

_LOST = re.compile("gloo|nccl|connection|peer|socket|timed out", re.IGNORECASE)


def start(config: Config) -> Any:
    """Lightning Fabric as ``hardware`` says, with its processes running.

    Under ``torchrun`` and ``fabric run`` the processes are there already, and these say how many.
    """
    lightning = require("lightning_fabric", extra="train")
    if os.environ.get("LT_CLI_USED") == "1":
        return lightning.Fabric()
    hardware = config.hardware
    devices, nodes = hardware.devices, hardware.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy: Any = "auto"
    if devices * nodes != 1:
        strategies = require("lightning_fabric.strategies", extra="train")
        patience = datetime.timedelta(minutes=hardware.timeout_minutes)
        strategy = strategies.DDPStrategy(timeout=patience)
    fabric = lightning.Fabric(
        accelerator=hardware.accelerator, devices=devices, num_nodes=nodes, strategy=strategy
    )
    fabric.launch()
    atexit.unregister(_leave)
    atexit.register(_leave)
    return fabric


def _leave() -> None:
    """End the group of processes in order: a thread of gloo's would abort the exit of Python."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """bfloat16 for matrix products if ``hardware.precision`` says so.

    Fabric's own mixed precision would narrow every floating-point input, and float64 places with
    them; this one leaves float64 as it is.
    """
    mixed = config.hardware.precision == "bf16-mixed"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed)


@contextlib.contextmanager
def products(config: Config) -> Iterator[None]:
    """float32 products of the processor by oneDNN if ``hardware.products`` says so.

    Raises:
        RuntimeError: this torch cannot choose.
    """
    if config.hardware.products == "torch" or not _onednn_is_exact():
        yield
        return
    with _onednn():
        yield


@contextlib.contextmanager
def _onednn() -> Iterator[None]:
    """torch calls this way of oneDNN "bf16", and so it rounds where a processor has such units."""
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(matmul, "fp32_precision"):
        raise RuntimeError(
            f"expected torch 2.9 or newer for hardware.products=onednn, got {torch.__version__}; "
            "leave the setting out, or install a newer torch"
        )
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@functools.cache
def _onednn_is_exact() -> bool:
    """Whether its products of float32 are as good as float32 on this processor."""
    a, b = torch.randn(2, 128, 128, generator=Generator().manual_seed(0))
    wanted = a.double() @ b.double()
    with _onednn():
        error = ((a @ b - wanted).abs().max() / wanted.abs().max()).item()
    if error > 1e-6:
        logger.warning("oneDNN would round products (error %.0e); torch's choice stays", error)
    return error <= 1e-6


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights and dropout masks from this seed; the caller's random state is kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Say what it means when another process does not answer any more."""
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or not _LOST.search(str(error)):
            raise
        raise ConnectionError(
            f"expected {world_size()} processes to go on together, but process {rank()} lost "
            f"another ({str(error).splitlines()[0]}); see what that one said, then start the same "
            "command again: it goes on from the last checkpoint"
        ) from error


@dataclass
class Training:
    """One stage in progress: what must survive an interruption is saved whole or not at all."""

    fabric: Any
    module: nn.Module
    optimizer: torch.optim.Optimizer
    generator: Generator
    config: Config
    checkpoint: str | os.PathLike[str] | None = None
    logs: str | os.PathLike[str] | None = None
    patience: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @together()
    def start(
        cls,
        config: Config,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: Generator,
        **arguments: Any,
    ) -> "Training":
        """Set the module up on its device and processes, and resume if there is a checkpoint."""
        fabric = start(config)
        wrapped, fitted = fabric.setup(module, optimizer)
        training = cls(fabric, wrapped, fitted, generator, config, **arguments)
        if rank() > 0:  # other dropout masks on every process
            torch.manual_seed(torch.initial_seed() + rank())
        training._resume()
        return training

    def __post_init__(self) -> None:
        self._losses: list[Tensor] = []
        self._rows = 0
        self._saved = self._started = time.monotonic()
        self._logger: Any = None

    @property
    def losses(self) -> list[float]:
        """The mean loss of each epoch."""
        return [row["loss"] for row in self.history]

    def epochs(self, count: int, description: str) -> Iterator[int]:
        """The epochs that are still to do; the body ends each with `end_epoch`."""
        tqdm = require("tqdm", extra="train").tqdm
        with tqdm(
            total=count,
            initial=len(self.history),
            desc=description,
            unit="epoch",
            leave=False,
            disable=rank() > 0,
        ) as bar:
            while len(self.history) < count and not self._patience_is_over():
                yield len(self.history)
                bar.set_postfix(loss=f"{self.history[-1]['loss']:.4f}", refresh=False)
                bar.update()
        if self.best:
            self.module.load_state_dict(self.best["module"])
        if self._logger is not None:
            self._logger.finalize("success")
        self.discard()

    @together()
    def step(
        self,
        objective: Callable[..., Tensor],
        batch: tuple[Tensor, ...],
        micro_batch: int = 0,
    ) -> None:
        """One step down the gradient of ``objective(**module(*batch))``.

        Args:
            objective: takes what the module gives, by name, and gives a scalar.
            batch: tensors with as many rows each.
            micro_batch: rows that go through the module at once, 0 for all. The loss is that of
                the whole batch all the same: its gradient by the outputs is kept while the rows
                go through a second time.
        """
        batch = tuple(tensor.to(self.fabric.device) for tensor in batch)
        self.optimizer.zero_grad()
        with products(self.config):
            if 0 < micro_batch < len(batch[0]):
                loss = cached_backward(
                    self.module,
                    objective,
                    zip(*[tensor.split(micro_batch) for tensor in batch], strict=True),
                    backward=self.fabric.backward,
                    no_sync=lambda: self.fabric.no_backward_sync(self.module),
                )
            else:
                loss = objective(**self.module(*batch))
                self.fabric.backward(loss)
        self.optimizer.step()
        self._losses.append(loss.detach())
        self._rows += len(batch[0]) * world_size()

    def slow_down(self, factor: float) -> None:
        """Multiply all learning rates."""
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    @together()
    def validation_loss(
        self, objective: Callable[..., Tensor], batches: Iterator[tuple[Tensor, ...]]
    ) -> float:
        """The mean of the objective over batches, in evaluation mode."""
        self.module.eval()
        losses, rows = [], []
        with torch.no_grad():
            for batch in batches:
                batch = tuple(tensor.to(self.fabric.device) for tensor in batch)
                losses.append(objective(**self.module(*batch)))
                rows.append(len(batch[0]))
        self.module.train()
        weights = torch.tensor(rows, device=self.fabric.device) / sum(rows)
        return self.fabric.all_reduce((torch.stack(losses) * weights).sum()).item()

    @together()
    def end_epoch(self, *, decay: float = 1.0, validation_loss: float | None = None) -> None:
        """Check, log and save; the learning rate slows down for the next epoch."""
        mean = self.fabric.all_reduce(torch.stack(self._losses).mean()).item()
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"expected a finite loss, got {mean} in epoch {len(self.history) + 1}; look for "
                "very large features, or lower the learning rate"
            )
        seconds = time.monotonic() - self._started
        row = {"epoch": len(self.history) + 1.0, "loss": mean}
        if validation_loss is not None:
            row["validation_loss"] = validation_loss
            self._remember(validation_loss)
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        row |= {"seconds": seconds, "rows_per_second": self._rows / max(seconds, 1e-9)}
        self.history.append(row)
        self._log([row])
        self.slow_down(decay)
        due = time.monotonic() - self._saved >= self.config.hardware.checkpoint_seconds
        if self.checkpoint is not None and self.fabric.broadcast(due):
            self.save()
        self._losses.clear()
        self._rows, self._started = 0, time.monotonic()

    def _remember(self, validation_loss: float) -> None:
        if self.patience > 0 and validation_loss < self.best.get("loss", math.inf):
            module = {key: value.clone() for key, value in self.module.state_dict().items()}
            self.best = {
                "loss": validation_loss,
                "epoch": len(self.history) + 1,
                "module": module,
            }

    def _patience_is_over(self) -> bool:
        return bool(self.best) and len(self.history) - self.best["epoch"] >= self.patience

    def _log(self, rows: list[dict[str, float]]) -> None:
        if self.logs is None:
            return
        if self._logger is None:
            self._logger = _logger(self.config, Path(self.logs))
        for row in rows:
            self._logger.log_metrics(row, step=int(row["epoch"]))

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        randomness: list[Any] = [_random_state()]
        if is_distributed():
            randomness = [None] * world_size()
            torch.distributed.all_gather_object(randomness, _random_state())
        if self._logger is not None:
            self._logger.save()
        if rank() == 0:
            state = {
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "random": randomness,
                "history": self.history,
                "best": self.best,
            }
            assert self.checkpoint is not None
            buffer = io.BytesIO()
            torch.save(state, buffer)  # straight to a file, a full disk would be a RuntimeError
            with atomic_path(self.checkpoint) as temporary:
                temporary.write_bytes(buffer.getbuffer())
        self._saved = time.monotonic()

    def _resume(self) -> None:
        state = self.fabric.broadcast(self._read() if rank() == 0 else None)
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        if len(state["random"]) == world_size():
            _set_random_state(state["random"][rank()])
        self.history, self.best = state["history"], state["best"]
        self._log(self.history)
        logger.info("resumed %s after epoch %d", self.checkpoint, len(self.history))

    def _read(self) -> dict[str, Any] | None:
        if self.checkpoint is None or not Path(self.checkpoint).is_file():
            return None
        try:
            return torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        except Exception as error:
            raise ValueError(
                f"expected a training checkpoint in {str(self.checkpoint)!r}, got a damaged file "
                f"({type(error).__name__}); delete it to start this stage again"
            ) from error

    def discard(self) -> None:
        """The stage is done: its checkpoint is not needed any more."""
        if self.checkpoint is not None and rank() == 0:
            Path(self.checkpoint).unlink(missing_ok=True)


def _random_state() -> list[Tensor]:
    """Of the CPU, and of the CUDA device in use."""
    state = [torch.get_rng_state()]
    return state + ([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])


def _set_random_state(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(state[1])


def _logger(config: Config, folder: Path) -> Any:
    """One file of scalars for a stage; what an interrupted run had logged is logged again."""
    loggers = require("lightning_fabric.loggers", extra="train")
    if config.hardware.logger == "tensorboard":
        return loggers.TensorBoardLogger(folder, name="", version="")
    if rank() == 0:
        (folder / "metrics.csv").unlink(missing_ok=True)
    return loggers.CSVLogger(folder.parent, name=folder.name, version="")


def adam(parameters: Any, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """The optimiser of every stage."""
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def patience(epochs: int, validation: object) -> int:
    """As many epochs as asked for, if there is a validation part to be patient about."""
    if epochs > 0 and validation is None:
        raise ValueError(
            f"expected a validation part for patience={epochs}, got none; hold one out, for "
            "example with data.validation=0.2, or set patience=0"
        )
    return epochs
