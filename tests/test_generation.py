"""Writing: a causal decoder that is PyTorch's, padding without effect, round trips."""

from pathlib import Path

import nbformat
import pytest
import torch
from notebook_style import definitions
from tiny import encoder_folder

from kie_course import BadInput, data, generation, training
from kie_course.generation import END, IGNORE, LONGEST, DecoderLayer, Writer

CPU = training.Settings(
    learning_rate=1e-2, epochs=40, batch_size=8, bf16=False, device="cpu", seed=7
)
ITEMS = [(f"{n} euros", f"EUR {n}") for n in (3, 4, 7, 12, 34, 43, 71)]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return encoder_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def untrained(tiny_folder) -> Writer:
    return Writer("0123456789EUR ", tiny_folder, CPU, d_model=16, layers=1).eval()


@pytest.fixture(scope="module")
def writer(tiny_folder) -> Writer:
    return generation.train(
        ITEMS, ITEMS, model=tiny_folder, settings=CPU, progress=False
    )


def test_the_decoder_layer_is_that_of_lesson_04b():
    path = data.home() / "notebooks" / "04b_transformer_block.ipynb"
    cells = nbformat.read(path, 4).cells
    taught = {
        name: code
        for cell in cells
        if cell.cell_type == "code"
        for name, code in definitions(cell.source)
    }
    source = Path(generation.__file__).read_text(encoding="utf-8")
    ours = dict(definitions(source))
    for name in ("DecoderLayer", "FeedForward"):
        assert ours[name] == taught[name]


def test_the_decoder_layer_is_pytorchs():
    torch.manual_seed(3)
    ours = DecoderLayer(16, 4, 32)
    theirs = torch.nn.TransformerDecoderLayer(
        16, 4, 32, dropout=0.0, activation="gelu", batch_first=True
    )
    with torch.no_grad():
        for own, other in (
            (ours.attention, theirs.self_attn),
            (ours.cross, theirs.multihead_attn),
        ):
            parts = own.query, own.key, own.value
            other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            other.out_proj.load_state_dict(own.output.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
    target, source = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    past = torch.ones(5, 5, dtype=torch.bool).tril()
    real = torch.arange(7) < torch.tensor([7, 3])[:, None]
    states, weights = ours(target, source, past, real[:, None, None, :])
    expected = theirs(target, source, tgt_mask=~past, memory_key_padding_mask=~real)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    assert weights.shape == (2, 4, 5, 7)
    assert not weights[1, :, :, 3:].any()


def test_shapes_and_weights(untrained):
    batch = untrained.collate(untrained.encode(ITEMS))
    labels = batch.pop("labels")
    logits = untrained(**batch)
    assert logits.shape == (*labels.shape, 14 + 2)
    assert untrained.weights.shape[-1] == batch["input_ids"].shape[1]
    torch.testing.assert_close(
        untrained.weights.sum(-1), torch.ones(untrained.weights.shape[:-1])
    )


def test_a_later_character_changes_no_earlier_logit(untrained):
    batch = untrained.collate(untrained.encode(ITEMS[-1:]))
    del batch["labels"]
    first = untrained(**batch)
    batch["inputs"][0, 4] = 5
    again = untrained(**batch)
    torch.testing.assert_close(again[:, :4], first[:, :4])
    assert not torch.allclose(again[:, 4:], first[:, 4:])


def test_padding_changes_nothing(writer):
    items = [ITEMS[0], ("a much longer text about 1,234,743 euros", "EUR 1234743")]
    alone = [writer.forced([item])[0][0] for item in items]
    assert [n for n, _ in writer.forced(items)] == pytest.approx(alone, abs=1e-4)
    texts = [text for text, _ in items]
    both = writer.predict(texts)
    for text, row in zip(texts, both, strict=True):
        (own,) = writer.predict([text])
        assert own["value"] == row["value"]
        assert own["probability"] == pytest.approx(row["probability"], abs=1e-4)


def test_it_learns_by_heart_and_stops_at_the_end(writer):
    assert writer.evaluate(ITEMS)["exact"] == 1.0
    for (text, value), row in zip(
        ITEMS, writer.predict([text for text, _ in ITEMS]), strict=True
    ):
        assert row["text"] == text
        assert row["value"] == value
        assert 0 < row["probability"] <= 1


def test_free_writing_is_right_exactly_where_forced_writing_is(writer):
    items = [(f"{n} euros", f"EUR {n}") for n in (3, 13, 4, 31, 34, 77)]
    free = [row["value"] for row in writer.predict([text for text, _ in items])]
    forced = [right for _, right in writer.forced(items)]
    assert forced == [w == v for w, (_, v) in zip(free, items, strict=True)]
    assert {True, False} == set(forced)
    assert writer.evaluate(items)["exact"] == sum(forced) / len(items)


def test_the_probability_is_that_of_the_whole_text(writer):
    rows = writer.predict([text for text, _ in ITEMS])
    nats, right = zip(
        *writer.forced([(row["text"], row["value"]) for row in rows]), strict=True
    )
    assert all(right)
    sure = torch.tensor([row["probability"] for row in rows])
    torch.testing.assert_close(-sure.log(), torch.tensor(nats), atol=1e-4, rtol=1e-3)


def test_nats_are_a_loop_over_characters(untrained):
    ((text, value),) = ITEMS[-1:]
    (pair,) = untrained.encode([(text, value)])
    assert pair.labels[-1] == END
    batch = untrained.collate([pair])
    logits = untrained(batch["input_ids"], batch["attention_mask"], batch["inputs"])
    slow = sum(
        (row.exp().sum().log() - row[label]).item()
        for row, label in zip(logits[0], pair.labels, strict=True)
    )
    assert untrained.forced([(text, value)])[0][0] == pytest.approx(slow, abs=1e-4)


def test_without_an_end_it_stops_at_the_longest(untrained):
    with torch.no_grad():
        untrained.decoder["answer"].bias[END] -= 1e4
    (row,) = untrained.predict(["3 euros"])
    with torch.no_grad():
        untrained.decoder["answer"].bias[END] += 1e4
    assert len(row["value"]) <= LONGEST
    assert row["probability"] == 0.0


def test_states_that_were_read_once_are_those_of_the_encoder(untrained):
    pairs = untrained.encode(ITEMS)
    known = untrained.collate(untrained.read_once(pairs))
    assert known["states"].shape[:2] == known["input_ids"].shape
    labels = known.pop("labels")
    with torch.no_grad():
        fresh = untrained(known["input_ids"], known["attention_mask"], known["inputs"])
        torch.testing.assert_close(untrained(**known), fresh, atol=1e-4, rtol=1e-4)
    assert (labels == IGNORE).any()


def test_a_frozen_encoder_stays_as_it_is(tiny_folder, untrained):
    frozen = training.Settings(**{**vars(CPU), "frozen_layers": 2, "epochs": 2})
    trained = generation.train(
        ITEMS, ITEMS, model=tiny_folder, settings=frozen, progress=False
    )
    for name, weight in untrained.base_model.state_dict().items():
        torch.testing.assert_close(trained.base_model.state_dict()[name], weight)


def test_save_and_load(writer, tmp_path):
    writer.save(tmp_path)
    again = Writer.load(tmp_path, CPU)
    texts = [text for text, _ in ITEMS]
    assert again.predict(texts) == writer.predict(texts)
    assert again.report["dev"] == writer.report["dev"]


def test_nothing_to_write(writer):
    assert writer.predict([]) == []
    assert writer.forced([]) == []


def test_digits_are_spelled():
    assert generation.spell("£61,300").split() == ["£", "6", "1", ",", "3", "0", "0"]


@pytest.mark.parametrize("file", ["writer.json", "decoder.safetensors"])
def test_a_damaged_writer_is_an_error(file, writer, tmp_path):
    writer.save(tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match=f"{file} is damaged"):
        Writer.load(tmp_path)


def test_bad_input(writer, tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        writer.encode([("3 euros", "USD 3")])
    with pytest.raises(BadInput, match="longer"):
        writer.encode([("3 euros", "3" * LONGEST)])
    with pytest.raises(BadInput, match="nothing to score"):
        writer.evaluate([])
    with pytest.raises(BadInput, match="holds no writer"):
        Writer.load(tmp_path)
    with pytest.raises(BadInput, match="nothing to train on"):
        generation.train([], ITEMS, outputs="EUR 12347", settings=CPU, progress=False)


@pytest.mark.parametrize("dev", [[], [("3 to 4 euros", "EUR 3-4")]])
def test_a_dev_set_that_cannot_be_scored_is_told_before_the_work(dev, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(BadInput, match=r"dev is empty|cannot be written"):
        generation.train(ITEMS, dev, settings=CPU, progress=False)


def test_special_tokens_that_somebody_typed_are_text(untrained):
    (pair,) = untrained.encode([("3 [SEP] euros", "EUR 3")])
    assert untrained.tokenizer.sep_token_id not in pair.input_ids[1:-1]
