"""The model that FLOPs are counted by hand for."""

import pytest

from m2lib.accounting.shape import Shape


@pytest.fixture(scope="session")
def toy():
    """Return the shape of a model of one layer, small enough to count its FLOPs by hand.

    In the comments N is the number of tokens, d = 4 the width, c = 2 that of each of the two heads.
    """
    return Shape(layers=1, width=4, heads=2, kv_heads=1, mlp=8, vocabulary=13, qkv_bias=True)
