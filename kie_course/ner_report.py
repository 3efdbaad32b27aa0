"""The page of `ner eval --report`: what a tagger got wrong, and how sure it was.

A marked mention (gold) and a found one (prediction) *touch* if they share a word. Two
that touch are paired, each with one partner at most and the best fit first, so that
every mention has exactly one verdict; see `VERDICTS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kie_course import data, layout, plots
from kie_course.data import Sentence

Span = tuple[int, int, str]
"""First word, one past the last, type."""

VERDICTS = {
    "right": "same words, same type",
    "wrong type": "same words, another type",
    "wrong boundary": "same type, other words, one at least shared",
    "both wrong": "another type, other words, one at least shared",
    "missed": "marked, and paired with nothing found",
    "invented": "found, and paired with nothing marked",
}
"""What can become of a mention. True positives are `right`; false negatives all others
but `invented`; false positives all others but `missed`."""

SHOWN = 20
"""Sentences on the page."""


@dataclass(frozen=True)
class Judged:
    """A marked mention and the found one paired with it; either may be missing.

    `confidence` is that of the found one.
    """

    gold: Span | None
    found: Span | None
    confidence: float | None = None

    @property
    def verdict(self) -> str:
        """The key of `VERDICTS` that holds."""
        if self.gold is None or self.found is None:
            return "invented" if self.gold is None else "missed"
        same_words = self.gold[:2] == self.found[:2]
        if self.gold[2] == self.found[2]:
            return "right" if same_words else "wrong boundary"
        return "wrong type" if same_words else "both wrong"


def judge(gold: Sequence[str], found: Sequence[str]) -> list[tuple]:
    """Pair the mentions of two IOB2 sequences: `(gold, found)`, in order of words.

    Pairs are made in the order of `VERDICTS`; among equals the one that shares the most
    words, then the first. `None` stands for a missing partner.
    """
    marked, named = data.spans(gold), data.spans(found)
    fits = sorted(
        (list(VERDICTS).index(Judged(a, b).verdict), -shared, a, b)
        for a in marked
        for b in named
        if (shared := min(a[1], b[1]) - max(a[0], b[0])) > 0
    )
    pairs: list[tuple] = []
    free = (set(marked), set(named))
    for *_, a, b in fits:
        if a in free[0] and b in free[1]:
            pairs.append((a, b))
            free[0].remove(a)
            free[1].remove(b)
    pairs += [(a, None) for a in free[0]] + [(None, b) for b in free[1]]
    return sorted(pairs, key=lambda pair: (pair[0] or pair[1], pair[0] is None))


def confidence(shares: torch.Tensor, names: Sequence[str], mention: Span) -> float:
    """The probability that the model gives to a mention, ends and type.

    Its first word is `B-`, each later one `I-`, and the word after it does not go on:
    the product of these probabilities, as the softmax takes words to be independent.

    Args:
        shares: (word, label), probabilities.
        names: of the labels.
        mention: what was found there.
    """
    start, end, kind = mention
    column = {name: i for i, name in enumerate(names)}
    value = shares[start, column[f"B-{kind}"]]
    if (inside := column.get(f"I-{kind}")) is not None:
        value = value * shares[start + 1 : end, inside].prod()
        if end < len(shares):
            value = value * (1 - shares[end, inside])
    return float(value)


@dataclass(frozen=True)
class Reliability:
    """Confidence against what came of it, in ten bins of equal width.

    Attributes:
        counts: mentions in each bin.
        said: their mean confidence (0 in an empty bin).
        held: the share of them that is right (0 in an empty bin).
    """

    counts: np.ndarray
    said: np.ndarray
    held: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over mentions of |said - held|."""
        weights = self.counts / max(1, self.counts.sum())
        return float(weights @ np.abs(self.said - self.held))


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> Reliability:
    """Sort mentions into bins of confidence. Guo et al. (2017)."""
    values, hits = np.asarray(confidences, float), np.asarray(right, float)
    places = np.minimum((values * 10).astype(int), 9)
    counts, said, held = (
        np.bincount(places, weights, minlength=10) for weights in (None, values, hits)
    )
    some = np.maximum(1, counts)
    return Reliability(counts, said / some, held / some)


# --- the page ------------------------------------------------------------------------


def page(
    title: str,
    scores: Mapping,
    facts: Mapping[str, object],
    sentences: Sequence[Sentence],
    found: Sequence[Sequence[str]],
    shares: Sequence[torch.Tensor],
    names: Sequence[str],
) -> str:
    """Lay out a report as HTML that needs no other file.

    Args:
        title: of the page.
        scores: what `ner.score` gave for the same labels.
        facts: what else a reader should know, each with its name.
        sentences: words with the labels that are right.
        found: the predicted labels.
        shares: see `Tagger.probabilities`.
        names: of the labels.
    """
    judged = [
        [
            Judged(a, b, confidence(shares[i], names, b) if b else None)
            for a, b in judge(sentence.labels, labels)
        ]
        for i, (sentence, labels) in enumerate(zip(sentences, found, strict=True))
    ]
    every = [item for row in judged for item in row]
    calibration = reliability(
        [item.confidence for item in every if item.found],
        [item.verdict == "right" for item in every if item.found],
    )
    return layout.page(
        "ner_report.html",
        title=title,
        scores=scores,
        facts=facts,
        verdicts=VERDICTS,
        counts=Counter(item.verdict for item in every),
        by_type=Counter(((i.gold or i.found)[2], i.verdict) for i in every),
        taken_for=Counter(
            (i.gold[2] if i.gold else None, i.found[2] if i.found else None)
            for i in every
        ),
        kinds=sorted(scores["per_type"]),
        worst=[_shown(sentences[i], judged[i], i) for i in worst(judged)],
        calibration=calibration,
        figure=_figure(calibration),
    )


def worst(judged: Sequence[Sequence[Judged]]) -> list[int]:
    """The sentences with the most mistakes; among equals the surest of one first."""
    wrong = [[item for item in row if item.verdict != "right"] for row in judged]

    def badness(i: int) -> tuple[int, float]:
        return len(wrong[i]), max(item.confidence or 0.0 for item in wrong[i])

    bad = [i for i, row in enumerate(wrong) if row]
    return sorted(bad, key=badness, reverse=True)[:SHOWN]


def _shown(sentence: Sentence, row: Sequence[Judged], number: int) -> dict:
    """A sentence twice, cut into mentions and what lies between, and its mistakes."""

    def text(start: int, end: int) -> str:
        return " ".join(sentence.words[start:end])

    def name(mention: Span | None) -> str:
        return f"{text(*mention[:2])} ({mention[2]})" if mention else "–"

    def parts(mentions: list[tuple[Span, str]]) -> list[tuple[str, str, bool]]:
        """`(text, type or "", whether it is right)`."""
        cut, done = [], 0
        for (start, end, kind), verdict in sorted(mentions):
            right = verdict == "right"
            cut += [(text(done, start), "", True), (text(start, end), kind, right)]
            done = end
        return [*cut, (text(done, len(sentence.words)), "", True)]

    return {
        "number": number + 1,
        "marked": parts([(item.gold, item.verdict) for item in row if item.gold]),
        "found": parts([(item.found, item.verdict) for item in row if item.found]),
        "mistakes": [
            (item.verdict, name(item.gold), name(item.found), item.confidence)
            for item in row
            if item.verdict != "right"
        ],
    }


def _figure(calibration: Reliability) -> tuple[str, str]:
    """The reliability diagram: PNG as base64, and its alternative text."""
    figure, axes = plots.figure(width=5.0, height=3.6)
    filled = np.flatnonzero(calibration.counts)
    plots.reliability(axes, calibration.said[filled], calibration.held[filled])
    points = ", ".join(
        f"{calibration.said[i]:.2f} said and {calibration.held[i]:.2f} right"
        for i in filled
    )
    alt = f"Share right against confidence, from low to high: {points or 'no mention'}."
    return plots.png(figure), alt
