import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from m2lib.model.attention import BLOCK, blocked_attention, causal_attention


@pytest.mark.parametrize("tokens", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_blocked_attention_is_attention(tokens):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, tokens, 8, requires_grad=True) for heads in (6, 2, 2))
    gradient = torch.randn(2, 6, tokens, 8)
    ours = causal_attention(q, k, v, 0.3)
    theirs = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(ours, (q, k, v), gradient),
        torch.autograd.grad(theirs, (q, k, v), gradient),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("wanted", ["q", "k", "v", "qk", "kv", "qv"])
def test_gradients_that_nobody_asks_for_change_no_other(wanted):
    """As below the first layer's adapters, where only some of queries, keys and values come from
    what trains."""
    torch.manual_seed(0)
    inputs = {name: torch.randn(1, 2, 2 * BLOCK + 3, 8, requires_grad=True) for name in "qkv"}
    some = {name: x.detach().requires_grad_(name in wanted) for name, x in inputs.items()}
    for x in (inputs, some):
        causal_attention(**x, scale=0.3).square().sum().backward()
    assert all((some[name].grad is None) == (name not in wanted) for name in some)
    assert all(torch.equal(some[name].grad, inputs[name].grad) for name in wanted)


def test_a_model_attends_in_blocks_only_while_asked(tiny):
    tokens = torch.randint(1, 13, (2, 200), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = tiny.model(tokens).logits
        with blocked_attention(tiny.model):
            assert tiny.model.config._attn_implementation == "blocked"
            during = tiny.model(tokens).logits
    assert tiny.model.config._attn_implementation != "blocked"
    assert np.allclose(before, during, atol=1e-4)
