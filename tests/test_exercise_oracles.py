"""The oracles of the exercises agree with libraries that others trust."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score
from seqeval.scheme import IOB1, IOB2, Entities
from torch.nn.functional import cosine_similarity, cross_entropy

from kie_course import data, ner, retrieval
from kie_course.exercises import EXERCISES

SEEDS = range(20, 40)


def answers(id: str):
    """Arguments and the oracle's answer, for the cases of many seeds."""
    exercise = EXERCISES[id]
    for seed in SEEDS:
        for arguments in exercise.cases(np.random.default_rng(seed)):
            yield arguments, exercise.oracle(*arguments)


@pytest.mark.parametrize("id", EXERCISES)
def test_cases_are_many_drawn_and_begin_small(id):
    cases = EXERCISES[id].cases
    drawn = [repr(cases(np.random.default_rng(seed))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    sizes = [len(repr(case)) for case in cases(np.random.default_rng(1))]
    assert len(sizes) >= 8
    assert sizes[0] <= min(sizes[len(sizes) // 2 :])


@pytest.mark.parametrize("id", EXERCISES)
def test_mistakes_have_a_sentence_each_and_hints_are_staged(id):
    exercise = EXERCISES[id]
    messages = {wrong.message for wrong in exercise.wrong}
    assert len(messages) == len(exercise.wrong) >= 3
    assert all(message.endswith(".") for message in messages)
    assert 2 <= len(exercise.hints) <= 3
    assert not any("def " in hint or "return" in hint for hint in exercise.hints)


# --- lesson 00 ------------------------------------------------------------------------


def test_cosine_is_torchs():
    for (a, b), answer in answers("00.1"):
        theirs = cosine_similarity(torch.tensor(a), torch.tensor(b), dim=0)
        assert answer == pytest.approx(float(theirs), abs=1e-9)


def test_soft_read_is_torchs_softmax():
    for (scores, values), answer in answers("00.2"):
        theirs = torch.softmax(torch.tensor(scores), 0) @ torch.tensor(values)
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_ranking_is_numpys_stable_order():
    for (names, scores, k), answer in answers("00.3"):
        order = np.argsort(-np.array(scores), kind="stable")[:k]
        assert answer == [names[i] for i in order]


def test_offsets_cut_out_the_mention_at_its_place():
    for (text, words, first, last), (start, end) in answers("00.4"):
        assert "".join(text[start:end].split()) == "".join(words[first:last])
        assert "".join(text[:start].split()) == "".join(words[:first])
        assert text[start:end] == text[start:end].strip()


# --- lesson 06 ------------------------------------------------------------------------


def test_aligned_labels_are_the_packages():
    for (word_ids, labels, fresh), answer in answers("06.1"):
        taught = [-100 if word < fresh else y for word, y in enumerate(labels)]
        assert answer == ner.align_labels(word_ids, taught)


def test_iob2_holds_the_mentions_that_seqeval_reads_in_iob1():
    for (tags,), answer in answers("06.2"):
        if tags:  # seqeval refuses an empty sentence
            theirs = Entities([tags], scheme=IOB1).entities
            assert Entities([answer], scheme=IOB2).entities == theirs


# seqeval warns where a side holds no mention; F1 is 0 there by this course's rule.
@pytest.mark.filterwarnings("ignore")
def test_span_f1_is_seqevals_in_strict_mode():
    for (gold, predicted), answer in answers("06.3"):
        if any(data.spans(tags) for tags in gold + predicted):
            theirs = f1_score(gold, predicted, mode="strict", scheme=IOB2)
            assert answer == pytest.approx(theirs)
        else:
            assert answer == 0


def test_accuracy_and_recall_are_scikit_learns():
    from sklearn.metrics import accuracy_score, recall_score

    for (gold, predicted), (counts, accuracy, recall) in answers("06.4"):
        pairs = [(g, p) for g, p in zip(gold, predicted, strict=True) if g != -100]
        assert sum(counts.values()) == len(pairs)
        if names := sorted(c for c in counts if c > 0):
            wanted, found = zip(*pairs, strict=True)
            assert accuracy == pytest.approx(accuracy_score(wanted, found))
            assert recall == pytest.approx(
                recall_score(wanted, found, labels=names, average="micro")
            )


def test_warm_up_is_transformers_schedule():
    from transformers import get_linear_schedule_with_warmup

    for (step, total, warm), answer in answers("06.5"):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        schedule = get_linear_schedule_with_warmup(optimizer, warm, total)
        assert answer == pytest.approx(schedule.lr_lambdas[0](step))


def test_early_stopping_is_transformers_callback():
    from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

    args = SimpleNamespace(metric_for_best_model="eval_f1", greater_is_better=True)
    for (scores, patience), answer in answers("06.6"):
        callback = EarlyStoppingCallback(patience)
        state, control, kept, last = TrainerState(), TrainerControl(), 0, 0
        for last, score in enumerate(scores):
            callback.on_evaluate(args, state, control, {"eval_f1": score})
            if state.best_metric is None or score > state.best_metric:
                state.best_metric, kept = score, last
            if control.should_training_stop:
                break
        assert answer == (kept, last)


@pytest.mark.parametrize("overlap", [2, 4, 6])
def test_votes_are_those_of_the_packages_windows(overlap):
    for length in range(1, 60):
        cut = ner.cut_windows([1] * length, limit=2 * overlap, overlap=overlap)
        owners = [i for i, (_, _, a, b) in enumerate(cut) for _ in range(a, b)]
        windows = [(a, [i] * (b - a)) for i, (a, b, _, _) in enumerate(cut)]
        assert EXERCISES["06.7"].oracle(windows) == owners


# --- lesson 07 ------------------------------------------------------------------------


def test_bm25_is_bm25s():
    import bm25s

    for (query, titles, bodies, weight, k1, b), answer in answers("07.1"):
        documents = [t * weight + d for t, d in zip(titles, bodies, strict=True)]
        index = bm25s.BM25(k1=k1, b=b, method="lucene")
        index.index(documents, show_progress=False)
        known = [word for word in query if word in index.vocab_dict]
        theirs = index.get_scores(known) if known else np.zeros(len(documents))
        np.testing.assert_allclose(answer, theirs, rtol=1e-5, atol=1e-6)


def test_pooling_is_a_mean_of_real_tokens_in_torch():
    for (hidden, mask), answer in answers("07.2"):
        theirs = retrieval.mean_pool(torch.tensor(hidden), torch.tensor(mask))
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_info_nce_is_torchs_cross_entropy():
    for (query, document, known, temperature), answer in answers("07.3"):
        scores = torch.tensor(query @ document.T) / temperature
        own = torch.eye(*scores.shape, dtype=torch.bool)
        scores = scores.masked_fill(torch.tensor(known) & ~own, -math.inf)
        place = torch.arange(len(query))
        theirs = (cross_entropy(scores, place) + cross_entropy(scores.T, place)) / 2
        assert answer == pytest.approx(float(theirs), abs=1e-9)


def scored(measure, rankings, judgements) -> dict[str, float]:
    """A measure of ir-measures, by query."""
    import ir_measures

    run = {
        query: {document: -float(rank) for rank, document in enumerate(ranking)}
        for query, ranking in rankings.items()
    }
    found = ir_measures.iter_calc([measure], judgements, run)
    return {row.query_id: row.value for row in found}


def test_ndcg_is_ir_measures():
    from ir_measures import nDCG

    for (ranking, grades, k), answer in answers("07.4"):
        theirs = scored(nDCG @ k, {"q": ranking}, {"q": grades})
        assert answer == pytest.approx(theirs.get("q", 0.0))


def test_mrr_is_ir_measures():
    from ir_measures import RR

    for (rankings, relevant, k), answer in answers("07.5"):
        judged = {q: dict.fromkeys(found, 1) for q, found in relevant.items()}
        theirs = scored(RR @ k, rankings, judged) if judged else {}
        assert answer == pytest.approx(sum(theirs.values()) / max(1, len(judged)))


def test_fusion_is_the_packages():
    for (rankings, weights, constant), answer in answers("07.6"):
        # A ranking that counts twice is two rankings.
        votes = [2 * weight for weight in weights]
        scored = [
            [(document, 0.0) for document in ranking]
            for ranking, vote in zip(rankings, votes, strict=True)
            for _ in range(int(vote))
        ]
        theirs = retrieval.fuse(scored, constant=constant)
        assert [document for document, _ in answer] == [d for d, _ in theirs]
        assert [2 * s for _, s in answer] == pytest.approx([s for _, s in theirs])


def test_bootstrap_is_the_packages_on_the_same_draws():
    for (first, second, _), _ in answers("07.7"):
        dice, n = np.random.default_rng(3), len(first)
        draws = np.array([dice.integers(n, size=n) for _ in range(50)])
        theirs = retrieval.paired_interval(
            dict(enumerate(first)), dict(enumerate(second)), seed=3, samples=50
        )
        assert EXERCISES["07.7"].oracle(first, second, draws) == pytest.approx(theirs)
