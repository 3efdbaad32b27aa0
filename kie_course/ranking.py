"""What a ranking is, and how good one is: nDCG, MRR, recall, and an interval.

Taught in lesson 07. A *ranker* is built from documents (`{id: text}`) and has one
method, `rank(queries, k)`: for each query the best `k` as `(document id, score)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from kie_course import SEED, BadInput
from kie_course.data import Beir, answered

Ranking = list[tuple[str, float]]
"""Document ids with their scores, best first."""


class Ranker(Protocol):
    """Anything that ranks documents."""

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """For each query the best `k` documents, best first."""
        ...


class Remembered:
    """A ranker that ranks the same queries only once."""

    def __init__(self, ranker: Ranker):
        self.ranker, self.found = ranker, {}

    def rank(self, queries: Sequence[str], k: int = 100) -> list[Ranking]:
        """See `Ranker`."""
        asked = (tuple(queries), k)
        if asked not in self.found:
            self.found[asked] = self.ranker.rank(queries, k)
        return self.found[asked]


METRICS = ("ndcg@10", "mrr@10", "recall@100")


def per_query(
    rankings: Mapping[str, Ranking], judgements: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """nDCG@10, MRR@10 and recall@100 of every judged query (`ir-measures`).

    nDCG's gain is linear in the grade (trec_eval's form). A query without hits scores
    0. Equal scores are no ties here: the order of the ranking counts.

    Args:
        rankings: query id to ranking.
        judgements: query id to `{document id: grade}`; a grade above 0 is relevant.

    Returns:
        `{metric: {query id: value}}`, over all queries with a relevant document.
    """
    import ir_measures
    from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

    names = dict(zip((nDCG @ 10, RR @ 10, R @ 100), METRICS, strict=True))
    judged = answered(judgements)
    qrels = [Qrel(q, d, g) for q, grades in judged.items() for d, g in grades.items()]
    run = [
        ScoredDoc(q, document, -float(place))
        for q in judged
        for place, (document, _) in enumerate(rankings.get(q, ()))
    ]
    values: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for item in ir_measures.iter_calc(list(names), qrels, run):
        values[names[item.measure]][item.query_id] = float(item.value)
    return values


def evaluate(
    ranker: Ranker, collection: Beir, split: str
) -> dict[str, dict[str, float]]:
    """Rank the judged queries of a split and score them; see `per_query`.

    Raises:
        BadInput: the collection has no such split, or nothing relevant in it.
    """
    if split not in collection.judgements:
        have = ", ".join(collection.judgements)
        raise BadInput(f"there is no qrels/{split}.tsv here; there is: {have}")
    judged = collection.judgements[split]
    if not answered(judged):
        raise BadInput(
            f"no query of qrels/{split}.tsv has a relevant document: nothing to score"
        )
    ranked = ranker.rank([collection.queries[q] for q in judged], 100)
    return per_query(dict(zip(judged, ranked, strict=True)), judged)


def mean(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean of every metric over the queries."""
    return {name: float(np.mean(list(row.values()))) for name, row in values.items()}


def paired_interval(
    first: Mapping[str, float],
    second: Mapping[str, float],
    seed: int = SEED,
    samples: int = 10_000,
) -> tuple[float, float, float]:
    """Mean of `first - second` over queries, with a 95 % paired bootstrap interval.

    Queries are drawn with replacement; both systems are always compared on the same
    draw. Taught in lesson 07; Sakai (2006).

    Args:
        first: query id to value of one system.
        second: the same of the other, for the same queries.
        seed: of the draws.
        samples: draws.

    Returns:
        `(mean difference, lower end, upper end)`.
    """
    difference = np.array([first[q] - second[q] for q in first])
    dice = np.random.default_rng(seed)
    draws = [
        difference[dice.integers(len(difference), size=len(difference))].mean()
        for _ in range(samples)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)
