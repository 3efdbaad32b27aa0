"""The page of `retrieval eval --report`: every query once, nothing from outside."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kie_course import ranking, retrieval, retrieval_report
from kie_course.data import Beir

COLLECTION = Beir(
    {
        "d1": "The bell rings at noon. <script>alert('x')</script>",
        "d2": "A cat sleeps on the warm stove.",
        "d3": "",
        "d4": "The stove is cold; the cat left.",
    },
    {
        "won": "cat & stove <b>now</b>",
        "lost": "the bell at noon",
        "tied": "zebra",
        "of": "the of and",
        "unanswered": "train",
    },
    {
        "test": {
            "won": {"d2": 2, "d4": 1},
            "lost": {"d1": 1, "d3": 0},
            "tied": {"d3": 1},
            "of": {"d4": 1},
            "unanswered": {"d1": 0},
        }
    },
)


class Fixed:
    """A ranker that gives each query the documents it was told to."""

    def __init__(self, **found: str):
        self.found = {COLLECTION.queries[q]: d.split() for q, d in found.items()}

    def rank(self, queries, k=100):
        rows = [self.found.get(query, []) for query in queries]
        return [[(d, 1.0) for d in row[:k]] for row in rows]


SYSTEM = Fixed(won="d2 d4", lost="d4 d1", tied="d1 d3", of="d4", unanswered="d1")
RIVAL = Fixed(won="d4 d1 d2", lost="d1", tied="d2 d3", of="d4")


def compared() -> tuple:
    values = [ranking.evaluate(r, COLLECTION, "test") for r in (SYSTEM, RIVAL)]
    found = [retrieval_report.ranked(r, COLLECTION, "test") for r in (SYSTEM, RIVAL)]
    return COLLECTION, "test", values, found


@pytest.fixture(scope="module")
def page() -> str:
    names = ("<my model>", "bm25")
    return retrieval_report.page(names, {"fact": "a < b"}, *compared())


def test_queries_stand_from_the_greatest_win_to_the_greatest_loss():
    rows = retrieval_report.compare(*compared())
    assert [row.query for row in rows] == ["won", "tied", "of", "lost"]
    won, tied, _, lost = rows
    assert won.difference > 0 == tied.difference > lost.difference
    for row in rows:
        values = [scores["ndcg@10"][row.query] for scores in compared()[2]]
        assert list(row.values) == values
    assert (won.places, won.answer, won.firsts) == ((1, 1), "d2", ("d2", "d4"))
    assert (lost.places, lost.answer, lost.firsts) == ((2, 1), "d1", ("d4", "d1"))


def test_what_was_not_found_has_no_place():
    values = compared()[2]
    found = [{query: [] for query in COLLECTION.queries}] * 2
    rows = retrieval_report.compare(COLLECTION, "test", values, found)
    assert {(row.places, row.firsts) for row in rows} == {((None, None), (None, None))}


@pytest.mark.parametrize(
    ("query", "answers", "share"),
    [
        ("The cat and the stove", ["A cat, a cat!"], 1 / 2),
        ("cat stove", ["cat", "the stove and the cat"], 1),
        ("cat cat bell", ["CAT"], 1 / 2),  # a word that is said twice counts once
        ("cat", ["dog", ""], 0),
        ("cat", ["cat dog"], 1),
        ("the of", ["the of"], 0),
        ("cat", [], 0),
    ],
)
def test_overlap_is_the_share_of_the_querys_words_that_an_answer_holds(
    query, answers, share
):
    assert retrieval_report.overlap(query, answers) == pytest.approx(share)


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1)), max_size=20))
def test_every_query_is_in_one_bin(cases):
    rows = [
        retrieval_report.Compared("q", "", n / 12, (v, 0.0), (1, 1), "d", ("d", "d"))
        for n, v in cases
    ]
    bins = retrieval_report.by_overlap(rows)
    assert sum(found["count"] for found in bins) == len(rows)
    for found in bins:
        here = [r for r in rows if found["low"] <= r.overlap < found["high"]]
        here += [r for r in rows if r.overlap == found["high"] == 1]
        assert found["count"] == len(here)
        if here:
            mean = sum(r.values[0] for r in here) / len(here)
            assert found["means"] == [pytest.approx(mean), 0]
        else:
            assert found["means"] == [None, None]


def test_wins_losses_and_ties_add_up(page):
    sentence = re.search(r"By nDCG@10 (.*?)</p>", page)[1]
    assert re.sub("<.*?>", "", sentence) == "1 of 4 queries are won, 1 lost, 2 tied."
    assert page.count("<details") == 2
    every = page.partition("<h2>All queries</h2>")[2].partition("<h2>")[0]
    names = re.findall(r'<th scope="row">(.*?)</th>', every)
    assert names == ["won", "tied", "of", "lost"]


def test_the_means_and_intervals_are_those_of_the_evaluation(page):
    first, second = compared()[2]
    rows = re.findall(r'<th scope="row">(\w+@\d+)</th>(.*?)</tr>', page)
    assert [name for name, _ in rows] == list(ranking.METRICS)
    for name, cells in rows:
        gap, low, high = ranking.paired_interval(first[name], second[name])
        means = [ranking.mean(values)[name] for values in (first, second)]
        shown = [f"{value:.3f}" for value in means]
        shown += [f"{gap:+.3f}", f"{low:+.3f} to {high:+.3f}"]
        assert re.findall("<td>(.*?)</td>", cells) == shown


def test_a_page_needs_no_other_file_and_runs_nothing(page):
    sources = re.findall(r'(?:src|href)="(.*?)"', page)
    assert [source[:22] for source in sources] == ["data:image/png;base64,"]
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert "cat &amp; stove &lt;b&gt;now&lt;/b&gt;" in page
    assert "&lt;my model&gt;" in page
    assert "a &lt; b" in page


def test_the_texts_and_both_first_hits_are_told(page):
    won, lost = re.findall(r"<details.*?</details>", page, re.DOTALL)
    assert "puts this answer first" in won
    assert "<strong>bm25</strong> puts first (d4): The stove is cold" in won
    assert "First answer: &lt;my model&gt; place 2, bm25 place 1." in lost
    assert 'class="loss"' in lost


def test_the_figure_is_told_in_words(page):
    alt = re.search(r'<img alt="(.*?)"', page)[1]
    assert "each of 4 queries" in alt
    assert "1 above 0, 1 below" in alt


def test_only_the_greatest_are_shown_in_full(monkeypatch):
    monkeypatch.setattr(retrieval_report, "SHOWN", 0)
    page = retrieval_report.page(("a", "b"), {}, *compared())
    assert "<details" not in page
    assert page.count('<th scope="row">won</th>') == 1


def test_a_remembered_ranker_ranks_once():
    calls = []

    class Counted(Fixed):
        def rank(self, queries, k=100):
            calls.append(k)
            return super().rank(queries, k)

    ranker = ranking.Remembered(Counted(won="d2 d4"))
    queries = [COLLECTION.queries["won"]]
    assert ranker.rank(queries, 2) == ranker.rank(queries, 2)
    assert ranker.rank(queries, 1) == [[("d2", 1.0)]]
    assert calls == [2, 1]
    assert retrieval.evaluate(ranker, COLLECTION, "test")["mrr@10"]["won"] == 1
