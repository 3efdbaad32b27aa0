"""Speed and quality side by side, in one run: `kie-course bench`.

Speeds are ratios of wall time on one machine, the recipes interleaved, median of three
rounds; each round has its own seed, and every recipe is scored, so that a fast one
cannot be a bad one.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad

from kie_course import SEED, BadInput, data, index, models, ner, retrieval, training
from kie_course.bert import Bert
from kie_course.data import Beir, Sentence

ROUNDS = 3
SENTENCES = 1500
"""Of the course's corpus, to train on: enough for steady ratios, in half an hour."""
COMPRESSED = ("SQfp16", "SQ8", "SQ4", "PQ48")
"""Kinds of compressed index, see `index.compress`."""
ARTICLE_WIDTH = 128
"""Word pieces to which the article pads every sentence."""


def run(parts: list[str] | None = None) -> dict:
    """Run the benchmark's parts (by default all) and return their figures.

    Raises:
        BadInput: there is no such part.
    """
    known = {
        "training": training_speed,
        "intents": intents,
        "encoder": encoder_speed,
        "index": index_sizes,
    }
    if unknown := set(parts or ()) - set(known):
        raise BadInput(f"no benchmark {unknown.pop()!r}; there is: {', '.join(known)}")
    return {name: part() for name, part in known.items() if not parts or name in parts}


# --- training speed: the article's recipe, the library's trainer, ours ---------------


def training_speed() -> dict:
    """Fine-tune one encoder on the course's corpus in five ways: time and span F1."""
    train = data.load_sentences("train")
    random.Random(SEED).shuffle(train)
    train = train[:SENTENCES]
    test = data.load_sentences("dev") + data.load_sentences("test")
    recipes: dict[str, Callable[[list[Sentence], int], ner.Tagger]] = {
        "article (padded to 128, fp32)": lambda s, seed: _article(s, seed),
        "Trainer, dynamic padding": lambda s, seed: _trainer(s, seed, "random"),
        "Trainer, grouped by length": lambda s, seed: _trainer(
            s, seed, "group_by_length"
        ),
        "ours, fp32": lambda s, seed: _ours(s, seed, bf16=False),
    }
    if models.has_bf16(models.device()):
        recipes["ours, bf16"] = lambda s, seed: _ours(s, seed, bf16=True)
    seconds, f1 = defaultdict(list), defaultdict(list)
    for round_ in range(ROUNDS):
        for name, recipe in recipes.items():
            start = time.perf_counter()
            tagger = recipe(train, training.Settings().seed + round_)
            seconds[name].append(time.perf_counter() - start)
            f1[name].append(ner.evaluate(tagger, test)["f1"])
            _say(f"{name}: {seconds[name][-1]:.1f} s, F1 {f1[name][-1]:.3f}")
    slowest = statistics.median(seconds["article (padded to 128, fp32)"])
    return {
        name: {
            "seconds": statistics.median(values),
            "speed": slowest / statistics.median(values),
            "f1": statistics.mean(f1[name]),
            "f1_by_seed": f1[name],
        }
        for name, values in seconds.items()
    }


def _prepare(sentences: list[Sentence], seed: int):
    """What all recipes share: a new tagging layer, and windows of word pieces."""
    names = ner.label_names(sentences)
    training.set_seed(seed)
    model = models.load(
        "AutoModelForTokenClassification",
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    ).to(models.device())
    tokenizer = models.load_tokenizer()
    ids = [[names.index(label) for label in s.labels] for s in sentences]
    windows = ner.encode([s.words for s in sentences], tokenizer, 512, ids)
    return ner.Tagger(model, tokenizer, bf16=False), windows


def _ours(sentences: list[Sentence], seed: int, bf16: bool) -> ner.Tagger:
    tagger, windows = _prepare(sentences, seed)
    settings = replace(training.Settings(), seed=seed, bf16=bf16)
    pad_id = tagger.tokenizer.pad_token_id
    training.fit(
        tagger.model,
        windows,
        lambda batch: ner.collate(batch, pad_id),
        ner.token_loss,
        settings,
        progress=False,
    )
    return tagger


def _article(sentences: list[Sentence], seed: int) -> ner.Tagger:
    tagger, windows = _prepare(sentences, seed)
    pad_id = tagger.tokenizer.pad_token_id
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": ner.IGNORE}

    def collate(batch: list[ner.Window]) -> dict[str, torch.Tensor]:
        return {
            key: pad(tensor, (0, ARTICLE_WIDTH - tensor.shape[1]), value=fill[key])
            for key, tensor in ner.collate(batch, pad_id).items()
        }

    settings = replace(training.Settings(), seed=seed, bf16=False)
    training.fit(
        tagger.model, windows, collate, ner.token_loss, settings, progress=False
    )
    return tagger


def _trainer(sentences: list[Sentence], seed: int, sampling: str) -> ner.Tagger:
    """Hugging Face's Trainer with the same model, data and hyper-parameters."""
    from transformers import (
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )
    from transformers.trainer_callback import PrinterCallback

    tagger, windows = _prepare(sentences, seed)
    ours = training.Settings()
    rows = [{"input_ids": w.input_ids, "labels": w.labels} for w in windows]
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        trainer = Trainer(
            tagger.model,
            TrainingArguments(
                folder,
                learning_rate=ours.learning_rate,
                num_train_epochs=ours.epochs,
                per_device_train_batch_size=ours.batch_size,
                weight_decay=ours.weight_decay,
                max_grad_norm=ours.clip,
                warmup_steps=ours.warmup,
                lr_scheduler_type="linear",
                train_sampling_strategy=sampling,
                seed=seed,
                use_cpu=models.device().type == "cpu",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            DataCollatorForTokenClassification(tagger.tokenizer),
            rows,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return tagger


# --- intents: 10 labelled questions each, and their names as documents ----------------


def intents(per_intent: int = 10) -> dict:
    """banking77: a customer's question against the names of the 77 intents.

    Tuned on ten labelled questions an intent, three seeds, beside the untouched
    encoder and BM25; accuracy at rank 1 on the whole test set.
    """
    folder = os.environ.get("KIE_DATA_DIR")
    if not folder:
        return {"skipped": "KIE_DATA_DIR is not set: it names the folder of banking77"}
    source = Path(folder) / "intent" / "banking77"
    rows = {
        split: data.read_labelled_csv(source / f"{split}.csv")
        for split in ("train", "test")
    }
    names = sorted({label for _, label in rows["train"]})
    documents = {name: name.replace("_", " ") for name in names}
    figures = {
        "bm25": _accuracy(retrieval.Bm25(documents), rows["test"]),
        "untouched": _accuracy(
            retrieval.Dense(retrieval.load(), documents), rows["test"]
        ),
    }
    by_seed = []
    for round_ in range(ROUNDS):
        seed = training.Settings().seed + round_
        sample = _sample(rows["train"], per_intent, seed)
        tuned = retrieval.train(
            sample_collection(sample, documents),
            settings=replace(retrieval.RECIPE, seed=seed),
            progress=False,
        )
        by_seed.append(_accuracy(retrieval.Dense(tuned, documents), rows["test"]))
        _say(f"banking77, seed {seed}: accuracy {by_seed[-1]:.3f}")
    return {**figures, "tuned": statistics.mean(by_seed), "tuned_by_seed": by_seed}


def sample_collection(
    rows: list[tuple[str, str]], documents: Mapping[str, str]
) -> Beir:
    """Labelled questions as a retrieval collection: each is answered by its label."""
    queries = {f"q{i}": text for i, (text, _) in enumerate(rows)}
    judged = {f"q{i}": {label: 1} for i, (_, label) in enumerate(rows)}
    return Beir(dict(documents), queries, {"train": judged})


def _sample(rows: list[tuple[str, str]], each: int, seed: int) -> list[tuple[str, str]]:
    dice = np.random.default_rng(seed)
    taken: dict[str, int] = defaultdict(int)
    chosen = []
    for i in dice.permutation(len(rows)):
        if taken[rows[i][1]] < each:
            taken[rows[i][1]] += 1
            chosen.append(rows[i])
    return chosen


def _accuracy(ranker: retrieval.Ranker, rows: list[tuple[str, str]]) -> float:
    ranked = ranker.rank([text for text, _ in rows], k=1)
    hits = [
        bool(best) and best[0][0] == label
        for best, (_, label) in zip(ranked, rows, strict=True)
    ]
    return sum(hits) / len(hits)


# --- the encoder written out, beside the library's ------------------------------------

SHAPES = ((16, 64), (1, 32))
"""Sentences and word pieces: a batch, and a single question."""
PASSES = 50
"""Of each encoder over one batch, in turn."""


def encoder_speed() -> dict:
    """Lesson 05's encoder against Transformers' with its fused attention.

    The same weights and texts, 32 bits, nothing padded; a speed above 1 says that ours
    is the faster.
    """
    encoders = {
        "ours": Bert.from_pretrained().to(models.device()),
        "theirs": models.load("AutoModel", attn_implementation="sdpa")
        .to(models.device())
        .eval(),
    }
    figures = {}
    for shape in SHAPES:
        ids = torch.randint(1000, 20_000, shape, device=models.device())
        mask, seconds = torch.ones_like(ids), defaultdict(list)
        for _ in range(PASSES):
            for name, encoder in encoders.items():
                start = time.perf_counter()
                with torch.inference_mode():
                    encoder(input_ids=ids, attention_mask=mask).last_hidden_state.cpu()
                seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(all_) for name, all_ in seconds.items()}
        figures["{} x {}".format(*shape)] = {
            **{f"{name}_seconds": value for name, value in medians.items()},
            "speed": medians["theirs"] / medians["ours"],
        }
    return figures


# --- an index, exact and compressed ---------------------------------------------------


def index_sizes() -> dict:
    """SciFact's abstracts in an exact index and in compressed ones."""
    folder = os.environ.get("KIE_DATA_DIR")
    if not folder:
        return {"skipped": "KIE_DATA_DIR is not set: it names the folder of scifact"}
    collection = data.read_beir(Path(folder) / "retrieval" / "scifact")
    queries = [collection.queries[query] for query in collection.judgements["test"]]
    return compressed(retrieval.load(), collection.documents, queries)


def compressed(
    model: retrieval.BiEncoder, documents: Mapping[str, str], queries: list[str]
) -> dict[str, dict[str, float]]:
    """Bytes of every kind of index, its recall@10 of the exact best, and its speed."""
    exact = index.build_index(model, documents)
    vectors = model.encode(queries)
    kinds = {"exact": exact}
    kinds |= {kind: index.compress(exact, kind) for kind in COMPRESSED}
    figures = {}
    for kind, other in kinds.items():
        start = time.perf_counter()
        index.nearest(other, vectors, 10)
        milliseconds = 1000 * (time.perf_counter() - start) / len(queries)
        figures[kind] = {
            "bytes": index.size(other),
            "recall@10": index.agreement(exact, other, vectors),
            "ms_per_query": milliseconds,
        }
    return figures


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(figures: dict) -> str:
    """The figures as aligned text, ratios against the article's recipe."""
    lines = []
    for name, row in figures.get("training", {}).items():
        lines.append(
            f"{name:32} {row['seconds']:8.1f} s {row['speed']:6.2f}x F1 {row['f1']:.3f}"
        )
    for name, value in figures.get("intents", {}).items():
        shown = f"{value:.3f}" if isinstance(value, float) else value
        lines.append(f"{'banking77 ' + name:32} {shown}")
    for name, row in figures.get("encoder", {}).items():
        lines.append(
            f"{'own encoder, ' + name:32} {row['speed']:6.2f}x Transformers with SDPA"
        )
    for name, row in figures.get("index", {}).items():
        shown = row
        if name != "skipped":
            shown = (
                f"{row['bytes'] / 1e6:8.2f} MB recall@10 {row['recall@10']:.3f} "
                f"{row['ms_per_query']:.2f} ms a query"
            )
        lines.append(f"{'index ' + name:32} {shown}")
    return "\n".join(lines)
