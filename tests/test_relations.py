"""Relations: markers, the official score against a slow count, facts from raw text."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kie_course import BadInput, corpus, data, heads, relations, training
from kie_course.data import NO_RELATION, MarkedPair
from kie_course.relations import MARKERS, RelationClassifier

CPU = training.Settings(
    learning_rate=5e-3, epochs=6, batch_size=8, bf16=False, device="cpu", seed=7
)
BOTH = {"bought": (("ORG",), ("ORG",)), "from": (("PER",), ("LOC",))}
"""What may be related to what in the toy texts."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def untrained(tiny_folder) -> RelationClassifier:
    return RelationClassifier(["bought", NO_RELATION], tiny_folder, CPU)


def toy_pairs() -> list[MarkedPair]:
    """Who bought whom: both orders of both names, so that words alone cannot tell."""
    names = ["Oak", "Elm", "Ash", "Yew", "Fir", "Bay"]
    found = []
    for one in names:
        for other in names:
            if one != other:
                text = f"{one} bought {other} again"
                places = (0, 3), (11, 14)
                found.append(MarkedPair(text, *places, "bought"))
                found.append(MarkedPair(text, *places[::-1], NO_RELATION))
    return found


@pytest.fixture(scope="module")
def classifier(tiny_folder) -> RelationClassifier:
    return heads.train(
        RelationClassifier,
        toy_pairs(),
        toy_pairs(),
        model=tiny_folder,
        settings=CPU,
        progress=False,
    )


# ----------------------------------------------------------------------------- markers


def marked(pair: MarkedPair) -> str:
    """The text with the markers written into it, from the back."""
    text = pair.text
    ends = [(pair.head, MARKERS[:2]), (pair.tail, MARKERS[2:])]
    for (start, end), (opening, closing) in sorted(ends, reverse=True):
        inside = f"{opening} {text[start:end]} {closing}"
        text = f"{text[:start]} {inside} {text[end:]}"
    return text


plain_word = st.text("abcdefghijklmnopqrstuvwxyz0123456789ä'.-", min_size=1, max_size=6)


@st.composite
def pairs(draw) -> MarkedPair:
    words = draw(st.lists(plain_word, min_size=2, max_size=12))
    i, j = draw(st.permutations(range(len(words))))[:2]
    starts = [sum(len(w) + 1 for w in words[:k]) for k in range(len(words))]
    place = [(starts[k], starts[k] + len(words[k])) for k in (i, j)]
    return MarkedPair(" ".join(words), *place)


@given(pairs())
@settings(max_examples=60)
def test_pieces_are_those_of_the_text_with_markers_in_it(untrained, pair):
    (example,) = untrained.encode([pair])
    assert example.input_ids == untrained.tokenizer(marked(pair))["input_ids"]
    assert example.target == 1
    assert not example.cut


def test_head_and_tail_keep_their_markers_in_either_order(untrained):
    pair = MarkedPair("Ada met Bob", (0, 3), (8, 11))
    rows = untrained.encode([pair, MarkedPair(pair.text, pair.tail, pair.head)])
    show = untrained.tokenizer.convert_ids_to_tokens
    assert show(rows[0].input_ids)[1:-1] == (
        ["[E1]", "ada", "[/E1]", "met", "[E2]", "bob", "[/E2]"]
    )
    assert show(rows[1].input_ids)[1:-1] == (
        ["[E2]", "ada", "[/E2]", "met", "[E1]", "bob", "[/E1]"]
    )


def test_markers_that_somebody_typed_are_text(untrained):
    text = "[E1] or [E2] is what Ada typed"
    (example,) = untrained.encode([MarkedPair(text, (21, 24), (25, 30))])
    ids = untrained.tokenizer.convert_tokens_to_ids(list(MARKERS))
    assert [example.input_ids.count(i) for i in ids] == [1, 1, 1, 1]


def test_linear_layer_reads_the_states_of_the_two_start_markers(untrained):
    pairs = [
        MarkedPair("Ada met Bob", (0, 3), (8, 11)),
        MarkedPair("Yesterday Ada met Bob there", (18, 21), (10, 13)),
    ]
    for example, row in zip(
        untrained.encode(pairs), untrained.probabilities(pairs), strict=True
    ):
        ids = untrained.tokenizer.convert_ids_to_tokens(example.input_ids)
        with torch.no_grad():
            hidden = untrained.base_model(torch.tensor([example.input_ids]))[0][0]
            both = torch.cat([hidden[ids.index("[E1]")], hidden[ids.index("[E2]")]])
            expected = untrained.linear(both).softmax(-1)
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("place", [0, 300, 600, 900])
def test_long_text_loses_its_outer_ends_and_neither_mention(untrained, place):
    words = [f"w{i % 10}" for i in range(1000)]
    words[place : place + 3] = ["Ada", "met", "Bob"]
    text = " ".join(words)
    start = text.index("Ada met Bob")
    pair = MarkedPair(text, (start, start + 3), (start + 8, start + 11))
    (example,) = untrained.encode([pair])
    assert (len(example), example.cut) == (512, True)
    shown = " ".join(untrained.tokenizer.convert_ids_to_tokens(example.input_ids))
    assert "[E1] ada [/E1] met [E2] bob [/E2]" in shown


@pytest.mark.parametrize("ends", [0, 300])
def test_mentions_far_apart_lose_what_is_in_the_middle(untrained, ends):
    text = "x " * ends + "Ada first " + "x " * 600 + "last Bob" + " x" * ends
    a, b = text.index("Ada"), text.index("Bob")
    near = MarkedPair("Ada met Bob", (0, 3), (8, 11))
    far, other = untrained.encode([MarkedPair(text, (a, a + 3), (b, b + 3)), near])
    assert (len(far), far.cut, other.cut) == (512, True, False)
    shown = " ".join(untrained.tokenizer.convert_ids_to_tokens(far.input_ids))
    assert shown.startswith("[CLS] [E1] ada [/E1] first x")
    assert shown.endswith("x last [E2] bob [/E2] [SEP]")


@pytest.mark.parametrize(
    ("text", "head", "tail", "message"),
    [
        ("Ada met Bob", (0, 3), (2, 11), "no two mentions in 'Ada met Bob'"),
        ("Ada met Bob", (0, 3), (8, 12), "no two mentions"),
        ("Ada met Bob", (3, 3), (8, 11), "no two mentions"),
        ("Ada met Bob", (-3, 3), (8, 11), "no two mentions"),
        ("a " * 600 + "met Bob", (0, 1199), (1204, 1207), "too long for the model"),
    ],
)
def test_bad_pair_is_an_error(untrained, text, head, tail, message):
    with pytest.raises(BadInput, match=message):
        untrained.encode([MarkedPair(text, head, tail)])


def test_classifier_learned_who_bought_whom(classifier):
    found = classifier.evaluate(toy_pairs())
    assert found["macro_f1"] > 0.9
    assert classifier.report["dev"] == found


# --------------------------------------------------------------------- official score

CAUSE, EFFECT = "Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)"
PART, WHOLE = "Component-Whole(e1,e2)", "Component-Whole(e2,e1)"
label = st.sampled_from([CAUSE, EFFECT, PART, WHOLE, NO_RELATION])


def slow_macro_f1(rows: list[tuple[str, str]]) -> float:
    """The organisers' words, relation by relation, over both of its directions."""
    values = []
    for relation in ("Cause-Effect", "Component-Whole"):
        both = {f"{relation}(e1,e2)", f"{relation}(e2,e1)"}
        right = sum(g == p and g in both for g, p in rows)
        wrong_direction = sum(g != p and {g, p} <= both for g, p in rows)
        false = sum(p in both and g not in both for g, p in rows) + wrong_direction
        missed = sum(g in both and p not in both for g, p in rows) + wrong_direction
        if right + false + missed == 0:
            continue  # it does not occur
        precision = right / (right + false) if right else 0
        recall = right / (right + missed) if right else 0
        both_zero = precision + recall == 0
        values.append(0 if both_zero else 2 * precision * recall / (precision + recall))
    return sum(values) / len(values) if values else 0.0


@given(st.lists(st.tuples(label, label), max_size=30))
@settings(max_examples=100)
def test_macro_f1_is_that_of_a_slow_count(rows):
    gold, predicted = [g for g, _ in rows], [p for _, p in rows]
    found = relations.relation_scores(gold, predicted)
    assert found["macro_f1"] == pytest.approx(slow_macro_f1(rows))
    assert NO_RELATION not in found["per_type"]


def test_macro_f1_of_hand_made_cases():
    def f1(*rows):
        return relations.relation_scores(*zip(*rows, strict=True))["macro_f1"]

    assert f1((CAUSE, CAUSE), (EFFECT, EFFECT)) == 1
    assert f1((CAUSE, EFFECT), (EFFECT, CAUSE)) == 0
    # One right, one in the wrong direction: precision 1/2, recall 1/2.
    assert f1((CAUSE, CAUSE), (CAUSE, EFFECT)) == 0.5
    # What is no relation counts only as what was missed or made up.
    assert f1((CAUSE, CAUSE), (NO_RELATION, NO_RELATION)) == 1
    assert f1((CAUSE, CAUSE), (NO_RELATION, CAUSE)) == pytest.approx(2 / 3)
    assert f1((CAUSE, CAUSE), (PART, NO_RELATION)) == 0.5


# ------------------------------------------------------------------ facts from raw text

TEXT = "Oak bought Elm. Ada is from Rome. Elm bought Ash."
MENTIONS = [
    {"start": 0, "end": 3, "type": "ORG", "id": "e1"},
    {"start": 11, "end": 14, "type": "ORG", "id": "e2"},
    {"start": 16, "end": 19, "type": "PER", "id": "e3"},
    {"start": 28, "end": 32, "type": "LOC", "id": "e4"},
    {"start": 34, "end": 37, "type": "ORG", "id": "e5"},
    {"start": 45, "end": 48, "type": "ORG", "id": "e6"},
]


def test_candidates_are_the_allowed_pairs_within_reach():
    facts = [{"type": "bought", "head": "e1", "tail": "e2"}]
    found = relations.candidates(TEXT, MENTIONS, BOTH, facts)
    assert [(h["id"], t["id"], pair.label) for h, t, pair in found] == [
        ("e1", "e2", "bought"),
        ("e2", "e1", NO_RELATION),
        ("e3", "e4", NO_RELATION),
        ("e5", "e6", NO_RELATION),
        ("e6", "e5", NO_RELATION),
    ]
    for head, tail, pair in found:
        for mention, (start, end) in ((head, pair.head), (tail, pair.tail)):
            assert pair.text[start:end] == TEXT[mention["start"] : mention["end"]]
        assert pair.text.endswith(".")


def test_reach_counts_sentences(monkeypatch):
    def joined():
        found = relations.candidates(TEXT, MENTIONS, BOTH)
        return {(h["id"], t["id"]) for h, t, _ in found}

    assert ("e2", "e5") not in joined()
    monkeypatch.setattr(relations, "REACH", 1)
    assert ("e2", "e5") not in joined()
    monkeypatch.setattr(relations, "REACH", 2)
    assert {("e2", "e5"), ("e6", "e1")} <= joined()


def test_all_pairs_of_the_corpus_can_be_marked(untrained):
    documents = data.load_documents()[::20]
    found = relations.pairs(documents, corpus.RELATIONS)
    assert {pair.label for pair in found} == {*corpus.RELATIONS, NO_RELATION}
    for example in untrained.encode(found):
        assert not example.cut


def test_triples_have_types_that_the_relation_allows(tiny_folder):
    """Whatever a random classifier says, and whichever relations it knows."""
    names = [*corpus.RELATIONS, NO_RELATION]
    results = [
        {"text": d.text, "entities": d.entities} for d in data.load_documents()[:6]
    ]
    found = []
    for seed in range(3):
        head = RelationClassifier(names, tiny_folder, replace(CPU, seed=seed))
        torch.nn.init.normal_(head.linear.weight, std=5.0)
        for result in relations.extract(head, results, corpus.RELATIONS):
            for triple in result["relations"]:
                one, other = corpus.RELATIONS[triple["type"]]
                assert triple["head"]["type"] in one
                assert triple["tail"]["type"] in other
                assert triple["head"] in result["entities"]
                assert 0 < triple["probability"] <= 1
                found.append(triple["type"])
    assert len(set(found)) > 2


def test_triples_come_from_raw_text(classifier):
    text = "Oak bought Yew again"
    mentions = [
        {"start": 0, "end": 3, "type": "ORG", "text": "Oak"},
        {"start": 11, "end": 14, "type": "ORG", "text": "Yew"},
    ]
    given = [{"text": text, "entities": mentions}, {"text": "", "entities": []}]
    first, empty = relations.extract(classifier, given, BOTH)
    facts = [
        (t["head"]["text"], t["type"], t["tail"]["text"]) for t in first["relations"]
    ]
    assert facts == [("Oak", "bought", "Yew")]
    assert empty["relations"] == []
    assert "relations" not in given[0]


def gold_results(documents):
    found = []
    for d in documents:
        by_id = {mention["id"]: mention for mention in d.entities}
        facts = [
            r | {"head": by_id[r["head"]], "tail": by_id[r["tail"]]}
            for r in d.relations
        ]
        found.append({"text": d.text, "entities": d.entities, "relations": facts})
    return found


def test_triples_are_scored_strictly():
    documents = [d for d in data.load_documents() if len(d.relations) > 2][:5]
    results = gold_results(documents)
    assert relations.triple_scores(documents, results)["f1"] == 1
    count = sum(len(d.relations) for d in documents)
    triple = results[0]["relations"][0]
    for spoilt in (
        triple | {"type": "other"},
        triple | {"head": triple["tail"], "tail": triple["head"]},
        triple | {"head": triple["head"] | {"type": "MONEY"}},
        triple | {"tail": triple["tail"] | {"end": triple["tail"]["end"] + 1}},
    ):
        results[0]["relations"][0] = spoilt
        found = relations.triple_scores(documents, results)
        assert found["precision"] == found["recall"] == (count - 1) / count
    results[0]["relations"][0] = triple
    results[0]["relations"] *= 2  # said twice is said once
    assert relations.triple_scores(documents, results)["f1"] == 1
    silent = [{**r, "relations": []} for r in results]
    assert set(relations.triple_scores(documents, silent).values()) == {0.0}
