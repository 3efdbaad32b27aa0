"""Retrieval: every ranker, loss and metric against a slow one written here."""

import itertools
import json
import math
import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from tiny import DOCUMENTS
from torch.nn.functional import normalize

from kie_course import BadInput, data, models, retrieval, systems, training
from kie_course.data import Beir

CPU = training.Settings(
    bf16=False, device="cpu", batch_size=6, epochs=2, learning_rate=3e-3, seed=7
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder() -> retrieval.BiEncoder:
    return retrieval.load(device="cpu", bf16=False)


def numbered(texts: list[str]) -> dict[str, str]:
    return {f"d{i}": text for i, text in enumerate(texts)}


# ---------------------------------------------------------------------------- BM25

STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the "
    "their then there these they this to was will with"
)


def tokens(text: str) -> list[str]:
    """Lower-case runs of two or more word characters that are no stop words."""
    return [
        w for w in re.findall(r"\w\w+", text.lower()) if w not in STOP_WORDS.split()
    ]


def lucene(documents: list[str], query: str, k1: float = 1.5, b: float = 0.75):
    """Lucene's BM25: idf = ln(1 + (N - n + .5) / (n + .5)), no factor k1 + 1."""
    counts = [Counter(tokens(text)) for text in documents]
    average = sum(c.total() for c in counts) / len(counts)
    scores = []
    for count in counts:
        score = 0.0
        for word in tokens(query):  # a word that occurs twice counts twice
            n = sum(word in c for c in counts)
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            length = 1 - b + b * count.total() / average if average else 1.0
            score += idf * count[word] / (count[word] + k1 * length)
        scores.append(score)
    return scores


word = st.sampled_from(
    [
        "bell",
        "Bell",
        "noon",
        "tower",
        "the",
        "not",
        "a",
        "x",
        "élan",
        "snake_case",
        "42",
    ]
)
text = st.lists(word, max_size=9).map(" ".join)
texts = st.lists(text, min_size=1, max_size=8)


@given(texts, text, st.sampled_from([(1.5, 0.75), (0.9, 0.4)]))
@settings(max_examples=60)
def test_bm25_is_lucenes(documents, query, constants):
    k1, b = constants
    ranker = retrieval.Bm25(numbered(documents), k1, b)
    (ranking,) = ranker.rank([query])
    expected = lucene(documents, query, k1, b)
    found = dict(ranking)
    assert set(found) == {f"d{i}" for i, score in enumerate(expected) if score > 0}
    for document, score in found.items():
        assert score == pytest.approx(expected[int(document[1:])], rel=1e-5)
    assert [score for _, score in ranking] == sorted(found.values(), reverse=True)


def test_bm25_uses_the_constants_that_the_lesson_names():
    (ranking,) = retrieval.Bm25(DOCUMENTS).rank(["bell at noon"])
    expected = lucene(list(DOCUMENTS.values()), "bell at noon", 1.5, 0.75)
    assert ranking == [
        ("d1", pytest.approx(expected[0], rel=1e-5)),
        ("d5", pytest.approx(expected[4], rel=1e-5)),
    ]


each_sparse = pytest.mark.parametrize("ranker", [retrieval.Bm25, retrieval.Tfidf])


@each_sparse
def test_unknown_words_find_nothing(ranker):
    queries = ["zebra", "the of and", "", "!?", "cat zebra"]
    rankings = ranker(DOCUMENTS).rank(queries)
    assert rankings[:4] == [[]] * 4
    assert [document for document, _ in rankings[4]] == ["d2", "d4"]


@each_sparse
@pytest.mark.parametrize("documents", [{"d1": ""}, {"d1": "", "d2": "the"}])
def test_documents_without_a_word_are_legal(ranker, documents):
    assert ranker(documents).rank(["cat", ""]) == [[], []]


@each_sparse
def test_equal_documents_stand_in_the_order_given(ranker):
    names = [f"d{i}" for i in range(60, 0, -1)]  # (few would be sorted in order anyway)
    documents = {"x": "dogs bark"} | dict.fromkeys(names, "a cat") | {"y": "cat, cat!"}
    for k in (100, 20):
        (ranking,) = ranker(documents).rank(["cat"], k)
        found = [document for document, _ in ranking if document != "y"]
        assert found == names[: len(found)]
        assert len(ranking) == min(k, 61)


@given(texts, st.lists(text, min_size=1, max_size=3))
@settings(max_examples=40)
def test_tfidf_is_scikit_learns_cosine(documents, queries):
    rankings = retrieval.Tfidf(numbered(documents)).rank(queries)
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        matrix = vectorizer.fit_transform(documents)
    except ValueError:
        assert rankings == [[]] * len(queries)
        return
    expected = cosine_similarity(vectorizer.transform(queries), matrix)
    for ranking, row in zip(rankings, expected, strict=True):
        wanted = {f"d{i}": value for i, value in enumerate(row) if value > 0}
        assert dict(ranking) == pytest.approx(wanted)


# ------------------------------------------------------------- pooling and the loss


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
@settings(max_examples=30)
def test_mean_pool_is_the_mean_over_real_tokens(lengths):
    hidden = torch.randn(len(lengths), 5, 4, generator=torch.manual_seed(sum(lengths)))
    mask = torch.tensor([[int(j < n) for j in range(5)] for n in lengths])
    pooled = retrieval.mean_pool(hidden, mask)
    for row, vectors, length in zip(pooled, hidden, lengths, strict=True):
        expected = torch.zeros(4)
        for vector in vectors[:length]:
            expected += vector / length
        torch.testing.assert_close(row, expected)  # without a token: zeros, no NaN


def slow_info_nce(query, document, known, temperature: float) -> float:
    """One query, one exponential at a time."""
    losses = []
    for i in range(len(query)):
        own, total = None, 0.0
        for j in range(len(document)):
            if j != i and known[i][j]:
                continue  # known to answer too: no negative
            score = sum(
                float(a) * float(b) for a, b in zip(query[i], document[j], strict=True)
            )
            total += math.exp(score / temperature)
            own = math.exp(score / temperature) if j == i else own
        losses.append(-math.log(own / total))
    return sum(losses) / len(losses)


@given(
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.integers(0, 999),
)
@settings(max_examples=50)
def test_info_nce_is_the_slow_one(n, hard, temperature, seed):
    """With hard negatives and documents known to answer several queries."""
    dice = torch.Generator().manual_seed(seed)
    query = normalize(torch.randn(n, 4, generator=dice), dim=-1)
    document = normalize(torch.randn(n + hard, 4, generator=dice), dim=-1)
    known = torch.rand(n, n + hard, generator=dice) < 0.3
    loss = retrieval.info_nce(query, document, known, temperature)
    expected = slow_info_nce(query, document, known, temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    known.fill_diagonal_(True)  # whether a query's own document is marked is the same
    torch.testing.assert_close(
        retrieval.info_nce(query, document, known, temperature), loss
    )


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (4, 9)])
def test_info_nce_of_equal_scores_is_the_logarithm_of_their_number(n, m):
    query, document = torch.ones(n, 3), torch.ones(m, 3)
    nothing = torch.zeros(n, m, dtype=torch.bool)
    loss = retrieval.info_nce(query, document, nothing, 0.05)
    assert float(loss) == pytest.approx(math.log(m), abs=1e-6)


def test_known_answers_are_no_negatives():
    query = document = torch.eye(3)
    twin = torch.cat([document, document[:1]])  # a second answer to the first query
    known = torch.zeros(3, 4, dtype=torch.bool)
    masked = known.clone()
    masked[0, 3] = True
    alone = retrieval.info_nce(query[:1], document, known[:1, :3], 0.05)
    assert retrieval.info_nce(query[:1], twin, masked[:1], 0.05) == alone
    assert retrieval.info_nce(query[:1], twin, known[:1], 0.05) > alone + 0.5


# ------------------------------------------------------------------ the bi-encoder

SAMPLES = [
    "A cat sleeps on the warm stove.",
    "",
    "Zoë’s naïve café ☕ costs 3.50 €!",
    "bell " * 400,
    "Trains.",
]


def test_vectors_are_those_of_sentence_transformers(encoder):
    reference = SentenceTransformer(str(models.shipped_folder()), device="cpu")
    expected = reference.encode(SAMPLES, convert_to_numpy=True)
    np.testing.assert_allclose(encoder.encode(SAMPLES), expected, atol=1e-4)


def test_vectors_are_unit_and_in_the_order_given(encoder):
    together = encoder.encode(SAMPLES)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode([text]) for text in SAMPLES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    backwards = encoder.encode(SAMPLES[::-1], batch_size=2)[::-1]
    np.testing.assert_allclose(together, backwards, atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)


def test_without_normalising_a_vector_is_the_mean_itself(encoder):
    bare = replace(encoder, normalize=False)
    vectors = bare.encode(SAMPLES)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert lengths.std() > 0.01
    np.testing.assert_allclose(vectors / lengths, encoder.encode(SAMPLES), atol=1e-5)


@given(st.lists(st.integers(0, 300), max_size=40))
def test_texts_go_together_that_are_of_similar_length(lengths):
    groups = retrieval.of_similar_length(lengths)
    assert sorted(i for rows in groups for i in rows) == list(range(len(lengths)))
    bounds = [(lengths[rows[0]], lengths[rows[-1]]) for rows in groups]
    assert all(longest <= retrieval.STRETCH * first for first, longest in bounds)
    # No group could have taken in the next one's first text.
    for (first, _), (following, _) in itertools.pairwise(bounds):
        assert following > retrieval.STRETCH * first


def test_little_padding_in_the_batches_of_the_course(encoder):
    collection = data.read_beir(data.home() / "data" / "retrieval")
    learn = collection.judgements["train"]
    pairs = retrieval.make_pairs(encoder, collection, learn, hard_negatives=0)
    random.Random(0).shuffle(pairs)
    real = padded = 0
    for start in range(0, len(pairs), retrieval.RECIPE.batch_size):
        batch = pairs[start : start + retrieval.RECIPE.batch_size]
        queries = {tuple(p.query) for p in batch}
        for texts in (queries, {tuple(p.documents[0]) for p in batch}):
            lengths = [len(ids) for ids in texts]
            real += sum(lengths)
            groups = retrieval.of_similar_length(lengths)
            padded += sum(len(rows) * lengths[rows[-1]] for rows in groups)
    assert real < padded <= 1.06 * real


def test_a_long_text_is_cut_to_the_models_length(encoder):
    assert [len(ids) for ids in encoder.tokenize(["bell " * 400, "bell", ""])] == [
        256,
        3,
        2,
    ]
    wide = replace(encoder, max_length=100_000)
    assert len(wide.tokenize(["bell " * 600])[0]) == models.max_length(encoder.model)
    assert encoder.tokenize([]) == []


# -------------------------------------------------------------------------- fusion


def test_fusion_of_a_hand_made_case():
    first = [("a", 9.0), ("b", 8.0)]
    second = [("b", 0.3), ("c", 0.2), ("a", 0.1)]
    fused = retrieval.fuse([first, second])
    assert fused == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61 + 1 / 63)),
        ("c", pytest.approx(1 / 62)),
    ]
    assert retrieval.fuse([first, second], k=1) == fused[:1]
    assert retrieval.fuse([first, second], constant=0)[0] == ("b", 1 / 2 + 1)
    assert retrieval.fuse([]) == retrieval.fuse([[], []]) == []


def test_fusion_looks_at_ranks_alone():
    one = [("a", 1e9), ("b", 1e-9)]
    other = [("a", 2.0), ("b", 1.0)]
    assert retrieval.fuse([one]) == retrieval.fuse([other])


class Fixed:
    """A ranker that always gives the same; remembers how many were asked for."""

    def __init__(self, *documents: str):
        self.ranking, self.asked = [(d, 1.0) for d in documents], []

    def rank(self, queries, k=100):
        self.asked.append(k)
        return [self.ranking[:k] for _ in queries]


def test_hybrid_fuses_deep_rankings_and_cuts_afterwards():
    one, other = Fixed("a", "b", "c"), Fixed("c", "a")
    ranked = retrieval.Hybrid(one, other).rank(["x", "y"], k=1)
    assert [[document for document, _ in row] for row in ranked] == [["a"], ["a"]]
    assert one.asked == other.asked == [100]


def test_rankers_are_built_by_name(tiny_folder):
    def build(system: str) -> retrieval.Ranker:
        return systems.ranker(system, DOCUMENTS, device="cpu", bf16=False)

    assert isinstance(build("bm25"), retrieval.Bm25)
    assert isinstance(build("tfidf"), retrieval.Tfidf)
    dense = build("pretrained")
    assert isinstance(dense, retrieval.Dense)
    assert dense.model.model.config.hidden_size == 384
    assert build(str(tiny_folder)).model.model.config.hidden_size == 16
    bm25, dense = build(f"hybrid:{tiny_folder}").rankers
    assert isinstance(bm25, retrieval.Bm25)
    assert dense.model.model.config.hidden_size == 16
    for system in ("hybrid:", "bm26", "hybrid:nowhere", "nohybrid:bm25"):
        with pytest.raises(
            BadInput, match=r"no such model folder|name the model to fuse"
        ):
            build(system)


# ------------------------------------------------------------------------- metrics


def test_metrics_of_a_hand_made_case():
    """Grades 1, 0 and 2 at ranks 1, 2 and 3; another relevant document is missed."""
    judgements = {
        "q1": {"a": 1, "b": 0, "c": 2, "z": 1},
        "without hits": {"a": 1},
        "not ranked": {"b": 3},
        "nothing relevant": {"a": 0, "b": -1},
    }
    rankings = {
        "q1": [("a", 3.0), ("b", 2.0), ("c", 1.0), ("unjudged", 0.5)],
        "without hits": [],
        "nothing relevant": [("a", 1.0)],
        "unjudged": [("a", 1.0)],
    }
    values = retrieval.per_query(rankings, judgements)
    gained = 1 / math.log2(2) + 2 / math.log2(4)
    best = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    zero = {"without hits": 0, "not ranked": 0}
    assert values == {
        "ndcg@10": {"q1": pytest.approx(gained / best), **zero},
        "mrr@10": {"q1": 1, **zero},
        "recall@100": {"q1": pytest.approx(2 / 3), **zero},
    }
    assert retrieval.mean(values)["recall@100"] == pytest.approx(2 / 9)


def test_first_hit_at_rank_three_and_below_ten():
    def ranked(place: int) -> dict:
        others = [(f"n{i}", 0.0) for i in range(place - 1)]
        return {"q": [*others, ("hit", 0.0)]}

    for place, ndcg, mrr, recall in [
        (3, 1 / math.log2(4), 1 / 3, 1),
        (10, 1 / math.log2(11), 1 / 10, 1),
        (11, 0, 0, 1),
        (100, 0, 0, 1),
        (101, 0, 0, 0),
    ]:
        values = retrieval.mean(retrieval.per_query(ranked(place), {"q": {"hit": 1}}))
        assert values == pytest.approx(
            {"ndcg@10": ndcg, "mrr@10": mrr, "recall@100": recall}
        )


def test_equal_scores_keep_their_order():
    """Other tools break ties by id: here the ranking is what was ranked."""
    for order in itertools.permutations("abc"):
        values = retrieval.per_query({"q": [(d, 1.0) for d in order]}, {"q": {"b": 1}})
        assert values["mrr@10"]["q"] == pytest.approx(1 / (order.index("b") + 1))


def slow_metrics(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    gains = [max(0, grades.get(document, 0)) for document in ranking]
    ideal = sorted((max(0, grade) for grade in grades.values()), reverse=True)

    def discounted(values: list[int]) -> float:
        return sum(
            v / math.log2(rank + 1) for rank, v in enumerate(values[:10], start=1)
        )

    first = next((rank for rank, gain in enumerate(gains[:10], start=1) if gain), None)
    return {
        "ndcg@10": discounted(gains) / discounted(ideal),
        "mrr@10": 1 / first if first else 0.0,
        "recall@100": sum(g > 0 for g in gains[:100]) / sum(g > 0 for g in ideal),
    }


@given(
    st.dictionaries(
        st.sampled_from(["q1", "q2", "q3"]),
        st.tuples(
            st.permutations(range(130)).map(lambda p: [f"d{i}" for i in p]),
            st.integers(0, 130),
            st.dictionaries(
                st.integers(0, 140).map("d{}".format),
                st.integers(-1, 3),
                min_size=1,
                max_size=20,
            ),
        ),
        min_size=1,
    )
)
@settings(max_examples=30)
def test_metrics_are_the_slow_ones(cases):
    rankings = {
        query: [(document, 1.0) for document in documents[:size]]
        for query, (documents, size, _) in cases.items()
    }
    judgements = {query: grades for query, (*_, grades) in cases.items()}
    values = retrieval.per_query(rankings, judgements)
    scored = {q for q, grades in judgements.items() if max(grades.values()) > 0}
    for name in retrieval.METRICS:
        assert set(values[name]) == scored
    for query in scored:
        ranking = [document for document, _ in rankings[query]]
        expected = slow_metrics(ranking, judgements[query])
        found = {name: values[name][query] for name in retrieval.METRICS}
        assert found == pytest.approx(expected, abs=1e-6)


def test_evaluation_ranks_every_judged_query_of_the_split():
    collection = Beir(
        DOCUMENTS,
        {"q1": "cat stove", "q2": "zebra", "q3": "never judged", "q4": "noon"},
        {"test": {"q1": {"d2": 1}, "q2": {"d1": 1}}, "dev": {"q4": {"d5": 1}}},
    )
    values = retrieval.evaluate(retrieval.Bm25(DOCUMENTS), collection, "test")
    assert values["recall@100"] == {"q1": 1, "q2": 0}
    with pytest.raises(
        BadInput, match=r"no qrels/train\.tsv here; there is: test, dev"
    ):
        retrieval.evaluate(retrieval.Bm25(DOCUMENTS), collection, "train")


values_of_queries = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    min_size=1,
    max_size=20,
)


@given(values_of_queries)
@settings(max_examples=20)
def test_paired_interval_holds_the_mean_and_mirrors(cases):
    first = {query: a for query, (a, _) in cases.items()}
    # The order of the queries in the second must not matter.
    second = {query: b for query, (_, b) in reversed(cases.items())}
    mean, low, high = retrieval.paired_interval(first, second, samples=400)
    assert mean == pytest.approx(sum(a - b for a, b in cases.values()) / len(cases))
    assert low - 1e-9 <= mean <= high + 1e-9
    again = retrieval.paired_interval(first, second, samples=400)
    assert again == (mean, low, high)
    equal = retrieval.paired_interval(first, first, samples=50)
    assert equal == (0, 0, 0)


def test_paired_interval_is_seeded_and_of_the_right_width():
    dice = np.random.default_rng(5)
    first = {str(i): float(v) for i, v in enumerate(dice.normal(0.1, 1, 400))}
    second = dict.fromkeys(first, 0.0)
    mean, low, high = retrieval.paired_interval(first, second, samples=2_000)
    half = 1.96 * np.std(list(first.values())) / math.sqrt(400)
    assert (mean - low, high - mean) == (
        pytest.approx(half, rel=0.1),
        pytest.approx(half, rel=0.1),
    )
    assert (mean, low, high) != retrieval.paired_interval(first, second, 6, 2_000)
    # Paired: a difference that is the same for every query is certain.
    shifted = {query: value - 0.25 for query, value in reversed(first.items())}
    interval = retrieval.paired_interval(first, shifted, samples=50)
    assert interval == pytest.approx((0.25, 0.25, 0.25))


# ----------------------------------------------------------------- training material


def small_collection() -> Beir:
    """Twelve subjects, a document and two questions each."""
    subjects = "cat dog stove train bell tower noon river bridge apple violin snow"
    documents, queries, train = {}, {}, {}
    for number, subject in enumerate(subjects.split()):
        documents[f"d{number}"] = f"All there is to know of the {subject}: {subject}."
        for form, question in enumerate((f"A {subject}?", f"know all of {subject}s")):
            queries[f"q{number}.{form}"] = question
            train[f"q{number}.{form}"] = {f"d{number}": 1}
    return Beir(documents, queries, {"train": train, "dev": dict([*train.items()][:8])})


def pairs_of(encoder, judgements: dict, hard: int) -> list[retrieval.Pair]:
    collection = Beir(
        DOCUMENTS,
        {"q1": "cat stove", "q2": "noon bell", "q3": "cat"},
        {"train": judgements},
    )
    return retrieval.make_pairs(encoder, collection, judgements, hard)


def test_pairs_hold_the_best_answers_and_hard_negatives_that_are_none(encoder):
    judgements = {"q1": {"d2": 1, "d5": 0}, "q2": {"d1": 2, "d5": 1}, "q3": {"d4": 0}}
    pairs = pairs_of(encoder, judgements, 2)
    assert [(p.document_ids, set(p.answers)) for p in pairs] == [
        (["d2", "d4"], {"d2"}),  # BM25 finds no other document for q1
        (["d1"], {"d1", "d5"}),  # every document found answers q2, d5 in part
    ]  # q3 has no answer
    texts = encoder.tokenizer([DOCUMENTS["d2"], DOCUMENTS["d4"], "cat stove"])[
        "input_ids"
    ]
    assert [*pairs[0].documents, pairs[0].query] == texts
    assert {len(pair) for pair in pairs} == {1}  # so that batches are random
    assert all(len(p.documents) == 1 for p in pairs_of(encoder, judgements, 0))


def test_judged_zero_may_be_a_hard_negative(encoder):
    pairs = pairs_of(encoder, {"q1": {"d2": 1, "d4": 0}}, 1)
    assert pairs[0].document_ids == ["d2", "d4"]


@given(
    st.dictionaries(
        st.sampled_from([f"q{i}.0" for i in range(12)]),
        st.dictionaries(
            st.integers(0, 11).map("d{}".format), st.integers(-1, 2), min_size=1
        ),
        min_size=1,
    ),
    st.integers(0, 4),
)
@settings(max_examples=25)
def test_no_hard_negative_was_ever_judged_relevant(encoder, judgements, hard):
    pairs = retrieval.make_pairs(encoder, small_collection(), judgements, hard)
    relevant = {
        q: {d for d, g in row.items() if g > 0} for q, row in judgements.items()
    }
    best = [
        [g for g in row.values() if 0 < g == max(row.values())]
        for row in judgements.values()
    ]
    assert len(pairs) == sum(map(len, best))
    for pair in pairs:
        answer, *wrong = pair.document_ids
        assert answer in pair.answers
        assert not pair.answers & set(wrong)
        assert set(pair.answers) in relevant.values()
        assert len(set(wrong)) == len(wrong) <= hard


def test_batch_marks_every_known_answer():
    def pair(query: int, ids: list[str], answers: str) -> retrieval.Pair:
        documents = [[ord(i)] * (n + 1) for n, i in enumerate(ids)]
        return retrieval.Pair([query], documents, ids, frozenset(answers))

    # The first query's hard negative answers the second; a and b answer the first.
    batch = retrieval.collate([pair(1, ["a", "c"], "ab"), pair(2, ["b", "x"], "bc")], 0)
    assert batch["document_ids"].tolist() == [[97, 0], [98, 0], [99, 99], [120, 120]]
    assert batch["document_attention_mask"].tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    assert batch["known"].tolist() == [
        [True, True, False, False],
        [False, True, True, False],
    ]
    assert batch["query_ids"].tolist() == [[1], [2]]
    assert batch["query_attention_mask"].tolist() == [[1], [1]]


# ------------------------------------------------------------------------- training


def train(folder, collection=None, run=CPU, **kwargs) -> retrieval.BiEncoder:
    collection = collection or small_collection()
    return retrieval.train(
        collection, model=folder, settings=run, progress=False, **kwargs
    )


def dev_score(encoder, collection: Beir) -> float:
    ranker = retrieval.Dense(encoder, collection.documents)
    return retrieval.mean(retrieval.evaluate(ranker, collection, "dev"))["ndcg@10"]


def test_training_lowers_the_loss_and_raises_the_score(tiny_folder):
    collection = small_collection()
    before = dev_score(retrieval.load(tiny_folder, "cpu", bf16=False), collection)
    tuned = train(tiny_folder, run=replace(CPU, epochs=8))
    losses = [loss for _, loss in tuned.history.loss]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    assert dev_score(tuned, collection) > before + 0.1
    assert tuned.history.best == pytest.approx(dev_score(tuned, collection), abs=1e-6)


def test_training_never_ends_below_the_untouched_encoder(encoder, tiny_folder):
    collection = small_collection()
    for folder, untouched in [
        (tiny_folder, retrieval.load(tiny_folder, "cpu", bf16=False)),
        (models.shipped_folder(), encoder),
    ]:
        before = dev_score(untouched, collection)
        harmful = replace(CPU, learning_rate=0.5, epochs=1, batch_size=12)
        tuned = train(folder, run=harmful)
        assert tuned.history.dev[0] == (0, pytest.approx(before, abs=1e-6))
        assert dev_score(tuned, collection) >= before - 1e-6
    np.testing.assert_array_equal(tuned.encode(["cat"]), encoder.encode(["cat"]))


def test_same_seed_gives_the_same_encoder_and_another_seed_another(tiny_folder):
    def trained(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(seed)  # whatever was drawn before must not matter
        tuned = train(tiny_folder, run=replace(CPU, seed=seed))
        assert tuned.history.best_step > 0, "the weights are those of the folder"
        return tuned.model.state_dict()

    one, same, other = trained(7), trained(7), trained(8)
    assert all(torch.equal(one[name], same[name]) for name in one)
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(one[name], other[name])


def test_saved_and_loaded_encoder_gives_the_same_vectors(tiny_folder, tmp_path):
    tuned = train(tiny_folder, temperature=0.2, normalize=False)
    tuned.max_length = 17
    tuned.save(tmp_path)
    loaded = retrieval.load(tmp_path, device="cpu", bf16=False)
    np.testing.assert_array_equal(loaded.encode(SAMPLES), tuned.encode(SAMPLES))
    assert (loaded.temperature, loaded.normalize, loaded.max_length) == (0.2, False, 17)
    assert loaded.report == json.loads(json.dumps(tuned.report))
    assert loaded.report["settings"]["dev"] == "given"
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pkl"))


def test_settings_of_the_loss_reach_it(tiny_folder):
    seen = []

    def loss(query, document, known, temperature):
        seen.append((query.norm(dim=-1), len(document), temperature))
        return retrieval.info_nce(query, document, known, temperature)

    run = replace(CPU, epochs=1)
    train(tiny_folder, run=run, loss=loss, temperature=0.3, hard_negatives=0)
    train(tiny_folder, run=run, loss=loss, normalize=False, hard_negatives=2)
    (unit, _, temperature), (free, _, usual) = seen[0], seen[-1]
    assert (temperature, usual) == (0.3, 0.05)
    assert [count for _, count, _ in seen[:4]] == [6] * 4
    assert max(count for _, count, _ in seen[4:]) > 6
    torch.testing.assert_close(unit, torch.ones(6))
    assert not torch.allclose(free, torch.ones(6))


def test_without_dev_a_tenth_of_the_queries_is_held_out_and_reported(tiny_folder):
    collection = small_collection()
    collection.judgements.pop("dev")
    tuned = train(tiny_folder, collection, replace(CPU, epochs=1))
    report = tuned.report["settings"]
    assert (report["train_pairs"], report["dev_queries"]) == (22, 2)
    assert report["dev"] == "a seeded tenth of the training queries"
    assert len(tuned.history.dev) == 2


@pytest.mark.parametrize("seed", range(3))
def test_held_out_queries_are_such_as_can_be_scored(tiny_folder, seed):
    """Queries with nothing relevant are legal: a dev made of them scores nothing."""
    collection = small_collection()
    collection.judgements.pop("dev")
    judged = collection.judgements["train"]
    for query in list(judged)[4:]:
        judged[query] = dict.fromkeys(judged[query], 0)
    tuned = train(tiny_folder, collection, replace(CPU, epochs=1, seed=seed))
    assert tuned.report["settings"]["train_pairs"] == 3
    assert all(0 <= score <= 1 for _, score in tuned.history.dev)


def test_training_without_anything_to_learn_or_judge_is_refused(tiny_folder):
    collection = small_collection()
    nothing = {"q0.0": {"d0": 0}, "q1.0": {"d1": 0}}
    some = collection.judgements["train"]
    for judgements, message in [
        ({"dev": some}, r"no qrels/train\.tsv"),
        ({"train": {"q0.0": {"d0": 1}}}, r"two queries with .* or qrels/dev\.tsv"),
        ({"train": nothing}, "at least two queries"),
        ({"train": nothing, "dev": some}, "nothing to train on"),
        (
            {"train": some, "dev": nothing},
            r"dev\.tsv has a relevant document: nothing to score",
        ),
    ]:
        broken = Beir(collection.documents, collection.queries, judgements)
        with pytest.raises(BadInput, match=message):
            train(tiny_folder, broken)
