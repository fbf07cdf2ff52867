import copy

import pytest
import torch

from m2lib.decoding.engine import BareModel, Engine
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.decoding.reference import Reference
from m2lib.model.backbones import backbone_config
from m2lib.model.lora import ALL_TARGETS, TARGETS, inject_lora, merge_lora
from m2lib.model.vocabulary import reduce_vocabulary, text_to_ids
from m2lib.series.codec import encode

MIXED = [text_to_ids(text) for text in ("1,2;", "952,1034;948,1029;", "7,8;9,10;" * 9, "3,4;" * 40)]


def adapted(model, seed=1, targets=TARGETS):
    """A copy with adapters that do something."""
    # of A too: the global one's state is that of the tests before
    generator = torch.Generator().manual_seed(seed)
    model = inject_lora(copy.deepcopy(model), 3, alpha=5, targets=targets, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or name == "lm_head.bias":
                parameter.normal_(std=0.05, generator=generator)
    return model


# Angles that depend on the position alone, of which the engine takes any.
ROPES = {
    "linear": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
    "llama3": {
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "rope_theta": 500.0, "original_max_position_embeddings": 16,
    },
    "yarn": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "rope_theta": 100.0,
    },
}  # fmt: skip


def llama(remap, rope=None):
    """Random and small, without biases, key/value heads shared by three."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    settings = backbone_config("smollm2-135m").to_dict() | {
        "hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 200,
    }  # fmt: skip
    if rope:  # scores far enough from 0 that the angles count
        settings |= {"rope_parameters": rope, "rms_norm_eps": 0.1, "initializer_range": 0.2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
    return reduce_vocabulary(model.eval(), remap)


@pytest.fixture(params=["tiny", "tiny with adapters", "tiny with all", "llama with all", *ROPES])
def model(request, tiny):
    name, _, adapters = request.param.partition(" with ")
    model = tiny.model if name == "tiny" else llama(tiny.remap, ROPES.get(name))
    return (
        adapted(model, targets=ALL_TARGETS if adapters == "all" else TARGETS) if adapters else model
    )


@pytest.mark.parametrize(
    "settings", [{"constrained": True}, {"temperature": 0.8, "n_samples": 3, "steps": 9}]
)
def test_tokens_are_those_of_the_reference(model, settings):
    config = DecodeConfig(**settings)
    fast, simple = (
        generate(model, MIXED, config, torch.Generator().manual_seed(5), engine)
        for engine in (Engine, Reference)
    )
    assert fast == simple
    assert max(len(ids) for samples in fast[0] for ids in samples) >= 18


# Rows that stay after steps 20 and 90, by samples: some of each prompt's, then all of some prompts
# leave.
STAYING = {1: ([0, 1, 3], [0, 2]), 3: ([0, 2, 3, 4, 5, 7, 9, 10, 11], [0, 1, 5, 6, 7])}


@pytest.mark.parametrize("samples", STAYING)
def test_logits_are_those_of_the_reference(model, samples):
    """Step by step, over growths of the cache, and when rows leave."""
    staying = dict(zip((20, 90), map(torch.tensor, STAYING[samples]), strict=True))
    with torch.inference_mode():
        fast, simple = (engine(model, MIXED, samples) for engine in (Engine, Reference))
        generator = torch.Generator().manual_seed(0)
        for step in range(150):
            assert fast.logits.dtype == torch.float32
            assert torch.allclose(
                fast.logits, simple.logits, atol=2e-4 * float(simple.logits.abs().max())
            ), step
            tokens = torch.randint(1, 13, (len(fast.logits),), generator=generator)
            for one in (fast, simple):
                one.step(tokens)
                if step in staying:
                    one.keep(staying[step])
    assert len(fast.logits) == len(staying[90])


def test_a_prompt_is_kept_once_for_all_its_samples(tiny):
    def held(engine):
        return sum(
            x.nbytes for cache in (engine.shared, engine.own) for layer in cache for x in layer
        )

    with torch.inference_mode():
        few, many = (Engine(tiny.model, MIXED, samples) for samples in (2, 6))
        each = few.shared[0][0].nbytes * 2 * len(few.shared)
        assert held(many) - each == 3 * (held(few) - each)  # only the rows' own columns are more
        prompts = many.shared[0][0]
        many.keep(torch.tensor([0, 6, 7, 12, 18, 23]))
        assert many.shared[0][0] is prompts  # each prompt has a row left: nothing was copied
        assert [len(many.shared[0][0]), len(many.own[0][0])] == [4 * 2, 6 * 2]
        many.keep(torch.tensor([1, 4, 5]))  # of the second and the last prompt
        assert torch.equal(
            many.shared[0][0], prompts.view(4, 2, *prompts.shape[1:])[[1, 3]].flatten(0, 1)
        )
        assert len(many.own[0][0]) == 3 * 2


def test_a_real_model_decodes_the_same_tokens(smollm2, data):
    config = DecodeConfig(steps=3, max_new_tokens=40)
    prompts = [
        text_to_ids(encode(data.contexts[i], data.scales[i]))[-length:]
        for i, length in ((94, 300), (99, 77))
    ]
    fast, simple = (
        generate(smollm2.model, prompts, config, engine=engine) for engine in (Engine, Reference)
    )
    assert fast == simple


@pytest.mark.parametrize("targets", [TARGETS, ALL_TARGETS])
def test_the_model_is_left_as_it_was(tiny, targets):
    model = adapted(tiny.model, targets=targets)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generate(model, MIXED, DecodeConfig(steps=3))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    merged = merge_lora(copy.deepcopy(model))
    with torch.inference_mode():
        assert torch.equal(Engine(model, MIXED).logits, Engine(merged, MIXED).logits)


def test_each_prompt_attends_to_its_own_columns_alone(tiny):
    """Prompts of 60, 61, 150 and 20 tokens have 64, 64, 192 and 64 columns: three groups."""
    prompts = [text_to_ids(("12;" * 50)[:length]) for length in (60, 61, 150, 20)]
    with torch.inference_mode():
        fast, simple = (engine(tiny.model, prompts, 2) for engine in (Engine, Reference))
        assert [group.columns for group in fast.groups] == [64, 192, 64]
        for step in range(70):
            tokens = torch.arange(step, step + len(fast.logits)) % 12 + 1
            for one in (fast, simple):
                one.step(tokens)
                if step == 30:
                    one.keep(torch.tensor([0, 1, 3, 5]))  # the last prompt leaves
            assert torch.allclose(fast.logits, simple.logits, atol=1e-4), step
        assert [group.columns for group in fast.groups] == [64, 64, 192]


def test_in_int8_a_real_model_says_nearly_the_same(smollm2, data):
    """The next token's distributions part by some hundredths of a nat, over twelve steps."""
    prompts = [text_to_ids(encode(data.contexts[i], data.scales[i]))[-150:] for i in (94, 99)]
    divergences = []
    with torch.inference_mode():
        plain = Engine(smollm2.model, prompts, 2)
        whole = Engine(BareModel(smollm2.model, int8=True), prompts, 2)
        for _ in range(12):
            expected = plain.logits.log_softmax(-1)
            given = whole.logits.log_softmax(-1)
            divergences.append((expected.exp() * (expected - given)).sum(-1).mean())
            tokens = expected.argmax(-1)
            plain.step(tokens)
            whole.step(tokens)
    assert 1e-5 < float(torch.stack(divergences).mean()) < 0.05
