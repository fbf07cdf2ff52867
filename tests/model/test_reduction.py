import pytest
import torch

from m2lib.files import InputError
from m2lib.model.backbones import backbone_config, load_backbone, meta_model, parameter_counts
from m2lib.model.reduction import reduce_vocabulary
from m2lib.model.vocabulary import TokenRemap, text_to_ids
from m2lib.series.codec import encode

QWEN_IDS = (151643, *range(15, 25), 11, 26)


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m"])
def test_reduced_logits_are_the_full_logits_at_the_kept_ids(name, data):
    full = load_backbone(name, device="cpu", dtype="float32", reduce=False)
    ids = text_to_ids(encode(data.contexts[94], data.scales[94]))[:256]
    with torch.inference_mode():
        expected = full.model(torch.tensor([full.remap.to_backbone(ids)])).logits[..., list(full.remap.backbone_ids)]
        reduced = reduce_vocabulary(full.model, full.remap)
        assert torch.allclose(reduced(torch.tensor([ids])).logits, expected, atol=1e-4, rtol=0)


def test_reduction_leaves_only_the_bias_trainable_and_happens_once(tiny):
    model = tiny.model
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["lm_head.bias"]
    assert (model.config.vocab_size, model.config.tie_word_embeddings) == (13, False)
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()
    with pytest.raises(ValueError, match="reduced already"):
        reduce_vocabulary(model, tiny.remap)


def test_head_of_the_reports_model():
    model = meta_model(backbone_config("qwen2.5-0.5b"))
    assert parameter_counts(model)["embedding"] == 136_134_656
    assert len(model.model.layers) == 24
    reduce_vocabulary(model, TokenRemap(QWEN_IDS))
    assert model.lm_head.weight.is_meta
    counts = parameter_counts(model)
    assert counts["head"] == 11_661
    assert counts["embedding"] == 11_648


def test_ids_outside_the_model_are_refused():
    model = meta_model(backbone_config("tiny"))
    with pytest.raises(InputError, match="id 151643 is outside the model's vocabulary of 96"):
        reduce_vocabulary(model, TokenRemap(QWEN_IDS))
