"""Forecasts: numbers go in as text, and whatever the model writes comes back as numbers."""

import copy
import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from m2lib.decoding import forecasts as forecasts_module
from m2lib.decoding.bare_model import BareModel
from m2lib.decoding.forecasts import cut_prompt, forecast, pooled, read_back
from m2lib.decoding.generation import DecodeConfig
from m2lib.errors import InputError
from m2lib.model.vocabulary import PAD_ID, SEMICOLON_ID, ids_to_text, text_to_ids
from m2lib.series.codec import TABLES, TextFormat, decode, encode, to_integers


@pytest.fixture(autouse=True)
def threads():
    """Let one worker forecast, and return a function that sets how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_forecast_reports_what_it_read_and_wrote(tiny, data):
    config = DecodeConfig.as_published(context_tokens=512)
    (made,) = forecast(tiny, data.contexts[[141]], config)

    assert made.prompt_tokens == 512
    (text,) = made.texts
    assert made.new_tokens[0] == len(text) <= 220
    last_step = to_integers(data.contexts[141, -1:], made.scaling.scale.item(), "published")[0]
    read = decode(text, 20, last_step.tolist())
    assert np.array_equal(made.values[0], read.values)
    assert made.repairs == (read.repairs,)
    assert made.physical == pytest.approx(made.values / 1000 * data.scales[141])


def test_contexts_of_different_lengths_are_forecast_together(tiny, data):
    config = DecodeConfig(constrained=True)
    contexts = [data.contexts[0], data.contexts[1, 30:]]

    together = forecast(tiny, contexts, config)

    for context, made in zip(contexts, together, strict=True):
        (alone,) = forecast(tiny, context[None], config)
        assert made.texts == alone.texts


@pytest.mark.parametrize("rounding", ["nearest", "published"])
def test_a_prompt_is_written_in_the_rounding_of_the_protocol(tiny, data, note_calls, rounding):
    batches = note_calls(forecasts_module, "generate", lambda call: call.prompts)
    forecast(tiny, data.contexts[[94]], DecodeConfig(rounding=rounding, max_new_tokens=1))

    (batch,) = batches
    (prompt,) = batch
    assert ids_to_text(prompt) == encode(data.contexts[94], data.scales[94], rounding)


def test_prompts_of_similar_lengths_share_a_batch(tiny, data):
    contexts = [data.contexts[0], data.contexts[1, 50:], data.contexts[2], data.contexts[3, 50:]]
    made = forecast(tiny, contexts, DecodeConfig(max_new_tokens=1), batch_size=2)

    long, short, other_long, other_short = (each.prompt_tokens for each in made)
    assert max(short, other_short) < min(long, other_long)
    longest = max(long, other_long)
    longest_short = max(short, other_short)
    padded = [each.padded_tokens for each in made]
    assert padded == [longest, longest_short, longest, longest_short]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(
    "work", [[7] * 50, [100] * 8 + [10] * 16, [5], [3, 1000, 2], [9000] + [3] * 40]
)
def test_batches_hold_all_prompts_once_and_never_too_many(work, workers):
    batches = forecasts_module._batches(work, 10, workers)
    assert sorted(number for batch in batches for number in batch) == list(range(len(work)))
    assert 0 < min(map(len, batches)) <= max(map(len, batches)) <= 10


def test_large_prompts_share_batches_beside_many_small_ones():
    batches = forecasts_module._batches([8000] * 10 + [30] * 20, 10, 1)
    assert len(batches) <= 5


def test_equal_prompts_are_shared_out_evenly():
    sizes = [len(batch) for batch in forecasts_module._batches([7] * 50, 10, 2)]
    assert sorted(sizes) == [8, 8, 8, 8, 9, 9]


def test_a_batch_of_no_series_is_refused(tiny, data):
    with pytest.raises(InputError, match=r"^batch_size is 0; give a whole number"):
        forecast(tiny, data.contexts[:2], DecodeConfig(), batch_size=0)


def test_a_forecast_without_a_text_repeats_the_last_step(tiny, data):
    model = copy.deepcopy(tiny.model)
    with torch.no_grad():
        model.lm_head.bias.zero_()[PAD_ID] = 1e4  # it writes nothing but pads, which end a text

    (made,) = forecast(replace(tiny, model=model), data.contexts[:1], DecodeConfig())

    assert made.texts == ("",)
    assert made.new_tokens == (0,)
    assert made.repairs == (40,)
    last_step = to_integers(data.contexts[0, -1:], data.scales[0])
    assert np.array_equal(made.values[0], np.repeat(last_step, 20, axis=0))


def test_a_missing_step_repeats_the_last_one_as_it_was_written(data):
    for context, scale in zip(data.contexts[:50], data.scales[:50], strict=True):
        values, _ = read_back([""], context, DecodeConfig.as_published())
        last_step = to_integers(context[-1:], scale, "published")
        assert np.array_equal(values[0], np.repeat(last_step, 20, axis=0))


def test_weights_are_packed_once_for_all_batches(tiny, data, note_calls):
    packed = note_calls(BareModel, "__init__", lambda call: call.model)
    config = DecodeConfig(max_new_tokens=30)

    in_three_batches = forecast(tiny, data.contexts[:3], config, batch_size=1)
    assert packed == [tiny.model]

    in_one_batch = forecast(tiny, data.contexts[:3], config)
    assert [made.texts for made in in_three_batches] == [made.texts for made in in_one_batch]


@pytest.mark.parametrize("ids", [np.array([4, 9]), pd.Index(["a", "b"]), range(2), None])
def test_series_may_be_named_in_any_list(tiny, data, ids):
    config = DecodeConfig(max_new_tokens=5)
    contexts = data.contexts[:2].copy()
    assert len(forecast(tiny, contexts, config, ids=ids)) == 2

    contexts[1, 0, 0] = np.nan
    name_of_second = 1 if ids is None else ids[1]
    with pytest.raises(InputError, match=f"series {name_of_second}"):
        forecast(tiny, contexts, config, ids=ids)


THREE_SAMPLES = DecodeConfig(constrained=True, temperature=1.0, n_samples=3, steps=4)


@pytest.fixture
def bars(monkeypatch):
    """Return the progress bars that a forecast makes; they note their options and each move."""
    made = []

    class Bar(tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"file": io.StringIO(), "delay": 0})
            self.options = options
            self.moves = []
            made.append(self)

        def update(self, n=1):
            self.moves.append(n)
            return super().update(n)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    return made


def test_a_bar_counts_all_tokens_and_moves_within_a_batch(tiny, data, bars):
    forecasts = forecast(tiny, data.contexts[:3], THREE_SAMPLES, progress=True)

    (bar,) = bars
    assert not bar.options["disable"]
    assert sum(bar.moves) == bar.n == bar.total
    assert min(bar.moves) >= 0
    # First the prompts of the batch, and then token by token of three samples of three series.
    assert sorted(bar.moves[:3]) == sorted(made.prompt_tokens for made in forecasts)
    assert bar.moves[3] == 9
    assert len(bar.moves) > 20


def test_a_bar_is_shown_only_where_it_is_asked_for(tiny, data, bars):
    forecast(tiny, data.contexts[:1], THREE_SAMPLES)
    (bar,) = bars
    assert bar.options["disable"]


def test_the_environment_may_switch_the_bar_off(tiny, data, bars, monkeypatch):
    # The bar is told so, because bars of notebooks do not ask the environment.
    monkeypatch.setenv("TQDM_DISABLE", "1")
    forecast(tiny, data.contexts[:1], THREE_SAMPLES, progress=True)
    (bar,) = bars
    assert bar.options["disable"]


def test_constrained_output_always_parses(tiny, data):
    config = DecodeConfig(constrained=True, temperature=3.0, n_samples=8)
    for made in forecast(tiny, data.contexts[:4], config):
        assert made.repairs == (0,) * 8
        for text in made.texts:
            assert re.fullmatch(r"([0-9]{1,4},[0-9]{1,4};){20}", text)


@pytest.mark.parametrize(
    "shape",
    [TextFormat(1), TextFormat(3, digits=3, offset=0.3), TextFormat(8, separate=True)],
    ids=lambda shape: f"variables: {shape.variables}",
)
def test_other_formats_are_forecast_and_parse(tiny, shape):
    mean = 0 if shape.offset else 50  # only an offset allows values below zero
    context = np.random.default_rng(0).normal(mean, 5, (40, shape.variables))
    config = DecodeConfig(
        constrained=True, temperature=2.0, n_samples=3, steps=4, max_new_tokens=200
    )

    (made,) = forecast(tiny, context[None], config, text_format=shape)

    assert made.repairs == (0, 0, 0)
    assert made.values.shape == (3, 4, shape.variables)
    assert made.physical.shape == (3, 4, shape.variables)
    assert made.values.max() <= shape.largest
    for text in made.texts:
        steps = text.split(";")[:4]
        assert [len(step.split(",")) for step in steps] == [shape.variables] * 4

        read = shape.decode(text, 4, [0] * shape.variables).values
        written_again = ""
        for step in read:
            written_again += ",".join(map(str, step)) + ";"
        assert written_again == without_leading_zeros(text)


def without_leading_zeros(text):
    """Return a text with its numbers in their usual form: the grammar allows zeros before them."""
    return re.sub(r"\b0+(?=\d)", "", text)


SAMPLED = DecodeConfig(context_tokens=64, temperature=1.0, n_samples=5, steps=2, max_new_tokens=20)


def test_samples_share_one_prefill(tiny, data, note_calls):
    tokens_of_passes = note_calls(BareModel, "forward", lambda call: len(call.tokens))

    forecasts = forecast(tiny, data.contexts[:2], SAMPLED)

    prefills = tokens_of_passes[:2]
    steps = tokens_of_passes[2:]
    assert prefills == [made.prompt_tokens for made in forecasts]
    assert steps[0] == 10  # five samples of two series
    assert sum(steps) == sum(sum(made.passes) for made in forecasts)


def test_samples_differ_and_depend_on_the_seed(tiny, data):
    contexts = data.contexts[:2]
    first = forecast(tiny, contexts, SAMPLED, seed=1)

    assert first[0].values.shape == (5, 2, 2)
    assert len(set(first[0].texts)) > 1
    assert forecast(tiny, contexts, SAMPLED, seed=1)[1].texts == first[1].texts
    assert forecast(tiny, contexts, SAMPLED, seed=2)[1].texts != first[1].texts


def test_equal_series_have_other_samples(tiny, data):
    first, second = forecast(tiny, data.contexts[[0, 0]], SAMPLED)
    assert first.texts != second.texts


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(SAMPLED, id="sampled"),
        pytest.param(DecodeConfig(context_tokens=64, steps=2), id="greedy"),
    ],
)
def test_forecasts_depend_neither_on_workers_nor_on_batches(tiny, data, config, threads):
    texts = []
    for workers, batch_size in ((1, 10), (2, 10), (4, 10), (1, 2), (2, 1)):
        threads(workers)
        made = forecast(tiny, data.contexts[:9], config, batch_size=batch_size)
        texts.append([one.texts for one in made])
        assert torch.get_num_threads() == workers
    assert all(other == texts[0] for other in texts)


def test_a_series_has_the_same_samples_beside_others(tiny, data):
    together = forecast(tiny, data.contexts[:4], SAMPLED, ids=["a", "b", "c", "d"])
    (alone,) = forecast(tiny, data.contexts[2:3], SAMPLED, ids=["c"])
    assert alone.texts == together[2].texts


def test_each_worker_has_one_thread_and_an_equal_share(tiny, data, threads, note_calls):
    threads(2)
    calls = note_calls(
        forecasts_module, "generate", lambda call: (len(call.prompts), torch.get_num_threads())
    )
    forecast(tiny, data.contexts[:6], SAMPLED, batch_size=4)
    assert calls == [(3, 1), (3, 1)]


def test_little_work_has_one_worker(tiny, data, threads, note_calls):
    threads(2)
    calls = note_calls(
        forecasts_module, "generate", lambda call: (len(call.prompts), torch.get_num_threads())
    )
    forecast(tiny, data.contexts[:2], DecodeConfig(context_tokens=64, steps=2))
    assert calls == [(2, 1)]


def test_an_error_in_a_worker_stops_all(tiny, data, threads, monkeypatch):
    threads(2)

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(forecasts_module, "read_back", fail)
    with pytest.raises(ZeroDivisionError):
        forecast(tiny, data.contexts[:4], SAMPLED, batch_size=1)
    assert torch.get_num_threads() == 2


def test_a_seed_below_zero_is_refused(tiny, data):
    with pytest.raises(InputError, match=r"^seed is -1; give a whole number of 0 or more"):
        forecast(tiny, data.contexts[:1], SAMPLED, seed=-1)


@pytest.fixture(scope="module")
def skewed(tiny, data):
    """Return a forecast whose three samples are 0, 0 and 3 everywhere, with a spread of 2."""
    config = DecodeConfig(constrained=True, temperature=1.0, n_samples=3)
    (made,) = forecast(tiny, data.contexts[[94]], config)
    values = np.zeros_like(made.values)
    values[2] = 3
    return replace(made, values=values, spread=2.0, least=0.0)


def test_the_point_forecast_is_the_median(skewed):
    assert (skewed.point == 0).all()
    alone = replace(skewed, values=skewed.values[2:])
    assert alone.point.dtype == np.int64
    assert (alone.point == 3).all()


def test_samples_are_spread_about_their_median(skewed):
    drawn = skewed.scaling.physical(skewed.values)
    assert skewed.physical == pytest.approx(2 * drawn)


def test_no_sample_lies_below_the_least_possible_value(skewed):
    far_below_zero = replace(skewed.scaling, offset=skewed.scaling.offset - 1e6)
    assert (replace(skewed, scaling=far_below_zero).physical == 0).all()


@pytest.mark.parametrize(
    ("tokens", "raw", "prompt"),
    [
        (10, True, "7,890;1,2;"),
        (10, False, "1,2;"),
        (12, False, "567,890;1,2;"),  # falls on a boundary: nothing more is dropped
        (17, False, "567,890;1,2;"),
        (18, False, "12,34;567,890;1,2;"),
        (100, True, "12,34;567,890;1,2;"),
    ],
)
def test_a_prompt_is_cut_raw_or_at_a_step(tokens, raw, prompt):
    whole = text_to_ids("12,34;567,890;1,2;")
    cut = cut_prompt(whole, DecodeConfig(context_tokens=tokens, raw_cut=raw))
    assert ids_to_text(cut) == prompt


def test_the_reports_cut_falls_inside_a_step_in_six_of_seven_series(data):
    falls_inside = []
    for context, scale in zip(data.contexts, data.scales, strict=True):
        ids = text_to_ids(encode(context, scale, "published"))
        falls_inside.append(len(ids) > 512 and ids[-513] != SEMICOLON_ID)
    assert round(np.mean(falls_inside), 2) == 0.86


def test_a_raw_cut_may_be_shorter_than_a_step(tiny, data):
    config = DecodeConfig(context_tokens=5, raw_cut=True, max_new_tokens=5)
    (made,) = forecast(tiny, data.contexts[:1], config)
    assert made.prompt_tokens == 5


def test_a_context_may_be_as_short_as_the_longest_step(tiny):
    config = DecodeConfig(context_tokens=10, max_new_tokens=1)
    (made,) = forecast(tiny, np.ones((1, 30, 2)), config)
    assert made.prompt_tokens == 10  # `1000,1000;`


def test_what_is_counted_of_a_sample_stays_beside_it_when_forecasts_are_pooled(skewed):
    counts = {"repairs": (1, 2, 3), "new_tokens": (4, 5, 6), "passes": (7, 8, 9)}
    together = pooled([replace(skewed, **counts)] * 2, 4)  # the first two samples of each
    assert together.repairs == (1, 2, 1, 2)
    assert together.new_tokens == (4, 5, 4, 5)
    assert together.passes == (7, 8, 7, 8)


def test_forecasts_that_are_pooled_have_read_all_of_their_prompts(skewed):
    short = replace(skewed, prompt_tokens=5, padded_tokens=9)
    long = replace(skewed, prompt_tokens=7, padded_tokens=8)

    together = pooled([short, long], 4)

    assert together.prompt_tokens == 5 + 7
    assert together.padded_tokens == 9
    samples = (together.texts, together.repairs, together.new_tokens, together.passes)
    assert [len(each) for each in samples] == [4] * 4


@pytest.mark.parametrize(
    ("n_samples", "shares"), [(4, [2, 1, 1]), (5, [2, 2, 1]), (6, [2, 2, 2]), (9, [3, 3, 3])]
)
def test_forecasts_that_are_pooled_give_equally_many_samples_each(skewed, n_samples, shares):
    parts = [
        replace(skewed, values=np.full_like(skewed.values, number), texts=(str(number),) * 3)
        for number in range(3)
    ]
    together = pooled(parts, n_samples)
    assert np.bincount(together.values[:, 0, 0]).tolist() == shares
    assert [together.texts.count(str(number)) for number in range(3)] == shares
    assert together.scaling.scale.shape == together.values.shape


def ones_with_a_large_value():
    """Return three series of ones; the second has a value that is too large to be written."""
    contexts = np.ones((3, 60, 2))
    contexts[1, 30, 0] = 1e6
    return contexts


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        pytest.param(
            ones_with_a_large_value(), "series 1 .* at step 30, variable 0", id="a large value"
        ),
        pytest.param(
            np.ones((60, 2)),
            r"a context is \(steps, 2\), not \(2,\); pass a single one as context\[None\]",
            id="a single context",
        ),
        pytest.param(
            pd.DataFrame({"prey": [1.0] * 60, "predator": [2.0] * 60}),
            r"pass a single one as context\[None\]",
            id="a table",
        ),
        pytest.param(
            [np.ones((60, 2)), np.ones((50, 3))],
            r"a context is \(steps, 2\), not \(50, 3\)",
            id="a variable too many",
        ),
        pytest.param(np.ones((1, 0, 2)), "series 0 has no steps; drop it", id="no steps"),
    ],
)
def test_contexts_that_cannot_be_forecast_are_refused_in_one_line(tiny, contexts, message, refusal):
    assert re.search(message, refusal(forecast, tiny, contexts, DecodeConfig()))


def test_a_prompt_that_leaves_too_few_positions_for_the_forecast_is_refused(tiny, refusal):
    ones = np.ones((1, 204, 2))  # a step takes 10 tokens, and `tiny` has 2048 positions
    config = DecodeConfig(steps=1, max_new_tokens=500)  # of which one step can take 10

    (made,) = forecast(tiny, ones[:, 1:], config)
    assert made.prompt_tokens == 2030

    line = refusal(forecast, tiny, ones, config)
    assert re.match(r"series 0 has 2040 tokens; .* for 2038;", line)

    (cut,) = forecast(tiny, ones, replace(config, context_tokens=500))
    assert cut.prompt_tokens == 500


def test_a_prompt_needs_no_more_room_than_for_the_tokens_that_may_follow(tiny):
    config = DecodeConfig(max_new_tokens=18)  # 20 steps could take 200
    (made,) = forecast(tiny, np.ones((1, 203, 2)), config)
    assert made.prompt_tokens == 2030  # and 18 more are the 2048 positions of `tiny`


def test_a_text_format_for_any_number_of_variables_is_refused(tiny):
    with pytest.raises(
        InputError, match="one for any number of variables; call its `for_variables`"
    ):
        forecast(tiny, np.ones((1, 30, 2)), DecodeConfig(), text_format=TABLES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constrained": True}, "max_new_tokens is 220; 20 steps may take 800"),
        ({"context_tokens": 39}, "context_tokens is 39; one step may take 40"),
    ],
)
def test_a_protocol_without_room_for_the_longest_steps_is_refused(tiny, settings, message, refusal):
    contexts = np.ones((1, 30, 8))
    config = DecodeConfig(**settings)
    assert message in refusal(forecast, tiny, contexts, config, text_format=TextFormat(8))
