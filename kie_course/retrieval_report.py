"""The page of `retrieval eval --report`: where a system wins against another, and why.

Queries are compared one by one by their nDCG@10. A *win* is a query that the system
ranks better than its rival, a *loss* one that it ranks worse. One reason is the *word
overlap*: the share of a query's words, stop words aside, that the answer holds too; of
several answers, the one that shares most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kie_course import layout, plots
from kie_course.data import Beir
from kie_course.ranking import METRICS, Ranker, Ranking, mean, paired_interval
from kie_course.retrieval import relevant, words

METRIC = "ndcg@10"
SHOWN = 20
"""Wins, and losses, whose texts are on the page."""
BINS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
"""Word overlap: few, some, most of the words."""


@dataclass(frozen=True)
class Compared:
    """A query under two systems: nDCG@10, place of the best answer, first document."""

    query: str
    text: str
    overlap: float
    values: tuple[float, float]
    places: tuple[int | None, int | None]
    answer: str
    firsts: tuple[str | None, str | None]

    @property
    def difference(self) -> float:
        """Above 0: the system is better than its rival."""
        return self.values[0] - self.values[1]


def overlap(query: str, answers: Sequence[str]) -> float:
    """Share of a query's words that an answer holds; 0 of a query without words."""
    asked, *held = (set(found) for found in words([query, *answers]))
    return max(
        (len(asked & words) / len(asked) for words in held if asked), default=0.0
    )


def compare(
    collection: Beir,
    split: str,
    values: Sequence[Mapping[str, Mapping[str, float]]],
    rankings: Sequence[Mapping[str, Ranking]],
) -> list[Compared]:
    """Every scored query under two systems, from the greatest win to the greatest loss.

    Args:
        collection: the texts and judgements.
        split: whose queries.
        values: of the system and of its rival, what `ranking.evaluate` gave.
        rankings: of the same two: query id to ranking.
    """
    answers, rows = relevant(collection.judgements[split]), []
    for query, right in answers.items():
        grades = collection.judgements[split][query]
        lists = [[document for document, _ in found[query]] for found in rankings]
        places = [
            next((i for i, d in enumerate(found, start=1) if d in right), None)
            for found in lists
        ]
        texts = [collection.documents[d] for d in sorted(right)]
        row = Compared(
            query,
            collection.queries[query],
            overlap(collection.queries[query], texts),
            tuple(value[METRIC][query] for value in values),
            tuple(places),
            max(sorted(right), key=grades.get),
            tuple(found[0] if found else None for found in lists),
        )
        rows.append(row)
    return sorted(rows, key=lambda row: -row.difference)


def by_overlap(rows: Sequence[Compared]) -> list[dict]:
    """Both systems' mean over the queries of each bin of word overlap."""
    found = []
    for low, high in BINS:
        here = [
            row.values
            for row in rows
            if low <= row.overlap < high or row.overlap == high == 1
        ]
        means = np.mean(here, axis=0).tolist() if here else [None, None]
        found.append({"low": low, "high": high, "count": len(here), "means": means})
    return found


def page(
    names: Sequence[str],
    facts: Mapping[str, object],
    collection: Beir,
    split: str,
    values: Sequence[Mapping[str, Mapping[str, float]]],
    rankings: Sequence[Mapping[str, Ranking]],
) -> str:
    """Lay out the comparison as HTML that needs no other file.

    Args:
        names: of the system and of its rival.
        facts: what else a reader should know, each with its name.
        collection: the texts and judgements.
        split: whose queries.
        values: of both, what `ranking.evaluate` gave.
        rankings: of both: query id to ranking.
    """
    rows = compare(collection, split, values, rankings)
    wins = [row for row in rows if row.difference > 0]
    losses = [row for row in reversed(rows) if row.difference < 0]
    return layout.page(
        "retrieval_report.html",
        names=names,
        facts=facts,
        means=[mean(value) for value in values],
        intervals={m: paired_interval(values[0][m], values[1][m]) for m in METRICS},
        rows=rows,
        wins=wins,
        losses=losses,
        ties=len(rows) - len(wins) - len(losses),
        bins=by_overlap(rows),
        shown=SHOWN,
        documents=collection.documents,
        figure=_figure(rows, names),
    )


def _figure(rows: Sequence[Compared], names: Sequence[str]) -> tuple[str, str]:
    """Each query's difference, from win to loss: PNG as base64, and its alt text."""
    figure, axes = plots.figure(width=7.5, height=3.0)
    differences = np.array([row.difference for row in rows])
    axes.bar(np.arange(len(rows)), differences, width=1.0, color=plots.COLOURS[0])
    axes.axhline(0, color=plots.QUIET, linewidth=1, linestyle="-", marker="")
    axes.set(xlabel="queries, from the greatest win to the greatest loss")
    axes.set(ylabel=f"difference of {METRIC}", ylim=(-1.05, 1.05))
    alt = (
        f"Difference of {METRIC} for each of {len(rows)} queries, {names[0]} less "
        f"{names[1]}: {int((differences > 0).sum())} above 0, "
        f"{int((differences < 0).sum())} below."
    )
    return plots.png(figure), alt


def ranked(ranker: Ranker, collection: Beir, split: str) -> dict[str, Ranking]:
    """The rankings of a split's queries, by query."""
    judged = collection.judgements[split]
    found = ranker.rank([collection.queries[query] for query in judged], 100)
    return dict(zip(judged, found, strict=True))
