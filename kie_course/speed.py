"""How fast: encoding, the encoder written out, training as texts and data grow.

The parts of `kie-course bench` that compare no quality. Every figure is a median over
rounds in which the ways compared take turns.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kie_course import SEED, data, models, ner, training
from kie_course.bert import Bert
from kie_course.encoder import BiEncoder, load

ROUNDS = 3
"""In which the ways compared take turns; the median counts."""
LABELS = 13
"""Of the taggers that are timed: beginning and inside of six types, and outside."""
WARM = 2
"""Training steps that are not timed: the first ones also reserve memory."""


def clock() -> float:
    """Seconds on a clock, read once the device has done all it was given."""
    if models.device().type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def interleaved(
    ways: Mapping[str, Callable[[], object]], rounds: int | None = None
) -> dict[str, float]:
    """Median seconds of every way, the ways taking turns.

    Args:
        ways: what to time, by name.
        rounds: how often each; by default `ROUNDS`.
    """
    seconds = defaultdict(list)
    for _ in range(rounds or ROUNDS):
        for name, way in ways.items():
            start = clock()
            way()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def token_classifier(config=None) -> torch.nn.Module:
    """A model to be timed: shipped weights, or random ones of a configuration."""
    training.set_seed(SEED)
    chosen = {"num_labels": LABELS, "attn_implementation": "sdpa"}
    if config is None:
        model = models.load("AutoModelForTokenClassification", **chosen)
    else:
        from transformers import AutoModelForTokenClassification

        config.num_labels = chosen.pop("num_labels")
        model = AutoModelForTokenClassification.from_config(config, **chosen)
    return model.to(models.device())


def random_windows(count: int, length: int, vocabulary: int) -> list[ner.Window]:
    """Texts of `length` random word pieces, every piece with a random label."""
    dice = np.random.default_rng(SEED)
    ids = dice.integers(vocabulary, size=(count, length)).tolist()
    labels = dice.integers(LABELS, size=(count, length)).tolist()
    words = list(range(length))
    return [ner.Window(i, ids[i], words, labels[i]) for i in range(count)]


def seconds_of_steps(
    model: torch.nn.Module, windows: Sequence[ner.Window], batch_size: int
) -> float:
    """Seconds of the course's loop for one epoch, less its `WARM` first steps.

    Args:
        model: a token classifier; it is trained.
        windows: more than `WARM` batches of them.
        batch_size: windows of a batch.
    """
    calls, start = 0, 0.0

    def loss(network, batch):
        nonlocal calls, start
        if calls == WARM:
            start = clock()
        calls += 1
        return ner.token_loss(network, batch)

    one_epoch(model, windows, batch_size, loss)
    return clock() - start


def one_epoch(
    model: torch.nn.Module,
    windows: Sequence[ner.Window],
    batch_size: int,
    loss: Callable = ner.token_loss,
) -> training.History:
    """The course's loop over all windows once, with bfloat16 where there is."""
    settings = replace(training.Settings(), epochs=1, batch_size=batch_size)

    def collate(batch: list[ner.Window]) -> dict[str, torch.Tensor]:
        return ner.collate(batch, model.config.pad_token_id)

    return training.fit(model, windows, collate, loss, settings, progress=False)


# --- the encoder written out, beside the library's ------------------------------------

SHAPES = ((16, 64), (1, 32))
"""Sentences and word pieces: a batch, and a single question."""
PASSES = 50
"""Of each encoder over one batch, in turn."""


def written_out() -> dict:
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

    def once(encoder, ids: torch.Tensor) -> None:
        with torch.inference_mode():
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids))

    figures = {}
    for shape in SHAPES:
        ids = torch.randint(1000, 20_000, shape, device=models.device())
        ways = {k: lambda e=e, ids=ids: once(e, ids) for k, e in encoders.items()}
        seconds = interleaved(ways, PASSES)
        figures["{} x {}".format(*shape)] = {
            **{f"{name}_seconds": value for name, value in seconds.items()},
            "speed": seconds["theirs"] / seconds["ours"],
        }
    return figures


# --- texts become vectors, beside sentence-transformers -------------------------------

BATCH, TEXTS = 64, 1000
"""Texts that are encoded at once, and at most in all."""


def encode() -> dict:
    """Texts a second of our bi-encoder and of sentence-transformers: `encoded`.

    On abstracts of SciFact, or without `KIE_DATA_DIR` on the course's help centre.
    """
    folder = os.environ.get("KIE_DATA_DIR")
    if folder:
        collection = data.read_beir(Path(folder) / "retrieval" / "scifact")
    else:
        collection = data.load_retrieval()
    return encoded(list(collection.documents.values())[:TEXTS])


def encoded(texts: list[str]) -> dict[str, dict[str, float]]:
    """Encode texts with the shipped encoder in three ways (two without bfloat16).

    Of every text the same word pieces are read, `encoder.MAX_LENGTH` at most.

    Returns:
        for each way `texts_per_second`, `speed` relative to sentence-transformers, and
        `difference`: the largest of any component of the unit vectors from theirs.
    """
    from sentence_transformers import SentenceTransformer

    device = models.device()
    ours: dict[str, BiEncoder] = {"ours, fp32": load(bf16=False)}
    if models.has_bf16(device):
        ours["ours, bf16"] = load()
    with models.quiet():
        theirs = SentenceTransformer(str(models.shipped_folder()), device=device.type)
    theirs.max_seq_length = ours["ours, fp32"].limit
    vectors: dict[str, np.ndarray] = {}

    def by_theirs() -> None:
        vectors[THEIRS] = theirs.encode(
            texts,
            batch_size=BATCH,
            show_progress_bar=False,
            normalize_embeddings=True,
        )

    def by_ours(name: str) -> None:
        vectors[name] = ours[name].encode(texts, batch_size=BATCH)

    ways = {THEIRS: by_theirs} | {name: lambda n=name: by_ours(n) for name in ours}
    seconds = interleaved(ways)
    return {
        name: {
            "texts_per_second": len(texts) / seconds[name],
            "speed": seconds[THEIRS] / seconds[name],
            "difference": float(np.abs(vectors[name] - vectors[THEIRS]).max()),
        }
        for name in ways
    }


THEIRS = "sentence-transformers, fp32"

# --- training, as texts and data grow -------------------------------------------------

LENGTHS = (64, 128, 256, 512)
"""Word pieces of a text."""
TOKENS = 2048
"""Word pieces of a batch, whatever the length of its texts."""
STEPS = 6
"""Timed steps at each length."""
SENTENCES = (200, 400, 800, 1600)
"""Of the course's corpus: one epoch each."""


def growth() -> dict:
    """Our training loop on longer texts and on more of them.

    Returns:
        `{"64 word pieces": {"tokens_per_second"}, "200 sentences": {"seconds",
        "tokens_per_second"}}` and so on; tokens are real ones, padding excluded.
    """
    model = token_classifier()
    longer, larger = {}, {}
    for length in LENGTHS:
        batch = max(1, TOKENS // length)
        windows = random_windows(
            (WARM + STEPS) * batch, length, model.config.vocab_size
        )
        longer[f"{length} word pieces"] = (windows, batch)
    sentences = data.load_sentences("train")
    names = ner.label_names(sentences)
    for count in SENTENCES:
        chosen = sentences[:count]
        labels = [[names.index(label) for label in s.labels] for s in chosen]
        words = [s.words for s in chosen]
        windows = ner.encode(words, models.load_tokenizer(), 512, labels)
        larger[f"{len(chosen)} sentences"] = windows

    seconds = defaultdict(list)
    for _ in range(ROUNDS):
        for name, (windows, batch) in longer.items():
            seconds[name].append(seconds_of_steps(model, windows, batch))
        for name, windows in larger.items():
            start = clock()
            one_epoch(model, windows, training.Settings().batch_size)
            seconds[name].append(clock() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {
        name: {"tokens_per_second": STEPS * batch * len(windows[0]) / medians[name]}
        for name, (windows, batch) in longer.items()
    }
    for name, windows in larger.items():
        tokens = sum(map(len, windows))
        figures[name] = {
            "seconds": medians[name],
            "tokens_per_second": tokens / medians[name],
        }
    return figures


# --- the share of a device's arithmetic that training uses ----------------------------

LENGTH = 128
"""Word pieces of a text."""
TRAINING_STEPS = {"cpu": 3, "mps": 3, "cuda": 30}
"""Timed steps on each kind of device."""
BATCHES = {"cpu": (8,), "mps": (8,), "cuda": (64, 128, 256)}
"""Texts of a batch on each kind of device."""
CONFIGURATIONS = {
    "BERT-base": {},  # what Transformers takes without being told
    "BERT-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    models.SHIPPED: None,
}
"""Sizes of Devlin et al. (2019), table of section 3; `None`: the shipped weights."""
ONLY_ON_A_GPU = ("BERT-large",)
WIDTHS = {"cpu": 2048, "mps": 4096, "cuda": 8192}
"""Rows and columns of the matrices whose product says what a device can reach."""
PRODUCTS = 20
"""Of which the fastest counts."""
PUBLISHED_PEAKS = {
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
}
"""Operations a second by NVIDIA's data sheets: bfloat16, dense, of the cards as
`torch.cuda.get_device_name` calls them."""


def operations_per_token(model: torch.nn.Module, length: int) -> int:
    """Floating-point operations that training needs for one token, forth and back.

    6 N + 12 L H T: N parameters outside the embeddings, L layers, hidden size H, text
    length T. Chowdhery et al. (2022), *PaLM*, appendix B; recomputing is not counted.

    Args:
        model: a Transformers BERT with its head.
        length: tokens of a text.
    """
    parameters = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if ".embeddings." not in f".{name}"
    )
    config = model.config
    attention = 12 * config.num_hidden_layers * config.hidden_size * length
    return 6 * parameters + attention


def matrix_product() -> dict:
    """What one large matrix product reaches here, in the precision of training."""
    device = models.device()
    exact = not models.has_bf16(device)
    kind, width = torch.float32 if exact else torch.bfloat16, WIDTHS[device.type]
    a, b = (torch.randn(width, width, device=device).to(kind) for _ in range(2))
    fastest = float("inf")
    for _ in range(PRODUCTS):
        start = clock()
        a @ b
        fastest = min(fastest, clock() - start)
    return {
        "device": device_name(),
        "precision": "fp32" if exact else "bf16",
        "width": width,
        "operations_per_second": 2 * width**3 / fastest,
    }


def device_name() -> str:
    """The card's name by CUDA; of another device its kind and number of threads."""
    if models.device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"{models.device().type}, {torch.get_num_threads()} threads"


def throughput() -> dict:
    """Training steps of the course's loop, as a share of what the device can do.

    Random texts of `LENGTH` word pieces, nothing padded, fused attention, bfloat16
    where the device has it.

    Returns:
        what a `matrix product` reaches, then for every model and batch
        `tokens_per_second`, `operations_per_second` (see `operations_per_token`),
        `share_of_product`, and on CUDA `memory_bytes` (the highest) and, on a known
        card, `share_of_peak`. Or `skipped`, with the reason.
    """
    from transformers import BertConfig

    kind = models.device().type
    product = matrix_product()
    figures: dict[str, dict] = {"matrix product": product}
    for name, sizes in CONFIGURATIONS.items():
        if kind != "cuda" and name in ONLY_ON_A_GPU:
            figures[name] = {"skipped": "too large for this device: needs a CUDA GPU"}
            continue
        model = token_classifier(None if sizes is None else BertConfig(**sizes))
        for batch in BATCHES[kind]:
            figures[f"{name}, batch {batch}"] = _training_speed(model, batch, product)
        del model
    return figures


def _training_speed(model: torch.nn.Module, batch: int, product: dict) -> dict:
    kind = models.device().type
    steps = TRAINING_STEPS[kind]
    windows = random_windows((WARM + steps) * batch, LENGTH, model.config.vocab_size)
    if kind == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        rounds = [seconds_of_steps(model, windows, batch) for _ in range(ROUNDS)]
    except torch.OutOfMemoryError:
        model.zero_grad()
        return {"skipped": f"batches of {batch} do not fit into the GPU's memory"}
    tokens = steps * batch * LENGTH / statistics.median(rounds)
    operations = tokens * operations_per_token(model, LENGTH)
    figures = {
        "tokens_per_second": tokens,
        "operations_per_second": operations,
        "share_of_product": operations / product["operations_per_second"],
    }
    if kind == "cuda":
        figures["memory_bytes"] = torch.cuda.max_memory_allocated()
        if peak := PUBLISHED_PEAKS.get(product["device"]):
            figures["share_of_peak"] = operations / peak
    return figures
