"""What all heads share, and classes of texts: encoding, loss, rejection, scores."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import encoder_folder

from kie_course import BadInput, answers, heads, relations, training
from kie_course.data import OUT_OF_SCOPE, MarkedPair
from kie_course.heads import TextClassifier

CPU = training.Settings(
    learning_rate=5e-3, epochs=6, batch_size=8, bf16=False, device="cpu", seed=7
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return encoder_folder(tmp_path_factory.mktemp("tiny"))


def toy_texts() -> list[tuple[str, str]]:
    """Three classes, each with words of its own, and texts of none of them."""
    things = {
        "money": ["refund", "bill", "price", "coin"],
        "travel": ["train", "ticket", "seat", "bus"],
        "weather": ["rain", "snow", "wind", "storm"],
        OUT_OF_SCOPE: ["poem", "violin", "opera", "dance"],
    }
    frames = ["the {} again", "about my {}", "{} please", "is there a {} today"]
    return [
        (frame.format(word), label)
        for label, words in things.items()
        for word in words
        for frame in frames
    ]


@pytest.fixture(scope="module")
def classifier(tiny_folder) -> TextClassifier:
    texts = toy_texts()
    return heads.train(
        TextClassifier, texts, texts, model=tiny_folder, settings=CPU, progress=False
    )


@pytest.fixture(scope="module")
def untrained(tiny_folder) -> TextClassifier:
    return TextClassifier(["a", "b"], tiny_folder, CPU)


# ------------------------------------------------------------------------- encoding

plain_text = st.text("abcdefghijklmnopqrstuvwxyzABZ0123456789äéß-.,' ", max_size=80)


@given(plain_text, plain_text)
@settings(max_examples=30)
def test_pieces_are_those_of_the_tokenizer(untrained, text, other):
    encode = untrained.tokenizer
    example, longer = untrained.encode([(text, "a"), (other, "b")])
    assert example.input_ids == encode(text)["input_ids"]
    assert (example.target, longer.target) == (0, 1)
    (first, second), _ = untrained.pieces([text, f"{other} end"])
    both = untrained.example(first, (1, 2), False, 0, second=second)
    expected = encode(text, f"{other} end")
    assert both.input_ids == expected["input_ids"]
    assert both.token_type_ids == expected["token_type_ids"]


@pytest.mark.parametrize("typed", ["[SEP]", "[CLS]", "[PAD]", "[MASK]"])
def test_special_tokens_that_somebody_typed_are_text(untrained, typed):
    (example,) = untrained.encode([(f"see {typed} there", "a")])
    special = untrained.tokenizer.convert_tokens_to_ids(typed)
    assert special not in example.input_ids[1:-1]


def test_long_text_is_cut_at_the_limit_and_says_so(untrained):
    fits, long = untrained.encode([("word " * 510, "a"), ("word " * 511, "a")])
    assert (len(fits), fits.cut) == (512, False)
    assert (len(long), long.cut) == (512, True)
    assert long.input_ids[-1] == untrained.tokenizer.sep_token_id


def test_padding_has_no_attention(untrained):
    examples = untrained.encode([("a", "a"), ("a b c d e", "b")])
    batch = heads.collate(examples, untrained.tokenizer.pad_token_id)
    assert batch["attention_mask"].sum(1).tolist() == [3, 7]
    assert batch["input_ids"].shape == batch["token_type_ids"].shape == (2, 7)
    assert batch["target"].tolist() == [0, 1]


# ------------------------------------------------------------------------ the network


def test_text_is_read_as_the_mean_of_its_states(untrained):
    examples = untrained.encode([("short", "a"), ("a somewhat longer text", "b")])
    for example, logits in zip(
        examples, untrained.logits(examples, False), strict=True
    ):
        ids = torch.tensor([example.input_ids])
        with torch.no_grad():
            mean = untrained.base_model(ids).last_hidden_state[0].mean(0)
            torch.testing.assert_close(logits, untrained.linear(mean))


@pytest.mark.parametrize("shape", [(5,), (5, 2)])
def test_loss_is_that_of_choosing_one_class_or_one_piece_for_each_end(shape):
    dice = torch.manual_seed(0)
    logits = torch.randn(4, *shape, generator=dice)
    target = torch.randint(5, (4, *shape[1:]), generator=dice)
    batch = {"target": target} | dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids")
    )
    chosen = [
        -(logits[(i, slice(None), *end)].log_softmax(0)[target[(i, *end)]])
        for i in range(4)
        for end in ([()] if len(shape) == 1 else [(0,), (1,)])
    ]
    loss = heads.choice_loss(lambda *inputs: logits, batch)
    torch.testing.assert_close(loss, torch.stack(chosen).mean())


def test_logits_do_not_depend_on_order_or_on_what_the_model_was_doing(classifier):
    examples = classifier.encode(toy_texts()[::3])
    expected = classifier.logits(examples, False)
    classifier.train()
    again = classifier.logits(examples[::-1], False)[::-1]
    torch.testing.assert_close(again, expected)
    assert classifier.logits([], False) == []


def test_same_seed_gives_the_same_new_weights(tiny_folder):
    one, same, other = (
        TextClassifier(["a", "b"], tiny_folder, replace(CPU, seed=s)) for s in (1, 1, 2)
    )
    assert torch.equal(one.linear.weight, same.linear.weight)
    assert not torch.equal(one.linear.weight, other.linear.weight)


# --------------------------------------------------------------------------- training


def test_classifier_learned_what_it_was_shown(classifier):
    found = classifier.evaluate(toy_texts())
    assert found["accuracy"] > 0.9
    assert found["macro_f1"] > 0.9
    assert classifier.predict(["my ticket"])[0]["label"] in ("travel", OUT_OF_SCOPE)


def test_without_dev_all_is_learned_and_the_last_weights_are_kept(tiny_folder):
    """The same steps as with a dev set that always prefers the last weights."""
    texts, short = toy_texts(), replace(CPU, epochs=2)
    train = partial(heads.train, TextClassifier, texts, model=tiny_folder)
    alone = train([], settings=short, progress=False)
    assert alone.report["dev"] is None
    assert alone.report["settings"]["train_items"] == len(texts)
    assert (alone.history.dev, alone.threshold) == ([], -np.inf)
    rising = iter(range(9))
    with pytest.MonkeyPatch.context() as patched:
        scores = lambda self, *_: {"accuracy": next(rising)}  # noqa: E731
        patched.setattr(TextClassifier, "score", scores)
        judged = train(texts, settings=short, progress=False)
    assert torch.equal(alone.linear.weight, judged.linear.weight)


def test_texts_out_of_scope_are_no_class_and_are_not_learned(classifier):
    assert classifier.outputs == ["money", "travel", "weather"]
    assert classifier.report["settings"]["train_items"] == 64
    assert classifier.report["settings"]["examples"] == 48


def test_best_weights_and_threshold_are_those_reported(classifier):
    assert classifier.report["dev"] == classifier.evaluate(toy_texts())
    assert classifier.history.best == classifier.report["dev"]["accuracy"]


def test_prediction_is_rejected_at_the_threshold(classifier):
    before = classifier.threshold
    (sure,) = classifier.predict(["the train again"])
    try:
        classifier.threshold = sure["probability"]
        (rejected,) = classifier.predict(["the train again"])
        classifier.threshold = np.nextafter(sure["probability"], 0)
        (kept,) = classifier.predict(["the train again"])
    finally:
        classifier.threshold = before
    assert (rejected["label"], kept["label"]) == (OUT_OF_SCOPE, "travel")
    assert classifier.predict([]) == []


def test_probe_leaves_the_encoder_as_it_was(tiny_folder):
    texts, frozen = toy_texts(), replace(CPU, frozen_layers=2, epochs=1)
    probe = heads.train(
        TextClassifier, texts, texts, model=tiny_folder, settings=frozen, progress=False
    )
    fresh = TextClassifier(probe.outputs, tiny_folder, frozen)
    for key, value in fresh.base_model.state_dict().items():
        assert torch.equal(value, probe.base_model.state_dict()[key])
    assert not torch.equal(fresh.linear.weight, probe.linear.weight)


def test_held_out_texts_are_whole(tiny_folder, monkeypatch):
    """Two pairs of one sentence, or two questions on one text, stay together."""
    texts = [f"Text {i} says tea" for i in range(20)]
    items = [
        {"question": q, "context": text, "answers": []}
        for text in texts
        for q in ("Who?", "When?")
    ]
    seen = {}
    monkeypatch.setattr(
        heads.training, "fit", lambda head, examples, *a, **k: seen.update(k)
    )
    monkeypatch.setattr(
        answers.Reader, "score", lambda self, dev, *a: seen.update(dev=dev) or {}
    )
    reader = heads.train(answers.Reader, items, model=tiny_folder, settings=CPU)
    held_out = [item["context"] for item in seen["dev"]]
    assert len(held_out) == 4
    assert len(set(held_out)) == 2
    assert reader.report["settings"]["train_items"] == 36


def test_saved_head_answers_as_before(classifier, tmp_path):
    classifier.save(tmp_path)
    again = TextClassifier.load(tmp_path, CPU)
    texts = [text for text, _ in toy_texts()]
    assert again.predict(texts) == classifier.predict(texts)
    assert again.report == classifier.report
    assert not list(tmp_path.glob("*.bin"))


def test_saved_markers_keep_their_weights(tiny_folder, tmp_path):
    pair = MarkedPair("Ada met Bob", (0, 3), (8, 11))
    head = relations.RelationClassifier(["x", "y"], tiny_folder, CPU)
    head.save(tmp_path)
    again = relations.RelationClassifier.load(tmp_path, CPU)
    assert again.threshold == -np.inf
    torch.testing.assert_close(again.probabilities([pair]), head.probabilities([pair]))


# -------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "training needs at least two texts"),
        ([("a", "x"), ("a", "y")], "training needs at least two texts"),
        ([("a", "x"), ("b", "x"), ("c", "x")], "training needs two classes at least"),
        (
            [("a", "x"), ("b", OUT_OF_SCOPE), ("c", OUT_OF_SCOPE)],
            "two classes at least",
        ),
    ],
)
def test_nothing_to_learn_is_an_error(tiny_folder, texts, message):
    with pytest.raises(BadInput, match=message):
        heads.train(TextClassifier, texts, model=tiny_folder, settings=CPU)


def test_nothing_to_score_is_an_error(untrained):
    with pytest.raises(BadInput, match="no labelled item was given"):
        untrained.evaluate([])
    with pytest.raises(BadInput, match="every text is out of scope"):
        untrained.evaluate([("a", OUT_OF_SCOPE)])


def test_folder_without_this_head_is_an_error(classifier, tmp_path):
    with pytest.raises(BadInput, match="holds no TextClassifier; train one"):
        TextClassifier.load(tmp_path)
    (tmp_path / "head.json").write_text(json.dumps({"head": "TextClassifier"}))
    with pytest.raises(BadInput, match="holds no Reader"):
        answers.Reader.load(tmp_path)


@pytest.mark.parametrize("file", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("left", [0, 1 / 2, -1])
def test_a_damaged_head_is_an_error(file, left, classifier, tmp_path):
    classifier.save(tmp_path)
    path = tmp_path / file
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if left >= 0 else -1])
    with pytest.raises(BadInput, match=f"{re.escape(str(path))} is damaged"):
        TextClassifier.load(tmp_path)


def test_a_head_with_weights_for_other_classes_is_an_error(classifier, tmp_path):
    classifier.save(tmp_path)
    path = tmp_path / "head.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"outputs": [*saved["outputs"], "more"]}))
    with pytest.raises(BadInput, match=r"head\.safetensors is damaged"):
        TextClassifier.load(tmp_path)


# ----------------------------------------------------------------------------- scores

labels = st.sampled_from(["a", "b", "c", OUT_OF_SCOPE])
few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
scored = st.lists(
    st.tuples(labels, st.sampled_from("abc"), few), min_size=1, max_size=25
)


@given(scored, few)
@settings(max_examples=80)
def test_scope_scores_equal_a_slow_count(rows, threshold):
    inside = [row for row in rows if row[0] != OUT_OF_SCOPE]
    outside = [row for row in rows if row[0] == OUT_OF_SCOPE]
    if not inside:
        return
    found = heads.scope_scores(*zip(*rows, strict=True), threshold)
    right = [gold == predicted for gold, predicted, _ in inside]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert ("auroc" in found) == bool(outside)
    if outside:
        wins = [(a > b) + (a == b) / 2 for *_, a in inside for *_, b in outside]
        assert found["auroc"] == pytest.approx(sum(wins) / len(wins))
        kept = [r and row[2] > threshold for r, row in zip(right, inside, strict=True)]
        assert found["accepted_accuracy"] == pytest.approx(sum(kept) / len(kept))
        rejected = [score <= threshold for *_, score in outside]
        assert found["oos_recall"] == pytest.approx(sum(rejected) / len(rejected))


def test_macro_f1_weighs_classes_alike_and_counts_what_the_model_does_not_know():
    gold, predicted = ["a", "a", "a", "b", "new"], ["a", "a", "b", "b", "a"]
    found = heads.scope_scores(gold, predicted, [1.0] * 5, 0.0)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["macro_f1"] == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)


@given(st.lists(st.tuples(few, few, few), min_size=1, max_size=12))
@settings(max_examples=100)
def test_threshold_is_the_best_of_all(rows):
    scores, kept, rejected = zip(*rows, strict=True)

    def value(threshold: float) -> float:
        pairs = zip(scores, kept, rejected, strict=True)
        return sum(r if score <= threshold else k for score, k, r in pairs)

    found = heads.choose_threshold(scores, kept, rejected)
    assert found == -np.inf or found in scores
    assert value(found) == pytest.approx(max(map(value, (-np.inf, *scores))))


def test_nothing_is_rejected_where_rejecting_gains_nothing():
    assert heads.choose_threshold([0.1, 0.2], [1, 1], [0, 0]) == -np.inf
    assert heads.choose_threshold([0.1, 0.2], [0, 1], [0, 0]) == -np.inf
    assert heads.choose_threshold([0.1, 0.2, 0.3], [0, 0, 1], [1, 1, 0]) == 0.2
