"""Extractive summaries: the best sentences of a text. Taught in lesson 08.

Sentences are scored by their place, by the words that they share, or by the vectors of
the encoder that serves every other task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kie_course import data
from kie_course.answers import normalise


def lead(sentences: Sequence[str]) -> np.ndarray:
    """Score sentences by their place: the first is the best. The baseline to beat."""
    return -np.arange(len(sentences), dtype=float)


def centroid(vectors: np.ndarray) -> np.ndarray:
    """Score unit vectors (sentence, hidden) by their dot product with their mean."""
    return vectors @ vectors.mean(axis=0)


def word_overlap(sentences: Sequence[str]) -> np.ndarray:
    """TextRank's similarity (sentence, sentence): shared words over log lengths.

    Lengths are counted from 2, so that a sentence of one word has a logarithm.
    """
    bags = [set(normalise(sentence)) for sentence in sentences]
    size = np.log([1 + len(bag) for bag in bags])
    shared = np.array([[len(one & other) for other in bags] for one in bags])
    return shared / np.maximum(size[:, None] + size, 1e-9)


def text_rank(similarity: np.ndarray, damping: float = 0.85) -> np.ndarray:
    """PageRank of sentences by power iteration; Mihalcea and Tarau (2004).

    Args:
        similarity: (sentence, sentence), not negative; a sentence's own is ignored.
        damping: probability of following a similarity rather than jumping anywhere.

    Returns:
        scores that sum to 1, (sentence,).
    """
    weights = np.clip(similarity, 0, None) * (1 - np.eye(len(similarity)))
    total = weights.sum(axis=1, keepdims=True)
    # A sentence that resembles none leads everywhere alike.
    steps = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / len(total))
    rank = np.full(len(steps), 1 / len(steps))
    for _ in range(100):
        rank = (1 - damping) / len(steps) + damping * rank @ steps
    return rank


def summarise(
    text: str, score: Callable[[list[str]], np.ndarray], words: int = 50
) -> list[tuple[int, int]]:
    """The best sentences that fit, in the order of the text, by their characters.

    The length is given in words: of a number of sentences the longest would be best.

    Args:
        text: of any length; cut into sentences as the corpus is.
        score: gives each sentence a number, such as `lead`.
        words: that the summary may hold; the best sentence is kept in any case.

    Returns:
        `(start, end)` of each sentence.
    """
    extents = data.sentences(text)
    sentences = [text[start:end] for start, end in extents]
    chosen, used = [], 0
    for i in np.argsort(-score(sentences), kind="stable") if sentences else ():
        size = len(sentences[i].split())
        if not chosen or used + size <= words:
            chosen.append(extents[i])
            used += size
    return sorted(chosen)
