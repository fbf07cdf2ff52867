"""The protocol of a forecast, its grammar, and the loop that chooses the tokens."""

import copy

import numpy as np
import pytest
import torch

from m2lib.decoding import generation
from m2lib.decoding.generation import DecodeConfig, StepGrammar, generate
from m2lib.model.vocabulary import PAD_ID, SEMICOLON_ID, SYMBOLS, text_to_ids

TEXTS = ("1,2;", "952,1034;948,1029;", "7,8;9,10;" * 9)
PROMPTS = [text_to_ids(text) for text in TEXTS]


def preferring(model, token_id):
    """Return a copy of a model that writes one token again and again."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.lm_head.bias.zero_()[token_id] = 1e4
    return model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_tokens": 0}, "context_tokens is 0; give a whole number of 1 or more"),
        ({"steps": 2.0}, "steps is 2.0; give a whole number of 1 or more"),
        ({"max_new_tokens": None}, "max_new_tokens is None; give a whole number of 1 or more"),
        ({"n_samples": 0}, "n_samples is 0; give a whole number of 1 or more"),
        ({"n_samples": 2}, "at temperature 0 all samples are the same; give a temperature"),
        ({"temperature": -0.1}, "temperature is -0.1; give 0, or more to sample"),
        ({"temperature": float("nan")}, "temperature is nan; give 0, or more to sample"),
        ({"temperature": float("inf")}, "temperature is inf; give 0, or more to sample"),
        ({"rounding": "trunc"}, "rounding is 'trunc'; it may be nearest or published"),
    ],
)
def test_a_protocol_that_cannot_be_followed_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DecodeConfig(**settings)


def test_a_text_ends_with_its_twentieth_step(tiny):
    model = preferring(tiny.model, SEMICOLON_ID)

    new, passes = generate(model, PROMPTS, DecodeConfig())

    twenty_empty_steps = [SEMICOLON_ID] * 20
    assert new == [[twenty_empty_steps]] * 3  # three prompts with one sample each
    assert passes == [[19]] * 3  # the prefill gives the first token, so 19 passes are left


def test_a_text_ends_when_all_its_tokens_are_written(tiny):
    model = preferring(tiny.model, 1)

    new, passes = generate(model, PROMPTS[:1], DecodeConfig(max_new_tokens=7))

    assert new == [[[1] * 7]]
    assert passes == [[6]]


def test_the_grammar_by_hand():
    grammar = StepGrammar(1, torch.device("cpu"))
    allowed = []
    for token in text_to_ids("12,9999;"):
        mask = grammar.mask(torch.zeros(1, len(SYMBOLS)))[0]
        ids = mask.isfinite().nonzero().flatten().tolist()
        allowed.append("".join(SYMBOLS[id_] for id_ in ids))
        grammar.advance(torch.tensor([token]))

    digit = "0123456789"
    assert allowed == [
        digit,  # 1
        digit + ",",  # 2
        digit + ",",  # the comma
        digit,  # 9
        digit + ";",  # 9
        digit + ";",  # 9
        digit + ";",  # 9
        ";",
    ]
    assert grammar.state.item() == 0  # where the next step begins


def test_sampling_follows_the_models_probabilities(tiny):
    draws = 4000
    config = DecodeConfig(temperature=0.5, n_samples=draws, max_new_tokens=1)

    new, _ = generate(tiny.model, PROMPTS[:1], config, torch.Generator().manual_seed(0))

    # A sample that begins with a pad is empty.
    tokens = [ids[0] if ids else PAD_ID for ids in new[0]]
    frequency = np.bincount(tokens, minlength=13) / draws
    with torch.inference_mode():
        logits = tiny.model(torch.tensor(PROMPTS[:1])).logits[0, -1]
    expected = (logits / 0.5).softmax(-1).numpy()
    largest_deviation = np.sqrt(0.5 * 0.5 / draws)  # that of a token with a probability of a half
    assert np.abs(frequency - expected).max() < 4 * largest_deviation


@pytest.mark.parametrize("temperature", [1e-40, 1e-60])
def test_at_a_temperature_near_zero_the_likeliest_token_is_taken(tiny, temperature):
    def written(**options):
        config = DecodeConfig(constrained=True, steps=2, **options)
        return generate(tiny.model, PROMPTS, config, torch.Generator().manual_seed(0))[0]

    assert written(temperature=temperature) == written()


def test_no_draw_gives_a_token_of_probability_zero():
    never = float("-inf")
    logits = torch.tensor([[never, 0.0, 0.0], [0.0, never, 0.0]])  # two tokens are a half each
    draws = torch.tensor([0.0, 0.5])
    tokens = generation._choose(logits, 1.0, draws)
    assert tokens.tolist() == [1, 2]


def test_no_draw_gives_a_token_behind_the_last():
    """Rounded, the probabilities may add up to less than a draw just below 1."""
    logits = torch.randn(1000, len(SYMBOLS), generator=torch.Generator().manual_seed(0))
    largest_draw = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    tokens = generation._choose(logits, 1.0, largest_draw.expand(1000))
    assert tokens.max() < len(SYMBOLS)


class TenRows:
    """An engine of ten rows, of which some write a pad at once, and the others digits."""

    done_at_once = 2

    def __init__(self, model, prompts, num_samples, tick):
        self.logits = torch.zeros(10, len(SYMBOLS))
        self.logits[: self.done_at_once, PAD_ID] = 1
        self.logits[self.done_at_once :, 5] = 1

    def keep(self, rows):
        self.logits = self.logits[rows]

    def step(self, tokens):
        pass


@pytest.mark.parametrize(("done", "passes"), [(1, [3] * 10), (2, [0] * 2 + [3] * 8)])
def test_of_ten_rows_two_leave_together_and_one_waits(tiny, monkeypatch, done, passes):
    monkeypatch.setattr(TenRows, "done_at_once", done)
    _, by_row = generate(tiny.model, [[1]] * 10, DecodeConfig(max_new_tokens=4), engine=TenRows)
    assert by_row == [[count] for count in passes]


def test_when_rows_leave_changes_nothing_that_is_sampled(tiny, monkeypatch):
    config = DecodeConfig(constrained=True, temperature=1.0, n_samples=5, steps=4)
    written = []
    for share in (0.0, 0.8, 1.0):  # none leaves before the end; some together; each at once
        monkeypatch.setattr(generation, "LEAVE_AT", share)
        new, _ = generate(tiny.model, PROMPTS, config, torch.Generator().manual_seed(3))
        written.append(new)
    assert written[0] == written[1] == written[2]
