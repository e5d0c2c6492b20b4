"""The training loop: shuffled batches, warm-up and cosine decay, the best weights by held-out loss, checkpoints."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array

from .checkpoint import Checkpoint
from .precision import autocast, choose

_CLIP = 1.0  # norm of the gradient
_HELD_OUT = 512  # samples at most
_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the highest
_TRIAL = 30  # steps
_HARMLESS = 1.05  # of the least loss seen: the first steps of a rate that learns may do so much


class Objective(Protocol):
    """The mean loss over the samples `rows`. training: with gradients, and whatever only helps learning."""

    def __call__(self, rows: Array, training: bool) -> torch.Tensor: ...


@dataclass(frozen=True)
class Schedule:
    """epochs over the training samples; lr: the highest learning rate, reached after a share `warmup` of the steps, then falling
    to zero along a cosine; search: whether a fraction of `lr` is taken where its first steps do harm; optimizer:
    "adamw" or "sgd" (with momentum 0.9); precision: "auto", "float32", "bfloat16", "float16"."""

    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    search: bool = False
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    warmup: float = 0.05
    held_out: float = 0.1
    precision: str = "auto"
    seed: int = 0

    def rate(self, step: int, steps: int) -> float:
        """The share of `lr` at this step."""
        rising = max(round(self.warmup * steps), 1)
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


@dataclass
class History:
    """Mean losses on the held-out samples: before, and behind each epoch; and of the training batches of each epoch. `best` is
    the epoch whose weights were kept; 0: those that it began with. lr: the highest learning rate that was used."""

    before: float = math.nan
    held_out: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    best: int = 0
    precision: str = "float32"
    lr: float = math.nan
    resumed: int | None = None  # the step that this run went on from

    @property
    def after(self) -> float:
        return self.held_out[self.best - 1] if self.best else self.before


Watch = Callable[[str, Mapping[str, float], int], None]  # ("step" or "epoch", values, its number)


def split(samples: int, schedule: Schedule) -> tuple[Array, Array]:
    """Shuffled numbers of the samples to train on and of those to hold out. Raises ModelkitError for too few."""
    if samples < 2:
        raise ModelkitError("One sample is too few to learn from.", "Give at least two, better some hundred, with --calib.")
    order = np.random.default_rng(schedule.seed).permutation(samples)
    held = min(max(round(schedule.held_out * samples), 1), _HELD_OUT, samples - 1)
    return order[held:], order[:held]


def train(
    module: nn.Module, objective: Objective, samples: int, schedule: Schedule, device: str, checkpoint: Checkpoint,
    watch: Watch, fixed_batch: int | None = None,
) -> History:  # fmt: skip
    """Train `module`'s parameters; at the end they are the best seen. fixed_batch: the only batch size that the module takes.

    Raises ModelkitError when the loss is no number from the start.
    """
    learning, held = split(samples, schedule)
    size = fixed_batch or min(schedule.batch_size, len(learning))
    per_epoch = -(-len(learning) // size)
    steps = per_epoch * schedule.epochs
    optimizer = _optimizer(module, schedule)
    state = checkpoint.load()
    run = _Run(module, optimizer, History(), checkpoint)
    if state is not None:
        run.restore(state)
    else:
        run.history.before = _mean_loss(objective, held, size, fixed_batch)
        if not math.isfinite(run.history.before):
            raise ModelkitError(
                "The distillation loss is not a number on this data.", "Check the data's scaling (--scale, --mean, --std)."
            )
        run.history.precision = choose(schedule.precision, device, _trial(module, objective, learning[:size], device))
        run.history.lr = (
            _rate(run, objective, schedule, learning, held, size, device, fixed_batch) if schedule.search else schedule.lr
        )
        checkpoint.save(run.state())
    scaler = _scaler(run.history.precision, device)
    while (epoch := len(run.history.held_out)) < schedule.epochs:
        for rows in list(_batches(learning, size, fixed_batch, [schedule.seed, epoch]))[run.step - epoch * per_epoch :]:
            lr = run.history.lr * schedule.rate(run.step, steps)
            loss = _step(module, objective, rows, optimizer, lr, scaler, run.history.precision, device)
            run.losses.append(loss)
            run.step += 1
            watch("step", {"loss": loss, "learning_rate": lr}, run.step)
            if checkpoint.due():
                checkpoint.save(run.state())
        run.finish_epoch(_mean_loss(objective, held, size, fixed_batch))
        watch("epoch", {"held_out": run.history.held_out[-1], "training": run.history.training[-1]}, epoch + 1)
        if checkpoint.due():
            checkpoint.save(run.state())
    run.take_best()
    return run.history


class _Run:
    """What a training has come to: everything that a checkpoint must hold."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, history: History, checkpoint: Checkpoint) -> None:
        self.module, self.optimizer, self.history = module, optimizer, history
        self.step = 0
        self.losses: list[float] = []  # of this epoch's steps
        self.best = self._weights()

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.module.named_parameters()}

    def finish_epoch(self, held_out: float) -> None:
        history = self.history
        if math.isfinite(held_out) and held_out < history.after:
            history.best = len(history.held_out) + 1
            self.best = self._weights()
        history.held_out.append(held_out)
        history.training.append(sum(self.losses) / max(len(self.losses), 1))
        self.losses = []

    def take_best(self) -> None:
        with torch.no_grad():
            for name, value in self.module.named_parameters():
                value.copy_(self.best[name])

    def state(self) -> dict[str, Any]:
        history = self.history
        return {
            "step": self.step, "losses": list(self.losses), "weights": self._weights(), "best": self.best,
            "optimizer": self.optimizer.state_dict(), "before": history.before, "held_out": list(history.held_out),
            "training": list(history.training), "best_epoch": history.best, "precision": history.precision, "lr": history.lr,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, value in self.module.named_parameters():
                value.copy_(state["weights"][name])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.step, self.losses, self.best = state["step"], state["losses"], state["best"]
        self.history = History(
            state["before"],
            state["held_out"],
            state["training"],
            state["best_epoch"],
            state["precision"],
            state["lr"],
            state["step"],
        )


def _rate(
    run: _Run, objective: Objective, schedule: Schedule, learning: Array, held: Array, size: int, device: str, fixed: int | None
) -> float:  # fmt: skip
    """Of `lr` and fractions of it the highest with which a schedule of a few steps does hardly any harm on the samples held out:
    what a damaged network needs throws off one that was fitted layer by layer. The weights are put back."""
    found, least = schedule.lr * _RATES[0], run.history.before
    for share in _RATES:
        lr = schedule.lr * share
        optimizer = _optimizer(run.module, schedule)
        scaler = _scaler(run.history.precision, device)
        for step, rows in enumerate(islice(_batches(learning, size, fixed, [schedule.seed, 0]), _TRIAL)):
            rate = lr * schedule.rate(step, _TRIAL)
            _step(run.module, objective, rows, optimizer, rate, scaler, run.history.precision, device)
        loss = _mean_loss(objective, held, size, fixed)
        run.take_best()
        if not loss <= _HARMLESS * least:
            break
        found, least = lr, min(least, loss)
    return found


def _scaler(precision: str, device: str) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device.partition(":")[0], enabled=precision == "float16")


def _optimizer(module: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    parameters = list(module.parameters())
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=schedule.lr, momentum=0.9, nesterov=True, weight_decay=schedule.weight_decay)
    return torch.optim.AdamW(parameters, lr=schedule.lr, weight_decay=schedule.weight_decay)


def _step(
    module: nn.Module, objective: Objective, rows: Array, optimizer: torch.optim.Optimizer, lr: float,
    scaler: torch.amp.GradScaler, precision: str, device: str,
) -> float:  # fmt: skip
    """One update. A loss that is not finite changes nothing."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    with autocast(precision, device):
        loss = objective(rows, True)
    if not torch.isfinite(loss):
        return float(loss.detach())
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(module.parameters(), _CLIP)
    if torch.isfinite(norm) or scaler.is_enabled():  # the scaler leaves such steps out itself
        scaler.step(optimizer)
    scaler.update()
    return float(loss.detach())


def _trial(module: nn.Module, objective: Objective, rows: Array, device: str) -> Callable[[str], torch.Tensor]:
    def step(precision: str) -> torch.Tensor:
        with autocast(precision, device):
            loss = objective(rows, True)
        loss.backward()
        module.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def _batches(rows: Array, size: int, fixed: int | None, seed: list[int] | None = None) -> Iterator[Array]:
    """The samples in batches, shuffled by `seed`; the last one is filled up where the size is fixed."""
    order = rows if seed is None else np.random.default_rng(seed).permutation(rows)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        yield np.resize(batch, fixed) if fixed else batch


def _mean_loss(objective: Objective, rows: Array, size: int, fixed: int | None) -> float:
    with torch.no_grad():
        losses = [(float(objective(batch, False)), len(batch)) for batch in _batches(rows, size, fixed)]
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
