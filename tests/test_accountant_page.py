"""book/accountant.md gives the costs that the accountant counts."""

import re

import pytest

from m2lib.accounting import (
    CONVENTIONS,
    DEPARTURES,
    Shape,
    cached_step_flops,
    departure_costs,
    forecast_flops,
    forward_flops,
    total,
    train_step_flops,
)
from m2lib.model import backbone_config
from pages import execute, rows_of, sentences_of, text_of
from study import published_statements

PAGE = text_of("book/accountant.md")
PROSE = sentences_of("book/accountant.md")
ROWS = rows_of(PAGE)

QWEN = Shape.of(backbone_config("qwen2.5-0.5b"))
SMALL = Shape.of(backbone_config("smollm2-135m"))
TOY = Shape.of(backbone_config("tiny"))

PROMPT = 512
NEW_TOKENS = 220


def without_a_cache(convention):
    """Return the FLOPs of a forecast at rank 2 that runs a whole pass for every new token."""
    flops = 0
    for new in range(NEW_TOKENS):
        # The report's accountant keeps the length of the prompt.
        tokens = PROMPT if convention == "published" else PROMPT + new
        flops += total(forward_flops(QWEN, tokens, rank=2, convention=convention))
    return flops


def test_the_program_for_a_model_of_ones_own_prints_what_stands_below_it(capsys):
    found = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    names = {}

    execute(found[1], names)

    assert capsys.readouterr().out == found[2]
    all_weights = train_step_flops(names["shape"], 1024, rank=0, batch=8, convention="executed")
    assert f"At rank 0 all weights train, and the step costs {total(all_weights):.2g}" in PROSE


def test_each_term_has_its_flops_and_its_share():
    flops = forward_flops(QWEN, PROMPT, rank=4)
    flops["all"] = total(flops)

    expected = {}
    for part, count in flops.items():
        expected[part] = [f"{count:,}", f"{count / flops['all']:.2%}"]
    on_the_page = {}
    for row in ROWS:
        if len(row) == 4 and row[3].endswith("%"):
            part, _, count, share = row
            on_the_page[part] = [count, share]
    assert on_the_page == expected


ADAPTED = {"rank": 2, "convention": "executed"}
ALL_WEIGHTS = {"rank": 0, "convention": "executed"}
WORK_ON_ONE_TEXT = {
    "forward": forward_flops(TOY, 10, **ADAPTED),
    "prefill": forecast_flops(TOY, 10, 1, **ADAPTED),
    "cached step": cached_step_flops(TOY, 11, **ADAPTED),
    "training step, adapters": train_step_flops(TOY, 10, batch=1, **ADAPTED),
    "training step, all weights": train_step_flops(TOY, 10, batch=1, **ALL_WEIGHTS),
    "SmolLM2-135M, two texts of 96 tokens": forward_flops(SMALL, 96, **ALL_WEIGHTS),
}


@pytest.mark.parametrize("work", WORK_ON_ONE_TEXT)
def test_the_library_counts_what_pytorch_counts(work):
    of_two_texts = f"{2 * total(WORK_ON_ONE_TEXT[work]):,}"
    assert [work, of_two_texts, of_two_texts] in ROWS


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_pass_and_a_step_stand_side_by_side(convention):
    forward = total(forward_flops(QWEN, PROMPT, rank=4, convention=convention))
    step = total(train_step_flops(QWEN, PROMPT, rank=4, batch=2, convention=convention))
    in_passes = step / forward
    assert [convention, f"{forward:.4g}", f"{step:.4g}", f"{in_passes:.2f}"] in ROWS


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_forecast_with_a_cache_and_without_one_stand_side_by_side(convention):
    without = without_a_cache(convention)
    cached = total(forecast_flops(QWEN, PROMPT, NEW_TOKENS, rank=2, convention=convention))
    times_as_much = without / cached
    assert [convention, f"{without:.3g}", f"{cached:.3g}", f"{times_as_much:.3g}"] in ROWS


def test_each_departure_has_its_price():
    prices = departure_costs(QWEN, PROMPT, rank=2)
    of_other_work = {5: "a training step", 6: "a forecast", 7: "a forecast"}
    for number, departure in DEPARTURES.items():
        work = of_other_work.get(number, "a forward pass")
        assert [str(number), departure, f"{prices[number]:+.3g}", work] in ROWS

    of_a_pass = sum(prices[number] for number in (1, 2, 3, 4))
    assert f"{of_a_pass:,} FLOPs" in PAGE


@pytest.mark.parametrize(
    ("convention", "expected"), [("published", [4, 6]), ("coursework", [6, 12])]
)
def test_a_step_of_two_and_of_four_windows_costs_so_many_passes(convention, expected):
    forward = total(forward_flops(QWEN, PROMPT, rank=2, convention=convention))
    in_passes = []
    for windows in (2, 4):
        step = train_step_flops(QWEN, PROMPT, rank=2, batch=windows, convention=convention)
        in_passes.append(round(total(step) / forward))
    assert in_passes == expected


@pytest.fixture(scope="module")
def printed():
    """Return the numbers that stand in the report's text alone."""
    return published_statements()


# The report's own accountant prices the model without adapters.
ONE_PASS = total(forward_flops(QWEN, PROMPT, convention="published"))
ONE_FORECAST = total(forecast_flops(QWEN, PROMPT, NEW_TOKENS, convention="published"))
PASSES = ONE_FORECAST / ONE_PASS


def test_the_report_cuts_off_its_passes_per_forecast(printed):
    name = "passes per forecast"
    assert printed[name] == int(PASSES)
    assert [name, f"{printed[name]:g}", f"{PASSES:.1f}"] in ROWS


def test_the_report_divides_a_forecast_by_these_passes(printed):
    name = "FLOPs per generated token"
    per_token = ONE_FORECAST / int(PASSES)
    assert f"{printed[name]:.2g}" == f"{per_token:.2g}"
    assert [name, f"{printed[name]:.2g}", f"{per_token:.3g}"] in ROWS
    assert f"a forecast's price, {ONE_FORECAST:.3g}" in PAGE

    cached_step = total(cached_step_flops(QWEN, PROMPT, convention="published"))
    assert f"a cached step costs {cached_step:.3g}" in PAGE


def test_a_cache_saves_next_to_nothing_by_the_reports_accountant(printed):
    name = "speed-up of decoding by a KV cache"
    speed_up = NEW_TOKENS * ONE_PASS / ONE_FORECAST
    assert [name, f"{printed[name]:g}", f"{speed_up:.2f}"] in ROWS


def test_a_cache_saves_much_by_the_rules():
    cached = total(forecast_flops(QWEN, PROMPT, NEW_TOKENS, rank=2))
    factor = without_a_cache("coursework") / cached
    assert f"a factor of {factor:.0f} in" in PROSE
