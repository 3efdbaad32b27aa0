"""Answers: windows, spans against a slow search, SQuAD's scores against slow ones."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kie_course import BadInput, answers, data, heads, training
from kie_course.answers import Reader

CPU = training.Settings(
    learning_rate=5e-3, epochs=8, batch_size=8, bf16=False, device="cpu", seed=7
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def untrained(tiny_folder) -> Reader:
    return Reader(["start", "end"], tiny_folder, CPU)


def item(question: str, context: str, *texts: str) -> dict:
    found = [(context.index(text), text) for text in texts]
    return {"question": question, "context": context, "answers": found}


def toy_questions() -> list[dict]:
    """The colour is the word after "is"; where there is no "is", there is no answer."""
    found = []
    for thing in ("door", "roof", "gate", "wall"):
        for colour in ("red", "blue", "green", "black"):
            text = f"The {thing} of our house is {colour} today"
            found.append(item("Which colour?", text, colour))
        found.append(item("Which colour?", f"The {thing} of our house"))
    return found


@pytest.fixture(scope="module")
def reader(tiny_folder) -> Reader:
    return heads.train(
        Reader,
        toy_questions(),
        toy_questions(),
        model=tiny_folder,
        settings=CPU,
        progress=False,
    )


# ----------------------------------------------------------------------------- windows

words = st.lists(
    st.text("abcdefgh0123456789ä.,'", min_size=1, max_size=8), max_size=60
).map(" ".join)


@given(words, words, st.integers(16, 64))
@settings(max_examples=60)
def test_windows_hold_every_piece_of_the_context(untrained, question, context, limit):
    untrained.config.max_position_embeddings = limit
    try:
        windows = untrained.encode([item(f"Why {question}", context)])
    finally:
        untrained.config.max_position_embeddings = 512
    whole = untrained.tokenizer(context, add_special_tokens=False)["input_ids"]
    assert all(len(window) <= limit for window in windows)
    covered, sep = [], untrained.tokenizer.sep_token_id
    for window in windows:
        first = window.token_type_ids.index(1)
        part = window.input_ids[first:-1]
        assert window.input_ids[first - 1] == window.input_ids[-1] == sep
        assert len(part) == len(window.offsets)
        # Each window goes on from the last one, with some pieces in common.
        where = next(
            i
            for i in range(len(covered), -1, -1)
            if whole[i : i + len(part)] == part and i <= len(covered)
        )
        covered[where:] = part
    assert covered == whole


def test_short_question_and_context_are_read_as_the_tokenizer_reads_them(untrained):
    (window,) = untrained.encode([item("Who came?", "Ada Lovelace came, late.")])
    expected = untrained.tokenizer("Who came?", "Ada Lovelace came, late.")
    assert window.input_ids == expected["input_ids"]
    assert window.token_type_ids == expected["token_type_ids"]
    assert window.target == (0, 0)


@given(st.integers(0, 900), st.integers(1, 12))
@settings(max_examples=60)
def test_windows_teach_the_answer_or_that_there_is_none(untrained, place, length):
    context = " ".join(f"word{i}" for i in range(300))
    start = sum(len(word) + 1 for word in context.split()[: place % 290])
    text = " ".join(context[start:].split()[:length])
    case = {"question": "Why?", "context": context, "answers": [(start, text)]}
    found = 0
    for window in untrained.encode([case]):
        a, b = window.target
        if (a, b) != (0, 0):
            first = window.token_type_ids.index(1)
            begin, end = window.offsets[a - first][0], window.offsets[b - first][1]
            assert (begin, context[begin:end]) == (start, text)
            found += 1
    assert found


@pytest.mark.parametrize(
    ("start", "text", "expected"),
    [
        (0, "Ada", (0, 0)),
        (4, "met Bob", (1, 2)),
        (5, "et B", (1, 2)),  # inside of words: the pieces that it touches
        (3, " met ", (1, 1)),
        (3, " ", None),
    ],
)
def test_pieces_of_an_answer(start, text, expected):
    offsets = [(0, 3), (4, 7), (8, 11)]
    assert answers.answer_pieces([(start, text)], offsets) == expected
    assert answers.answer_pieces([], offsets) is None


def test_long_question_is_cut_and_says_so(untrained):
    (window,) = untrained.encode([item("why " * 65, "Because.")])
    assert window.cut
    assert window.token_type_ids.index(1) == 64 + 2
    assert not untrained.encode([item("why " * 64, "Because.")])[0].cut


@pytest.mark.parametrize("question", ["", " ", "\n\t"])
def test_empty_question_is_an_error(untrained, question):
    with pytest.raises(BadInput, match="the question is empty"):
        untrained.predict([{"question": question, "context": "Ada came."}])


# ------------------------------------------------------------------------------- spans


def test_answers_can_stand_at_no_answer_or_in_the_context_alone(untrained):
    cases = [item("Who came?", "Ada."), item("Why so late?", "Nobody knows [SEP] it.")]
    windows = untrained.encode(cases)
    batch = heads.collate(windows, untrained.tokenizer.pad_token_id)
    logits = untrained(
        batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    )
    for window, row in zip(windows, logits, strict=True):
        first, size = window.token_type_ids.index(1), len(window.offsets)
        allowed = {0, *range(first, first + size)}
        for piece, (start, end) in enumerate(row.tolist()):
            assert (start > -math.inf) == (end > -math.inf) == (piece in allowed)
    torch.testing.assert_close(logits.softmax(1).sum(1), torch.ones(2, 2))


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25)
def test_span_is_the_best_of_a_slow_search(untrained, seed, long):
    context = " ".join(f"w{i}" for i in range(120 if long else 9))
    case, dice = item("Why?", context), torch.Generator().manual_seed(seed)
    windows = untrained.encode([case])
    rows = [
        torch.randn(len(w) + 3, 2, generator=dice).round(decimals=2) for w in windows
    ]
    untrained.logits = lambda *_: rows
    try:
        (found,) = untrained.spans([case])
    finally:
        del untrained.logits
    spans, none = {}, math.inf
    for window, row in zip(windows, rows, strict=True):
        first, row = window.token_type_ids.index(1), row.tolist()
        none = min(none, row[0][0] + row[0][1])
        for i, (start, _) in enumerate(window.offsets):
            for j in range(i, min(i + answers.ANSWER, len(window.offsets))):
                score = row[first + i][0] + row[first + j][1]
                key = start, window.offsets[j][1]
                spans[key] = max(spans.get(key, -math.inf), score)
    assert found["margin"] == pytest.approx(max(spans.values()) - none, abs=1e-5)
    best = spans[found["start"], found["end"]]
    assert best == pytest.approx(max(spans.values()), abs=1e-5)
    assert found["answer"] == context[found["start"] : found["end"]]


def test_reader_learned_what_it_was_shown(reader):
    found = reader.evaluate(toy_questions())
    assert found["answerable"]["f1"] > 0.9
    assert found["unanswerable"]["f1"] > 0.9
    assert reader.report["dev"] == found


def test_answer_is_a_span_of_the_text(reader):
    asked = [
        {"question": q["question"], "context": q["context"]} for q in toy_questions()
    ]
    for question, found in zip(asked, reader.predict(asked), strict=True):
        start, end = found["start"], found["end"]
        assert found["answer"] == question["context"][start:end]
        assert (found["answer"] == "") == (found["margin"] <= reader.threshold)
    assert reader.predict([]) == []


@pytest.mark.parametrize("context", ["", "  ", "\ufe0f"])
def test_context_without_a_piece_holds_no_answer(reader, context):
    reader_threshold, reader.threshold = reader.threshold, -math.inf
    try:
        (found,) = reader.predict([{"question": "Why?", "context": context}])
    finally:
        reader.threshold = reader_threshold
    assert found["answer"] == ""


def test_answers_of_the_corpus_survive_the_way_through_pieces(untrained):
    """What is taught, said as an answer, scores 1: windows and characters agree."""
    questions = data.read_squad(data.home() / "data" / "questions" / "train.json")
    windows, given = untrained.encode(questions), {}
    for window in windows:
        (a, b), first = window.target, window.token_type_ids.index(1)
        if (a, b) != (0, 0):
            start, end = window.offsets[a - first][0], window.offsets[b - first][1]
            given[window.item] = questions[window.item]["context"][start:end]
    gold = [[text for _, text in q["answers"]] for q in questions]
    said = [given.get(i, "") for i in range(len(questions))]
    assert answers.answer_scores(gold, said)["exact"] == 1


# ------------------------------------------------------------------------------ scores


def slow_words(text: str) -> list[str]:
    """SQuAD's normalisation, step by step in the official script's order."""
    text = text.lower()
    for sign in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~":
        text = text.replace(sign, "")
    for article in ("a", "an", "the"):
        text = re.sub(rf"\b{article}\b", " ", text)
    return text.split()


def slow_f1(gold: str, given: str) -> float:
    one, other = slow_words(gold), slow_words(given)
    if not one or not other:
        return float(one == other)
    left, same = list(other), 0
    for word in one:
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(other), same / len(one)
    return 2 * precision * recall / (precision + recall)


def slow_scores(gold: list[list[str]], given: list[str]) -> tuple[float, float]:
    exact, f1 = [], []
    for texts, said in zip(gold, given, strict=True):
        right = [text for text in texts if slow_words(text)] or [""]
        exact.append(max(slow_words(text) == slow_words(said) for text in right))
        f1.append(max(slow_f1(text, said) for text in right))
    return sum(exact) / len(exact), sum(f1) / len(f1)


answer = st.lists(
    st.sampled_from(["the", "The", "a", "cat", "Cat", "dog", "dog's", ".", "3.5", "é"]),
    max_size=5,
).map(" ".join)
scored = st.lists(
    st.tuples(st.lists(answer, max_size=3), answer), min_size=1, max_size=8
)


@given(scored)
@settings(max_examples=100)
def test_exact_match_and_f1_are_those_of_a_slow_count(rows):
    gold, given = [g for g, _ in rows], [a for _, a in rows]
    found = answers.answer_scores(gold, given)
    assert (found["exact"], found["f1"]) == pytest.approx(slow_scores(gold, given))
    for name, wanted in (("answerable", True), ("unanswerable", False)):
        part = [(g, a) for g, a in rows if bool(g) == wanted]
        assert (name in found) == bool(part)
        if part:
            expected = slow_scores(*map(list, zip(*part, strict=True)))
            assert (found[name]["exact"], found[name]["f1"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gold", "given", "exact", "f1"),
    [
        (["the Black Cat!"], "black cat", 1, 1),
        (["black cat"], "a very black cat", 0, 4 / 5),
        (["cat", "black dog"], "dog", 0, 2 / 3),
        (["cat"], "", 0, 0),
        ([], "", 1, 1),
        ([], "cat", 0, 0),
        ([], "the", 1, 1),  # an article is no word
        (["cat cat"], "cat", 0, 2 / 3),
    ],
)
def test_scores_of_hand_made_cases(gold, given, exact, f1):
    found = answers.answer_scores([gold], [given])
    assert (found["exact"], found["f1"]) == pytest.approx((exact, f1))
