"""The report page: every mention has one verdict, confidence means what it says."""

import itertools
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kie_course import data, ner, ner_report
from kie_course.data import Sentence
from kie_course.ner_report import VERDICTS, Judged

NAMES = ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]

label = st.sampled_from(NAMES)
pair_of_rows = st.integers(0, 9).flatmap(
    lambda n: st.tuples(*[st.lists(label, min_size=n, max_size=n)] * 2)
)
pairs_of_rows = st.lists(pair_of_rows, min_size=1, max_size=5)


def verdicts(gold: str, found: str) -> list[str]:
    pairs = ner_report.judge(gold.split(), found.split())
    return [Judged(*pair).verdict for pair in pairs]


# ------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("gold", "found", "expected"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", ["right"]),
        ("B-PER I-PER O", "B-ORG I-ORG O", ["wrong type"]),
        ("B-PER I-PER O", "B-PER O O", ["wrong boundary"]),
        ("B-PER I-PER O", "O B-ORG I-ORG", ["both wrong"]),
        ("B-PER I-PER O", "O O B-PER", ["missed", "invented"]),
        ("O O", "O O", []),
        ("B-PER", "I-PER", ["missed"]),  # what continues nothing is no mention
        # Of two halves one is the partner, the other is made up, and the reverse.
        ("B-PER I-PER I-PER", "B-PER I-PER B-PER", ["wrong boundary", "invented"]),
        ("B-PER I-PER B-PER", "B-PER I-PER I-PER", ["wrong boundary", "missed"]),
        # Type before overlap, exact before all.
        ("B-PER I-PER I-PER", "B-ORG I-ORG B-PER", ["invented", "wrong boundary"]),
        ("B-PER B-PER I-PER", "B-PER B-PER O", ["right", "wrong boundary"]),
    ],
)
def test_verdict_of_a_hand_made_case(gold, found, expected):
    assert sorted(verdicts(gold, found)) == sorted(expected)


def test_among_equal_fits_the_one_that_shares_the_most_words_is_the_partner():
    whole, halves = ["B-X", "I-X", "I-X"], ["B-X", "B-X", "I-X"]
    assert ner_report.judge(whole, halves) == [
        (None, (0, 1, "X")),
        ((0, 3, "X"), (1, 3, "X")),
    ]


@given(pairs_of_rows)
@settings(max_examples=200)
def test_counts_add_up_to_what_seqeval_counts(pairs):
    gold, found = ([list(row) for row in rows] for rows in zip(*pairs, strict=True))
    count = Counter(
        Judged(*pair).verdict
        for rows in zip(gold, found, strict=True)
        for pair in ner_report.judge(*rows)
    )
    both = sum(count.values()) - count["missed"] - count["invented"]
    score = ner.score(gold, found)
    marked = sum(row["support"] for row in score["per_type"].values())
    assert both + count["missed"] == marked
    assert score["recall"] * marked == pytest.approx(count["right"])
    named = both + count["invented"]
    assert score["precision"] * named == pytest.approx(count["right"])
    assert named == sum(len(data.spans(row)) for row in found)


@given(pair_of_rows)
@settings(max_examples=200)
def test_every_mention_has_one_verdict_and_no_fit_is_left_open(rows):
    pairs = ner_report.judge(*rows)
    marked, named = ([pair[side] for pair in pairs if pair[side]] for side in range(2))
    assert (sorted(marked), sorted(named)) == tuple(map(data.spans, rows))
    for a, b in pairs:
        assert a is None or b is None or (a[0] < b[1] and b[0] < a[1])
    missed = [a for a, b in pairs if b is None]
    invented = [b for a, b in pairs if a is None]
    assert not [1 for a in missed for b in invented if a[0] < b[1] and b[0] < a[1]]
    assert pairs == sorted(pairs, key=lambda pair: (pair[0] or pair[1])[0])


# ------------------------------------------------------------------------ confidence


@given(st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=20)
def test_confidence_is_the_probability_of_all_labellings_with_that_mention(n, seed):
    shares = torch.rand(n, len(NAMES), generator=torch.manual_seed(seed)).softmax(-1)
    expected = Counter()
    for row in itertools.product(range(len(NAMES)), repeat=n):
        weight = shares[range(n), row].prod().item()
        for mention in data.spans([NAMES[i] for i in row]):
            expected[mention] += weight
    assert len(expected) == n * (n + 1)  # two types
    for mention, weight in expected.items():
        value = ner_report.confidence(shares, NAMES, mention)
        assert value == pytest.approx(weight, rel=1e-4)


def test_a_type_that_only_begins_has_a_confidence_too():
    shares = torch.tensor([[0.3, 0.7]])
    value = ner_report.confidence(shares, ["O", "B-X"], (0, 1, "X"))
    assert value == pytest.approx(0.7)


confidences = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.3, 1.0]), st.booleans()),
    max_size=60,
)


@given(confidences)
def test_calibration_error_is_that_of_the_definition(cases):
    bins: dict[int, list] = {}
    for value, right in cases:
        bins.setdefault(min(int(value * 10), 9), []).append((value, right))
    expected = sum(
        len(rows) / len(cases) * abs(np.mean([v - r for v, r in rows]))
        for rows in bins.values()
    )
    result = ner_report.reliability([v for v, _ in cases], [r for _, r in cases])
    assert result.error == pytest.approx(expected)
    assert result.counts.tolist() == [len(bins.get(i, ())) for i in range(10)]


# --------------------------------------------------------------------------- the page


class Page(HTMLParser):
    """What a page holds: tables by heading, what it loads, its marked texts."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tables, self.loads, self.alts = [], {}, [], []
        self.heading, self.marks, self.text = "", [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [attrs[k] for k in ("src", "href", "action") if k in attrs]
        self.alts += [attrs.get("alt")] if tag == "img" else []
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.setdefault(self.heading, []).append([])
        elif tag == "tr":
            self.tables[self.heading][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.heading][-1][-1].append("")
        elif tag == "h2":
            self.heading = ""
        elif tag == "mark":
            self.marks.append((attrs.get("class"), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[self.heading][-1][-1][-1] += text
        elif "h2" in self.open:
            self.heading += text
        if "mark" in self.open:
            self.marks[-1] = (self.marks[-1][0], self.marks[-1][1] + text)


GOLD = [
    Sentence(
        ["Ada", "<b>Park</b>", "met", "Kite", "&"],
        ["B-PER", "I-PER", "O", "B-ORG", "O"],
    ),
    Sentence(["in", "Lima"], ["O", "B-LOC"]),
    Sentence(["all", "right"], ["O", "O"]),
    Sentence(["Oslo"], ["B-LOC"]),
]
FOUND = ["B-PER O O B-LOC O", "B-ORG O", "O O", "B-LOC"]
LABELS = ner.label_names(GOLD)


def a_page(found=FOUND, title="tagger on <test>") -> str:
    found = [row.split() for row in found]
    shares = [
        torch.full((len(row), len(LABELS)), 0.01).index_put_(
            (torch.arange(len(row)), torch.tensor([LABELS.index(x) for x in row])),
            torch.tensor(1 - 0.01 * (len(LABELS) - 1)),
        )
        for row in found
    ]
    scores = ner.score([s.labels for s in GOLD], found)
    return ner_report.page(title, scores, {"words": 9}, GOLD, found, shares, LABELS)


def test_page_needs_no_other_file_and_describes_its_figure():
    page = Page(a_page())
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert len(page.loads) == len(page.alts) == 1
    assert len(page.alts[0].split()) > 5
    assert "http" not in a_page()


def test_page_is_the_same_every_time_and_shows_text_as_it_is():
    assert a_page() == a_page()
    page = Page(a_page())
    assert "<b>Park</b>" in page.text
    assert "tagger on <test>" in page.text


def test_tables_of_the_page_say_what_was_counted():
    tables = Page(a_page()).tables
    meanings, by_type = tables["Mistakes"]
    assert {row[0]: int(row[2]) for row in meanings[1:]} == {
        "right": 1, "wrong type": 1, "wrong boundary": 1,
        "both wrong": 0, "missed": 1, "invented": 1,
    }  # fmt: skip
    assert [row[0] for row in meanings[1:]] == list(VERDICTS) == by_type[0][1:]
    totals = np.array([[int(x) for x in row[1:]] for row in by_type[1:]]).sum(0)
    assert totals.tolist() == [int(row[2]) for row in meanings[1:]]
    (confusion,) = tables["Which type is taken for which"]
    assert confusion == [
        ["marked", "LOC", "ORG", "PER", "missed"],
        ["LOC", "1", "0", "0", "1"],
        ["ORG", "1", "0", "0", "0"],
        ["PER", "0", "0", "1", "0"],
        ["invented", "0", "1", "0", ""],
    ]
    (scores,) = tables["Scores by type"]
    assert scores[1:] == [
        ["LOC", "0.500", "0.500", "0.500", "2"],
        ["ORG", "0.000", "0.000", "0.000", "1"],
        ["PER", "0.000", "0.000", "0.000", "1"],
    ]
    assert tables["What was read"] == [[["words", "9"]]]


def test_worst_sentences_come_first_with_gold_and_prediction_marked():
    page = Page(a_page())
    assert "Sentence 1" in page.text
    assert page.text.index("Sentence 1") < page.text.index("Sentence 2")
    assert "Sentence 3" not in page.text  # nothing is wrong with it
    assert "Sentence 4" not in page.text
    assert page.marks == [
        ("wrong", "Ada <b>Park</b> PER"), ("wrong", "Kite ORG"),
        ("wrong", "Ada PER"), ("wrong", "Kite LOC"),
        ("wrong", "Lima LOC"), ("wrong", "in ORG"),
    ]  # fmt: skip
    first = page.tables["Worst sentences"][0]
    assert [row[:3] for row in first[1:]] == [
        ["wrong boundary", "Ada <b>Park</b> (PER)", "Ada (PER)"],
        ["wrong type", "Kite (ORG)", "Kite (LOC)"],
    ]


def test_no_more_than_the_worst_are_shown():
    wrong = [[Judged((0, 1, "X"), None)]] * 30
    assert len(ner_report.worst(wrong)) == ner_report.SHOWN
    sure, unsure = (Judged(None, (0, 1, "X"), c) for c in (0.9, 0.2))
    twice = [Judged((2, 3, "X"), None), unsure]
    assert ner_report.worst([[], [unsure], [sure], twice]) == [3, 2, 1]


@pytest.mark.parametrize("found", [FOUND, ["O O O O O", "O O", "O O", "O"]])
def test_page_of_a_tagger_that_finds_nothing_is_a_page(found):
    assert "True positives" in Page(a_page(found)).text
