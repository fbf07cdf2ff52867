"""The table and the sentences of the book's page of results are those that the records give."""

import numpy as np
import pytest

from benchmarks.physics import FITS
from m2lib.files import read_json
from m2lib.series import BASELINES
from pages import rows_of_forecasts, sentences_of, text_of
from study import EXPERIMENTS, PROFILES, TUNED
from study.networks import network_errors
from study.paper.errors import by_world, error_table
from study.paper.numbers import ANY_TABLE, FINAL_MODEL, LONG_RUN
from study.paper.pdf import REPORT_FOLDER
from study.paper.samples import LOG_VAR
from study.records import load_finished
from study.settings import results_dir
from study.worlds import AT_HOME, CHANGED, OF_USUAL_SIZE

TEXT = text_of("book/results.md")
PAGE = sentences_of("book/results.md")
NUMBERS = read_json(REPORT_FOLDER / "numbers.json")
"""The numbers that `study.paper` makes of the records."""
ERRORS = NUMBERS["errors"]
NETWORKS = NUMBERS["networks"]


def errors_in_the_table():
    """Return the errors that the table shows, from top to bottom."""
    errors = []
    for name in (*BASELINES, "the last period, repeated", TUNED, "AutoARIMA", *FITS):
        errors.append(ERRORS["test"][name])
    for name in ("untuned", "final"):
        errors.append(ERRORS["published"][name])
    for name in ("untuned-test", "final"):
        errors.append(ERRORS["report"][name])
    for name in (
        "untuned-test",
        "untuned-test-constrained",
        "final",
        "final-sampled",
        "samples/final/test",
    ):
        errors.append(ERRORS["ours"][name])
    errors += [NETWORKS["900"], NETWORKS["5152"]]
    errors += [ERRORS["ours"][name] for name in ("best", "samples/best/test")]
    return errors


def cells(errors):
    """Return the cells of a row: mean and median, each followed by its interval if it has one."""
    row = []
    for statistic in ("mean", "median"):
        interval = errors.get(f"{statistic} interval")
        row.append(f" {errors[statistic]:.1f} ")
        row.append(" {:.1f} to {:.1f} ".format(*interval) if interval else " ")
    return row


def test_the_table_has_the_errors_of_the_records():
    shown = []
    for row in rows_of_forecasts("book/results.md"):
        _, _, *numbers, _ = row.split("|")
        shown.append(numbers)
    assert shown == [cells(errors) for errors in errors_in_the_table()]


def test_the_table_of_networks_is_that_of_the_records():
    expected = []
    for count, errors in NETWORKS.items():
        single = []
        for seed in range(3):
            single.append(
                f"{np.mean([*network_errors('residual', int(count), 'test', seed).values()]):.1f}"
            )
        row = [f"{int(count):,}", f"{errors['mean']:.1f} / {errors['median']:.1f}"]
        row += [", ".join(single), f"{errors['seconds']:.0f}"]
        for who in (FINAL_MODEL, LONG_RUN):
            gain = errors["beside"][who]
            low, high = gain["mean interval"]
            row.append(f"{gain['mean']:.1f} ({low:.1f} to {high:.1f})".replace("-", "−"))
        expected.append(row)
    between = TEXT.split("<!-- networks -->")[1].split("<!-- end of networks -->")[0]
    rows = [line for line in between.splitlines() if line.startswith("| ")][1:]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == expected


def test_the_page_tells_how_sure_the_networks_are():
    ours = NUMBERS["network bands"]["900"]
    low, high = ours["gain"]["mean interval"]
    sampled = NUMBERS["uncertainty"]["rows"]["best"]
    for words in (
        f"have a CRPS of {ours['crps']:.1f}, by twice the mean quantile loss",
        f"have {ours['theirs']:.1f} by the same measure",
        f"is {ours['gain']['mean']:.1f} ({low:.1f} to {high:.1f})",
        f"better on {ours['gain']['better']} of the 50 series",
        f"hold {ours['held']:.0%} and are {ours['width']:.0f} units wide",
        f"long run hold {sampled['held'][1]:.0%} and are",
    ):
        assert words in PAGE


def listed(errors):
    """Return means and medians as the page lists them: `7 / 4, 9 / 7 and 24 / 21`."""
    pairs = []
    for maes in errors:
        values = [*maes.values()]
        pairs.append(f"{np.mean(values):.0f} / {np.median(values):.0f}")
    return f"{', '.join(pairs[:-1])} and {pairs[-1]}"


@pytest.mark.parametrize("name", ["residual", "residual, noise and stretched time"])
def test_the_page_tells_the_networks_errors_in_other_worlds(name):
    assert listed(network_errors(name, 5152, world) for world in OF_USUAL_SIZE) in PAGE


def test_the_page_tells_what_both_reach_with_a_few_series():
    best = {
        3: "few/3/240-0",
        10: "few/10/240-0",
        30: "few/30/720-0",
        100: "few/100/720-0",
        300: "few/300/720-0",
    }
    assert listed(network_errors("residual", count, "validation") for count in best) in PAGE
    for count, name in best.items():
        values = [*load_finished(PROFILES["laptop"], name).maes().values()]
        assert f"{np.mean(values):.0f} / {np.median(values):.0f} with {count}" in PAGE


def test_from_which_number_of_series_on_the_network_is_surely_ahead():
    def surely(count, who):
        low, high = NETWORKS[str(count)]["beside"][who]["mean interval"]
        return "ahead" if low > 0 else "behind" if high < 0 else "level"

    counts = (100, 300, 900, 5152)
    assert [surely(count, LONG_RUN) for count in counts] == ["behind", "level", "ahead", "ahead"]
    assert [surely(count, FINAL_MODEL) for count in counts] == ["ahead"] * 4
    assert surely(30, FINAL_MODEL) == "behind"


def test_the_table_tells_how_long_the_replication_was_trained():
    (row,) = [
        row
        for row in rows_of_forecasts("book/results.md")
        if "the replication" in row and "final adapter" in row
    ]
    steps = NUMBERS["replicated"]["report"]["final"]["steps"]
    assert steps == EXPERIMENTS["final"].training.steps
    assert f"final adapter after all of the report's {steps:,} steps" in row


def test_the_page_tells_the_replications_untuned_median_in_bfloat16():
    untuned = NUMBERS["precision"]["report untuned-test"]["before"]
    assert untuned["dtype"] == "bfloat16"
    assert f"the same untuned model has a median of {untuned['median']:.1f}." in PAGE


def test_the_page_tells_which_forecast_the_reports_untuned_mean_hangs_on():
    untuned = ERRORS["published"]["untuned"]
    assert f"whose error is {untuned['worst']:,.0f}." in PAGE
    assert f"Without it the mean is {untuned['mean without it']:.1f}." in PAGE


def test_the_page_tells_why_the_replications_lead_over_copying_is_not_sure():
    lead = NUMBERS["gains"]["report final"]["test nearest analogue in the context"]
    low, high = lead["mean interval"]
    t_low, t_high = lead["t interval"]
    by = f"by {lead['mean']:.1f} ({low:.1f} to {high:.1f} by the bootstrap"
    assert f"{by}, {t_low:.1f} to {t_high:.1f} by Student's interval)" in PAGE
    assert f"the better one on {lead['better']} of the 50 series" in PAGE
    assert f"three of these series make up {lead['share of three']:.0%} of the difference" in PAGE


def test_the_page_tells_how_many_steps_the_laptops_runs_take():
    sizes = PROFILES["laptop"].train
    runs = ("default", "search/expt_0", "context", "final")
    assert [sizes[run]["steps"] for run in runs] == [200, 80, 80, 2000]
    sentence = (
        "200 steps for the first adapter, 80 for each of the nine settings and three contexts, "
        "and 2,000 for the final adapter"
    )
    assert sentence in PAGE


def hours_and_flops(records):
    """Return what records have cost together."""
    seconds = sum(record["all seconds"] for record in records)
    flops = sum(record["all flops"] for record in records)
    return seconds / 3600, flops


def test_the_page_tells_what_the_study_has_cost():
    of_the_report = NUMBERS["table3"]["coursework"]["all"][0]  # FLOPs of its training
    everything = list(NUMBERS["records"].values())
    for removed in NUMBERS["removed"]:  # runs that are no longer recorded have been paid for
        flops = sum(kind["coursework"] for kind in removed["flops"].values())
        everything.append(
            {"group": removed["group"], "all seconds": removed["seconds"], "all flops": flops}
        )
    # The report's own experiments belong to a group; what goes beyond the report does not.
    experiments = [record for record in everything if record["group"]]

    hours, flops = hours_and_flops(experiments)
    mantissa, exponent = f"{flops:.1e}".split("e+")
    assert f"took {hours:.1f} hours and {mantissa} × 10^{exponent} FLOPs" in PAGE
    assert f"{flops / of_the_report:.1%} of what the report's training costs" in PAGE

    hours, flops = hours_and_flops(everything)
    assert f"{hours:.1f} hours and {flops / of_the_report:.1%}" in PAGE


def test_the_long_run_is_ahead_of_log_var_but_not_on_every_series():
    long_run = ERRORS["ours"]["best"]
    log_var = ERRORS["test"][TUNED]
    assert long_run["mean"] < log_var["mean"]
    assert long_run["median"] < log_var["median"]

    count = long_run["n"]
    log_var_is_better = count - NUMBERS["gains"]["ours best"][f"test {TUNED}"]["better"]
    assert f"better one on {log_var_is_better} of the {count}" in PAGE


def test_the_page_tells_how_sure_the_long_runs_forecasts_are():
    uncertainty = NUMBERS["uncertainty"]
    long_run = uncertainty["rows"][uncertainty["shown"]]
    log_var = uncertainty["rows"][LOG_VAR]
    held = long_run["held"][1]  # by the second of three bands, the central 80%

    shares = f"Of {uncertainty['samples']} samples of each test series the central 80% hold"
    assert f"{shares} {held:.0%}" in PAGE
    scores = f"a CRPS of {long_run['crps']:.1f}, against {log_var['crps']:.1f} of log-VAR"
    assert scores in PAGE


def mean_and_median(errors):
    """Return how the page writes the mean and the median of errors, which a record has."""
    return f"{errors['mean']:.1f} / {errors['median']:.1f}"


def test_general_is_compared_with_other_samples_on_the_test_series():
    general = mean_and_median(ERRORS["test"][ANY_TABLE])
    final = mean_and_median(ERRORS["ours"]["samples/final/test"])
    long_run = mean_and_median(ERRORS["ours"]["samples/best/test"])
    sentence = (
        f"On the 50 test series it has {general}, less than the final adapter's {final} and more "
        f"than the long run's {long_run}, all three by the median"
    )
    assert sentence in PAGE


@pytest.fixture(scope="module")
def means():
    """Return the mean error of each forecaster (columns) in each world (rows)."""
    return by_world(error_table({}), "mean")


@pytest.fixture(scope="module")
def medians():
    """Return the median errors, likewise."""
    return by_world(error_table({}), "median")


EIGHT_WORLDS = list(OF_USUAL_SIZE)
IN_THE_TABLE_OF_WORLDS = (
    "analogue",
    "log-VAR(9)",
    "system fitted",
    "LM final",
    "LM best",
    "LM general",
)
"""The forecasters of the table of worlds, from left to right."""


def test_the_page_has_the_errors_in_changed_worlds(means, medians):
    for world in EIGHT_WORLDS:
        cells = ["the recipe's own" if world == AT_HOME else world]
        for forecaster in IN_THE_TABLE_OF_WORLDS:
            mean, median = means.loc[world, forecaster], medians.loc[world, forecaster]
            cells.append(f"{mean:.0f} / {median:.0f}")
        assert f"| {' | '.join(cells)} |" in TEXT


def test_log_var_is_the_best_of_the_simple_forecasts(means, medians):
    simple = ["last value", "context mean", "analogue", "log-VAR(3)", "log-VAR(9)", "last period"]
    lowest_mean = means.loc[list(CHANGED), simple].idxmin(axis=1)
    lowest_median = medians.loc[list(CHANGED), simple].idxmin(axis=1)
    assert (lowest_mean == "log-VAR(9)").sum() == 5
    assert (lowest_median == "log-VAR(9)").all()
    assert "lowest mean in five of the seven worlds, and the lowest median in all of them" in PAGE


NUMBER_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "all")


def errors_of_the_better_rival(errors):
    """Return, for each of the eight worlds, the error of copying or of log-VAR(9)."""
    return errors.loc[EIGHT_WORLDS, ["analogue", "log-VAR(9)"]].min(axis=1)


def test_the_page_tells_in_how_many_worlds_general_is_ahead_of_both_rivals(means, medians):
    ahead_by_mean = means["LM general"].loc[EIGHT_WORLDS] < errors_of_the_better_rival(means)
    ahead_by_median = medians["LM general"].loc[EIGHT_WORLDS] < errors_of_the_better_rival(medians)

    by_mean = NUMBER_WORDS[sum(ahead_by_mean)]
    by_both = NUMBER_WORDS[sum(ahead_by_mean & ahead_by_median)]
    assert f"In {by_mean} of eight worlds" in PAGE
    assert f"in {by_both} of them its median, too" in PAGE


def recorded_errors(file):
    """Return the mean and the median error of an earlier adapter by the set of series."""
    errors = {}
    for row in read_json(results_dir() / file)["rows"]:
        maes = list(row["maes"].values())
        errors[row["set"]] = {"mean": np.mean(maes), "median": np.median(maes)}
    return errors


def test_the_page_has_the_errors_of_earlier_adapters(means):
    after_seven_runs = recorded_errors("yardsticks_seven_runs.json")
    assert f"had known: {mean_and_median(after_seven_runs['test'])} (" in PAGE

    after_five_runs = recorded_errors("yardsticks_five_runs.json")
    on_test = mean_and_median(after_five_runs["test"])
    at_home = mean_and_median(after_five_runs["as trained"])
    assert f"it had {on_test} on these series, {at_home} at home" in PAGE

    rivals = errors_of_the_better_rival(means)
    ahead = [world for world in rivals.index if after_five_runs[world]["mean"] < rivals[world]]
    assert len(ahead) == 7
    assert "was ahead of both rivals in seven of the eight worlds" in PAGE


def gain(one, other):
    """Return how far an error lies below another, series by series."""
    return NUMBERS["gains"][one][other]


def test_the_lead_at_half_the_sampling_rate_is_owed_to_one_series():
    world = "half the sampling rate"
    lead = gain(f"{world} {ANY_TABLE}", f"{world} {TUNED}")
    low, high = lead["t interval"]
    worst = ERRORS[world][TUNED]["worst"]

    assert lead["mean interval"][0] > 0
    assert low < 0
    assert lead["largest share"] > 0.5
    sentence = (
        f"one series, on which log-VAR(9) has an error of {worst:,.0f}: Student's interval of the "
        f"lead is −{-low:.0f} to {high:.0f}, and log-VAR(9) is the better one on {lead['worse']} "
        "of the 30"
    )
    assert sentence in PAGE


def surely_behind_copying(adapter):
    """Return the changed worlds in which the interval says that an adapter is behind copying."""
    copying = "nearest analogue in the context"
    behind = []
    for world in CHANGED:
        _, high = gain(f"{world} {adapter}", f"{world} {copying}")["mean interval"]
        if high < 0:
            behind.append(world)
    return behind


def test_the_page_tells_in_how_many_worlds_copying_is_surely_better():
    assert len(surely_behind_copying("the language model, final adapter")) == 5
    assert len(surely_behind_copying("the language model, best adapter")) == 4
    assert "sure in all five for the final adapter, and in four for the long run" in PAGE

    holling = gain(
        "Holling type III the language model, best adapter",
        "Holling type III nearest analogue in the context",
    )
    low, high = holling["mean interval"]
    leads = f"the copy leads by {-holling['mean']:.1f}, −{high:.1f} to {-low:.1f}"
    assert leads in PAGE


def test_with_much_noise_the_long_run_is_behind_the_mean_of_the_context(means):
    long_run = means.loc["noise of 20%", "LM best"]
    context_mean = means.loc["noise of 20%", "context mean"]
    assert long_run > context_mean
    sentence = (
        f"With noise of 20% the long run's mean error of {long_run:.0f} is above that of repeating "
        f"the mean of the context, which is {context_mean:.0f}."
    )
    assert sentence in PAGE


def test_the_bands_of_the_long_run_hold_more_than_they_should():
    uncertainty = NUMBERS["uncertainty"]
    low, high = uncertainty["rows"][uncertainty["shown"]]["80% band held"]
    assert f"({low:.0%} to {high:.0%}, by a bootstrap over the series;" in PAGE
    # Between the 10th and the 90th percentile of 48 samples lie 0.8 x 47 of their 49 gaps.
    should = 0.8 * (uncertainty["samples"] - 1) / (uncertainty["samples"] + 1)
    assert f"it would be {should:.0%})" in PAGE
    assert low > should
