"""The report's own accountant: what it would charge for adapters that the report does not have.

That it gives the report's numbers is checked beside them, in tests/study/test_published_costs.py.
"""

from m2lib.accounting.flops import forward_flops
from m2lib.model.lora import ALL_TARGETS


def test_published_adapters_of_each_projection_by_hand(toy):
    """A target d_in -> d_out of rank r: A is N r (2 d_in - 1), B is N d_out (2 r - 1), and the sum
    is N d_out. The scale costs nothing."""
    # q, k and v have one in each of two heads, 2 -> 2
    in_heads = 2 * (3 * 2 * 3 + 3 * 2 * 3 + 3 * 2)
    square = 3 * 2 * 7 + 3 * 4 * 3 + 3 * 4  # 4 -> 4
    wider = 3 * 2 * 7 + 3 * 8 * 3 + 3 * 8  # 4 -> 8
    narrower = 3 * 2 * 15 + 3 * 4 * 3 + 3 * 4  # 8 -> 4
    by_hand = {
        "q_proj": in_heads,
        "k_proj": in_heads,
        "v_proj": in_heads,
        "o_proj": square,
        "gate_proj": wider,
        "up_proj": wider,
        "down_proj": narrower,
    }

    def cost(targets):
        breakdown = forward_flops(toy, 3, rank=2, targets=targets, convention="published")
        return breakdown["lora"]

    for name, flops in by_hand.items():
        assert cost((name,)) == flops, name
    assert cost(ALL_TARGETS) == sum(by_hand.values())
