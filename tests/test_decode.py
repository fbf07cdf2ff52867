import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from m2lib.attention import BLOCK, blocked_attention, causal_attention
from m2lib.backbones import backbone_config
from m2lib.codec import encode
from m2lib.decode import Decoding
from m2lib.forecast import DecodeConfig, Reference, generate
from m2lib.lora import inject_lora, merge_lora
from m2lib.reduction import reduce_vocabulary
from m2lib.vocabulary import text_to_ids

MIXED = [text_to_ids(text) for text in ("1,2;", "952,1034;948,1029;", "7,8;9,10;" * 9, "3,4;" * 40)]


def adapted(model, seed=1):
    """A copy with adapters that do something."""
    model = inject_lora(copy.deepcopy(model), 3, alpha=5)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name == "lm_head.bias":
                parameter.normal_(std=0.05, generator=generator)
    return model


def llama(remap):
    """Random and small, without biases, key/value heads shared by three."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    settings = backbone_config("smollm2-135m").to_dict() | {
        "hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 200,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
    return reduce_vocabulary(model.eval(), remap)


@pytest.fixture(params=["tiny", "tiny with adapters", "llama"])
def model(request, tiny):
    if request.param == "llama":
        return llama(tiny.remap)
    return adapted(tiny.model) if "adapters" in request.param else tiny.model


@pytest.mark.parametrize("settings", [{}, {"constrained": True}, {"temperature": 0.8, "n_samples": 3, "steps": 9}])
def test_tokens_are_those_of_the_reference(model, settings):
    config = DecodeConfig(**settings)
    fast, simple = (
        generate(model, MIXED, config, torch.Generator().manual_seed(5), engine) for engine in (Decoding, Reference)
    )
    assert fast == simple
    assert max(len(ids) for samples in fast[0] for ids in samples) >= 18


def test_logits_are_those_of_the_reference(model):
    """Step by step, over a growth of the cache, and when rows leave."""
    with torch.inference_mode():
        fast, simple = (engine(model, MIXED, 2) for engine in (Decoding, Reference))
        generator = torch.Generator().manual_seed(0)
        for step in range(150):
            assert fast.logits.dtype == torch.float32
            assert torch.allclose(fast.logits, simple.logits, atol=2e-4 * float(simple.logits.abs().max())), step
            tokens = torch.randint(1, 13, (len(fast.logits),), generator=generator)
            for one in (fast, simple):
                one.step(tokens)
                if step in (20, 90):
                    one.keep(torch.arange(len(tokens))[1::2])
    assert len(fast.logits) == 2


def test_a_real_model_decodes_the_same_tokens(smollm2, data):
    config = DecodeConfig(steps=3, max_new_tokens=40)
    prompts = [text_to_ids(encode(data.contexts[i], data.scales[i]))[-length:] for i, length in ((94, 300), (99, 77))]
    fast, simple = (generate(smollm2.model, prompts, config, engine=engine) for engine in (Decoding, Reference))
    assert fast == simple


def test_the_model_is_left_as_it_was(tiny):
    model = adapted(tiny.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generate(model, MIXED, DecodeConfig(steps=3))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    merged = merge_lora(copy.deepcopy(model))
    with torch.inference_mode():
        assert torch.equal(Decoding(model, MIXED).logits, Decoding(merged, MIXED).logits)


@pytest.mark.parametrize("tokens", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_blocked_attention_is_attention(tokens):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, tokens, 8, requires_grad=True) for heads in (6, 2, 2))
    gradient = torch.randn(2, 6, tokens, 8)
    ours = causal_attention(q, k, v, 0.3)
    theirs = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(ours, (q, k, v), gradient), torch.autograd.grad(theirs, (q, k, v), gradient), strict=True
    ):
        assert torch.allclose(one, other, atol=2e-5)


def test_a_model_attends_in_blocks_only_while_asked(tiny):
    tokens = torch.randint(1, 13, (2, 200), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = tiny.model(tokens).logits
        with blocked_attention(tiny.model):
            assert tiny.model.config._attn_implementation == "blocked"
            during = tiny.model(tokens).logits
    assert tiny.model.config._attn_implementation != "blocked"
    assert np.allclose(before, during, atol=1e-4)
