"""What several peers of the benchmark are compared with."""

import pytest
import torch


@pytest.fixture(scope="session")
def continue_greedily():
    """Return a function that continues a prompt by transformers' own greedy decoding."""

    def continuation(model, prompt, new_tokens):
        tokens = torch.tensor([prompt])
        (written,) = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return written[len(prompt) :].tolist()

    return continuation
