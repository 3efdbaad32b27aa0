"""Readers' clicks on the corpus's news, from a simulator.

No reader exists: the file shows what a recommender has to cope with, and the truth
behind it is known. Each reader likes some topics more than others, prefers news of one
sentiment a little, and clicks more at the top of a page, whatever stands there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from kie_course import SEED, corpus, data
from kie_course.data import Document

READERS, PAGES, SHOWN = 150, 12, 6
POSITION = (1.0, 0.8, 0.65, 0.5, 0.4, 0.35)
"""How likely the item in each place of a page is looked at."""


@dataclass(frozen=True)
class Impression:
    """One news item, shown to one reader in one place of one page.

    `page` counts a reader's pages from 1, `place` the places of a page from 1.
    """

    reader: str
    page: int
    place: int
    document: str
    clicked: bool


def simulate(documents: Sequence[Document], seed: int = SEED) -> Iterator[Impression]:
    """Show pages of news to readers and yield what they click.

    A page holds six items that this reader was not shown before, drawn at random but
    recent ones first. The reader looks at a place with the probability `POSITION`, and
    clicks what is looked at with the logistic function of liking: its topic's (normal,
    deviation 1.5), its sentiment's (deviation 0.5), minus 1.
    """
    dice = np.random.default_rng(seed)
    news = sorted((d for d in documents if d.kind == "news"), key=lambda d: d.id)
    days = np.array([date.fromisoformat(d.date).toordinal() for d in news])
    for number in range(1, READERS + 1):
        topic = dict(zip(corpus.TOPICS, dice.normal(0, 1.5, 6), strict=True))
        mood = dict(zip(corpus.SENTIMENTS, dice.normal(0, 0.5, 3), strict=True))
        # Exponential races: the newer an item, the sooner its turn, never surely.
        turn = dice.exponential(size=len(news)) * np.exp((days.max() - days) / 365)
        queue = np.argsort(turn)[: PAGES * SHOWN]
        for shown, i in enumerate(queue):
            page, place = divmod(shown, SHOWN)
            liking = topic[news[i].topic] + mood[news[i].sentiment] - 1
            chance = POSITION[place] / (1 + np.exp(-liking))
            clicked = bool(dice.random() < chance)
            name = f"r{number:03}"
            yield Impression(name, page + 1, place + 1, news[i].id, clicked)


def write(path: str | Path | None = None) -> None:
    """Write `data/clicks.csv` anew (or another file)."""
    path = Path(path or data.home() / "data" / "clicks.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["reader", "page", "place", "document", "clicked"])
        for one in simulate(data.load_documents()):
            values = one.reader, one.page, one.place, one.document, int(one.clicked)
            rows.writerow(values)
