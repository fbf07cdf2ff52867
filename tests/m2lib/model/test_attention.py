"""Attention in blocks of queries is attention, in its results and in its gradients."""

import pytest
import torch
from torch.autograd import grad
from torch.nn.functional import scaled_dot_product_attention

from m2lib.model.attention import BLOCK, blocked_attention, causal_attention, in_blocks

THREE_BLOCKS = 2 * BLOCK + 3
"""A number of tokens that fill two blocks and begin a third."""


@pytest.mark.parametrize("tokens", [1, BLOCK - 1, BLOCK, THREE_BLOCKS])
def test_blocked_attention_is_attention(tokens):
    torch.manual_seed(0)
    # Three query heads share each of the two heads of keys and values.
    q = torch.randn(2, 6, tokens, 8, requires_grad=True)
    k = torch.randn(2, 2, tokens, 8, requires_grad=True)
    v = torch.randn(2, 2, tokens, 8, requires_grad=True)
    output_gradient = torch.randn(2, 6, tokens, 8)

    ours = causal_attention(q, k, v, 0.3)
    theirs = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    assert torch.allclose(ours, theirs, atol=1e-5)

    our_gradients = grad(ours, (q, k, v), output_gradient)
    their_gradients = grad(theirs, (q, k, v), output_gradient)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        assert torch.allclose(our_gradient, their_gradient, atol=2e-5)


@pytest.mark.parametrize("wanted", ["q", "k", "v", "qk", "kv", "qv"])
def test_gradients_that_nobody_asks_for_change_no_other(wanted):
    """In a model's first layer, only some of queries, keys and values come from what trains."""
    torch.manual_seed(0)
    all_train = {name: torch.randn(1, 2, THREE_BLOCKS, 8) for name in "qkv"}
    some_train = {name: x.clone() for name, x in all_train.items()}
    for name in "qkv":
        all_train[name].requires_grad_(True)
        some_train[name].requires_grad_(name in wanted)

    for inputs in (all_train, some_train):
        causal_attention(**inputs, scale=0.3).square().sum().backward()

    for name in "qkv":
        if name in wanted:
            assert torch.equal(some_train[name].grad, all_train[name].grad)
        else:
            assert some_train[name].grad is None


def error_of_the_first_gradients(tokens):
    """Return the relative errors in bfloat16 of the gradients of the first block of k and of v."""
    torch.manual_seed(0)
    *inputs, output_gradient = torch.randn(4, 1, 2, tokens, 16).bfloat16()

    def gradients(dtype):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        _, of_k, of_v = grad(causal_attention(*leaves, 0.25), leaves, output_gradient.to(dtype))
        return [x[:, :, :BLOCK].float() for x in (of_k, of_v)]

    pairs = zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True)
    return [float((rounded - exact).norm() / exact.norm()) for rounded, exact in pairs]


def test_gradients_of_keys_and_values_are_summed_up_unrounded():
    """All later blocks add to those of the first one. Rounded each time, they would drift."""
    for short, long in zip(
        error_of_the_first_gradients(2 * BLOCK),
        error_of_the_first_gradients(16 * BLOCK),
        strict=True,
    ):
        assert long < 1.25 * short


@pytest.mark.parametrize(
    ("device", "trains", "blocks"),
    [
        ("cpu", True, True),
        ("cpu", False, False),
        ("mps", True, True),
        ("mps", False, True),
        ("cuda:1", True, False),
        ("cuda:1", False, False),
    ],
)
def test_the_device_decides_whether_attention_is_in_blocks(device, trains, blocks):
    assert in_blocks(torch.device(device), trains) is blocks


@pytest.mark.parametrize(
    ("device", "cudnn_is_allowed"),
    [
        # The meta device stands in for a card, where cuDNN would plan for each number of tokens.
        ("meta", False),
        # On a CPU nothing is switched: two threads that switched at once could leave it so.
        ("cpu", True),
    ],
)
def test_pytorch_attends_without_cudnn_on_a_card(monkeypatch, device, cudnn_is_allowed):
    seen = []

    def attend(q, *_, **__):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return q

    monkeypatch.setattr("m2lib.model.attention.scaled_dot_product_attention", attend)
    q, k, v = torch.empty(3, 1, 2, 5, 8, device=device)

    causal_attention(q, k, v, 0.3, trains=False)

    assert seen == [cudnn_is_allowed]
    assert torch.backends.cuda.cudnn_sdp_enabled(), "whoever comes next may use it"


def test_a_model_that_fails_in_blocks_attends_as_before(tiny):
    before = tiny.model.config._attn_implementation
    with pytest.raises(RuntimeError), blocked_attention(tiny.model):
        raise RuntimeError
    assert tiny.model.config._attn_implementation == before


def test_a_model_attends_in_blocks_only_while_asked(tiny):
    model = tiny.model
    # Of 200 tokens, so that there is more than one block.
    tokens = torch.randint(1, 13, (2, 200), generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        logits = model(tokens).logits
        with blocked_attention(model):
            assert model.config._attn_implementation == "blocked"
            blocked_logits = model(tokens).logits

    assert model.config._attn_implementation != "blocked"
    assert torch.allclose(logits, blocked_logits, atol=1e-4)
