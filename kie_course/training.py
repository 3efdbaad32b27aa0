"""The fine-tuning loop that every recipe of the course shares. Taught in lesson 06.

One loop on `accelerate`: batches of similar length, linear warm-up and decay, weight
decay not on biases and norms, clipping, accumulation, evaluation on dev, the best
weights restored, and checkpoints from which a killed run goes on. Where `torchrun`
starts several processes they share every batch: same steps, same weights, but for
dropout, which each draws for its own rows.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from tqdm import tqdm

from kie_course import SEED, BadInput, models

WORKERS, READ_EVERY = 2, 10
"""Processes that prepare batches for a GPU; steps between two looks at the loss."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the GNU C library's settings, from its `malloc.h`."""


@dataclass(frozen=True)
class Settings:
    """What a fine-tuning run depends on.

    Attributes:
        learning_rate: its peak, reached after warm-up, then linearly down to 0.
        epochs: passes over the training data.
        batch_size: examples a batch.
        warmup: share of all steps in which the rate rises.
        weight_decay: not applied to biases, norms and other vectors.
        clip: largest norm of the whole gradient.
        accumulation: batches whose gradients are averaged for a step, one as much as
            another, however many labels it holds.
        patience: evaluations without a new best before stopping; `None`: never stop.
        frozen_layers: encoder layers kept as they are, from the bottom; with 1 or
            more the embeddings are frozen too.
        checkpoint_every: steps between checkpoints (only where a run has a folder).
        bf16: bfloat16 matrix products where the device has them.
        gradient_checkpointing: keep only the input of each encoder layer and compute
            the layer again for its gradient: the same weights, a third more time, and
            the memory that a large encoder or batch needs. Chen et al. (2016).
        device: `None` for the best there is.
        seed: of the order of batches and of dropout.
    """

    learning_rate: float = 2e-4
    epochs: int = 3
    batch_size: int = 16
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    accumulation: int = 1
    patience: int | None = None
    frozen_layers: int = 0
    checkpoint_every: int = 100
    bf16: bool = True
    gradient_checkpointing: bool = False
    device: str | None = None
    seed: int = SEED


@dataclass
class History:
    """What happened in a run: for plots, and for going on after an interruption.

    Attributes:
        loss: `(step, training loss)` of every step.
        dev: `(step, dev score)` of every evaluation.
        best: the highest dev score (`None` before the first evaluation).
        best_step: the step at which it was reached.
        real_tokens: tokens the model was fed, padding excluded.
        padded_tokens: the same with padding.
        resumed_at: step of the checkpoint that the run went on from, if any.
    """

    loss: list[tuple[int, float]] = field(default_factory=list)
    dev: list[tuple[int, float]] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0
    real_tokens: int = 0
    padded_tokens: int = 0
    resumed_at: int | None = None


def length_bucketed(
    lengths: Sequence[int], batch_size: int, seed: int
) -> list[list[int]]:
    """Deal examples into batches of similar length, the batches in random order.

    Equal lengths are shuffled among themselves, so batches differ from epoch to epoch.

    Args:
        lengths: of every example, in tokens.
        batch_size: examples a batch; the last one may be smaller.
        seed: of this epoch's order.

    Returns:
        indices into `lengths`, every index once.
    """
    dice = random.Random(seed)
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], dice.random()))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    dice.shuffle(batches)
    return batches


def linear_schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at a step: up in `warmup * total` steps, then down to 0.

    No step has rate 0, the first neither: it would be wasted.

    Args:
        step: steps taken so far, 0 to `total`.
        total: steps of the whole run.
        warmup: share of the steps in which the rate rises.
    """
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (total - step) / max(1, total - rising))


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for its next ones.

    The GNU C library gives a freed tensor of 32 MiB or more back to the system, and so
    the next one, zeroed page by page, is bought anew. In every step that is the
    gradient of the word embeddings: a tenth of a step's time. The process stays as
    large as it once was: its peak was 8 % higher for answers (3.6 GB), lower in lessons
    06 and 07. Other systems' libraries are left as they are.

    Source: mallopt(3); PyTorch's tuning guide advises another allocator for the same
    reason.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def freeze(model: torch.nn.Module, layers: int) -> None:
    """Freeze the embeddings and the lowest `layers` encoder layers of a BERT.

    Raises:
        BadInput: the encoder has fewer layers.
    """
    depth = model.config.num_hidden_layers
    if layers > depth:
        raise BadInput(f"cannot freeze {layers} layers: the encoder has {depth}")
    frozen = ("embeddings.", *(f"encoder.layer.{i}." for i in range(layers)))
    for name, parameter in model.base_model.named_parameters():
        parameter.requires_grad = not (layers and name.startswith(frozen))


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Split trainable parameters in two: matrices decay, biases and norms do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def fit(
    model: torch.nn.Module,
    examples: Sequence[Any],
    collate: Callable[[list[Any]], dict[str, torch.Tensor]],
    compute_loss: Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    settings: Settings = Settings(),
    *,
    evaluate: Callable[[], float] | None = None,
    evaluate_first: bool = False,
    folder: Path | None = None,
    progress: bool = True,
) -> History:
    """Fine-tune a model in place; afterwards it holds the weights best on dev.

    Args:
        model: a Transformers model, called with ids and mask.
        examples: each with a length (`len(example)`, in tokens).
        collate: turns a list of examples into padded tensors.
        compute_loss: turns model and batch into a scalar.
        settings: see `Settings`.
        evaluate: gives the dev score, higher is better; called after every epoch.
        evaluate_first: evaluate the untouched model too, so that tuning cannot end
            below it.
        folder: where checkpoints go; a run found interrupted there is resumed.
        progress: show a bar on standard error.

    Raises:
        BadInput: there is nothing to train on.
    """
    if not examples:
        raise BadInput("there is nothing to train on: the training data is empty")
    with _Run(model, examples, collate, compute_loss, settings, folder) as run:
        if not run.resume() and evaluate_first and evaluate:
            run.judge(evaluate())
        if evaluate and run.awaits_judgement():
            run.judge(evaluate())
        shown = progress and run.accelerator.is_main_process
        with tqdm(
            total=run.total, initial=run.step, desc="training", disable=not shown
        ) as bar:
            for epoch in range(run.step // run.steps_an_epoch, settings.epochs):
                if run.patience_is_out():
                    break
                for _ in run.epoch(epoch):
                    bar.update()
                    if run.history.loss:
                        last = run.history.loss[-1][1]
                        bar.set_postfix(loss=f"{last:.3f}", refresh=False)
                if evaluate:
                    run.judge(evaluate())
                    bar.set_postfix(dev=f"{run.history.dev[-1][1]:.3f}")
        run.take_best()
    return run.history


class _Shared:
    """A model of which every process computes some rows; all of them get all rows.

    So a loss sees the whole batch, its negatives and its number of labels too, and the
    steps are those of one process. Gradients flow back through the exchange.
    """

    def __init__(self, model: torch.nn.Module, accelerator: Accelerator, count):
        self.model, self.rank = model, accelerator.process_index
        self.processes, self.count = accelerator.num_processes, count

    def __call__(self, *inputs: torch.Tensor | None, **named: torch.Tensor):
        from torch.distributed.nn.functional import all_gather

        self.count(self.model, inputs, named)
        rows = len(next(iter([*inputs, *named.values()])))
        each = -(-rows // self.processes)
        # Who is left without a row computes the last one again; it is dropped below.
        mine = torch.arange(self.rank * each, (self.rank + 1) * each).clamp(
            max=rows - 1
        )
        output = self.model(
            *(None if tensor is None else tensor[mine] for tensor in inputs),
            **{name: tensor[mine] for name, tensor in named.items()},
        )

        def whole(part: torch.Tensor) -> torch.Tensor:
            return torch.cat(all_gather(part.contiguous()))[:rows]

        if isinstance(output, torch.Tensor):
            return whole(output)
        return type(output)(**{name: whole(part) for name, part in output.items()})


class _Run:
    """State of one run: what a checkpoint must hold, and how it moves on."""

    def __init__(self, model, examples, collate, compute_loss, settings, folder):
        self.examples, self.collate, self.compute_loss = examples, collate, compute_loss
        self.settings, self.history, self.step = settings, History(), 0
        self.lengths = [len(example) for example in examples]
        batches = -(-len(examples) // settings.batch_size)
        self.steps_an_epoch = -(-batches // settings.accumulation)
        self.total = self.steps_an_epoch * settings.epochs
        self.checkpoint = folder and folder / "checkpoint"
        self.unread: list[tuple[int, torch.Tensor]] = []  # losses still on the device
        self.unread_tokens: int | torch.Tensor = 0
        self.best_weights: dict[str, torch.Tensor] | None = None

        # A checkpoint must tell whether it is of these weights and these examples.
        begun = chain([model.state_dict()], (collate([e]) for e in examples))
        self.start = models.digest(begun) if folder else None

        set_seed(settings.seed)
        freeze(model, settings.frozen_layers)
        if settings.gradient_checkpointing:
            model.base_model.activation_checkpointing_enable()
        device = models.device(settings.device)
        if device.type == "cpu":
            keep_freed_memory()
        bf16 = settings.bf16 and models.has_bf16(device)
        # accelerate keeps one precision a process; every run chooses its own.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if bf16 else "no", cpu=device.type == "cpu"
        )
        if other := self.accelerator.process_index:  # else all would drop the same
            torch.manual_seed(settings.seed + other)
        optimizer = torch.optim.AdamW(
            parameter_groups(model, settings.weight_decay),
            settings.learning_rate,
            fused=True,  # one pass over memory: a step costs a third less on a CPU
        )
        self.bare = model
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.network, self.counter = self.model, None
        if self.accelerator.num_processes > 1:
            self.network = _Shared(self.model, self.accelerator, self._count)
        else:
            hook = model.register_forward_pre_hook
            self.counter = hook(self._count, with_kwargs=True)

    def epoch(self, epoch: int) -> Iterator[None]:
        """Take the steps of one epoch that are not taken yet, one at a time."""
        done = self.step - epoch * self.steps_an_epoch
        indices = length_bucketed(
            self.lengths, self.settings.batch_size, self.settings.seed + epoch
        )
        width = self.settings.accumulation
        indices = indices[done * width :]
        batches = self._batches(indices)
        while some := list(islice(batches, width)):
            self.model.train()
            loss = self._step(some)
            self.step += 1
            self.unread.append((self.step, loss))
            if len(self.unread) == READ_EVERY:
                self._read()
            if self.checkpoint and self.step % self.settings.checkpoint_every == 0:
                self.save()
            yield
        self._read()

    def _batches(self, indices: list[list[int]]) -> Iterator[dict[str, torch.Tensor]]:
        """Padded batches on the device.

        For a GPU, processes beside this one prepare the next batches in page-locked
        memory, from which a copy does not keep the GPU waiting.
        """
        device = self.accelerator.device
        on_gpu = device.type == "cuda"
        loader = DataLoader(
            self.examples,
            batch_sampler=indices,
            collate_fn=self.collate,
            num_workers=WORKERS if on_gpu else 0,
            multiprocessing_context="fork" if on_gpu else None,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # the run's own dice, dropout's, stay as is
        )
        for batch in loader:
            yield {k: v.to(device, non_blocking=on_gpu) for k, v in batch.items()}

    def _count(self, model: torch.nn.Module, inputs: tuple, named: dict) -> None:
        """Count what the model is fed in training: word pieces, and padding."""
        if model.training:
            mask = named["attention_mask"] if "attention_mask" in named else inputs[1]
            self.unread_tokens = self.unread_tokens + mask.sum()
            self.history.padded_tokens += mask.numel()

    def _read(self) -> None:
        """Fetch losses and counts from the device: a GPU stands still meanwhile."""
        self.history.loss += [(step, loss.item()) for step, loss in self.unread]
        self.history.real_tokens += int(self.unread_tokens)
        self.unread, self.unread_tokens = [], 0

    def _step(self, batches: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        rate = linear_schedule(self.step, self.total, self.settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        total = torch.zeros((), device=self.accelerator.device)
        for batch in batches:
            loss = self.compute_loss(self.network, batch) / len(batches)
            self.accelerator.backward(loss)
            total += loss.detach()
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def judge(self, score: float) -> None:
        """Note a dev score; keep a copy of the weights if it is the best so far."""
        self.history.dev.append((self.step, score))
        if self.history.best is None or score > self.history.best:
            self.history.best, self.history.best_step = score, self.step
            state = self.bare.state_dict()
            self.best_weights = {k: v.detach().clone() for k, v in state.items()}
        if self.checkpoint:
            self.save()

    def awaits_judgement(self) -> bool:
        """Whether a run was killed after an epoch's last step, not yet evaluated."""
        judged = {step for step, _ in self.history.dev}
        ends_epoch = self.step > 0 and self.step % self.steps_an_epoch == 0
        return ends_epoch and self.step not in judged

    def patience_is_out(self) -> bool:
        patience, scores = self.settings.patience, self.history.dev
        if patience is None or not scores:
            return False
        since = sum(step > self.history.best_step for step, _ in scores)
        return since >= patience

    def save(self) -> None:
        """Write a checkpoint beside the last, then swap: never half a checkpoint."""
        self._read()
        fresh = self.checkpoint.with_name("checkpoint.new")
        main = self.accelerator.is_main_process
        if main:
            shutil.rmtree(fresh, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            self.accelerator.save_state(str(fresh))
            if self.best_weights and main:
                weights = {k: v.contiguous() for k, v in self.best_weights.items()}
                save_file(weights, fresh / "best.safetensors")
        except (SafetensorError, RuntimeError) as error:  # a full disk, say
            raise OSError(f"{fresh} cannot be written: {error}") from error
        self.accelerator.wait_for_everyone()
        if main:
            self._swap(fresh)

    def _swap(self, fresh: Path) -> None:
        state = {"step": self.step, "history": asdict(self.history), **self._identity()}
        (fresh / "run.part").write_text(json.dumps(state), encoding="utf-8")
        os.replace(fresh / "run.part", fresh / "run.json")  # now it is whole
        old = self.checkpoint.with_name("checkpoint.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.checkpoint.exists():
            os.replace(self.checkpoint, old)
        os.replace(fresh, self.checkpoint)
        shutil.rmtree(old, ignore_errors=True)

    def _identity(self) -> dict:
        """What must be equal for a run to go on from a checkpoint."""
        return {
            "settings": asdict(self.settings),
            "start": self.start,
            "processes": self.accelerator.num_processes,
        }

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        if not self.checkpoint:
            return False
        if self.accelerator.is_main_process:
            self._tidy()
        self.accelerator.wait_for_everyone()
        if not (self.checkpoint / "run.json").is_file():
            return False
        state = json.loads((self.checkpoint / "run.json").read_text(encoding="utf-8"))
        if any(state.get(key) != value for key, value in self._identity().items()):
            raise BadInput(
                f"{self.checkpoint.parent} holds a run with other settings, data, "
                "model or number of processes: repeat them, or start anew with "
                "--overwrite"
            )
        self.accelerator.load_state(str(self.checkpoint))
        if (self.checkpoint / "best.safetensors").is_file():
            self.best_weights = load_file(self.checkpoint / "best.safetensors")
        self.history = History(**state["history"])
        for pairs in (self.history.loss, self.history.dev):
            pairs[:] = map(tuple, pairs)  # JSON knows lists only
        self.step = self.history.resumed_at = state["step"]
        return True

    def _tidy(self) -> None:
        """Clear up after a run that was killed while it wrote a checkpoint."""
        fresh = self.checkpoint.with_name("checkpoint.new")
        if not self.checkpoint.exists() and (fresh / "run.json").is_file():
            os.replace(fresh, self.checkpoint)  # killed between the two last steps
        for rest in (fresh, self.checkpoint.with_name("checkpoint.old")):
            shutil.rmtree(rest, ignore_errors=True)

    def take_best(self) -> None:
        """Put the weights that were best on dev into the model."""
        if self.best_weights:
            self.bare.load_state_dict(self.best_weights)
        self.bare.eval()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_) -> None:
        """Leave only what is frozen of the run on the model, also if it was stopped."""
        if self.counter:
            self.counter.remove()
        if self.settings.gradient_checkpointing:
            self.bare.base_model.activation_checkpointing_disable()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        # What accelerate puts back lacks Transformers' own wrapper, which returns
        # attentions and hidden states: the class's forward is the whole one. And with
        # its mark on the model, accelerate would take no later run's precision.
        for name in ("forward", "_is_accelerate_prepared"):
            vars(self.bare).pop(name, None)
