"""The encoder written from scratch gives what Transformers' gives."""

import pytest
import torch
from tiny import encoder_folder
from torch.testing import assert_close
from transformers import BertConfig, BertModel

from kie_course import BadInput, models
from kie_course.bert import Bert, translated

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["Amara Okafor left Tarn Bay for Lisbon.", "Refund?", "a " * 60]


@pytest.fixture(scope="module")
def batch():
    tokenizer = models.load_tokenizer()
    return dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))


def test_shipped_encoder_layer_by_layer(batch):
    theirs = models.load("AutoModel", attn_implementation="eager").eval()
    with torch.inference_mode():
        right = theirs(**batch, output_hidden_states=True, output_attentions=True)
        found = Bert.from_pretrained()(**batch)
    real = batch["attention_mask"].bool()
    assert len(found.hidden_states) == 1 + theirs.config.num_hidden_layers
    for ours, state in zip(found.hidden_states, right.hidden_states, strict=True):
        assert_close(ours[real], state[real], atol=1e-5, rtol=1e-5)
    for ours, weights in zip(found.attentions, right.attentions, strict=True):
        assert_close(ours, weights, atol=1e-5, rtol=1e-5)
    assert found.last_hidden_state is found.hidden_states[-1]


@pytest.mark.parametrize("precision", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 20)])
def test_random_encoder_is_transformers_with_gradients(shape, precision):
    dtype, tolerance = precision
    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
    )
    torch.manual_seed(1)
    theirs = BertModel(config, add_pooling_layer=False).to(dtype).eval()
    ours = Bert(config).to(dtype)
    ours.load_state_dict(translated(theirs.state_dict()))
    ids = torch.randint(
        1, 50, shape
    )  # Transformers gives piece 0, the pad, no gradient
    mask = torch.ones(shape, dtype=torch.long)
    mask[-1, shape[1] // 2 + 1 :] = 0
    segments = torch.randint(2, shape)
    outputs = [
        ours(ids, mask, segments).last_hidden_state,
        theirs(ids, mask, segments).last_hidden_state,
    ]
    real = mask.bool()
    found, right = (output[real] for output in outputs)
    assert_close(found, right, atol=tolerance, rtol=tolerance)
    weights = torch.randn_like(right)  # a sum of squares is constant after a LayerNorm
    for output in (found, right):
        (output * weights).mean().backward()
    gradients = translated({n: p.grad for n, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, gradients[name], atol=tolerance, rtol=tolerance)


def test_pads_leave_no_trace(batch):
    bert = Bert.from_pretrained()
    short = {key: value[1:2] for key, value in batch.items()}
    length = int(short["attention_mask"].sum())
    alone = {key: value[:, :length] for key, value in short.items()}
    with torch.inference_mode():
        padded = bert(**short).last_hidden_state[:, :length]
        assert_close(padded, bert(**alone).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_local_folder_is_loaded_and_other_builds_are_refused(tmp_path):
    folder = encoder_folder(tmp_path)
    assert len(Bert.from_pretrained(folder).layers) >= 1
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"gelu"', '"relu"'))
    with pytest.raises(BadInput, match="is no BERT of the published form"):
        Bert.from_pretrained(folder)
