import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from m2lib.decoding import generation
from m2lib.decoding.engine import BareModel, Engine
from m2lib.decoding.forecasts import cut_prompt, forecast
from m2lib.decoding.generation import DecodeConfig, StepGrammar, generate
from m2lib.decoding.reference import Reference
from m2lib.files import InputError
from m2lib.model.vocabulary import PAD_ID, SEMICOLON_ID, SYMBOLS, ids_to_text, text_to_ids
from m2lib.series.codec import TextFormat, decode, encode, to_integers

MIXED = [text_to_ids(text) for text in ("1,2;", "952,1034;948,1029;", "7,8;9,10;" * 9)]


@pytest.fixture
def biased(tiny):
    """A function that makes tiny prefer one symbol by a large head bias; undone afterwards."""
    bias = tiny.model.lm_head.bias

    def prefer(token_id):
        with torch.no_grad():
            bias.zero_()[token_id] = 1e4
        return tiny

    yield prefer
    with torch.no_grad():
        bias.zero_()


def test_cached_decoding_is_a_full_pass_for_each_token(tiny):
    ids = MIXED[1]
    for engine in (Engine, Reference):
        with torch.inference_mode():
            running = engine(tiny.model, [ids[:6]])
            for place in range(6, len(ids)):
                whole = tiny.model(torch.tensor([ids[:place]])).logits[0, -1]
                assert torch.allclose(running.logits[0], whole, atol=1e-5)
                running.step(torch.tensor(ids[place : place + 1]))


def test_decoding_stops_at_20_steps_at_a_pad_and_when_all_tokens_are_written(biased, data):
    assert generate(biased(SEMICOLON_ID).model, MIXED, DecodeConfig()) == (
        [[[SEMICOLON_ID] * 20]] * 3,
        [[19]] * 3,
    )
    assert generate(biased(1).model, MIXED[:1], DecodeConfig(max_new_tokens=7)) == (
        [[[1] * 7]],
        [[6]],
    )
    (one,) = forecast(biased(PAD_ID), data.contexts[:1], DecodeConfig())
    assert (one.texts, one.new_tokens, one.repairs) == (("",), (0,), (40,))
    last = to_integers(data.contexts[0, -1:], data.scales[0])
    assert np.array_equal(one.values[0], np.repeat(last, 20, axis=0))


def test_weights_are_packed_once_for_all_batches(tiny, data, monkeypatch):
    packed = []
    real = BareModel.__init__
    monkeypatch.setattr(
        BareModel,
        "__init__",
        lambda self, model, *how: packed.append(model) or real(self, model, *how),
    )
    config = DecodeConfig(max_new_tokens=30)
    alone = forecast(tiny, data.contexts[:3], config, batch_size=1)
    assert packed == [tiny.model]
    assert [one.texts for one in alone] == [
        one.texts for one in forecast(tiny, data.contexts[:3], config)
    ]


@pytest.mark.parametrize("ids", [np.array([4, 9]), pd.Index(["a", "b"]), range(2), None])
def test_series_may_be_named_in_any_list(tiny, data, ids):
    config = DecodeConfig(max_new_tokens=5)
    assert len(forecast(tiny, data.contexts[:2], config, ids=ids)) == 2
    contexts = data.contexts[:2].copy()
    contexts[1, 0, 0] = np.nan
    name = 1 if ids is None else ids[1]
    with pytest.raises(InputError, match=f"series {name}"):
        forecast(tiny, contexts, config, ids=ids)


def test_a_rounding_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="rounding is 'trunc'; it may be nearest or published"):
        DecodeConfig(rounding="trunc")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"context_tokens": 0}, "context_tokens must be at least 1"),
        ({"context_tokens": -1}, "context_tokens must be at least 1"),
        ({"temperature": float("nan")}, "temperature is nan; give 0, or more to sample"),
        ({"temperature": float("inf")}, "temperature is inf; give 0, or more to sample"),
    ],
)
def test_a_protocol_that_cannot_be_followed_is_refused(settings, line):
    with pytest.raises(ValueError, match=line):
        DecodeConfig(**settings)


def test_a_bar_counts_all_tokens_and_moves_within_a_batch(tiny, data, monkeypatch):
    bars = []

    monkeypatch.delenv("TQDM_DISABLE", raising=False)

    class Bar(tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"file": io.StringIO(), "delay": 0})
            self.moves = []
            self.options = options
            bars.append(self)

        def update(self, n=1):
            self.moves.append(n)
            return super().update(n)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    config = DecodeConfig(constrained=True, temperature=1.0, n_samples=3, steps=4)
    made = forecast(tiny, data.contexts[:3], config, batch_size=2, progress=True)
    (bar,) = bars
    assert sum(bar.moves) == bar.n == bar.total
    assert bar.moves[:2] == [one.prompt_tokens for one in made[:2]]
    assert bar.moves[2] == 6  # and then token by token, of three samples of two series
    assert min(bar.moves) >= 0
    assert len(bar.moves) > 20
    assert not bar.options["disable"]
    forecast(tiny, data.contexts[:1], config)
    assert bars[1].options["disable"]
    monkeypatch.setenv("TQDM_DISABLE", "1")
    forecast(tiny, data.contexts[:1], config, progress=True)
    assert bars[2].options["disable"]  # it is said, because bars of notebooks do not ask for it


def test_constrained_output_always_parses(tiny, data):
    config = DecodeConfig(constrained=True, temperature=3.0, n_samples=8)
    for one in forecast(tiny, data.contexts[:4], config):
        assert one.repairs == (0,) * 8
        for text in one.texts:
            steps = text.split(";")
            assert len(steps) == 21
            assert all(
                field.isdecimal() and len(field) <= 4
                for step in steps[:20]
                for field in step.split(",")
            )
            assert all(len(step.split(",")) == 2 for step in steps[:20])


def test_grammar_by_hand():
    grammar = StepGrammar(1, torch.device("cpu"))
    allowed = []
    for token in text_to_ids("12,9999;"):
        mask = grammar.mask(torch.zeros(1, 13))[0]
        allowed.append("".join(SYMBOLS[i] for i in mask.isfinite().nonzero().flatten().tolist()))
        grammar.advance(torch.tensor([token]))
    digits = "0123456789"
    assert allowed == [digits, digits + ",", digits + ",", digits, *[digits + ";"] * 3, ";"]
    assert grammar.state.item() == 0


def test_samples_share_one_prefill_and_depend_on_the_seed(tiny, data, monkeypatch):
    widths = []
    real = BareModel.forward
    monkeypatch.setattr(
        BareModel,
        "forward",
        lambda self, tokens, *rest: widths.append(len(tokens)) or real(self, tokens, *rest),
    )
    config = DecodeConfig(
        context_tokens=64, temperature=1.0, n_samples=5, steps=2, max_new_tokens=20
    )
    first = forecast(tiny, data.contexts[:2], config, seed=1)
    assert widths[:2] == [one.prompt_tokens for one in first]
    assert widths[2] == 10
    assert sum(widths[2:]) == sum(sum(one.passes) for one in first)
    assert first[0].values.shape == (5, 2, 2)
    assert len(set(first[0].texts)) > 1
    assert forecast(tiny, data.contexts[:2], config, seed=1)[1].texts == first[1].texts
    assert forecast(tiny, data.contexts[:2], config, seed=2)[1].texts != first[1].texts


def test_sampling_follows_the_models_probabilities(tiny):
    config = DecodeConfig(temperature=0.5, n_samples=4000, max_new_tokens=1)
    generator = torch.Generator().manual_seed(0)
    tokens = [
        ids[0] if ids else PAD_ID
        for ids in generate(tiny.model, MIXED[:1], config, generator)[0][0]
    ]
    frequency = np.bincount(tokens, minlength=13) / 4000
    with torch.inference_mode():
        expected = (tiny.model(torch.tensor(MIXED[:1])).logits[0, -1] / 0.5).softmax(-1).numpy()
    assert np.abs(frequency - expected).max() < 4 * np.sqrt(0.25 / 4000)


def test_forecast_reports_what_it_read_and_wrote(tiny, data):
    config = DecodeConfig.as_published(context_tokens=512)
    forecasts = forecast(tiny, data.contexts[[94, 99, 141]], config, batch_size=2)
    assert [one.prompt_tokens for one in forecasts] == [512] * 3
    one = forecasts[2]
    assert one.new_tokens[0] == len(one.texts[0]) <= 220
    read = decode(
        one.texts[0],
        20,
        to_integers(data.contexts[141, -1:], one.scaling.scale.item(), "published")[0].tolist(),
    )
    assert np.array_equal(one.values[0], read.values)
    assert one.repairs == (read.repairs,)
    assert one.physical == pytest.approx(one.values / 1000 * data.scales[141])
    assert forecasts[2].texts == forecast(tiny, data.contexts[141:142], config)[0].texts


def test_prompt_is_cut_raw_or_at_a_step(data):
    whole = text_to_ids("12,34;567,890;1,2;")
    for tokens, raw, kept in (
        (10, True, "7,890;1,2;"),
        (10, False, "1,2;"),
        (12, False, "567,890;1,2;"),  # falls on a boundary: nothing more is dropped
        (17, False, "567,890;1,2;"),
        (18, False, "12,34;567,890;1,2;"),
        (100, True, "12,34;567,890;1,2;"),
    ):
        assert (
            ids_to_text(cut_prompt(whole, DecodeConfig(context_tokens=tokens, raw_cut=raw))) == kept
        )
    prompts = [
        text_to_ids(encode(c, s, "published"))
        for c, s in zip(data.contexts, data.scales, strict=True)
    ]
    mid_step = [len(ids) > 512 and ids[-513] != SEMICOLON_ID for ids in prompts]
    assert round(np.mean(mid_step), 2) == 0.86
    for ids in prompts[:50]:
        cut = cut_prompt(ids, DecodeConfig(context_tokens=512))
        assert 502 < len(cut) <= 512
        assert ids[-len(cut) - 1] == SEMICOLON_ID


LARGE = np.ones((3, 60, 2))
LARGE[1, 30, 0] = 1e6
REFUSED = [
    (LARGE, {}, "series 1, step 30, variable 1"),
    (
        np.ones((60, 2)),
        {},
        r"a context is \(steps, 2\), not \(2,\); pass a single one as context\[None\]",
    ),
    (
        pd.DataFrame({"prey": [1.0] * 60, "predator": [2.0] * 60}),
        {},
        r"pass a single one as context\[None\]",
    ),
    ([np.ones((60, 2)), np.ones((50, 3))], {}, r"a context is \(steps, 2\), not \(50, 3\)"),
    (np.ones((1, 0, 2)), {}, "series 0 has no steps; drop it"),
    (np.ones((1, 30, 8)), {"constrained": True}, "max_new_tokens is 220; 20 steps may take 800"),
    (np.ones((1, 30, 8)), {"context_tokens": 39}, "context_tokens is 39; one step may take 40"),
]


@pytest.mark.parametrize(("contexts", "settings", "line"), REFUSED)
def test_what_cannot_be_forecast_is_refused_in_one_line(tiny, contexts, settings, line):
    with pytest.raises(InputError, match=line) as error:
        forecast(
            tiny, contexts, DecodeConfig(**settings), text_format=TextFormat(8 if settings else 2)
        )
    assert "\n" not in str(error.value)


def test_contexts_of_different_lengths_are_forecast_together(tiny, data):
    config = DecodeConfig(constrained=True)
    contexts = [data.contexts[0], data.contexts[1, 30:]]
    together = forecast(tiny, contexts, config)
    assert [one.texts for one in together] == [
        forecast(tiny, one[None], config)[0].texts for one in contexts
    ]


@pytest.mark.parametrize(
    "shape", [TextFormat(1), TextFormat(3, digits=3, offset=0.3), TextFormat(8, separate=True)]
)
def test_other_formats_are_forecast_and_parse(tiny, shape):
    context = np.random.default_rng(0).normal(0 if shape.offset else 50, 5, (40, shape.variables))
    config = DecodeConfig(
        constrained=True, temperature=2.0, n_samples=3, steps=4, max_new_tokens=200
    )
    (one,) = forecast(tiny, context[None], config, text_format=shape)
    assert one.repairs == (0, 0, 0)
    assert one.values.shape == one.physical.shape == (3, 4, shape.variables)
    assert one.values.max() <= shape.largest
    for text in one.texts:
        assert [len(step.split(",")) for step in text.split(";")[:4]] == [shape.variables] * 4
        read = shape.decode(text, 4, [0] * shape.variables).values
        assert "".join(",".join(map(str, step)) + ";" for step in read) == normalised(text)


def normalised(text):
    """Without leading zeros, which the grammar allows."""
    return re.sub(r"\b0+(?=\d)", "", text)


def test_the_mean_is_of_samples_as_they_were_drawn(tiny, data):
    config = DecodeConfig(constrained=True, temperature=1.0, n_samples=3)
    (one,) = forecast(tiny, data.contexts[[94]], config)
    drawn = np.zeros_like(one.values)
    drawn[2] = 3
    unit = one.scaling.physical(np.ones_like(drawn))
    skewed = replace(one, values=drawn, spread=2.0, least=0.0)
    assert skewed.mean == pytest.approx(unit[0])
    assert skewed.physical.mean(axis=0) == pytest.approx(2 * unit[0])
    low = replace(skewed.scaling, offset=skewed.scaling.offset - 1e6)
    assert (replace(skewed, scaling=low).mean == 0).all()  # not a mean of what cannot be


def test_when_rows_leave_changes_nothing_that_is_sampled(tiny, monkeypatch):
    config = DecodeConfig(constrained=True, temperature=1.0, n_samples=5, steps=4)
    written = []
    for share in (0.0, 0.8, 1.0):  # none leaves before the end; some together; each at once
        monkeypatch.setattr(generation, "LEAVE_AT", share)
        new, _ = generate(tiny.model, MIXED, config, torch.Generator().manual_seed(3))
        written.append(new)
    assert written[0] == written[1] == written[2]
