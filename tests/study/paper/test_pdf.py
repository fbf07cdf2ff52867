"""The PDF is made of the records as they stand, and shows the figures that the notebooks show.

Where its text and the README put results into words, these are checked here against the numbers.
"""

import io
import json
import re
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest

from m2lib.errors import InputError
from m2lib.files import ROOT, read_json
from m2lib.forecaster.adapters import GENERAL_FOLDER
from m2lib.series import BASELINES
from study import ARMS, EXPERIMENTS, SEARCH, START, STATISTICAL, TUNED, load_record
from study.paper import pdf
from study.paper.numbers import ANY_TABLE, LONG_RUN
from study.worlds import OF_USUAL_SIZE

SOURCE = (pdf.REPORT_FOLDER / "main.typ").read_text(encoding="utf-8")
LAST_VALUE, CONTEXT_MEAN, COPY, LOG_VAR_3 = BASELINES
LAST_PERIOD = "the last period, repeated"

# Lecture 2 draws the model that runs there, and lecture 7 shows the best of nine otherwise. The
# lectures that go beyond the report leave out models that a reader has not met yet.
IN_THE_PAPER_ALONE = {
    "fig1_architecture",
    "fig8_second",
    "yardstick_costs",
    "changed_worlds",
    "more_per_flop",
    "fan_charts",
    "reliability",
    "trust",
}


def test_every_figure_of_the_pdf_is_one_that_a_notebook_shows():
    in_the_pdf = set(re.findall(r'"(\w+)\.svg"', SOURCE))
    in_notebooks = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = path.read_text(encoding="utf-8")
        in_notebooks |= set(re.findall(r'\bshow\(\\"(\w+)\\"\)', cells))
        in_notebooks |= set(re.findall(r'save_figure\(fig, \\"(\w+)\\"\)', cells))

    assert len(in_the_pdf) > 8
    assert in_the_pdf <= set(pdf.FIGURES)
    assert in_the_pdf - IN_THE_PAPER_ALONE <= in_notebooks


def test_every_figure_that_is_drawn_is_shown():
    readers = [pdf.REPORT_FOLDER / "main.typ", ROOT / "README.md"]
    readers += [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    read = "\n".join(path.read_text(encoding="utf-8") for path in readers)
    for name in pdf.FIGURES:
        assert re.search(rf'\b{name}(\.svg|\\"\))', read), name  # or show(\"NAME\") in a notebook


def test_the_folder_of_figures_holds_those_that_are_drawn():
    files = {path.stem for path in (pdf.REPORT_FOLDER / "figures").glob("*.svg")}
    assert files == set(pdf.FIGURES), "run `make figures`, and delete what is no longer drawn"


def test_the_replications_figures_are_called_by_their_names():
    named = set().union(*pdf.OF_REPLICATION.values())
    assert named <= set(pdf.FIGURES)


def test_a_figure_of_the_report_is_drawn_from_the_replications_records():
    assert pdf.draw("fig4_baseline_forecasts").get_suptitle() == "qwen2.5-coder-0.5b"


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("fig4_baseline_forecasts", "report"),
        ("fig5_baseline_errors", "laptop"),
        ("fig6_forecasts", "report"),
        ("fig7_reduced_validation", "report"),
        ("context_lengths", "report"),
        ("fig9_final", "report"),
        ("fig8_search", "fifth"),
        ("fig8_second", "report"),
        ("final_forecasts", "laptop"),
    ],
)
def test_a_figure_is_drawn_from_the_records_that_its_caption_is_about(name, profile, monkeypatch):
    monkeypatch.setitem(pdf.FIGURES, name, lambda shown: shown.name)
    assert pdf.draw(name) == profile


def test_a_figure_or_table_comes_after_the_text_that_calls_it():
    # A figure is then on the page where it stands in the source, or later.
    assert "#set figure(placement: auto)" in SOURCE

    labels = re.findall(r"(?m)^\) <([\w-]+)>$", SOURCE)
    assert len(labels) > 25
    for label in labels:
        assert 0 < SOURCE.find(f"@{label}") < SOURCE.find(f"<{label}>"), label


def test_no_page_but_the_last_is_half_empty():
    typst = pytest.importorskip("typst")
    pages = typst.compile(
        str(pdf.REPORT_FOLDER / "main.typ"), root=str(pdf.REPORT_FOLDER), format="png", ppi=20
    )

    assert len(pages) > 10
    for number, page in enumerate(pages[:-1], start=1):
        image = plt.imread(io.BytesIO(page), format="png")[..., :3]
        height = len(image)
        has_ink = image.min(axis=(1, 2)) < 0.9  # a row of pixels
        inked = np.flatnonzero(has_ink[: int(0.95 * height)])  # without the page's number
        gaps = np.diff([*inked, int(0.93 * height)])  # the last one down to the bottom margin
        assert gaps.max() < height / 4, f"page {number}"


def test_no_semicolon_of_a_sentence_ends_an_expression():
    without_comments_and_code = re.sub(r"(?m)^\s*//.*$|//.*$|`[^`]*`", "", SOURCE)
    # After an expression Typst swallows a semicolon, unless a backslash stands before it.
    assert ";" not in without_comments_and_code.replace("\\;", "")


def test_no_branch_of_an_expression_is_printed():
    # In running text Typst ends an `#if` with its line: an `else` on the next line would be text.
    assert not re.search(r"(?m)^\s*else (\[|if )", SOURCE)


def floats_in(path):
    """Return all floats of a JSON file."""
    floats = []

    def keep(digits):
        floats.append(float(digits))

    json.loads(path.read_text(encoding="utf-8"), parse_float=keep)
    return floats


def test_typst_rounds_as_python_does(tmp_path):
    typst = pytest.importorskip("typst")
    printed = floats_in(pdf.REPORT_FOLDER / "numbers.json")
    values = [value for value in printed if abs(value) < 1e5]
    values += [3.05, 3.15, 0.05, 0.845 * 100]  # a little above or below half of the last digit
    values += [3.25, 0.125, 0.375, 2.5, 3.5, -2.5]  # exactly half of it
    values += [9.996, 0.0, -0.1499]  # up to one digit more, zero, and up to it
    (tmp_path / "values.json").write_text(json.dumps(values), encoding="utf-8")
    fix = re.search(r"(?s)#let fix\(.*?\n}\n", SOURCE)[0]
    to_3_digits = "range(4).map(digits => fix(x, digits: digits))"
    ask = f'#metadata(yaml("values.json").map(x => {to_3_digits})) <rounded>'
    (tmp_path / "ask.typ").write_text(fix + ask, encoding="utf-8")

    answer = typst.query(str(tmp_path / "ask.typ"), "<rounded>", field="value", one=True)

    for value, rounded in zip(values, json.loads(answer), strict=True):
        for digits, text in enumerate(rounded):
            expected = re.sub(r"^-(0(\.0*)?)$", r"\1", f"{value:.{digits}f}")  # -0.0 is 0.0
            assert text.replace("−", "-") == expected, value


def test_the_pdf_is_what_its_sources_give_in_a_folder_of_its_own(
    tmp_path, monkeypatch, printed_numbers
):
    monkeypatch.setattr(pdf, "numbers", lambda profile: printed_numbers)
    monkeypatch.setattr(pdf, "FIGURES", {})  # the committed ones are copied instead
    shutil.copytree(pdf.REPORT_FOLDER / "figures", tmp_path / "figures")

    made = pdf.make_pdf(tmp_path)

    committed = pdf.REPORT_FOLDER / "main.pdf"
    assert made.read_bytes() == committed.read_bytes(), "run `make figures`"


def test_what_typst_does_not_find_is_an_error_of_one_line(tmp_path, monkeypatch, printed_numbers):
    monkeypatch.setattr(pdf, "numbers", lambda profile: printed_numbers)
    monkeypatch.setattr(pdf, "FIGURES", {})
    with pytest.raises(InputError, match=r"main\.typ: .*figures"):
        pdf.make_pdf(tmp_path)


def test_without_all_records_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))

    message = r"no record .*baseline\.json; `M2_PROFILE=laptop python -m study run baseline`"
    with pytest.raises(InputError, match=message):
        pdf.make_pdf(tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("profile", "backbone"), [("report", "smollm2-135m"), ("laptop", "tiny")])
def test_of_a_study_that_the_text_is_not_about_nothing_is_made(
    profile, backbone, tmp_path, monkeypatch
):
    monkeypatch.setenv("M2_PROFILE", profile)
    monkeypatch.setenv("M2_BACKBONE", backbone)

    message = f"about the laptop's study, not {profile}'s on {backbone}; unset M2_PROFILE"
    with pytest.raises(InputError, match=message):
        pdf.make_pdf(tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.fixture(scope="module")
def ours(printed_numbers):
    """Return the errors of our language models, by experiment."""
    return printed_numbers["errors"]["ours"]


@pytest.fixture(scope="module")
def on_test(printed_numbers):
    """Return the errors of all other forecasters on the test series."""
    return printed_numbers["errors"]["test"]


@pytest.fixture(scope="module")
def published_final(printed_numbers):
    """Return the errors of the report's final model."""
    return printed_numbers["errors"]["published"]["final"]


def test_our_final_model_has_a_lower_mean_than_the_reports_and_simple_forecasts(
    ours, on_test, published_final
):
    final = ours["final"]
    assert final["mean"] < published_final["mean"]
    for name in BASELINES:
        assert final["mean"] < on_test[name]["mean"], name


def test_our_final_model_is_surely_better_than_all_but_the_chosen_autoregression(printed_numbers):
    gains = printed_numbers["gains"]["ours final"]
    not_sure = [name for name, gain in gains.items() if gain["mean interval"][0] <= 0]
    assert not_sure == [f"test {TUNED}"]


def test_the_autoregression_over_three_steps_has_a_lower_median_than_our_final_model(
    ours, on_test, published_final
):
    simpler = [on_test[name] for name in (LAST_VALUE, CONTEXT_MEAN, COPY)]
    models = [ours["final"], ours["final-sampled"], published_final]
    for errors in (*simpler, *models):
        assert on_test[LOG_VAR_3]["median"] < errors["median"]


def test_copying_is_as_good_as_the_reports_final_model(on_test, published_final):
    assert abs(on_test[COPY]["mean"] - published_final["mean"]) < 1


def test_the_replications_final_model_is_ahead_of_the_copy_by_the_bootstrap_alone(printed_numbers):
    gain = printed_numbers["gains"]["report final"][f"test {COPY}"]
    assert gain["mean interval"][0] > 0 > gain["t interval"][0]
    assert gain["share of three"] > 0.5  # "most of the lead"


def test_the_replications_final_model_is_not_surely_ahead_of_the_autoregression(printed_numbers):
    low, high = printed_numbers["gains"]["report final"][f"test {TUNED}"]["mean interval"]
    assert low < 0 < high


def test_the_paper_tells_how_many_series_the_long_run_learned_from():
    steps = EXPERIMENTS["best"].training.steps  # of one fresh series each
    assert f"the long run learned from {steps:,}." in SOURCE


def test_the_best_model_of_statistics_is_autoarima_by_its_mean_on_validation(printed_numbers):
    validation = printed_numbers["errors"]["validation"]
    means = {name: validation[name]["mean"] for name in STATISTICAL}
    assert min(means, key=means.get) == "AutoARIMA"


def test_on_fresh_series_of_the_recipe_the_long_run_and_log_var_have_equal_medians(printed_numbers):
    at_home = printed_numbers["errors"]["as trained"]
    long_run, log_var = at_home[LONG_RUN], at_home[TUNED]
    assert long_run["mean"] < log_var["mean"]
    assert f"{long_run['median']:.1f}" == f"{log_var['median']:.1f}"


@pytest.mark.parametrize(
    ("statistic", "ahead_in"),
    [
        ("mean", 6),  # "in six of the eight worlds it has a lower mean"
        ("median", 3),  # "and in three of these a lower median"
    ],
)
def test_in_how_many_worlds_the_adapter_for_any_table_is_ahead_of_plain_forecasts(
    printed_numbers, statistic, ahead_in
):
    assert len(OF_USUAL_SIZE) == 8

    ahead = 0
    for world in OF_USUAL_SIZE:
        errors = printed_numbers["errors"][world]
        plain = [errors[name][statistic] for name in (COPY, TUNED, CONTEXT_MEAN, LAST_PERIOD)]
        ahead += errors[ANY_TABLE][statistic] < min(plain)
    assert ahead == ahead_in


def test_the_replications_loss_falls_with_the_rate_and_with_the_rank(printed_numbers):
    runs = printed_numbers["replicated"]["fifth"]
    losses = np.reshape([runs[name]["loss"] for name in SEARCH], (3, 3))  # rates down, ranks across
    assert (np.diff(losses, axis=0) < 0).all()
    assert (np.diff(losses, axis=1) < 0).all()


def test_the_paper_tells_what_general_has_cost():
    facts = read_json(GENERAL_FOLDER / "facts.json")
    seconds = 0
    trainings = [name for name in EXPERIMENTS if name.split("-")[0] == "general"]
    for name in trainings:
        seconds += load_record("laptop", name).seconds

    assert len(trainings) == 9
    mantissa, exponent = f"{facts['flops']:.1e}".split("e+")
    row = f"[9], [{seconds / 3600:.0f}], [${mantissa} times 10^{exponent}$]"
    assert row in SOURCE


def test_our_runs_of_the_reports_experiments_are_a_fiftieth_of_its_training(printed_numbers):
    charged = 0
    for record in printed_numbers["records"].values():
        if record["group"]:  # an experiment of the report
            charged += record["all flops"]
    for row in printed_numbers["removed"]:
        if row["group"]:
            charged += sum(costs["coursework"] for costs in row["flops"].values())

    training, _ = printed_numbers["table3"]["coursework"]["all"]
    assert charged / training == pytest.approx(1 / 50, rel=0.1)


METHODS = {"AutoETS", "AutoTheta", "AutoARIMA"}


def surely(ratios):
    """Return those that `general` is surely ahead of, and those that it is surely behind."""
    ahead = {name for name, ratio in ratios.items() if ratio["high"] < 1}
    behind = {name for name, ratio in ratios.items() if ratio["low"] > 1}
    return ahead, behind


def test_the_paper_tells_whom_general_is_ahead_of_on_real_tables(printed_numbers):
    on_tables = printed_numbers["textbook"]
    ahead, behind = surely(on_tables["ratios"])
    assert ahead == {"untuned", "last value", "last season"}
    assert behind == {"ensemble"}

    ahead, behind = surely(on_tables["without prescriptions"])
    assert ahead == {"untuned", "last season"}
    assert behind == {"AutoETS", "AutoARIMA", "ensemble"}

    ahead, behind = surely(on_tables["losses"])
    assert ahead == {"untuned", "last value", "last season", *METHODS}
    assert not behind

    ahead, behind = surely(on_tables["losses without prescriptions"])
    assert ahead & {"ensemble", *METHODS} == {"AutoTheta"}
    assert not behind


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_the_trial_that_weighs_later_tokens_more_is_the_best(ours, statistic):
    for name in ("rank", "linear", "linear-simulated", "low", "pairs", "cooldown"):
        assert ours["trial/tail"][statistic] < ours[f"trial/{name}"][statistic], name


def test_three_of_the_trials_at_equal_flops_ran_on_two_threads(printed_numbers):
    on_two = set()
    for name in (START, *ARMS):
        if "2 threads" in printed_numbers["records"][name]["device"]:
            on_two.add(name)
    # "The first row, both of these and rank 4 ran on two threads and the others on one"
    assert on_two == {START, "trial/linear-simulated", "trial/rank"}


def test_the_minutes_of_the_first_trial_alone_include_its_evaluations():
    including = set()
    for name in (START, *ARMS):
        record = load_record("laptop", name)
        if record.evaluations and not record.evaluation_seconds:
            including.add(name)
    # "only the first row's minutes include its evaluations"
    assert including == {START}


def test_the_replications_first_adapter_was_trained_on_two_threads_in_part(printed_numbers):
    assert "2 threads" in printed_numbers["replicated"]["report"]["default"]["device"]


def test_the_replications_other_adapters_were_trained_on_one_thread(printed_numbers):
    for name, record in printed_numbers["replicated"]["fifth"].items():
        # The last device is that of the forecasts in float32, which were made afterwards.
        *trained_on, _ = record["device"].split("; ")
        assert all("1 threads" in device for device in trained_on), name
