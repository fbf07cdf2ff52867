"""The fast engine computes what the plain `Reference` does, and keeps each prompt only once."""

import copy

import pytest
import torch

from m2lib.decoding.engine import Engine
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.decoding.reference import Reference
from m2lib.model.backbones import COMPUTED, backbone_config
from m2lib.model.lora import ALL_TARGETS, TARGETS, inject_lora, merge_lora
from m2lib.model.vocabulary import reduce_vocabulary, text_to_ids
from m2lib.series.codec import encode

TEXTS = ("1,2;", "952,1034;948,1029;", "7,8;9,10;" * 9, "3,4;" * 40)
PROMPTS = [text_to_ids(text) for text in TEXTS]
"""Prompts of 4, 18, 81 and 160 tokens."""

# Rotary angles that depend on the position alone, of which the engine takes any.
ROPES = {
    "linear": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "rope_theta": 500.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": 100.0,
        "original_max_position_embeddings": 16,
    },
}


def with_adapters(model, targets=TARGETS):
    """Return a copy of a model with adapters that do something, and a bias of its head."""
    # All values are from this generator: the state of PyTorch's own is that of the tests before.
    generator = torch.Generator().manual_seed(1)
    model = inject_lora(copy.deepcopy(model), 3, alpha=5, targets=targets, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name == "lm_head.bias":
                parameter.normal_(std=0.05, generator=generator)
    return model


def small_llama(remap, rope=None):
    """Return a small random Llama, without biases, and with key/value heads shared by three."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = backbone_config("smollm2-135m").to_dict() | {
        "hidden_size": 96,
        "intermediate_size": 200,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 200,
    }
    if rope:
        # With these, attention's scores are far enough from 0 that the angles count.
        settings |= {"rope_parameters": rope, "rms_norm_eps": 0.1, "initializer_range": 0.2}
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
    return reduce_vocabulary(model.eval(), remap)


@pytest.fixture(
    params=[
        "tiny",
        "tiny with adapters",
        "tiny with all adapters",
        "llama with all adapters",
        *ROPES,
    ]
)
def model(request, tiny):
    """Return a small model of each kind that the engine computes."""
    kind = request.param
    if kind == "tiny":
        return tiny.model
    if kind == "tiny with adapters":
        return with_adapters(tiny.model)
    if kind == "tiny with all adapters":
        return with_adapters(tiny.model, ALL_TARGETS)
    if kind == "llama with all adapters":
        return with_adapters(small_llama(tiny.remap), ALL_TARGETS)
    return small_llama(tiny.remap, ROPES[kind])


def test_every_kind_that_is_not_refused_is_compared_with_the_reference(tiny):
    model_types = {tiny.model.config.model_type, small_llama(tiny.remap).config.model_type}
    assert model_types == set(COMPUTED["model_type"])
    assert {"default", *ROPES} == set(COMPUTED["rope_type"])


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"constrained": True}, id="greedy"),
        pytest.param({"temperature": 0.8, "n_samples": 3, "steps": 9}, id="sampled"),
    ],
)
def test_tokens_are_those_of_the_reference(model, settings):
    config = DecodeConfig(**settings)

    fast = generate(model, PROMPTS, config, torch.Generator().manual_seed(5), Engine)
    simple = generate(model, PROMPTS, config, torch.Generator().manual_seed(5), Reference)

    assert fast == simple
    new, _ = fast
    longest = max(len(ids) for samples in new for ids in samples)
    assert longest >= 18  # so there was something to compare


@pytest.mark.parametrize(
    ("num_samples", "staying"),
    [
        pytest.param(1, {20: [0, 1, 3], 90: [0, 2]}, id="one sample"),
        # Rows of each prompt stay after step 20; after step 90 the second prompt has none left.
        pytest.param(
            3, {20: [0, 2, 3, 4, 5, 7, 9, 10, 11], 90: [0, 1, 5, 6, 7]}, id="three samples"
        ),
    ],
)
def test_logits_are_those_of_the_reference(model, num_samples, staying):
    """Step by step, over growths of the cache, and when rows leave.

    `staying` has the rows that stay by the step after which the others leave.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        fast = Engine(model, PROMPTS, num_samples)
        simple = Reference(model, PROMPTS, num_samples)
        for step in range(150):
            assert fast.logits.dtype == torch.float32
            tolerance = 2e-4 * float(simple.logits.abs().max())
            assert torch.allclose(fast.logits, simple.logits, atol=tolerance), step

            tokens = torch.randint(1, 13, (len(fast.logits),), generator=generator)
            for rows in (fast, simple):
                rows.step(tokens)
                if step in staying:
                    rows.keep(torch.tensor(staying[step]))
    assert len(fast.logits) == len(staying[90])


def test_prompts_that_attend_in_blocks_give_the_same_logits(tiny, monkeypatch):
    """So they do on a Mac's graphics processor, where PyTorch's own kernel is not used."""
    monkeypatch.setattr("m2lib.model.attention.in_blocks", lambda *_: True)

    def attend(*_, **__):
        raise AssertionError("PyTorch's own kernel")

    with torch.inference_mode():
        simple = Reference(tiny.model, PROMPTS)
        monkeypatch.setattr("m2lib.model.attention.scaled_dot_product_attention", attend)
        fast = Engine(tiny.model, PROMPTS)
    assert torch.allclose(fast.logits, simple.logits, atol=1e-4)


def test_biases_of_queries_keys_and_values_count(tiny):
    model = with_adapters(tiny.model)
    with torch.inference_mode():
        without_biases = Engine(model, PROMPTS).logits

    # In a model that has learned nothing they are 0.
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_proj." in name and name.endswith("bias"):
                parameter.normal_(generator=generator)

    with torch.inference_mode():
        fast = Engine(model, PROMPTS)
        simple = Reference(model, PROMPTS)
        assert not torch.allclose(fast.logits, without_biases, atol=1e-3)
        for _ in range(3):
            assert torch.allclose(fast.logits, simple.logits, atol=1e-4)
            tokens = simple.logits.argmax(-1)
            fast.step(tokens)
            simple.step(tokens)


def test_each_prompt_attends_to_its_own_columns_alone(tiny):
    # Prompts of 60, 61, 150 and 20 tokens have 64, 64, 192 and 64 columns: three groups.
    text = "12;" * 50
    prompts = [text_to_ids(text[:length]) for length in (60, 61, 150, 20)]
    with torch.inference_mode():
        fast = Engine(tiny.model, prompts, 2)
        simple = Reference(tiny.model, prompts, 2)
        assert [group.columns for group in fast.groups] == [64, 192, 64]

        for step in range(70):
            tokens = torch.arange(step, step + len(fast.logits)) % 12 + 1
            for rows in (fast, simple):
                rows.step(tokens)
                if step == 30:
                    # The last prompt leaves. The first has two rows left and the second one, so
                    # that they are no longer one group.
                    rows.keep(torch.tensor([0, 1, 3, 5]))
            assert torch.allclose(fast.logits, simple.logits, atol=1e-4), step
        assert [group.columns for group in fast.groups] == [64, 64, 192]


def test_a_real_model_decodes_the_same_tokens(smollm2, data):
    config = DecodeConfig(steps=3, max_new_tokens=40)
    prompts = []
    for series, length in ((94, 300), (99, 77)):
        text = encode(data.contexts[series], data.scales[series])
        prompts.append(text_to_ids(text)[-length:])

    fast = generate(smollm2.model, prompts, config, engine=Engine)
    simple = generate(smollm2.model, prompts, config, engine=Reference)

    assert fast == simple


def size_of(cache):
    """Return the bytes that a cache takes."""
    return sum(keys.nbytes + values.nbytes for keys, values in cache)


def sizes_of(caches):
    """Return the bytes of each of several caches."""
    return [size_of(cache) for cache in caches]


def test_a_prompt_is_kept_once_for_all_its_samples(tiny):
    with torch.inference_mode():
        few = Engine(tiny.model, PROMPTS, 2)
        many = Engine(tiny.model, PROMPTS, 6)

    assert sizes_of(many.shared) == sizes_of(few.shared)
    assert size_of(many.own) == 3 * size_of(few.own)


def test_prompts_are_copied_only_when_one_of_them_leaves(tiny):
    kv_heads = 2
    with torch.inference_mode():
        # Prompts of 4, 18, 81 and 160 tokens have 64, 64, 128 and 192 columns.
        engine = Engine(tiny.model, PROMPTS, 6)
        before = [keys for ((keys, _), *_) in engine.shared]
        assert [keys.shape[::2] for keys in before] == [(4, 64), (2, 128), (2, 192)]

        engine.keep(torch.tensor([0, 6, 7, 12, 18, 23]))  # of prompts 0, 1, 1, 2, 3 and 3
        assert all(cache[0][0] is keys for cache, keys in zip(engine.shared, before, strict=True))
        assert len(engine.own[0][0]) == 6 * kv_heads

        engine.keep(torch.tensor([1, 4, 5]))  # of prompts 1, 3 and 3
        first, second = engine.shared
        assert torch.equal(first[0][0], before[0][kv_heads:])
        assert second[0][0] is before[2]
        assert len(engine.own[0][0]) == 3 * kv_heads


@pytest.mark.parametrize("targets", [TARGETS, ALL_TARGETS])
def test_the_model_is_left_as_it_was(tiny, targets):
    model = with_adapters(tiny.model, targets)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    generate(model, PROMPTS, DecodeConfig(steps=3))

    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


@pytest.mark.parametrize("targets", [TARGETS, ALL_TARGETS])
def test_adapters_are_merged_as_merge_lora_does(tiny, targets):
    model = with_adapters(tiny.model, targets)
    merged = merge_lora(copy.deepcopy(model))
    with torch.inference_mode():
        assert torch.equal(Engine(model, PROMPTS).logits, Engine(merged, PROMPTS).logits)
