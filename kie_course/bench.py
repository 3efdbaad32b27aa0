"""Speed and quality side by side, in one run: `kie-course bench`.

Speeds are ratios of wall time on one machine. Of the trainers: the recipes interleaved,
median of three rounds; each round has its own seed, and every recipe is scored, so that
a fast one cannot be a bad one. Kinds of index are compared by recall and size. Beside
it: `speed`, the parts that compare no quality.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from kie_course import (
    SEED,
    BadInput,
    data,
    index,
    models,
    ner,
    retrieval,
    speed,
    training,
)
from kie_course.data import Beir, Sentence
from kie_course.speed import ROUNDS

SENTENCES = 1500
"""Of the course's corpus, to train on: enough for steady ratios, in half an hour."""
COMPRESSED = ("SQfp16", "SQ8", "SQ4", "PQ48")
"""Kinds of compressed index, see `index.compress`."""
ARTICLE = "article (padded to 128, fp32)"
ARTICLE_WIDTH = 128
"""Word pieces to which the article pads every sentence."""


def run(parts: list[str] | None = None) -> dict:
    """Run the benchmark's parts (by default all) and return their figures.

    Raises:
        BadInput: there is no such part.
    """
    known = {
        "training": training_speed,
        "retriever": retriever,
        "intents": intents,
        "encoder": speed.written_out,
        "encode": speed.encode,
        "index": index_sizes,
        "growth": speed.growth,
        "throughput": speed.throughput,
    }
    if unknown := set(parts or ()) - set(known):
        raise BadInput(f"no benchmark {unknown.pop()!r}; there is: {', '.join(known)}")
    return {name: part() for name, part in known.items() if not parts or name in parts}


# --- training speed: the article's recipe, the library's trainer, ours ---------------


Recipe = Callable[[list[Sentence], int], tuple[ner.Tagger, dict]]


def training_speed() -> dict:
    """Fine-tune one encoder on the course's corpus in several ways.

    Returns:
        for each way median `seconds`, `speed` relative to the article's, `padded`
        tokens per real token, and strict span F1 on dev and test, as mean and by seed.
    """
    train = data.load_sentences("train")
    random.Random(SEED).shuffle(train)
    train = train[:SENTENCES]
    test = data.load_sentences("dev") + data.load_sentences("test")
    recipes: dict[str, Recipe] = {
        ARTICLE: lambda s, seed: _ours(s, seed, width=ARTICLE_WIDTH),
        "Trainer, dynamic padding": lambda s, seed: _trainer(s, seed, "random"),
        "Trainer, grouped by length": lambda s, seed: _trainer(
            s, seed, "group_by_length"
        ),
        "ours, fp32": lambda s, seed: _ours(s, seed),
    }
    if models.has_bf16(models.device()):
        recipes["Trainer, grouped by length, bf16"] = lambda s, seed: _trainer(
            s, seed, "group_by_length", bf16=True
        )
        recipes["ours, bf16"] = lambda s, seed: _ours(s, seed, bf16=True)
    return _compared(
        {name: partial(recipe, train) for name, recipe in recipes.items()},
        lambda tagger: ner.evaluate(tagger, test)["f1"],
        "f1",
        ARTICLE,
    )


def _compared(
    ways: Mapping[str, Callable[[int], tuple[Any, dict]]],
    score: Callable[[Any], float],
    metric: str,
    reference: str,
) -> dict:
    """Train in every way, the ways taking turns, a seed each round; time and score.

    Args:
        ways: by name; each takes a seed and gives a model and what else to report.
        score: of a model.
        metric: the score's name.
        reference: the way whose speed is 1.
    """
    training.keep_freed_memory()  # for all ways, whichever comes first
    seconds, scores, facts = defaultdict(list), defaultdict(list), {}
    for seed in range(SEED, SEED + ROUNDS):
        for name, way in ways.items():
            start = speed.clock()
            model, facts[name] = way(seed)
            seconds[name].append(speed.clock() - start)
            scores[name].append(score(model))
            _say(f"{name}: {seconds[name][-1]:.1f} s, {metric} {scores[name][-1]:.3f}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: {
            "seconds": median,
            "speed": medians[reference] / median,
            **facts[name],
            metric: statistics.mean(scores[name]),
            f"{metric}_by_seed": scores[name],
        }
        for name, median in medians.items()
    }


def _padding(history: training.History) -> dict:
    return {"padded": history.padded_tokens / history.real_tokens}


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


def _ours(
    sentences: list[Sentence], seed: int, bf16: bool = False, width: int = 0
) -> tuple[ner.Tagger, dict]:
    """The course's loop; with a width every sentence is padded to it."""
    tagger, windows = _prepare(sentences, seed)
    pad_id = tagger.tokenizer.pad_token_id
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": ner.IGNORE}

    def collate(batch: list[ner.Window]) -> dict[str, torch.Tensor]:
        tensors = ner.collate(batch, pad_id)
        if not width:
            return tensors
        return {
            key: pad(tensor, (0, width - tensor.shape[1]), value=fill[key])
            for key, tensor in tensors.items()
        }

    settings = replace(training.Settings(), seed=seed, bf16=bf16)
    history = training.fit(
        tagger.model, windows, collate, ner.token_loss, settings, progress=False
    )
    return tagger, _padding(history)


def _trainer(
    sentences: list[Sentence], seed: int, sampling: str, bf16: bool = False
) -> tuple[ner.Tagger, dict]:
    """Hugging Face's Trainer with the same model, data and hyper-parameters."""
    from transformers import (
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )
    from transformers.trainer_callback import PrinterCallback

    tagger, windows = _prepare(sentences, seed)
    history = training.History()

    def count(model: torch.nn.Module, inputs: tuple, named: dict) -> None:
        history.real_tokens += int(named["attention_mask"].sum())
        history.padded_tokens += named["attention_mask"].numel()

    counter = tagger.model.register_forward_pre_hook(count, with_kwargs=True)
    rows = [{"input_ids": w.input_ids, "labels": w.labels} for w in windows]
    settings = replace(training.Settings(), seed=seed, bf16=bf16)
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        trainer = Trainer(
            tagger.model,
            TrainingArguments(
                folder, train_sampling_strategy=sampling, **_arguments(settings)
            ),
            DataCollatorForTokenClassification(tagger.tokenizer),
            rows,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    counter.remove()
    return tagger, _padding(history)


def _arguments(settings: training.Settings) -> dict:
    """The same settings in the words of Transformers' `TrainingArguments`."""
    return {
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "linear",
        "seed": settings.seed,
        "bf16": settings.bf16,
        "use_cpu": models.device().type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


# --- a retriever: sentence-transformers' trainer, ours --------------------------------


def retriever() -> dict:
    """Tune a retriever on the course's help centre: `tuned_retrievers`."""
    if importlib.util.find_spec("datasets") is None:
        return {
            "skipped": "sentence-transformers trains with one more package: "
            'pip install "sentence-transformers[train]"'
        }
    return tuned_retrievers(data.load_retrieval())


def tuned_retrievers(collection: Beir) -> dict:
    """Two trainers at equal pairs, batches, settings and steps, without dev.

    Returns:
        for each way median `seconds`, `speed` relative to sentence-transformers in 32
        bits, `steps`, and nDCG@10 on test, as mean and by seed.
    """
    ways = {THEIRS: (_sentence_transformers, False), "ours, fp32": (_our_pairs, False)}
    if models.has_bf16(models.device()):
        ways["sentence-transformers, bf16"] = (_sentence_transformers, True)
        ways["ours, bf16"] = (_our_pairs, True)

    def tuned(way: Callable, bf16: bool, seed: int) -> tuple[retrieval.BiEncoder, dict]:
        settings = replace(retrieval.RECIPE, seed=seed, bf16=bf16)
        encoder, steps = way(collection, settings)
        return encoder, {"steps": steps}

    def score(encoder: retrieval.BiEncoder) -> float:
        ranker = retrieval.Dense(encoder, collection.documents)
        values = retrieval.evaluate(ranker, collection, "test")
        return retrieval.mean(values)["ndcg@10"]

    called = {name: partial(tuned, *way) for name, way in ways.items()}
    return _compared(called, score, "ndcg@10", THEIRS)


THEIRS = speed.THEIRS


def _our_pairs(
    collection: Beir, settings: training.Settings
) -> tuple[retrieval.BiEncoder, int]:
    """What `retrieval.train` does, less dev: the tuned encoder and its steps."""
    training.set_seed(settings.seed)
    encoder = retrieval.load(bf16=False)
    pairs = retrieval.make_pairs(encoder, collection, collection.judgements["train"], 0)

    history = training.fit(
        encoder.model,
        pairs,
        lambda batch: retrieval.collate(batch, encoder.tokenizer.pad_token_id),
        retrieval.pair_loss(encoder),
        settings,
        progress=False,
    )
    return encoder, len(history.loss)


def _sentence_transformers(
    collection: Beir, settings: training.Settings
) -> tuple[retrieval.BiEncoder, int]:
    """Its trainer on the same pairs; its loss knows no second answer of a query."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import (
        MultipleNegativesRankingLoss,
    )
    from transformers.trainer_callback import PrinterCallback

    training.set_seed(settings.seed)
    learn = collection.judgements["train"]
    pairs = [
        (collection.queries[query], collection.documents[answer])
        for query in retrieval.relevant(learn)
        for answer in sorted(retrieval.best(learn[query]))
    ]
    queries, answers = map(list, zip(*pairs, strict=True))
    encoder = retrieval.load(bf16=False)
    device = models.device().type
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        model = SentenceTransformer(str(models.shipped_folder()), device=device)
        model.max_seq_length = encoder.limit
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(folder, **_arguments(settings)),
            train_dataset=Dataset.from_dict({"query": queries, "answer": answers}),
            loss=MultipleNegativesRankingLoss(model, scale=1 / encoder.temperature),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    encoder.model = model[0].auto_model.eval()
    return encoder, trainer.state.global_step


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
    """The figures as aligned text; `x` is a speed relative to the one stated."""
    lines = []
    for part, rows in figures.items():
        if "skipped" in rows:
            rows = {"skipped": rows}
        for name, row in rows.items():
            label = f"{TITLES[part]}{name}"
            if isinstance(row, dict) and "skipped" in row:
                shown = row["skipped"]
            else:
                shown = ROWS[part](row)
            lines.append(f"{label:44} {shown}")
    return "\n".join(lines)


def _intents_row(value: float | list[float]) -> str:
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{value:.3f}" for value in values)


def _index_row(row: dict) -> str:
    return (
        f"{row['bytes'] / 1e6:8.2f} MB recall@10 {row['recall@10']:.3f} "
        f"{row['ms_per_query']:.2f} ms a query"
    )


def _growth_row(row: dict) -> str:
    whole = f"{row['seconds']:8.1f} s " if "seconds" in row else ""
    return f"{whole}{row['tokens_per_second']:10,.0f} tokens a second"


def _throughput_row(row: dict) -> str:
    reached = f"{row['operations_per_second'] / 1e12:8.2f} TFLOP/s"
    if "tokens_per_second" not in row:
        return f"{reached} {row['precision']}, {row['device']}"
    shown = f"{reached} {row['share_of_product']:.1%} of the matrix product"
    if "share_of_peak" in row:
        shown += f", {row['share_of_peak']:.1%} of the published peak"
    shown += f", {row['tokens_per_second']:,.0f} tokens a second"
    if "memory_bytes" in row:
        shown += f", {row['memory_bytes'] / 1e9:.1f} GB"
    return shown


TITLES = {
    "training": "",
    "retriever": "retriever, ",
    "intents": "banking77 ",
    "encoder": "own encoder, ",
    "encode": "encode, ",
    "index": "index ",
    "growth": "growth, ",
    "throughput": "throughput, ",
}
ROWS: dict[str, Callable[[Any], str]] = {
    "training": lambda row: (
        f"{row['seconds']:8.1f} s {row['speed']:6.2f}x F1 {row['f1']:.3f} "
        f"{row['padded']:.3f} tokens per real one"
    ),
    "retriever": lambda row: (
        f"{row['seconds']:8.1f} s {row['speed']:6.2f}x nDCG@10 {row['ndcg@10']:.3f} "
        f"{row['steps']} steps"
    ),
    "intents": _intents_row,
    "encoder": lambda row: f"{row['speed']:6.2f}x Transformers with SDPA",
    "encode": lambda row: (
        f"{row['texts_per_second']:8.1f} texts a second {row['speed']:6.2f}x "
        f"largest difference {row['difference']:.1e}"
    ),
    "index": _index_row,
    "growth": _growth_row,
    "throughput": _throughput_row,
}
