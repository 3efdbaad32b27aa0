"""The oracles of the exercises agree with libraries that others trust."""

import itertools
import math
import re
from types import SimpleNamespace

import bm25s
import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score
from seqeval.scheme import IOB1, IOB2, Entities
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity as cosine_table
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import (
    cosine_similarity,
    cross_entropy,
    scaled_dot_product_attention,
)

from kie_course import attention, data, ner, retrieval
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


# --- lesson 00b -----------------------------------------------------------------------


def test_pair_distances_are_torchs():
    for (a, b), answer in answers("00b.1"):
        theirs = torch.cdist(torch.tensor(a), torch.tensor(b)) ** 2
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_slopes_of_a_weight_used_twice_are_autograds():
    for (x, w, b, y), answer in answers("00b.2"):
        turned = [
            torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in (w, b)
        ]
        loss = (turned[0] * (turned[0] * x + turned[1]) - y) ** 2
        loss.backward()
        assert answer == pytest.approx([leaf.grad.item() for leaf in turned])


def test_gradients_through_a_tape_are_autograds():
    for (inputs, tape), answer in answers("00b.3"):
        leaves = [torch.tensor(float(n), requires_grad=True) for n in inputs]
        numbers = [leaf.double() for leaf in leaves]
        for kind, i, j in tape:
            made = {"add": torch.add, "mul": torch.mul}[kind]
            numbers.append(made(numbers[i], numbers[j]))
        numbers[-1].backward()
        slopes = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves]
        assert answer == pytest.approx(slopes)


def test_loss_from_counts_is_torchs_over_all_messages():
    for (logits, counts), answer in answers("00b.4"):
        rows, kinds = np.indices(counts.shape)
        each = np.repeat(rows, counts.ravel()), np.repeat(kinds, counts.ravel())
        text, kind = (torch.tensor(index) for index in each)
        theirs = cross_entropy(torch.tensor(logits)[text], kind)
        assert answer == pytest.approx(theirs.item(), abs=1e-9)


def test_scaling_is_scikit_learns_fitted_on_train():
    for (train, new), answer in answers("00b.5"):
        theirs = StandardScaler().fit(train).transform(new)
        np.testing.assert_allclose(answer, theirs, atol=1e-9)


def test_held_out_rows_are_whole_documents_enough_and_not_too_many():
    for (groups, wanted), answer in answers("00b.6"):
        held = {groups[row] for row in answer}
        assert answer == [row for row, group in enumerate(groups) if group in held]
        order = list(dict.fromkeys(groups))
        assert set(order[: len(held)]) == held
        before = sum(group in order[: len(held) - 1] for group in groups)
        assert before < wanted <= len(answer)


def test_leaked_texts_have_the_words_of_a_training_text():
    for (train, test), answer in answers("00b.7"):
        forms = [re.findall(r"\w+", text.casefold()) for text in train]
        same = [re.findall(r"\w+", text.casefold()) in forms for text in test]
        assert answer == np.flatnonzero(same).tolist()


# --- lesson 01 ------------------------------------------------------------------------


def test_smooth_rarity_is_scikit_learns_and_lucenes_is_bm25s():
    for (documents, form), answer in answers("01.1"):
        vectorizer = TfidfVectorizer(analyzer=list).fit(documents)
        if form == "smooth":
            theirs = dict(
                zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True)
            )
        elif form == "lucene":
            # b = 0 and k1 = 0: each word that occurs brings its whole idf.
            index = bm25s.BM25(k1=0.0, b=0.0, method="lucene")
            index.index(documents, show_progress=False)
            theirs = {w: index.get_scores([w]).max() for w in answer}
        else:
            plain = TfidfVectorizer(analyzer=list, smooth_idf=False).fit(documents)
            names = plain.get_feature_names_out()
            theirs = dict(zip(names, plain.idf_ - 1, strict=True))
        assert theirs == pytest.approx(answer, abs=1e-6)


def test_the_stuffed_page_is_the_first_that_bm25s_scores_high_enough():
    for (rest, mean, k1, b, share), f in answers("01.2"):

        def brought(f, rest=rest, mean=mean, k1=k1, b=b):
            return f / (f + k1 * (1 - b + b * (rest + f) / mean))

        if f is None:
            assert brought(10**9) < share
        else:
            assert brought(f) >= share - 1e-9
            assert f == 1 or brought(f - 1) < share


def test_the_smallest_rank_is_what_truncated_svd_needs():
    for (table, share), k in answers("01.3"):
        whole = (table**2).sum()
        for rank, enough in ((k, True), (k - 1, False)):
            if 1 <= rank < min(table.shape):
                svd = TruncatedSVD(rank, algorithm="arpack", random_state=20).fit(table)
                near = svd.inverse_transform(svd.transform(table))
                assert ((near**2).sum() / whole >= share - 1e-8) == enough


def test_folded_questions_are_truncated_svds():
    for (table, question, k), answer in answers("01.4"):
        if k < min(table.shape):
            svd = TruncatedSVD(k, algorithm="arpack", random_state=20).fit(table)
            there = svd.transform(question[None])
            theirs = cosine_table(svd.transform(table), there)[:, 0]
            np.testing.assert_allclose(answer, theirs, atol=1e-6)


def test_overlap_bins_are_numpys_binned_means():
    for (questions, articles, scores, edges), answer in answers("01.5"):
        pairs = zip(questions, articles, strict=True)
        shares = [len({*q} & {*a}) / max(1, len({*q})) for q, a in pairs]
        counts, _ = np.histogram(shares, edges)
        sums, _ = np.histogram(shares, edges, weights=scores)
        assert [mean is not None for mean in answer] == (counts > 0).tolist()
        theirs = [s / n for s, n in zip(sums, counts, strict=True) if n]
        assert [mean for mean in answer if mean is not None] == pytest.approx(theirs)


def test_honest_purity_is_leave_one_out_with_the_majority():
    for (topics, kinds), answer in answers("01.6"):
        right = 0
        for i, (topic, kind) in enumerate(zip(topics, kinds, strict=True)):
            rest = [k for j, k in enumerate(kinds) if topics[j] == topic and j != i]
            if rest:
                # scikit-learn, too, settles ties by the order of the classes.
                majority = DummyClassifier().fit(np.zeros((len(rest), 1)), rest)
                right += majority.predict([[0]])[0] == kind
        assert answer == pytest.approx(right / max(1, len(kinds)))


def test_weights_of_the_past_are_autograds_slopes():
    for (forget, enter), answer in answers("01.7"):
        offer = torch.zeros(len(forget), dtype=torch.float64, requires_grad=True)
        memory = torch.zeros((), dtype=torch.float64)
        for f, i, g in zip(forget.tolist(), enter.tolist(), offer, strict=True):
            memory = f * memory + i * g
        memory.backward()
        np.testing.assert_allclose(answer, offer.grad.numpy(), atol=1e-9)


# --- lesson 02 ------------------------------------------------------------------------


def test_soft_get_is_torchs_attention_with_one_more_item():
    for (query, keys, values, default, threshold), answer in answers("02.1"):
        # An item (0, …, 0, threshold), and a query that ends in 1.
        more = np.append(np.zeros_like(query), threshold)
        key = np.vstack([np.pad(keys, ((0, 0), (0, 1))), more])
        value = np.vstack([values, default])
        theirs = scaled_dot_product_attention(
            *(torch.tensor(a)[None] for a in (np.append(query, 1.0)[None], key, value)),
            scale=1.0,
        )
        np.testing.assert_allclose(answer, theirs[0, 0].numpy(), atol=1e-9)


def test_log_weights_are_torchs_log_softmax():
    for (scores, temperature), answer in answers("02.2"):
        theirs = torch.log_softmax(torch.tensor(scores) / temperature, 0)
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_forgetting_is_torchs_attention_with_a_mask():
    for (weights, outputs, values, item), answer in answers("02.3"):
        query, value = torch.tensor(weights).log(), torch.tensor(values)
        key = torch.eye(len(values), dtype=query.dtype)
        both = (query[None], key[None], value[None])
        whole = scaled_dot_product_attention(*both, scale=1.0)
        np.testing.assert_allclose(outputs, whole[0].numpy(), atol=1e-9)
        mask = torch.arange(len(values)) != item
        theirs = scaled_dot_product_attention(*both, attn_mask=mask[None], scale=1.0)
        np.testing.assert_allclose(answer, theirs[0].numpy(), atol=1e-9)


def test_leaving_one_out_is_scikit_learns_with_torchs_softmax():
    from sklearn.model_selection import LeaveOneOut

    for (x, y, width), answer in answers("02.4"):
        errors = []
        for kept, (asked,) in LeaveOneOut().split(x):
            far = torch.tensor(-((x[kept] - x[asked]) ** 2) / (2 * width**2))
            guess = torch.softmax(far, 0) @ torch.tensor(y[kept])
            errors.append(float(guess) - y[asked])
        assert answer == pytest.approx(np.mean(np.square(errors)))


def test_what_is_written_is_read_and_the_rest_stays():
    for (keys, values), answer in answers("02.5"):
        memory = np.array(answer)
        np.testing.assert_allclose(memory @ keys[-1], values[-1], atol=1e-9)
        before = EXERCISES["02.5"].oracle(keys[:-1], values[:-1])
        # Least change that reads the last pair: the pseudo-inverse of its key.
        missing = values[-1] - np.array(before) @ keys[-1]
        least = np.outer(missing, np.linalg.pinv(keys[-1][:, None]))
        np.testing.assert_allclose(memory, before + least, atol=1e-9)


def test_energies_fall_by_gradient_steps_of_torch():
    for (patterns, cue, beta, steps), answer in answers("02.6"):
        x, state, found = torch.tensor(patterns), torch.tensor(cue), []
        for _ in range(steps + 1):
            state = state.detach().requires_grad_()
            height = state @ state / 2 - torch.logsumexp(beta * x @ state, 0) / beta
            found.append(float(height.detach()))
            state = state - torch.autograd.grad(height, state)[0]
        assert answer == pytest.approx(found, abs=1e-6)
        assert all(a >= b - 1e-9 for a, b in itertools.pairwise(answer))


def test_width_is_the_least_that_reaches_the_share():
    for (items, share), answer in answers("02.7"):
        rivals = np.full(items - 1, 0.5)
        held = [
            torch.softmax(torch.tensor(np.append(rivals, math.sqrt(d))), 0)[-1].item()
            for d in (answer - 1, answer)
        ]
        assert held[1] >= share
        assert answer == 1 or held[0] < share


# --- lesson 03 ------------------------------------------------------------------------


def test_cosine_weights_are_torchs():
    for (query, key, temperature), answer in answers("03.1"):
        pairs = torch.tensor(query)[:, None], torch.tensor(key)[None]
        fits = cosine_similarity(*pairs, dim=-1) / torch.tensor(temperature)[:, None]
        np.testing.assert_allclose(answer, fits.softmax(dim=-1).numpy(), atol=1e-9)


def test_scale_of_unit_entries_is_the_packages():
    for (d_model, heads, query_spread, key_spread), answer in answers("03.2"):
        ones = torch.ones(1, d_model // heads, dtype=torch.float64)
        dot = float(attention.scores(ones, ones, "dot"))
        scaled = float(attention.scores(ones, ones, "scaled_dot"))
        assert answer * query_spread * key_spread == pytest.approx(scaled / dot)


def test_at_the_temperature_the_best_weight_is_the_share():
    for (n, share, lowest), temperature in answers("03.3"):
        cosines = torch.full((n,), lowest, dtype=torch.float64)
        cosines[0] = 1
        weights = torch.softmax(cosines / temperature, dim=0)
        assert float(weights[0]) == pytest.approx(share, abs=1e-6)


def test_own_temperatures_make_cosines_of_torchs_attention():
    exercise = EXERCISES["03.4"]
    refused = 0
    for seed in SEEDS:
        for query, key in exercise.cases(np.random.default_rng(seed)):
            try:
                found = exercise.oracle(query, key)
            except ValueError:
                refused += 1
                continue
            q, k = torch.tensor(query), torch.tensor(key)
            theirs = scaled_dot_product_attention(q, k, torch.eye(len(k)).double())
            own = torch.tensor(found, dtype=torch.float64)[:, None]
            ours = torch.softmax(attention.scores(q, k, "cosine") / own, dim=-1)
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-9)
    assert refused == 2 * len(SEEDS)


def test_softmax_backward_is_autograds():
    for (weights, upstream, temperature), answer in answers("03.5"):
        p = torch.tensor(weights)
        scores = (p.clamp(min=1e-300).log() * temperature).requires_grad_()
        loss = (torch.softmax(scores / temperature, -1) * torch.tensor(upstream)).sum()
        (theirs,) = torch.autograd.grad(loss, scores)
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_floor_with_copies_is_torchs_loss_of_the_packages_cosines():
    for (topics, copies, temperature), answer in answers("03.6"):
        corners = torch.eye(topics).double() - 1 / topics
        batch = corners.repeat(copies, 1)
        scores = attention.scores(batch, batch, "cosine") / temperature
        theirs = cross_entropy(scores, torch.arange(len(batch)))
        assert answer == pytest.approx(float(theirs), abs=1e-9)


def test_longer_vectors_give_the_packages_gaussian_weights():
    for (query, key), longer in answers("03.7"):
        long_query, long_key = (torch.tensor(x).double() for x in longer)
        dots = long_query @ long_key.T
        theirs = attention.scores(torch.tensor(query), torch.tensor(key), "gaussian")
        pair = dots.softmax(dim=-1), theirs.softmax(dim=-1)
        torch.testing.assert_close(*pair, atol=1e-9, rtol=1e-9)


# --- lesson 04 ------------------------------------------------------------------------


def test_shared_keys_are_torchs_repeated_groups():
    for (states, heads, groups), answer in answers("04.1"):
        cut = torch.tensor(states).unflatten(-1, (groups, -1)).transpose(1, 2)
        theirs = torch.repeat_interleave(cut, heads // groups, dim=1)
        np.testing.assert_array_equal(answer, theirs.numpy())


def test_shares_add_up_to_torchs_linear_layer():
    from torch.nn.functional import linear

    for (outputs, weight), answer in answers("04.2"):
        merged = torch.cat(list(torch.tensor(outputs)), dim=-1)
        whole = linear(merged, torch.tensor(weight).T)
        np.testing.assert_allclose(answer.sum(axis=0), whole.numpy(), atol=1e-9)
        for head in range(len(outputs)):
            only = torch.zeros(*outputs.shape, dtype=torch.float64)
            only[head] = torch.tensor(outputs[head])
            alone = linear(torch.cat(list(only), dim=-1), torch.tensor(weight).T)
            np.testing.assert_allclose(answer[head], alone.numpy(), atol=1e-9)


def test_decoders_mask_is_torchs_band_over_real_places():
    for (lengths, tokens, window), answer in answers("04.3"):
        band = torch.ones(tokens, tokens, dtype=torch.bool).tril().triu(1 - window)
        for length, mask in zip(lengths.tolist(), answer, strict=True):
            right = torch.zeros(tokens, tokens, dtype=torch.bool)
            pads = tokens - length
            right[pads:, pads:] = band[pads:, pads:]
            assert mask == right.tolist()


def test_softmax_with_rest_is_torchs_over_one_more_score():
    for (scores, mask), answer in answers("04.4"):
        kept = torch.tensor(scores).masked_fill(~torch.tensor(mask), -math.inf)
        more = torch.cat([kept, kept.new_zeros(len(kept), 1)], dim=1)
        theirs = more.softmax(dim=1)[:, :-1]
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-12)


def test_multi_head_is_torchs_attention():
    from torch.nn.functional import scaled_dot_product_attention

    for (query, key, value, mask, heads), answer in answers("04.5"):
        split = [
            torch.tensor(states).unflatten(-1, (heads, -1)).transpose(0, 1)
            for states in (query, key, value)
        ]
        theirs = scaled_dot_product_attention(*split, attn_mask=torch.tensor(mask))
        merged = theirs.transpose(0, 1).flatten(1)
        np.testing.assert_allclose(answer, merged.numpy(), atol=1e-9)


def test_rotation_is_transformers_rotary_embedding():
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb

    for (states, places, base), answer in answers("04.6"):
        width = states.shape[1]
        speed = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.tensor(places)[:, None] * speed
        # (batch, token, head, d_head), as GPT-J has it: neighbours are a pair.
        turned = apply_rotary_pos_emb(
            torch.tensor(states)[None, :, None], angle.sin()[None], angle.cos()[None]
        )
        np.testing.assert_allclose(answer, turned[0, :, 0].numpy(), atol=1e-9)


def test_reach_is_where_a_gradient_arrives():
    for (mask, layers), answer in answers("04.7"):
        allowed = torch.tensor(mask, dtype=torch.float64)
        inputs = torch.ones(len(mask), dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(
            lambda states, a=allowed, n=layers: (
                torch.linalg.matrix_power(a, n) @ states
            ),
            inputs,
        )
        assert answer == (jacobian > 0).tolist()


# --- lesson 04b -----------------------------------------------------------------------


def test_norm_of_heads_is_torchs_group_norm():
    from torch.nn.functional import group_norm

    for (states, heads, gain, eps), answer in answers("04b.1"):
        theirs = group_norm(torch.tensor(states), heads, torch.tensor(gain), eps=eps)
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_pre_norm_block_is_built_of_torchs_parts():
    from torch.nn.functional import layer_norm, linear

    for (states, weights, keys, values), answer in answers("04b.2"):
        path, width = torch.tensor(states), states.shape[1:]
        path = path + torch.tensor(weights) @ layer_norm(path, width)
        fired = linear(layer_norm(path, width), torch.tensor(keys)).relu()
        theirs = path + linear(fired, torch.tensor(values).T)
        np.testing.assert_allclose(answer, theirs.numpy(), atol=1e-9)


def test_credit_adds_up_to_torchs_feed_forward_net():
    for (state, keys, bias, values, readout), answer in answers("04b.3"):
        inner = torch.nn.Linear(*keys.T.shape, dtype=torch.float64)
        with torch.no_grad():
            inner.weight.copy_(torch.tensor(keys))
            inner.bias.copy_(torch.tensor(bias))
            output = inner(torch.tensor(state)).relu() @ torch.tensor(values)
        theirs = torch.tensor(readout) @ output
        np.testing.assert_allclose(np.sum(answer, axis=0), theirs.numpy(), atol=1e-9)


def test_packed_inputs_are_transformers_shift_text_by_text():
    from transformers.models.bart.modeling_bart import shift_tokens_right

    for (labels, start, end), answer in answers("04b.4"):
        for row, mine in zip(labels.tolist(), answer, strict=True):
            real = [label for label in row if label != -100]
            texts, seen = [[]], []
            for label in real:
                texts[-1].append(label)
                if label == end:
                    texts.append([])
            for text in filter(None, texts):
                seen += shift_tokens_right(torch.tensor([text]), end, start)[0].tolist()
            assert mine == seen + [end] * (len(row) - len(real))


def test_mask_of_one_row_is_made_of_torchs_triangles():
    for (sources, lengths, tokens), answer in answers("04b.5"):
        for source, length, mask in zip(sources, lengths, answer, strict=True):
            right = torch.ones(tokens, tokens, dtype=torch.bool).tril()
            right[:, :source] = True
            right[length:] = right[:, length:] = False
            assert mask == right.tolist()


def test_nats_per_token_are_torchs_cross_entropy():
    for (batches,), answer in answers("04b.6"):
        logits = [torch.tensor(x).flatten(0, 1) for x, _ in batches]
        labels = [torch.tensor(y).flatten() for _, y in batches]
        total = sum(
            cross_entropy(x, y, reduction="sum", ignore_index=-100).item()
            for x, y in zip(logits, labels, strict=True)
        )
        count = sum((y != -100).sum().item() for y in labels)
        assert answer == pytest.approx(total / max(count, 1), abs=1e-9)


def test_merged_halves_have_torchs_logsumexp_and_are_associative():
    merge = EXERCISES["04b.7"].oracle
    for (first, second), (log_total, output) in answers("04b.7"):
        logs = torch.stack([torch.tensor(first[0]), torch.tensor(second[0])])
        theirs = torch.logsumexp(logs, dim=0)
        np.testing.assert_allclose(log_total, theirs.numpy(), atol=1e-9)
        halves = np.stack([first[1], second[1]])
        shares = (logs - theirs.nan_to_num(neginf=0.0)).exp().numpy()
        np.testing.assert_allclose(
            output, (shares[..., None] * halves).sum(axis=0), atol=1e-9
        )
        third = np.zeros(len(log_total)), np.full(np.shape(output), 5.0)
        as_arrays = np.array(log_total), np.array(output)
        left = merge(as_arrays, third)
        right = merge(first, tuple(map(np.array, merge(second, third))))
        for a, b in zip(left, right, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_merged_halves_are_attention_over_all_keys():
    rng = np.random.default_rng(20)
    query, key, value = (torch.tensor(rng.normal(size=(n, 4))) for n in (3, 6, 6))
    halves = []
    for part in (slice(0, 2), slice(2, 6)):
        fit = attention.scores(query, key[part])
        output, _ = attention.attend(query, key[part], value[part])
        halves.append((torch.logsumexp(fit, dim=1).numpy(), output.numpy()))
    _, output = EXERCISES["04b.7"].oracle(*halves)
    theirs = scaled_dot_product_attention(query, key, value)
    np.testing.assert_allclose(output, theirs.numpy(), atol=1e-12)


def test_square_takes_over_where_torch_counts_more_multiplications():
    from torch.utils.flop_counter import FlopCounterMode

    def counted(n, d_model, d_inner, d_key):
        states, sizes = torch.randn(n, d_model), [d_model] * 2 + [d_key] * 2
        with FlopCounterMode(display=False) as rest:
            for size in sizes:
                states @ torch.randn(d_model, size)
            (states @ torch.randn(d_model, d_inner)) @ torch.randn(d_inner, d_model)
        with FlopCounterMode(display=False) as square:
            states @ states.T @ states
        return square.get_total_flops(), rest.get_total_flops()

    for (d_model, d_inner, d_key, causal), answer in itertools.islice(
        answers("04b.8"), 60
    ):
        for n, more in ((answer - 1, False), (answer, True)):
            square, rest = counted(n, d_model, d_inner, d_key)
            if causal:
                square = square * (n + 1) // (2 * n)
            assert (square > rest) is more


# --- lesson 05 ------------------------------------------------------------------------


def test_pieces_and_places_are_the_tokenizers_librarys():
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

    for (word, vocabulary), answer in answers("05.1"):
        numbers = {piece: i for i, piece in enumerate(["[UNK]", *vocabulary])}
        theirs = Tokenizer(WordPiece(numbers, unk_token="[UNK]")).encode(word)
        places = [(p, *o) for p, o in zip(theirs.tokens, theirs.offsets, strict=True)]
        assert answer == places


def test_plain_text_is_the_tokenizers_librarys():
    from tokenizers.normalizers import BertNormalizer

    normalizer = BertNormalizer(handle_chinese_chars=False)
    for (text,), (stripped, places) in answers("05.2"):
        assert stripped == normalizer.normalize_str(text)
        assert places == sorted(places)
        for c, place in zip(stripped, places, strict=True):
            assert c in normalizer.normalize_str(text[place])


def test_packed_weights_make_pytorchs_layer_compute_what_bert_does():
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}
    config = BertConfig(vocab_size=9, num_hidden_layers=2, **sizes)
    theirs = BertModel(config, add_pooling_layer=False).double().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    ours = EXERCISES["05.3"].oracle(arrays, 1)
    layer = torch.nn.TransformerEncoderLayer(
        8, 2, 12, activation="gelu", batch_first=True, layer_norm_eps=1e-12
    ).double()
    layer.load_state_dict({name: torch.tensor(array) for name, array in ours.items()})
    with torch.no_grad():
        states = theirs(torch.arange(6)[None], output_hidden_states=True).hidden_states
        np.testing.assert_allclose(layer.eval()(states[1]), states[2], atol=1e-9)


def test_masked_words_are_as_the_libraries_label_them():
    for (ids, words, word_dice, piece_dice, *_), (shown, labels) in answers("05.4"):
        labels, shown = torch.tensor(labels), torch.tensor(shown)
        scores = torch.zeros(len(ids), 100)
        asked = cross_entropy(scores, labels, reduction="none") > 0  # skips -100
        chosen = {w for w in words.tolist() if w >= 0 and word_dice[w] < 0.15}
        assert asked.tolist() == [w in chosen for w in words.tolist()]
        assert labels[asked].tolist() == ids[asked.numpy()].tolist()
        assert shown[~asked].tolist() == ids[~asked.numpy()].tolist()
        hidden = shown == 3
        assert hidden.tolist() == (asked.numpy() & (piece_dice < 0.8)).tolist()


def test_score_of_the_place_before_is_numpys_masked_mean():
    for (weights, lengths), answer in answers("05.5"):
        real = np.arange(weights.shape[1]) < lengths[:, None]
        pairs = np.eye(weights.shape[1], k=-1, dtype=bool) & real[:, :, None]
        mean = np.ma.masked_array(weights, ~pairs).mean()
        assert answer == pytest.approx(0.0 if mean is np.ma.masked else float(mean))


def test_tied_loss_is_torchs_cross_entropy():
    for (states, table, bias, labels, allowed), answer in answers("05.6"):
        scores = torch.tensor(states @ table.T + bias)
        scores = scores.masked_fill(~torch.tensor(allowed), -math.inf)
        target = torch.tensor(labels)
        theirs = cross_entropy(scores, target, reduction="sum", ignore_index=-100)
        assert answer == pytest.approx(theirs.item() / max(1, (labels >= 0).sum()))


def test_count_of_parameters_is_transformers():
    from transformers import BertConfig, BertForMaskedLM, BertModel

    for arguments, answer in answers("05.7"):
        vocabulary, places, d_model, layers, inner, heads, tied_head = arguments
        config = BertConfig(
            vocab_size=vocabulary,
            max_position_embeddings=places,
            hidden_size=d_model,
            num_hidden_layers=layers,
            intermediate_size=inner,
            num_attention_heads=heads,
        )
        with torch.device("meta"):
            theirs = (
                BertForMaskedLM(config)
                if tied_head
                else BertModel(config, add_pooling_layer=False)
            )
        assert answer == theirs.num_parameters()


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


# --- lesson 08 ------------------------------------------------------------------------


def test_auroc_by_intent_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    for (scores, labels), answer in answers("08.2"):
        for intent, value in answer.items():
            pairs = [
                (label == intent, score)
                for score, label in zip(scores, labels, strict=True)
                if label in (intent, data.OUT_OF_SCOPE)
            ]
            assert value == pytest.approx(roc_auc_score(*zip(*pairs, strict=True)))


def test_threshold_is_numpys_inverted_quantile():
    for (inside, outside, share), (threshold, kept) in answers("08.1"):
        if share and outside:
            theirs = np.quantile(outside, share, method="inverted_cdf")
            assert threshold == pytest.approx(theirs)
            below = np.searchsorted(np.sort(inside), threshold, side="right")
            assert kept == pytest.approx(1 - below / len(inside))
        else:
            assert (threshold, kept) == (-math.inf, 1.0)


def test_marked_words_are_nested_brackets_around_the_names():
    for (words, head, tail), answer in answers("08.3"):
        (line,) = [" ".join(answer)]
        for number, (start, end) in ((1, head), (2, tail)):
            (inside,) = re.findall(rf"\[E{number}\](.*)\[/E{number}\]", line)
            named = [w for w in inside.split() if not re.match(r"\[/?E\d\]", w)]
            assert named == words[start:end]
        opened = []
        for word in answer:
            if re.match(r"\[E\d\]", word):
                opened.append(word[1:])
            elif word.startswith("[/E"):
                assert opened.pop() == word[2:]


def test_macro_f1_with_directions_is_the_packages():
    from kie_course.relations import relation_scores

    for (gold, predicted), answer in answers("08.4"):
        assert answer == pytest.approx(relation_scores(gold, predicted)["macro_f1"])


def test_best_span_is_the_masked_maximum_in_torch():
    for (starts, ends, limit, margin), answer in answers("08.5"):
        sums = torch.tensor(starts[1:])[:, None] + torch.tensor(ends[1:])
        fits = torch.ones_like(sums, dtype=torch.bool).triu().tril(limit - 1)
        best = sums.masked_fill(~fits, -math.inf)
        null = starts[0] + ends[0] + margin
        if best.numel() == 0 or best.max() <= null:
            assert answer is None
        else:
            place = divmod(int(best.argmax()), len(best))
            assert answer == [place[0] + 1, place[1] + 1]


def test_answer_f1_is_the_packages():
    from kie_course.answers import answer_scores

    for (gold, predicted), answer in answers("08.6"):
        rows = answer_scores(gold, predicted)
        kinds = [rows.get(kind, {}) for kind in ("answerable", "unanswerable")]
        theirs = [row.get("f1") for row in (rows, *kinds)]
        assert answer == pytest.approx(tuple(theirs))


def test_without_a_price_on_repetition_the_worthiest_sentences_are_chosen():
    exercise = EXERCISES["08.7"]
    for (similarity, worth, count, _), _ in answers("08.7"):
        free = exercise.oracle(similarity, worth, count, 0.0)
        assert free == sorted(np.argsort(-np.array(worth), kind="stable")[:count])


def test_facts_are_scored_as_sets_by_scikit_learn():
    from sklearn.metrics import f1_score

    for (gold, found, names), (value, ceiling) in answers("08.8"):
        sets = [
            {(i, *fact) for i, facts in enumerate(side) for fact in facts}
            for side in (gold, found)
        ]
        either = sorted(sets[0] | sets[1])
        rows = [[fact in side for fact in either] for side in sets]
        theirs = f1_score(*rows, zero_division=0) if either else 0.0
        assert value == pytest.approx(theirs)
        reach = [{h, t} <= set(names[i]) for i, h, _, t in sets[0]]
        assert ceiling == pytest.approx(sum(reach) / max(1, len(reach)))


def test_log_probabilities_are_torchs_cross_entropy_up_to_the_end():
    for (logits, written, end), answer in answers("08.9"):
        labels = torch.tensor(written)
        ends = labels == end
        behind = ends.int().cumsum(1) - ends.int() > 0
        nats = torch.nn.functional.cross_entropy(
            torch.tensor(logits).transpose(1, 2),
            labels.masked_fill(behind, -100),
            reduction="none",
        ).sum(1)
        theirs = torch.where(ends.any(1), -nats, -math.inf)
        assert answer == pytest.approx(theirs.tolist())
