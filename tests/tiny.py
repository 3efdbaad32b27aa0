"""What fits a test: a BERT of two layers and sixteen dimensions, five documents."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForTokenClassification, BertModel

from kie_course import models

DOCUMENTS = {
    "d1": "The bell rings at noon. Bell ringers climb the tower.",
    "d2": "A cat sleeps on the warm stove.",
    "d3": "",
    "d4": "The stove is cold; the cat left.",
    "d5": "Noon trains are late.",
}
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def token_classifier(vocabulary: int = 20, labels: int = 3, dropout: float = 0.1):
    """The same random weights at every call."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=vocabulary,
        num_labels=labels,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **SHAPE,
    )
    return BertForTokenClassification(config)


def encoder_folder(folder: Path) -> Path:
    """A folder with random weights and the shipped encoder's tokenizer."""
    torch.manual_seed(1)
    model = BertModel(BertConfig(vocab_size=30_522, **SHAPE), add_pooling_layer=False)
    model.save_pretrained(folder)
    models.load_tokenizer().save_pretrained(folder)
    return folder
