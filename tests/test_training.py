"""The loop that every recipe shares: batches, rates, steps, best weights, resuming."""

import contextlib
import json
import math
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import token_classifier
from torch.nn.functional import cross_entropy
from transformers import get_linear_schedule_with_warmup

from kie_course import BadInput, data, models, ner, training
from kie_course.training import Settings, length_bucketed, linear_schedule

HERE = Path(__file__).parent
"""A child process that starts here can import this module."""

pytestmark = pytest.mark.usefixtures("one_thread")


CPU = Settings(
    learning_rate=1e-2, epochs=3, batch_size=4, bf16=False, device="cpu", seed=7
)


def examples(count: int = 24, longest: int = 9) -> list[list[int]]:
    """Token ids; the label to learn is the token's remainder by 3."""
    dice = torch.Generator().manual_seed(3)
    sizes = torch.randint(2, longest + 1, (count,), generator=dice).tolist()
    return [torch.randint(1, 20, (n,), generator=dice).tolist() for n in sizes]


def collate(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def loss(model, batch) -> torch.Tensor:
    logits = model(**batch).logits
    labels = (batch["input_ids"] % 3).masked_fill(batch["attention_mask"] == 0, -100)
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


def fit(model, rows=None, run: Settings = CPU, **kwargs) -> training.History:
    rows = examples() if rows is None else rows
    return training.fit(model, rows, collate, loss, run, progress=False, **kwargs)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_equal_weights(one, other, tolerance: float = 0.0) -> None:
    one = one if isinstance(one, dict) else weights(one)
    other = other if isinstance(other, dict) else weights(other)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=0, atol=tolerance, msg=lambda m, n=name: n + m
        )


# ------------------------------------------------------------------------- batches

lengths_of_examples = st.lists(st.integers(1, 500), max_size=120)


@given(lengths_of_examples, st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=60)
def test_every_example_is_in_one_batch_once(lengths, batch_size, seed):
    batches = length_bucketed(lengths, batch_size, seed)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert sum(len(batch) < batch_size for batch in batches) <= 1
    assert batches == length_bucketed(lengths, batch_size, seed)
    # No batch reaches into another's lengths: nothing could be padded less.
    extents = sorted(
        (min(b), max(b)) for b in ([lengths[i] for i in x] for x in batches)
    )
    assert all(one[1] <= following[0] for one, following in pairwise(extents))


@given(st.lists(st.integers(5, 9), min_size=40, max_size=80), st.integers(0, 99))
@settings(max_examples=20)
def test_another_seed_deals_another_order(lengths, seed):
    one, other = (length_bucketed(lengths, 4, seed + i) for i in range(2))
    assert one != other
    # Not the order of the batches alone: equal lengths meet other neighbours.
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in other}


def padding_ratio(lengths: list[int], batch_size: int) -> float:
    """Padded tokens to a real one, as `History` counts them."""
    batches = length_bucketed(lengths, batch_size, 0)
    return sum(len(b) * max(lengths[i] for i in b) for b in batches) / sum(lengths)


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_little_padding_on_lengths_as_news_has_them(seed):
    dice = torch.Generator().manual_seed(seed)
    normal = torch.randn(1_000, generator=dice)
    lengths = (3 + torch.exp(2.8 + 0.6 * normal)).long().clamp(max=512).tolist()
    assert padding_ratio(lengths, 16) <= 1.06


def test_little_padding_on_the_courses_own_corpus():
    sentences = data.load_sentences("train")
    windows = ner.encode([s.words for s in sentences], models.load_tokenizer(), 512)
    assert padding_ratio([len(window) for window in windows], 16) <= 1.06


# ---------------------------------------------------------------------------- rate

a_run = st.tuples(st.integers(3, 400), st.floats(0, 0.5))


@given(a_run)
@settings(max_examples=60)
def test_rate_rises_once_to_its_peak_then_falls(run):
    total, warmup = run
    rates = [linear_schedule(step, total, warmup) for step in range(total + 1)]
    peak = rates.index(max(rates))
    assert rates[peak] == 1
    assert rates[-1] == 0
    assert all(rate > 0 for rate in rates[:-1])  # no step is wasted
    assert all(a < b for a, b in pairwise(rates[: peak + 1]))
    assert all(a > b for a, b in pairwise(rates[peak:]))
    assert peak == max(1, round(warmup * total))


@given(st.integers(1, 5), st.floats(0, 1), st.integers(0, 9))
def test_rate_of_the_shortest_runs_is_usable(total, warmup, step):
    rate = linear_schedule(min(step, total - 1), total, warmup)
    assert 0 < rate <= 1
    assert linear_schedule(total + step, total, 0) == 0


@given(a_run)
@settings(max_examples=30)
def test_rate_is_transformers_schedule_without_its_first_step_of_zero(run):
    """Theirs starts at 0, so that the first step teaches nothing; ours is one on.

    Both rise in equal steps from 0 to 1, here after `rising + 1` of them, and the
    falls are the same.
    """
    total, warmup = run
    rising = max(1, round(warmup * total))
    rates = {"theirs": [], "shifted": []}
    for name, rise in (("theirs", rising), ("shifted", rising + 1)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_linear_schedule_with_warmup(optimizer, rise, total)
        for _ in range(total):
            rates[name].append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    ours = [linear_schedule(step, total, warmup) for step in range(total)]
    assert rates["theirs"][0] == 0
    assert ours[rising:] == pytest.approx(rates["theirs"][rising:])
    assert ours[:rising] == pytest.approx(rates["shifted"][1 : rising + 1])


def test_rate_reaches_the_optimizer(monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(token_classifier())
    wanted = [1e-2 * linear_schedule(i, 18, 0.1) for i in range(18)]
    assert [rates[0] for rates in seen] == pytest.approx(wanted)
    assert all(rates == [rates[0]] * len(rates) for rates in seen)


# ------------------------------------------------------------- what moves, what decays


def test_biases_and_norms_do_not_decay():
    model = token_classifier()
    decaying, others = training.parameter_groups(model, 0.3)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0)
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)] for p in others["params"]}
    assert kept == {n for n in names.values() if n.endswith("bias") or "LayerNorm" in n}
    together = [*decaying["params"], *others["params"]]
    assert sorted(names[id(p)] for p in together) == sorted(names.values())


def test_frozen_parameters_are_no_business_of_the_optimizer():
    model = token_classifier()
    training.freeze(model, 2)
    trainable = [
        p for group in training.parameter_groups(model, 0.1) for p in group["params"]
    ]
    assert {id(p) for p in trainable} == {id(p) for p in model.classifier.parameters()}


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_exactly_the_frozen_layers_stay_as_they_were(layers):
    model = token_classifier()
    before = weights(model)
    fit(model, run=replace(CPU, frozen_layers=layers, epochs=1))
    frozen = ["bert.encoder.layer.0.", "bert.encoder.layer.1."][:layers]
    frozen += ["bert.embeddings."] if layers else []
    for name, value in weights(model).items():
        unused = name.endswith(("token_type_embeddings.weight", "key.bias"))
        if name.startswith(tuple(frozen)):
            assert torch.equal(value, before[name]), name
        elif not unused:  # (a key's bias cancels in the softmax)
            assert not torch.equal(value, before[name]), name


def test_a_later_run_thaws_what_an_earlier_one_froze():
    model = token_classifier()
    training.freeze(model, 2)
    training.freeze(model, 0)
    assert all(p.requires_grad for p in model.parameters())


def test_more_layers_than_there_are_cannot_be_frozen():
    with pytest.raises(BadInput, match="cannot freeze 3 layers: the encoder has 2"):
        fit(token_classifier(), run=replace(CPU, frozen_layers=3))


# --------------------------------------------------------------------------- steps


def test_training_learns():
    model = token_classifier()
    history = fit(model, run=replace(CPU, epochs=20))
    first, last = (
        sum(x for _, x in part) / 6 for part in (history.loss[:6], history.loss[-6:])
    )
    assert last < 0.3 < 0.9 < first


def test_history_has_every_step_and_counts_every_token():
    rows = examples()
    history = fit(token_classifier(), rows, evaluate=lambda: 0.5)
    assert [step for step, _ in history.loss] == list(range(1, 19))
    assert history.dev == [(6, 0.5), (12, 0.5), (18, 0.5)]
    assert (history.best, history.best_step) == (0.5, 6)  # the first of equals
    assert history.resumed_at is None
    assert history.real_tokens == 3 * sum(map(len, rows))
    assert history.padded_tokens / history.real_tokens == pytest.approx(
        padding_ratio([len(row) for row in rows], 4), abs=0.02
    )


def test_same_seed_same_run_and_another_seed_another():
    one, same, other = (token_classifier() for _ in range(3))
    assert fit(one) == fit(same)
    fit(other, run=replace(CPU, seed=8))
    assert_equal_weights(one, same)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_accumulated_small_batches_equal_one_large_batch():
    """For batches of equal length, whose means over tokens weigh the same."""
    rows = [row[:6] for row in examples(40, 30) if len(row) >= 6][:24]
    assert len(rows) == 24
    large, small, careless = (token_classifier(dropout=0) for _ in range(3))
    run = replace(CPU, batch_size=12, epochs=1, warmup=0)
    # One batch order for both: the large batch is the two small ones.
    order = length_bucketed([6] * 24, 12, CPU.seed)
    rows = [rows[i] for batch in order for i in batch]
    whole = training.fit(
        large,
        [_Row(rows[i : i + 12]) for i in (0, 12)],
        lambda batch: collate([row for item in batch for row in item]),
        loss,
        replace(run, batch_size=2),
        progress=False,
    )
    parts = training.fit(
        small,
        [_Row(rows[i : i + 6]) for i in (0, 6, 12, 18)],
        lambda batch: collate([row for item in batch for row in item]),
        loss,
        replace(run, batch_size=1, accumulation=4),
        progress=False,
    )
    assert len(whole.loss) == len(parts.loss) == 1
    assert parts.loss[0][1] == pytest.approx(whole.loss[0][1], abs=1e-6)
    assert_equal_weights(large, small, 2e-6)
    fit(careless, rows, replace(run, batch_size=6))
    assert not torch.allclose(large.classifier.weight, careless.classifier.weight)


def test_gradient_checkpointing_computes_layers_twice_and_takes_the_same_steps():
    plain, frugal = token_classifier(), token_classifier()
    calls = {}
    for name, model in (("plain", plain), ("frugal", frugal)):

        def count(*_, name=name):
            calls[name] = calls.get(name, 0) + 1

        model.bert.encoder.layer[0].attention.register_forward_hook(count)
    fit(plain)
    fit(frugal, run=replace(CPU, gradient_checkpointing=True))
    assert calls["frugal"] == 2 * calls["plain"] > 0
    assert_equal_weights(plain, frugal, 1e-6)  # dropout, too, is drawn again alike
    assert not frugal.is_activation_checkpointing


BUYS_MEMORY = """
import resource
import test_training as t

def bought():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        t.torch.zeros(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = bought()
t.fit(t.token_classifier())
t.torch.zeros(2**24)
print(first, bought())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's settings")
def test_a_run_on_the_cpu_keeps_the_memory_of_freed_tensors():
    child = [sys.executable, "-c", BUYS_MEMORY]
    before, after = map(int, subprocess.check_output(child, cwd=HERE).split())
    assert after < before / 5


def test_batches_prepared_in_other_processes_are_the_same(monkeypatch):
    """As for a GPU, but for the page-locked memory, which needs one."""
    here, beside = token_classifier(), token_classifier()
    fit(here)
    started = []

    def loader(*args, **settings):
        started.append(settings["pin_memory"])
        settings |= {"num_workers": 2, "multiprocessing_context": "fork"}
        return torch.utils.data.DataLoader(*args, **settings)

    monkeypatch.setattr(training, "DataLoader", loader)
    fit(beside)
    assert started == [False] * CPU.epochs
    assert_equal_weights(here, beside)


def test_losses_are_read_seldom_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(training, "READ_EVERY", 4)  # of 6 steps an epoch
    history = fit(token_classifier())
    assert [step for step, _ in history.loss] == list(range(1, 19))
    monkeypatch.setattr(training, "READ_EVERY", 1)
    assert fit(token_classifier()) == history


class _Row(list):
    """Several rows that travel together as one example."""


def test_a_last_incomplete_accumulation_is_a_step_too():
    history = fit(token_classifier(), run=replace(CPU, accumulation=4, epochs=2))
    assert [step for step, _ in history.loss] == [1, 2, 3, 4]  # 6 batches: 4 and 2


def test_gradient_is_clipped_as_a_whole(monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(
            math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))
        )
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(token_classifier(), run=replace(CPU, epochs=1, clip=1e9))
    free, norms = norms, []
    assert max(free) > 0.05
    norms = []
    fit(token_classifier(), run=replace(CPU, epochs=1, clip=0.05))
    assert norms == pytest.approx([0.05] * len(norms), rel=1e-3)


def test_dropout_is_on_in_training_and_off_afterwards():
    modes = []

    def watched(model, batch):
        modes.append(model.training)
        return loss(model, batch)

    model = token_classifier()

    def evaluate() -> float:
        model.eval()
        return 0.0

    training.fit(
        model, examples(), collate, watched, CPU, evaluate=evaluate, progress=False
    )
    assert modes == [True] * 18
    assert not model.training


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(BadInput, match="nothing to train on"):
        fit(token_classifier(), [])


def dtypes_in(model) -> set[torch.dtype]:
    """Where each later call of the model leaves the precision of a product."""
    seen: set[torch.dtype] = set()
    model.bert.encoder.layer[0].intermediate.dense.register_forward_hook(
        lambda layer, given, result: seen.add(result.dtype)
    )
    return seen


@pytest.mark.parametrize("same_model", [False, True])
def test_precision_is_chosen_anew_by_every_run(same_model, monkeypatch):
    """accelerate remembers a process's precision, and a model's; a run must not."""
    monkeypatch.setattr(models, "has_bf16", lambda on: True)
    model = token_classifier()
    seen = dtypes_in(model)
    for bf16, dtype in [
        (False, torch.float32),
        (True, torch.bfloat16),
        (True, torch.bfloat16),
        (False, torch.float32),
    ]:
        if not same_model:
            model = token_classifier()
            seen = dtypes_in(model)
        seen.clear()
        fit(model, examples(4), replace(CPU, bf16=bf16, epochs=1))
        assert seen == {dtype}
        # Afterwards the model is the caller's again, without accelerate's wrapper.
        seen.clear()
        assert model.forward.__func__ is type(model).forward
        assert model(**collate(examples(2))).logits.dtype == torch.float32
        assert seen == {torch.float32}


def test_a_run_that_is_stopped_leaves_nothing_on_the_model(monkeypatch):
    monkeypatch.setattr(models, "has_bf16", lambda on: True)
    model = token_classifier()
    seen, before = dtypes_in(model), set(vars(model))

    def stops(*_):
        raise KeyboardInterrupt

    run = replace(CPU, bf16=True, gradient_checkpointing=True)
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, examples(4), collate, stops, run, progress=False)
    assert set(vars(model)) == before
    assert not model._forward_pre_hooks
    assert not model.is_activation_checkpointing
    assert model(**collate(examples(2))).logits.dtype == torch.float32
    assert seen == {torch.float32}


def test_tuned_encoder_still_shows_its_attention(monkeypatch):
    monkeypatch.setattr(models, "has_bf16", lambda on: True)
    encoder = token_classifier().bert

    def encoder_loss(model, batch):
        return model(**batch).last_hidden_state.float().square().mean()

    run = replace(CPU, bf16=True, epochs=1)
    training.fit(encoder, examples(8), collate, encoder_loss, run, progress=False)
    encoder.set_attn_implementation("eager")
    output = encoder(**collate(examples(2)), output_attentions=True)
    assert len(output.attentions) == 2
    assert (
        len(encoder(**collate(examples(2)), output_hidden_states=True).hidden_states)
        == 3
    )


# ------------------------------------------------------------- evaluation and stopping


class Judge:
    """A dev score that follows a script; keeps the weights it was shown."""

    def __init__(self, model, scores):
        self.model, self.scores, self.seen = model, list(scores), []

    def __call__(self) -> float:
        self.seen.append(weights(self.model))
        return self.scores[len(self.seen) - 1]


def test_best_weights_come_back_when_the_score_falls():
    model = token_classifier()
    judge = Judge(model, [0.2, 0.9, 0.5])
    history = fit(model, evaluate=judge)
    assert_equal_weights(model, judge.seen[1])
    assert (history.best, history.best_step) == (0.9, 12)
    with pytest.raises(AssertionError):
        assert_equal_weights(model, judge.seen[2])


def test_untouched_weights_come_back_when_tuning_only_harms():
    model = token_classifier()
    before = weights(model)
    history = fit(
        model, evaluate=Judge(model, [0.9, 0.2, 0.1, 0.3]), evaluate_first=True
    )
    assert_equal_weights(model, before)
    assert history.dev[0] == (0, 0.9)
    assert history.best_step == 0


@pytest.mark.parametrize(
    ("scores", "patience", "evaluations"),
    [
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 1, 2),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 2, 3),
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.9], 2, 5),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 3, 4),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 6),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], None, 6),
    ],
)
def test_patience_counts_evaluations_without_a_new_best(scores, patience, evaluations):
    model = token_classifier()
    run = replace(CPU, epochs=6, patience=patience)
    history = fit(model, examples(8), run, evaluate=Judge(model, scores))
    assert [score for _, score in history.dev] == scores[:evaluations]


# ------------------------------------------------------------------------- resuming


class Killed(Exception):
    """Stands for the end of the process."""


def fit_until(moment: int, folder: Path, run: Settings, where: str = "loss", **kwargs):
    """Run a fresh model, as a new process would; die at a call of loss or evaluate."""
    model, calls = token_classifier(), {"loss": 0, "evaluate": 0}

    def count(name: str) -> None:
        calls[name] += 1
        if name == where and calls[name] == moment:
            raise Killed

    def counted(m, batch):
        count("loss")
        return loss(m, batch)

    def evaluate() -> float:
        count("evaluate")
        model.eval()
        with torch.no_grad():
            return -float(loss(model, collate(examples(6))))

    history = training.fit(
        model,
        examples(),
        collate,
        counted,
        run,
        evaluate=evaluate,
        folder=folder,
        progress=False,
        **kwargs,
    )
    return model, history


def assert_same_run(run: Settings, folder: Path, **kwargs) -> training.History:
    model, history = fit_until(0, folder, run, **kwargs)
    undisturbed, whole = fit_until(0, folder / "undisturbed", run, **kwargs)
    flat = [[x for pair in h.loss for x in pair] for h in (history, whole)]
    assert flat[0] == pytest.approx(flat[1], abs=1e-6)
    flat = [[x for pair in h.dev for x in pair] for h in (history, whole)]
    assert flat[0] == pytest.approx(flat[1], abs=1e-6)
    assert (history.best_step, history.real_tokens) == (
        whole.best_step,
        whole.real_tokens,
    )
    assert_equal_weights(model, undisturbed, 1e-6)
    assert history == replace(whole, resumed_at=history.resumed_at)
    return history


@pytest.mark.parametrize(
    ("every", "moment", "resumed_at"),
    [(4, 4, None), (4, 6, 4), (4, 9, 8), (4, 18, 16), (100, 8, 6), (1, 8, 7)],
)
def test_killed_in_a_step_and_run_again_is_the_undisturbed_run(
    every, moment, resumed_at, tmp_path
):
    run = replace(CPU, checkpoint_every=every)
    with pytest.raises(Killed):
        fit_until(moment, tmp_path, run)
    assert assert_same_run(run, tmp_path).resumed_at == resumed_at


@pytest.mark.parametrize("moment", [1, 2, 3])
@pytest.mark.parametrize("every", [3, 100])
def test_killed_in_an_evaluation_and_run_again_is_the_undisturbed_run(
    every, moment, tmp_path
):
    run = replace(CPU, checkpoint_every=every)  # a checkpoint stands at the epoch's end
    with pytest.raises(Killed):
        fit_until(moment, tmp_path, run, "evaluate")
    assert_same_run(run, tmp_path)


def test_killed_twice_with_accumulation_and_a_first_evaluation(tmp_path):
    run = replace(CPU, checkpoint_every=1, accumulation=4, epochs=4)
    for moment in (7, 9):
        with pytest.raises(Killed):
            fit_until(moment, tmp_path, run, evaluate_first=True)
    assert_same_run(run, tmp_path, evaluate_first=True)


def test_killed_after_patience_ran_out_does_not_train_on(tmp_path):
    model = token_classifier()
    run = replace(CPU, epochs=6, patience=1)
    scores = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    stopped = fit(model, run=run, evaluate=Judge(model, scores), folder=tmp_path)
    again = token_classifier()
    judge = Judge(again, scores)
    history = fit(again, run=run, evaluate=judge, folder=tmp_path)
    assert history == replace(stopped, resumed_at=12)
    assert judge.seen == []
    assert_equal_weights(again, model)


def test_killed_without_a_chance_to_tidy_up(tmp_path):
    """`kill -9` from outside, in a process of its own."""
    script = """
import sys
import time
import test_training as t
t.torch.set_num_threads(1)
from dataclasses import replace
t.loss = lambda m, b, inner=t.loss: time.sleep(0.05) or inner(m, b)
t.fit_until(0, t.Path(sys.argv[1]), replace(t.CPU, epochs=3, checkpoint_every=2))
"""
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=HERE)
    checkpoint, deadline = tmp_path / "checkpoint" / "run.json", time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        assert child.poll() is None, "ended before it wrote a checkpoint"
        time.sleep(0.01)
    child.kill()
    child.wait()
    history = assert_same_run(replace(CPU, checkpoint_every=2), tmp_path)
    assert history.resumed_at >= 2


@pytest.mark.parametrize(
    "other", [{"epochs": 4}, {"learning_rate": 1e-3}, {"seed": 8}, {"batch_size": 8}]
)
def test_interrupted_run_with_other_settings_is_refused(other, tmp_path):
    run = replace(CPU, checkpoint_every=4)
    with pytest.raises(Killed):
        fit_until(6, tmp_path, run)
    with pytest.raises(BadInput, match=r"other settings, data.*--overwrite"):
        fit_until(0, tmp_path, replace(run, **other))


def other_examples() -> list[list[int]]:
    first, *rest = examples()
    return [[*first[:-1], first[-1] % 19 + 1], *rest]


@pytest.mark.parametrize("moment", [0, 6], ids=["finished", "interrupted"])
def test_a_run_from_other_weights_or_data_is_never_taken_for_this_one(moment, tmp_path):
    with contextlib.suppress(Killed):
        fit_until(moment, tmp_path, replace(CPU, checkpoint_every=4))
    run = replace(CPU, checkpoint_every=4)
    other = token_classifier()
    with torch.no_grad():
        other.classifier.bias[0] += 1.0
    for model, rows in [
        (token_classifier(), examples()[1:]),
        (token_classifier(), other_examples()),
        (other, examples()),
    ]:
        with pytest.raises(BadInput, match="other settings, data, model"):
            fit(model, rows, run, folder=tmp_path)


def test_another_number_of_processes_does_not_go_on(tmp_path):
    with pytest.raises(Killed):
        fit_until(6, tmp_path, replace(CPU, checkpoint_every=4))
    file = tmp_path / "checkpoint" / "run.json"
    state = json.loads(file.read_text())
    older = {key: state[key] for key in ("step", "history", "settings")}
    for other in (state | {"processes": 2}, older):
        file.write_text(json.dumps(other))
        with pytest.raises(BadInput, match="number of processes"):
            fit_until(0, tmp_path, replace(CPU, checkpoint_every=4))


def test_checkpoints_leave_one_folder(tmp_path):
    fit_until(0, tmp_path, replace(CPU, checkpoint_every=1))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    state = json.loads((tmp_path / "checkpoint" / "run.json").read_text())
    assert state["step"] == 18


def test_run_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit_until(0, None, replace(CPU, checkpoint_every=1))
    assert list(tmp_path.iterdir()) == []


class PowerCut(BaseException):
    """Ends the process in the middle of writing."""


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("function", ["shutil.rmtree", "os.replace", "write"])
def test_killed_while_writing_a_checkpoint(function, call, tmp_path, monkeypatch):
    """At every call that touches the disk: before it, and half-way through it."""
    run, calls = replace(CPU, checkpoint_every=6), []

    def cut_at(original, half):
        def cut(*args, **kwargs):
            calls.append(args)
            if len(calls) == call:
                half(*args)
                raise PowerCut
            return original(*args, **kwargs)

        return cut

    with monkeypatch.context() as patch:
        if function == "shutil.rmtree":
            original = training.shutil.rmtree

            def half(folder, *_):
                for path in sorted(Path(folder).glob("*"))[::2]:
                    path.unlink()

            patch.setattr(training.shutil, "rmtree", cut_at(original, half))
        elif function == "os.replace":
            cut = cut_at(training.os.replace, lambda *_: None)
            patch.setattr(training.os, "replace", cut)
        else:
            cut = cut_at(
                Path.write_text, lambda path, text: path.write_bytes(text[:40].encode())
            )
            patch.setattr(Path, "write_text", cut)
        try:
            fit_until(0, tmp_path, run)
        except PowerCut:
            pass
        else:
            pytest.skip(f"{function} is called {len(calls)} times only")
    assert_same_run(run, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "undisturbed"}


def test_pickles_are_read_from_the_runs_own_folder_alone(tmp_path, monkeypatch):
    run, opened = replace(CPU, checkpoint_every=4), []
    with pytest.raises(Killed):
        fit_until(6, tmp_path, run)

    def watch(module, name: str) -> None:
        original = getattr(module, name)

        def watched(source, *args, **kwargs):
            opened.append(source)
            return original(source, *args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads")):
        watch(module, name)
    fit_until(0, tmp_path, run)
    assert {Path(source).parent for source in opened} == {tmp_path / "checkpoint"}
    opened.clear()
    fit_until(0, tmp_path / "fresh", run)
    models.load("AutoModel")
    assert opened == []
