"""The cross-encoder: what it reads, what it learns, and the order it gives."""

import itertools
import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SHAPE
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertModel

from kie_course import BadInput, models, rerank, retrieval, systems, training
from kie_course.data import Beir

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = training.Settings(
    bf16=False, device="cpu", batch_size=4, epochs=4, learning_rate=5e-4, seed=7
)
SUBJECTS = (
    *("cat", "dog", "stove", "train", "bell", "tower"),
    *("noon", "river", "bridge", "apple", "violin", "snow"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The shipped encoder's two lowest layers: quick, and it still learns."""
    folder = tmp_path_factory.mktemp("encoder")
    models.load("AutoModel", num_hidden_layers=2).save_pretrained(folder)
    models.load_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cross(tmp_path_factory) -> rerank.CrossEncoder:
    """Random, with weights so large that logits differ; reads 16 pieces at once."""
    folder = tmp_path_factory.mktemp("random")
    torch.manual_seed(3)
    BertModel(BertConfig(initializer_range=0.3, **SHAPE)).save_pretrained(folder)
    models.load_tokenizer().save_pretrained(folder)
    model = rerank.Relevance(["relevance"], folder, CPU).eval()
    return rerank.CrossEncoder(model, "bm25", max_length=16, bf16=False)


def collection() -> Beir:
    """Help pages, one of them right for a query, among adverts that never are."""
    documents = {f"d{i}": f"{word} help page" for i, word in enumerate(SUBJECTS)}
    documents |= {f"x{i}": f"buy {word} {i}" for i, word in enumerate(SUBJECTS * 3)}
    queries = {f"q{i}.{j}": f"a {w}" for i, w in enumerate(SUBJECTS) for j in (1, 2)}
    judged = {query: {"d" + query[1:].split(".")[0]: 1} for query in queries}
    train, dev = (
        {query: grades for query, grades in judged.items() if query.endswith(end)}
        for end in (".1", ".2")
    )
    return Beir(documents, queries, {"train": train, "dev": dev})


class Blind:
    """A first stage in which the right document may stand anywhere."""

    def __init__(self, documents):
        self.ids = sorted(documents)

    def rank(self, queries, k=100):
        orders = [
            random.Random(query).sample(self.ids, len(self.ids)) for query in queries
        ]
        return [[(d, -float(i)) for i, d in enumerate(order[:k])] for order in orders]


# ------------------------------------------------------------------------ the input


def test_query_and_document_stand_in_one_input(cross):
    reference = cross.tokenizer("a cat", "the warm stove")
    ((row,),) = cross.windows([("a cat", "the warm stove")])
    assert [*row.query, *row.window] == reference["input_ids"]
    batch = rerank.collate([row, row._replace(window=row.window[-1:])], pad_id=0)
    rest = len(row.window) - 1
    assert batch["input_ids"][0].tolist() == reference["input_ids"]
    assert batch["token_type_ids"][0].tolist() == reference["token_type_ids"]
    assert batch["attention_mask"].tolist() == [
        [1] * len(reference["input_ids"]),
        [1] * (len(row.query) + 1) + [0] * rest,
    ]
    assert (
        batch["token_type_ids"][1].tolist() == [0] * len(row.query) + [1] + [0] * rest
    )
    assert batch["input_ids"][1].tolist()[-rest:] == [0] * rest


def test_a_separator_that_somebody_typed_is_text(cross):
    ((row,),) = cross.windows([("a [SEP] cat", "the [SEP] stove")])
    separator = cross.tokenizer.sep_token_id
    assert [*row.query, *row.window].count(separator) == 2


@given(st.integers(0, 40), st.integers(0, 40))
def test_every_piece_of_a_document_is_read_beside_the_query(asked, length):
    cross = rerank.CrossEncoder(Limit(), "bm25", max_length=16)
    (rows,) = cross.windows([(" ".join("q" * asked), " ".join("d" * length))])
    assert {len(row.query) for row in rows} == {2 + min(asked, 6)}
    assert all(len(row.query) + len(row.window) <= 16 for row in rows)
    read = {piece for row in rows for piece in row.window[:-1]}
    assert read == set(range(100, 100 + length))


class Numbers:
    """Counts a text's words from 100: which pieces are read can be seen."""

    cls_token_id, sep_token_id = 1, 2

    def __call__(self, texts, **options):
        return {"input_ids": [[100 + i for i in range(len(t.split()))] for t in texts]}


class Limit:
    tokenizer = Numbers()
    config = type("Config", (), {"max_position_embeddings": 512})


# ------------------------------------------------------------------------ the scores


def test_scores_are_one_linear_layer_on_the_mean_of_the_states(cross):
    pairs = list(itertools.product(["a cat", "", "train"], ["stove", "a dog bell"]))
    found = cross.scores(pairs, batch_size=4)
    assert found.std() > 0.05
    for (query, document), score in zip(pairs, found, strict=True):
        inputs = cross.tokenizer(query, document, return_tensors="pt")
        with torch.no_grad():
            states = cross.model.base_model(**inputs).last_hidden_state
            expected = float(cross.model.linear(states.mean(dim=1)))
        assert score == pytest.approx(expected, abs=1e-5)
    assert cross.scores([]).shape == (0,)


def test_a_long_document_scores_as_its_best_window(cross):
    long = " ".join(SUBJECTS * 3)
    (windows,) = cross.windows([("cat", long)])
    assert len(windows) > 3
    decode = cross.tokenizer.decode
    texts = [decode(row.window[:-1]) for row in windows]
    alone = cross.scores([("cat", text) for text in texts])
    short, best = cross.scores([("cat", "dog"), ("cat", long)])
    assert best == pytest.approx(alone.max(), abs=1e-5)
    assert alone.std() > 0.05
    assert short == pytest.approx(cross.scores([("cat", "dog")])[0], abs=1e-5)


class Scored(rerank.CrossEncoder):
    """A cross-encoder whose scores are in the documents."""

    def __init__(self):
        self.pairs = []

    def scores(self, pairs, **options):
        self.pairs += pairs
        return np.array([float(document) for _, document in pairs])


def test_both_orders_of_the_head_are_fused_and_the_tail_follows():
    documents = {"a": "1", "b": "3", "c": "2", "d": "9", "e": "8"}
    first = Fixed("abcde")
    cross = Scored()
    ranked = rerank.Reranked(first, cross, documents, depth=3).rank(["x", "y"], k=5)
    for ranking in ranked:
        assert [document for document, _ in ranking] == ["b", "a", "c", "d", "e"]
        scores = [score for _, score in ranking]
        # b stands second in the first stage and first in the cross-encoder's order
        assert scores[:2] == pytest.approx([1 / 62 + 1 / 61, 1 / 61 + 1 / 63])
        assert scores[3:] == pytest.approx([1 / 64, 1 / 65])
        assert scores == sorted(scores, reverse=True)
    assert cross.pairs == [(q, documents[d]) for q in "xy" for d in "abc"]
    assert all(math.isfinite(score) for _, score in ranked[0])


def test_few_hits_are_chosen_from_a_deep_list():
    documents = dict(zip("abcdefgh", "31246500", strict=True))
    first = Fixed("abcdefgh")
    ranked = rerank.Reranked(first, Scored(), documents, depth=6).rank(["x"], k=2)
    # by the cross-encoder: e f d a c b; ranks of e are 5 and 1, of a 1 and 4
    assert [document for document, _ in ranked[0]] == ["a", "e"]
    assert first.asked == [6]
    assert rerank.Reranked(Fixed(""), Scored(), {}).rank(["x"]) == [[]]


class Fixed:
    def __init__(self, documents):
        self.documents, self.asked = documents, []

    def rank(self, queries, k=100):
        self.asked.append(k)
        return [[(d, 1.0) for d in self.documents[:k]] for _ in queries]


# ----------------------------------------------------------------- training material


def test_a_group_is_an_answer_among_the_first_stages_mistakes(cross):
    some = collection()
    judged = {"q0.1": {"d0": 2, "d1": 1, "d2": 0}, "q1.1": {"d1": 1}, "q2.1": {"d0": 0}}
    groups = rerank.make_groups(cross, some, judged, Blind(some.documents), seed=1)
    assert len(groups) == 2  # one for each best answer; a query without one gives none
    names = {tuple(window_of(cross, text)): d for d, text in some.documents.items()}
    for group, answers in zip(groups, [{"d0", "d1"}, {"d1"}], strict=True):
        documents = [names[tuple(row.window)] for row in group.rows]
        assert len(set(documents)) == len(documents) == rerank.NEGATIVES + 1
        assert documents[0] == min(answers - {"d1"} or answers)
        assert not answers & set(documents[1:])
        assert {tuple(row.query) for row in group.rows} == {tuple(group.rows[0].query)}
        assert len(group) == 1
    other = rerank.make_groups(cross, some, judged, Blind(some.documents), seed=2)
    again = rerank.make_groups(cross, some, judged, Blind(some.documents), seed=1)
    assert groups == again != other


def window_of(cross, text: str) -> list[int]:
    ((row,),) = cross.windows([("cat", text)])
    return row.window


def test_hard_ones_come_first_and_others_fill_the_group(cross):
    some = collection()
    judged = {f"q{i}.1": {f"d{i}": 1} for i in (0, 3, 4, 5)}
    first = Fixed(["x1", "d3", "d0", "x2", "d4"])
    group, *_ = rerank.make_groups(cross, some, judged, first, 1)
    names = {tuple(window_of(cross, text)): d for d, text in some.documents.items()}
    found = [names[tuple(row.window)] for row in group.rows]
    assert sorted(found[:3]) == ["d0", "d3", "d4"]  # the answer, the hard ones
    assert found[3] == "d5"  # then what answers another query, x1 and x2 do not
    assert len(set(found)) == rerank.NEGATIVES + 1
    judged = {"q0.1": {"d0": 1}}
    few = Beir(dict(list(some.documents.items())[:7]), some.queries, {})
    with pytest.raises(BadInput, match=r"needs 7 documents .* 'q0\.1' has 6"):
        rerank.make_groups(cross, few, judged, Fixed(["d3"]), 1)


def test_the_loss_is_that_of_picking_the_answer():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, -1.0]])
    expected = sum(
        math.log(sum(math.exp(x) for x in row)) - row[0] for row in logits.tolist()
    )
    assert float(rerank.group_loss(logits)) == pytest.approx(expected / 2)
    flat = torch.zeros(3, 8)
    assert float(rerank.group_loss(flat)) == pytest.approx(math.log(8))


# -------------------------------------------------------------------------- training


def train(model, run=CPU, some=None, folder=None) -> rerank.CrossEncoder:
    some = some or collection()
    first = Blind(some.documents)
    given = {"model": model, "settings": run, "folder": folder, "progress": False}
    return rerank.train(some, first, "bm25", **given)


@pytest.fixture(scope="module")
def trained(folder):
    return train(folder, replace(CPU, epochs=16))


def test_the_loss_moves_and_the_order_becomes_right(trained):
    losses = [loss for _, loss in trained.history.loss]
    assert losses[0] == pytest.approx(math.log(8), abs=0.3)  # it knows nothing yet
    assert sum(losses[-6:]) / 6 < 0.6 * losses[0]
    before, metrics = trained.report["before"], trained.report["metrics"]
    assert metrics["ndcg@10"] > before["ndcg@10"] + 0.2
    assert trained.history.best == metrics["ndcg@10"]


def test_the_report_is_what_evaluation_gives(trained):
    some = collection()
    first = Blind(some.documents)
    reranked = rerank.Reranked(first, trained, some.documents)
    for ranker, part in ((first, "before"), (reranked, "metrics")):
        values = retrieval.mean(retrieval.evaluate(ranker, some, "dev"))
        assert values == pytest.approx(trained.report[part])


def test_gradients_of_trimmed_groups_are_those_of_the_padded_batch(cross):
    texts = ["cat", "dog stove " * 3, "bell", "a noon river bridge apple"]
    rows = [r for (r, *_) in cross.windows([("train", text) for text in texts])]
    batch = rerank.collate(rows, pad_id=0)
    parts = [
        torch.autograd.grad(loss, list(cross.model.parameters()))
        for loss in (
            cross_entropy(
                rerank.relevance(cross.model, batch)[None], torch.tensor([2])
            ),
            cross_entropy(cross.model(**batch).T, torch.tensor([2])),
        )
    ]
    for one, other in zip(*parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_saved_and_loaded_it_scores_the_same(trained, tmp_path):
    trained.save(tmp_path)
    loaded = rerank.load(tmp_path, "cpu", bf16=False)
    pairs = [("cat", "cat help page"), ("cat", "dog help page")]
    np.testing.assert_array_equal(loaded.scores(pairs), trained.scores(pairs))
    assert loaded.first == "bm25"
    assert loaded.report == json.loads(json.dumps(trained.report))
    some = collection()
    ranker = systems.ranker(str(tmp_path), some.documents, "cpu", bf16=False)
    assert isinstance(ranker, rerank.Reranked)
    assert isinstance(ranker.first, retrieval.Bm25)


def test_what_is_no_reranker_or_no_encoder_is_refused(trained, tmp_path):
    trained.save(tmp_path)
    with pytest.raises(BadInput, match="is a re-ranker: it cannot encode"):
        retrieval.load(tmp_path)
    with pytest.raises(BadInput, match="is a re-ranker"):
        systems.ranker(f"hybrid:{tmp_path}", {"a": "cat"}, "cpu")
    (tmp_path / "rerank.json").write_text('{"speed": 3}')
    with pytest.raises(BadInput, match=r"rerank\.json is damaged"):
        rerank.load(tmp_path)


def test_killed_and_run_again_it_reports_the_same(folder, tmp_path, monkeypatch):
    undisturbed = train(folder)

    def kill(run, score):
        if run.step >= 9:
            raise KeyboardInterrupt
        judge(run, score)

    judge = training._Run.judge
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "judge", kill)
        with pytest.raises(KeyboardInterrupt):
            train(folder, folder=tmp_path)
    resumed = train(folder, folder=tmp_path)
    assert resumed.history.resumed_at == 6
    for part in ("before", "metrics"):
        assert resumed.report[part] == pytest.approx(undisturbed.report[part])
    for name, tensor in undisturbed.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor)


def test_without_dev_a_tenth_of_the_queries_is_held_out(folder):
    some = collection()
    del some.judgements["dev"]
    report = train(folder, replace(CPU, epochs=1), some).report["settings"]
    assert (report["train_groups"], report["dev_queries"]) == (11, 1)
    assert report["dev"] == "a seeded tenth of the training queries"
    with pytest.raises(BadInput, match=r"no qrels/train\.tsv"):
        train(folder, some=Beir(some.documents, some.queries, {}))
