"""The plain way to run a model is right: with its cache it computes what whole passes do.

The fast engine, which `test_engine` compares with it in many more cases, passes the same test.
"""

import pytest
import torch

from m2lib.decoding.engine import Engine
from m2lib.decoding.reference import Reference
from m2lib.model.vocabulary import text_to_ids


@pytest.mark.parametrize("engine", [Reference, Engine])
def test_cached_decoding_is_a_full_pass_for_each_token(engine, tiny):
    ids = text_to_ids("952,1034;948,1029;")
    prompt_length = 6
    with torch.inference_mode():
        rows = engine(tiny.model, [ids[:prompt_length]])
        for place in range(prompt_length, len(ids)):
            whole_pass = tiny.model(torch.tensor([ids[:place]])).logits[0, -1]
            assert torch.allclose(rows.logits[0], whole_pass, atol=1e-5)
            rows.step(torch.tensor([ids[place]]))
