"""The clicks come from the simulator, which does what its page says."""

import csv
from collections import defaultdict

import numpy as np
import pytest

from kie_course import clicks, corpus, data

DOCUMENTS = data.load_documents()
PATH = data.home() / "data" / "clicks.csv"


def test_file_is_what_the_simulator_writes(tmp_path):
    clicks.write(tmp_path / "clicks.csv")
    assert (tmp_path / "clicks.csv").read_bytes() == PATH.read_bytes()


def test_every_reader_sees_full_pages_of_different_items():
    pages, seen = defaultdict(list), defaultdict(list)
    for row in csv.DictReader(PATH.open(encoding="utf-8")):
        pages[row["reader"], row["page"]].append(int(row["place"]))
        seen[row["reader"]].append(row["document"])
    assert len(seen) == clicks.READERS
    assert set(map(tuple, pages.values())) == {(1, 2, 3, 4, 5, 6)}
    assert all(len(items) == len(set(items)) == 72 for items in seen.values())


def rate(rows):
    return np.mean([row.clicked for row in rows])


def test_clicks_follow_place_and_taste():
    rows = [row for seed in range(5) for row in clicks.simulate(DOCUMENTS, seed)]
    by_place = [rate(r for r in rows if r.place == place) for place in (1, 6)]
    looked = clicks.POSITION[5] / clicks.POSITION[0]
    assert by_place[1] / by_place[0] == pytest.approx(looked, rel=0.15)
    topic_of = {d.id: d.topic for d in DOCUMENTS}
    spread = []
    for reader in range(1, clicks.READERS + 1):
        own = [r for r in rows[: len(rows) // 5] if r.reader == f"r{reader:03}"]
        rates = [
            rate(r for r in own if topic_of[r.document] == t) for t in corpus.TOPICS
        ]
        spread.append(max(rates) - min(rates))
    assert np.median(spread) > 0.3


def test_recent_items_are_shown_sooner():
    age = {d.id: d.date for d in DOCUMENTS}
    rows = list(clicks.simulate(DOCUMENTS))
    first = [age[r.document] for r in rows if r.page == 1]
    last = [age[r.document] for r in rows if r.page == clicks.PAGES]
    assert sorted(first)[len(first) // 2] > sorted(last)[len(last) // 2]
