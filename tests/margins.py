"""What a lesson must gain over its named baselines: the margins that tests assert."""

# lesson -> (metric, baseline, least difference), each clearly between the two values.
MARGINS: dict[str, list[tuple[str, str, float]]] = {
    "00": [("tour/help_first_encoder", "tour/help_first_bm25", 0.05)],
    "00b": [
        ("words_accuracy", "frequent_accuracy", 0.05),
        ("dev_loss_end", "dev_loss_lowest", 0.2),
        ("dev_loss_end", "shares_loss", 0.05),
        ("words_sureness", "words_accuracy", 0.1),
        ("topic_leaked", "topic_honest", 0.4),
        ("topic_honest", "topic_frequent", 0.05),
        ("topic_dice_leaked", "topic_dice_honest", 0.5),
        ("topic_dice_thinned", "topic_dice_apart", 0.2),
        ("coin_peeked", "coin_clean", 0.25),
    ],
    # Words where they agree, meaning where they do not; and what bags cannot find.
    "01": [
        ("names/bm25", "names/lsa_100", 0.03),
        ("topics/nmi_lsa", "topics/nmi_lda", 0.1),
        ("perplexity/none", "perplexity/completion_best", 10),
        ("perplexity/library_best", "perplexity/none", 1000),
        ("test/encoder", "test/BM25", 0.06),
        ("test/BM25", "test/LDA", 0.2),
        ("test/LSA", "test/BM25", -0.05),
        ("overlap/none_encoder", "overlap/none_bm25", 0.3),
        ("overlap/all_bm25", "overlap/all_encoder", 0.05),
        ("keywords/TF-IDF", "keywords/random", 0.07),
        ("keywords/capital letter", "keywords/TF-IDF", 0.06),
        ("keywords/persons", "keywords/dates", 0.3),
        ("ner/crf", "ner/lstm", 0.01),
        ("ner/lstm", "ner/dictionary", 0.2),
        ("ner/unseen_lstm", "ner/unseen_dictionary", 0.4),
        ("reach/near", "reach/far", 0.1),
        ("short/look_back", "short/sentence", 0.12),
        ("short/f1_look_back", "short/f1_sentence", 0.0),
        ("cost/encoder_ms", "cost/lda_ms", 5),
    ],
    # Agreement is the worst of min(counted / predicted, predicted / counted).
    "02": [
        ("bias/cosine_spoiled_key", "bias/cosine_spoiled_query", 0.1),
        ("bias/two_sentences_value", "bias/two_sentences_query", 0.5),
        ("bias/size_query", "bias/size_key", 0.05),
        ("letters/attention", "letters/1982", 1),
        ("reads_128/attention", "reads_128/linear_memory", 0.3),
        ("capacity/agreement", "capacity/agreement_asked", 0.0),
        ("capacity/attention", "capacity/linear", 1000),
        ("capacity/linear", "capacity/1982", 10),
        ("capacity/linear", "capacity/cosine", 10),
        ("index/two", "index/one", 0.5),
        # A hidden layer works around the missing index, but not on a plain mean.
        ("index/one_large", "index/mean_large", 0.1),
    ],
    # The floor is a theorem: no optimiser may end below it, and ours ends just above.
    "03": [
        ("batch_optimised", "batch_floor", -1e-4),
        ("calibration/tau_1_loss", "calibration/learned_loss", 0.4),
        ("detail_directions/tau_0.05", "detail_directions/tau_1_faster", 3.0),
        ("first_right/tau_0.05", "first_right/tau_1", 0.1),
        ("first_right/untouched", "first_right/tau_1_faster", 0.2),
        ("first_right/learned", "first_right/untouched", 0.08),
        ("gradient_share/peak", "gradient_share/flat", 0.9),
        ("gradient_share/peak", "gradient_share/sharp", 0.9),
        ("moved/half", "moved/both", 0.08),
        ("moved/keys", "moved/queries", 0.02),
        ("push_on_same_topic/tau_0.05", "push_on_same_topic/tau_1", 0.3),
        ("spread_max", "spread_median", 5.0),
        ("spread_median", "spread_fresh", 0.8),
    ],
    # Two heads against one after the same steps, and one head after three times as
    # many; then what places are worth, and where they end (trained up to 12).
    "04": [
        ("neighbours/2 heads, worst", "neighbours/1 head, early", 0.15),
        ("neighbours/1 head, best", "neighbours/1 head, early", 0.1),
        ("ledger/table_trained", "ledger/none_trained", 0.3),
        ("ledger/table_trained", "ledger/LSTM_trained", 0.1),
        ("ledger/none_beyond", "ledger/table_beyond", 0.05),
        ("ledger/none_on_name", "ledger/table_on_name", 0.15),
    ],
    # Each part is missed on one task and not on the other, worst seed against best.
    "04b": [
        ("likeness/replaced", "likeness/added", 0.3),
        ("gradient_spread/xavier/no norm", "gradient_spread/xavier/post-norm", 100),
        ("gradient/xavier/post-norm", "gradient/xavier/pre-norm", 0.1),
        ("memory/facts_per_key", "memory/facts_if_one_key_each", 10),
        ("two steps/full, worst", "two steps/no residual, best", 0.2),
        ("two steps/no norm, worst", "two steps/no residual, best", 0.2),
        ("two steps/full, worst", "two steps/one layer, best", 0.2),
        ("two steps/no feed-forward, worst", "two steps/no residual, best", 0.2),
        ("by heart/full, worst", "by heart/no feed-forward, best", 0.15),
        ("by heart/no residual, worst", "by heart/no feed-forward, best", 0.15),
        ("numerals/unigram_nats", "numerals/translator_nats", 2.0),
        ("numerals/translator_exact", "numerals/dictionary_exact", 0.2),
        ("exposure/tokens_forced", "exposure/exact_free", 0.1),
        ("exposure/after_error_forced", "exposure/after_error_free", 0.1),
        ("numerals/translator_exact", "unshifted/exact", 0.9),
        ("numerals/unigram_nats", "unshifted/nats", 2.0),
        ("bill/own_mb", "bill/online_mb", 100),
    ],
    # Heads: what one gives to the piece before, and the median one to [CLS], against an
    # even spread. Nats: less is better, so the better one stands on the right.
    "05": [
        ("wordpiece/shortest piece first", "wordpiece/lower() on the whole text", 500),
        ("bug/places begin at 1", "bug/query and key swapped", 0.4),
        ("nearest/eps 1e-5", "nearest/places begin at 1", 0.15),
        ("heads/before_max", "heads/before_even", 0.8),
        ("heads/[CLS]_median", "heads/[CLS]_even", 0.15),
        ("heads/spread_max", "heads/spread_median", 5.0),
        ("delete/median", "delete/whole_layer_worst", 0.1),
        ("mini/BERT", "mini/bigram", 0.35),
        ("mini/BERT", "mini/BERT_three", 0.15),
        ("nats/small, from zero", "nats/counted bigram", 0.3),
        ("mini/turned_subject", "mini/turned_third noun", 0.5),
        ("nats/unigram", "nats/real, all tuned", 0.15),
        ("nats/real, head alone", "nats/real, all tuned", 0.25),
        ("shown/[MASK]", "shown/itself", 1.0),
    ],
    "06": [
        ("after/ner_f1", "before/ner_f1", 0.15),
        ("after/ner_f1", "crf_f1", 0.03),
        ("crf_f1", "dictionary_f1", 0.2),
        ("lower_tuned_f1", "lower_crf_f1", 0.2),
        ("noise/clean", "noise/33% missing", 0.1),
        ("noise/clean", "noise/33% wrong type", 0.1),
    ],
    # Tuning gains .06 on dev; on the 144 test questions .02, with 0 in the interval, so
    # the margin there says only that tuning does no harm.
    "07": [
        ("dev/in_batch", "dev/untouched", 0.02),
        ("after/ndcg@10", "before/ndcg@10", -0.02),
        ("before/ndcg@10", "bm25/ndcg@10", 0.06),
        ("after/ndcg@10", "bm25/ndcg@10", 0.07),
    ],
    # Real questions are not read at all, and the lesson says so.
    "08": [
        ("after/intent_accuracy", "words/intent_accuracy", 0.15),
        ("nearness_auroc", "after/scope_auroc", 0.1),
        ("after/severity_accuracy", "words/severity_accuracy", 0.03),
        ("words_f1/words between", "words_f1/whole sentence", 0.15),
        ("words_f1/with markers", "words_f1/whole sentence", 0.15),
        ("after/relation_f1", "before/relation_f1", 0.08),
        ("triples/gold_names", "triples/found_names", 0.1),
        ("after/made_answer_f1", "before/made_answer_f1", 0.08),
        ("after/made_answer_f1", "real_answer_f1/tuned", 0.2),
        ("summary_facts/taught", "summary_facts/lead", 0.1),
        ("value_exact/writer", "value_exact/untrained", 0.4),
        ("writer/uniform_nats", "writer/nats", 2.0),
    ],
}


def missed(lesson: str, metrics: dict) -> list[str]:
    """The margins of a lesson that its metrics do not reach."""
    return [
        f"{metric} = {metrics[metric]} is not {least} above {base} = {metrics[base]}"
        for metric, base, least in MARGINS[lesson]
        if not metrics[metric] - metrics[base] >= least
    ]
