"""The numbers of the README, and of the book's page on speed, are those of the records."""

import json
import re

import numpy as np
import pytest

from benchmarks import bench, candidates
from benchmarks.physics import FITS
from m2lib.files import ROOT, read_json
from m2lib.forecaster.adapters import GENERAL, weights_hash
from m2lib.series import BASELINES
from study import EXPERIMENTS, PROFILES, TUNED
from study.paper import pdf
from study.paper.errors import (
    LOG_VAR,
    REFERENCE,
    by_world,
    error_table,
    table_errors,
    table_ratios,
    table_summary,
)
from study.paper.textbook import (
    FIRST_READING,
    LAST_SEASON,
    SECOND_READING,
    by_source,
    compared,
    errors_by_series,
    held,
    judged_rows,
    pictured_rows,
)
from study.settings import results_dir

CHANGED = "noise of 5%", "half the sampling rate"


def words(page):
    """A page's text on one line."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def found():
    return json.loads((pdf.REPORT_FOLDER / "numbers.json").read_text(encoding="utf-8"))


def test_results_are_those_of_the_records():
    table = table_of("book/results.md")
    assert [row.split("|")[2:-1] for row in table] == [cells(errors) for errors in shown(found())]
    after, whole = replicated(found())
    (said,) = [row for row in table if "the replication" in row and "final adapter" in row]
    assert f"final adapter after {after:,} of the report's {whole:,} steps" in said
    sizes = PROFILES["laptop"].train
    runs = ("default", "search/expt_0", "context", "final")
    assert [sizes[run]["steps"] for run in runs] == [200, 80, 80, 2000]
    page = words("book/results.md")
    records = list(found()["records"].values())
    for row in found()["removed"]:
        flops = sum(kind["coursework"] for kind in row["flops"].values())
        records.append({"group": row["group"], "all seconds": row["seconds"], "all flops": flops})
    charged = [one for one in records if one["group"]]
    training = found()["table3"]["coursework"]["all"][0]
    hours, flops = (sum(one[f"all {what}"] for one in charged) for what in ("seconds", "flops"))
    mantissa, exponent = f"{flops:.1e}".split("e+")
    assert f"took {hours / 3600:.1f} hours and {mantissa} × 10^{exponent} FLOPs" in page
    assert f"{flops / training:.1%} of what the report's training costs" in page
    hours, flops = (sum(one[f"all {what}"] for one in records) for what in ("seconds", "flops"))
    assert f"{hours / 3600:.1f} hours and {flops / training:.1%}" in page
    best = found()["errors"]["ours"]["best"]
    tuned = found()["errors"]["test"][TUNED]
    better = found()["gains"]["ours best"][f"test {TUNED}"]["better"]
    assert f"better one on {best['n'] - better} of the {best['n']}" in page
    assert best["mean"] < tuned["mean"]
    assert best["median"] < tuned["median"]


def table_of(page):
    """The rows of a page's table of forecasts of the test series, without its head."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = re.search(r"\| forecast of the 50 test series .*?\n\n", text, re.DOTALL)[0]
    return table.strip().splitlines()[2:]


def replicated(found):
    """How many steps the replication's final adapter has had, and how many the report's."""
    return found["at the end"]["records"]["final"]["steps"], EXPERIMENTS["final"].training.steps


def shown(found):
    """The errors in the table of results, row by row."""
    test, ours, published, replication = (
        found["errors"][who] for who in ("test", "ours", "published", "replication")
    )
    yardsticks = *BASELINES, "the last period, repeated", TUNED, "AutoARIMA", *FITS
    names = (
        "untuned-test",
        "untuned-test-constrained",
        "final",
        "final-sampled",
        "samples/final/test",
        "best",
    )
    rows = (
        [test[name] for name in yardsticks],
        [published["untuned"], published["final"]],
        [replication["untuned-test"], replication["final"]],
        [ours[name] for name in (*names, "samples/best/test")],
    )
    return [row for part in rows for row in part]


def cells(errors):
    intervals = [errors.get(f"{of} interval") for of in ("mean", "median")]
    mean, median = (" {:.1f} to {:.1f} ".format(*ends) if ends else " " for ends in intervals)
    return [f" {errors['mean']:.1f} ", mean, f" {errors['median']:.1f} ", median]


def test_the_first_table_is_that_of_the_records():
    ours, test, published = (found()["errors"][who] for who in ("ours", "test", "published"))
    replication, (after, whole) = found()["errors"]["replication"], replicated(found())
    untuned, greedy, sampled = (
        ours[n] for n in ("untuned-test-constrained", "best", "samples/best/test")
    )
    copying, regression, known = (
        test[n] for n in ("nearest analogue in the context", TUNED, "the system, fitted")
    )
    rows = [
        untuned,
        published["untuned"],
        published["final"],
        replication["untuned-test"],
        replication["final"],
    ]
    rows += [copying, regression, greedy, sampled]
    expected = [[f"{errors[of]:.0f}" for of in ("mean", "median")] for errors in rows]
    expected.append([f"{known[of]:.1f}" for of in ("mean", "median")])
    table = table_of("README.md")
    assert [[cell.strip(" *") for cell in row.split("|")[2:4]] for row in table] == expected
    assert f"the replication, after {after:,} of the report's {whole:,} steps" in "".join(table)
    assert (
        f"learned in that night from {EXPERIMENTS['best'].training.steps:,} fresh series"
        in words("README.md")
    )
    front = words("book/index.md")
    assert f"error falls from {untuned['mean']:.0f} to {greedy['mean']:.0f} scaled units" in front
    assert f"its median from {untuned['median']:.0f} to {greedy['median']:.0f}" in front
    report = published["final"]
    said = (
        f"past scores {copying['mean']:.0f} in the mean and {copying['median']:.0f} in the median"
    )
    assert said in front
    assert f"after its training ({report['mean']:.0f} and {report['median']:.0f})" in front
    assert f"scores {regression['mean']:.0f} and {regression['median']:.0f}" in front
    assert f"made the series is off by {known['mean']:.1f}" in front
    steps = EXPERIMENTS["best"].training.steps
    assert f"learned for a night, from {steps:,} fresh series" in front
    before, tuned = (replication[name]["mean"] for name in ("untuned-test", "final"))
    assert (
        f"from {before:.0f} to {tuned:.0f} after {after:,} of the report's {whole:,} steps" in front
    )


def test_how_often_an_adapter_is_behind_copying_is_what_the_worlds_have():
    means, medians = (by_world(error_table({}), of).iloc[1:8] for of in ("mean", "median"))
    assert not {"as trained", "a tenth of the size", "ten times the size"} & set(means.index)
    for who in ("LM best", "LM final"):  # the latter is told of in lecture 11
        assert sum(means[who] > means["analogue"]) == 5
    assert sum(medians["LM final"] > medians["analogue"]) == 5
    said = (
        "In five of seven worlds with other noise, equations or clocks its mean error is above that"
    )
    assert f"{said} of copying the past" in words("README.md")


def test_how_sure_it_is_is_what_the_samples_are():
    samples = found()["uncertainty"]
    ours = samples["rows"][samples["shown"]]
    theirs = samples["rows"][LOG_VAR]
    page = words("book/results.md")
    drawn = samples["samples"]
    held = ours["held"][1]
    assert f"Of {drawn} samples of each test series the central 80% hold {held:.0%}" in page
    assert f"a CRPS of {ours['crps']:.1f}, against {theirs['crps']:.1f} of log-VAR" in page


def test_what_is_said_of_the_textbooks_series_is_what_their_record_has():
    rows = judged_rows()
    errors = errors_by_series(rows)
    relative = np.exp(np.log(errors.div(errors[LAST_SEASON], axis=0)).mean()).map("{:.2f}".format)
    ratios = {
        name: compared(errors, "general", name).over_series
        for name in errors.columns.drop("general")
    }
    naive = ratios[LAST_SEASON]
    others = f"AutoETS has {relative['AutoETS']}, AutoARIMA {relative['AutoARIMA']}, "
    others += f"AutoTheta {relative['AutoTheta']}, the median of these three {relative['ensemble']}"
    for page in ("README.md", "book/results.md"):
        text = words(page)
        assert f"{len(errors)} series of seven" in text
        assert f" is {relative['general']} of the error of repeating the last season" in text
        assert f"{naive.low:.2f} to {naive.high:.2f})" in text
        assert f"{others}, and the untuned model {relative['untuned']}" in text
        said = "surely ahead of the last value, the last season and the untuned model, and surely "
        assert f"{said}behind the median of AutoETS, AutoTheta and AutoARIMA" in text
    assert [name for name, one in ratios.items() if one.high < 1] == [
        "last value",
        LAST_SEASON,
        "untuned",
    ]
    assert [name for name, one in ratios.items() if one.low > 1] == ["ensemble"]
    page = words("book/results.md")
    for name in ("AutoETS", "AutoTheta", "AutoARIMA"):
        one = ratios[name]
        assert f"{name} ({one.ratio:.2f}, {one.low:.2f} to {one.high:.2f})" in page
    prisons = [row for row in rows if row["source"] == "prisons"]
    bands = f"80% bands hold {held(rows, 'general'):.0%} of the true values, but on the prisons "
    assert bands + f"{held(prisons, 'general'):.0%}" in words("README.md")


def test_one_source_decides_what_the_readme_says_it_does():
    without = errors_by_series(judged_rows()).drop("prescriptions")
    ratios = {
        name: compared(without, "general", name).over_series
        for name in ("last value", "AutoETS", "AutoARIMA")
    }
    assert ratios["last value"].low < 1 < ratios["last value"].high
    assert min(ratios["AutoETS"].low, ratios["AutoARIMA"].low) > 1
    said = "without the prescriptions `general` is level with the last value, and surely behind "
    assert said + "AutoETS and AutoARIMA" in words("README.md")


def test_the_picture_of_real_tables_is_of_the_adapter_in_the_package():
    (adapter,) = {row["adapter"] for row in pictured_rows()}
    assert adapter == weights_hash(GENERAL)
    judges = [row["source"] for row in judged_rows() if row["forecaster"] == "general"]
    assert sorted(row["source"] for row in pictured_rows()) == sorted(judges)


REAL_TABLES = "book/real_tables.md"
CALLED = {
    "general": "`general`",
    LAST_SEASON: "the last season",
    "last value": "the last value",
    "untuned": "the untuned model",
    "ensemble": "the median of AutoETS, AutoTheta and AutoARIMA",
}


def test_the_page_on_real_tables_has_all_forecasters():
    page = words(REAL_TABLES)
    rows = judged_rows()
    errors, losses = errors_by_series(rows), errors_by_series(rows, "loss")
    for name in errors:
        error, loss = (
            np.exp(np.log(each[name] / each[LAST_SEASON]).mean()) for each in (errors, losses)
        )
        line = f"| {CALLED.get(name, name)} | {error:.2f} |"
        if name == "general":
            line += " | |"
        else:
            one = compared(errors, "general", name)
            line += f" {said_of(one.over_series)} | {one.better} of {one.count} |"
        assert f"{line} {loss:.2f} | {held(rows, name):.0%} |" in page
    for name in ("AutoETS", "AutoTheta", "AutoARIMA", "ensemble"):
        ratio = compared(losses, "general", name).over_series
        assert f"{said_of(ratio)} of the loss of {CALLED.get(name, name)}" in page
    # What one source decides.
    errors, losses = errors.drop("prescriptions"), losses.drop("prescriptions")
    for table, name, said in (
        (losses, "ensemble", "of the median's loss"),
        (losses, "AutoTheta", "of AutoTheta's loss"),
        (errors, "AutoETS", "of AutoETS's"),
        (errors, "last value", "of the last value's error"),
        (errors, "AutoARIMA", "of AutoARIMA's"),
    ):
        assert f"{said_of(compared(table, 'general', name).over_series)} {said}" in page


def said_of(ratio):
    return f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def test_the_page_on_real_tables_has_the_sources():
    page = words(REAL_TABLES)
    rows = judged_rows()
    errors = errors_by_series(rows)
    shown = "general", "AutoETS", "AutoTheta", "AutoARIMA", "ensemble", "untuned", "last value"
    for source, line in by_source(rows, LAST_SEASON).iterrows():
        cells = [f"{line[name]:.2f}" for name in shown]
        share = held([row for row in rows if row["source"] == source], "general")
        assert " | ".join([f"| {source} | {line['series']:.0f}", *cells, f"{share:.0%} |"]) in page
    for name in ("untuned", LAST_SEASON, "ensemble"):
        ratio = compared(errors, "general", name).over_sources
        assert f"{CALLED[name]} ({ratio.ratio:.2f}, {ratio.low:.2f} to {ratio.high:.2f})" in page
    # Against the better of the two plain repetitions, which is chosen afterwards.
    plain = errors[["last value", LAST_SEASON]]
    means = np.exp(np.log(plain).groupby("source").transform("mean"))
    better = plain["last value"].where(means["last value"] < means[LAST_SEASON], plain[LAST_SEASON])
    for name, said in (
        ("general", "its error is"),
        ("AutoETS", "That of AutoETS is"),
        ("ensemble", "that of the median"),
    ):
        ratio = compared(errors[[name]].assign(better=better), name, "better").over_series
        assert f"{said} {said_of(ratio)}" in page


def test_the_page_on_real_tables_has_all_readings():
    page = words(REAL_TABLES)
    judged = judged_rows()
    season = [row for row in judged if row["forecaster"] == LAST_SEASON]
    again = [row | {"forecaster": "again"} for row in judged if row["forecaster"] == "general"]
    for file, error, change in (
        (
            FIRST_READING,
            "Their mean had {:.2f} times the error of the last season ({:.2f} to {:.2f})",
            "{:.2f} times that of the first reading's adapter ({:.2f} to {:.2f};",
        ),
        (
            SECOND_READING,
            "general-shown and general-again: {:.2f} times ({:.2f} to {:.2f})",
            "{:.2f} times that of the second's ({:.2f} to {:.2f})",
        ),
    ):
        rows = read_json(results_dir() / file)["rows"]
        for others, pair, said in (
            (season, ("general", LAST_SEASON), error),
            (again, ("again", "general"), change),
        ):
            ratio = compared(errors_by_series([*rows, *others]), *pair).over_series
            assert said.format(ratio.ratio, ratio.low, ratio.high) in page


def test_the_page_on_real_tables_has_the_trials_and_the_candidates():
    page = words(REAL_TABLES)
    trials = errors_by_series(read_json(results_dir() / "textbook_trials.json")["rows"])
    chosen = "60 without a line, 256, and 60 with their season"
    ratio = compared(trials, chosen, "as it was").over_series
    said = f"| **the three of these** | {ratio.ratio:.2f} | {ratio.low:.2f} to {ratio.high:.2f} |"
    assert said in page

    rows, pairs = candidates.parted(read_json(results_dir() / candidates.RECORD)["rows"])
    errors = errors_by_series(rows)
    for name in list(candidates.CANDIDATES)[:4]:  # what there was when one was chosen
        cells = ["1", "", ""]
        if name != candidates.BEFORE:
            one = compared(errors, name, candidates.BEFORE)
            cells = [
                said_of(one.over_series),
                said_of(one.over_sources),
                f"{one.better} of {one.count}",
            ]
        assert (
            " ".join(f"| {name} | {' | '.join(cells)} | {held(rows, name):.0%} |".split()) in page
        )

    for name in candidates.CANDIDATES:
        if name != candidates.SECOND:
            cells = [
                said_of(compared(part, name, candidates.SECOND).over_series)
                for part in (errors, errors_by_series(pairs))
            ]
            shown = f"**{name}**" if name == candidates.CHOSEN else name
            assert f"| {shown} | {' | '.join(cells)} |" in page


def test_the_page_on_real_tables_has_the_earlier_benchmark():
    text = (ROOT / REAL_TABLES).read_text(encoding="utf-8")
    ratios = table_ratios(table_errors(), "test")
    called = {REFERENCE: "the repetition", "untuned": "the untuned model"}
    for name, error in table_summary(table_errors(), "test")["mase"].items():
        if name == "general":
            assert f"| `general` | {error:.2f} | | |" in text
            continue
        said = "{0.ratio:.2f} ({0.low:.2f} to {0.high:.2f})".format(ratios[name])
        p = f"{ratios[name].p:.3f}" if ratios[name].p < 0.005 else f"{ratios[name].p:.2f}"
        assert f"| {called.get(name, name)} | {error:.2f} | {said} | {p} |" in text


def test_samples_stand_beside_samples_where_general_is_compared():
    ours = found()["errors"]["ours"]
    test = found()["errors"]["test"]
    final = ours["samples/final/test"]
    best = ours["samples/best/test"]
    general = test["the language model, for any table"]
    said = [f"{errors['mean']:.1f} / {errors['median']:.1f}" for errors in (general, final, best)]
    sentence = "it has {}, less than the final adapter's {} and more than the long run's {}"
    sentence += ", all three by the median"
    assert sentence.format(*said) in words("book/results.md")


def test_what_is_said_of_changed_worlds_is_what_their_record_has():
    errors = [by_world(error_table({}), of) for of in ("mean", "median")]
    general, best = (
        [
            " / ".join(f"{each.loc[world, who]:.0f}" for each in errors)
            for world in ("as trained", *CHANGED)
        ]
        for who in ("LM general", "LM best")
    )
    page = words("book/results.md")
    said = f"{general[0]} (mean / median), with noise of 5% {general[1]}"
    said += f", at half the sampling rate {general[2]}"
    assert (
        f"At home its errors are {said}. The long run has {', '.join(best[:2])} and {best[2]} there"
        in page
    )
    test = found()["errors"]["test"]["the language model, for any table"]
    theirs = f"{test['mean']:.1f} / {test['median']:.1f}"
    assert f"On the 50 test series it has {theirs}, less than the final" in page
    # The last two worlds are other sizes of the first.
    ahead = [
        (each["LM general"] < each[["analogue", "log-VAR(9)"]].min(axis=1)).iloc[:8]
        for each in errors
    ]
    counts = [
        ("none", "one", "two", "three", "four", "five", "six", "seven", "all")[n]
        for n in (sum(ahead[0]), sum(ahead[0] & ahead[1]))
    ]
    assert f"In {counts[0]} of eight worlds" in page
    assert f"in {counts[1]} of them its median, too" in page

    # The records of earlier adapters.
    rows = read_json(results_dir() / "yardsticks_seven_runs.json")["rows"]
    (maes,) = (list(row["maes"].values()) for row in rows if row["set"] == "test")
    assert f"had known: {np.mean(maes):.1f} / {np.median(maes):.1f} (" in page
    rows = read_json(results_dir() / "yardsticks_five_runs.json")["rows"]
    before = {row["set"]: list(row["maes"].values()) for row in rows}
    was = {name: f"{np.mean(maes):.1f} / {np.median(maes):.1f}" for name, maes in before.items()}
    assert f"it had {was['test']} on these series, {was['as trained']} at home" in page
    rivals = [each[["analogue", "log-VAR(9)"]].min(axis=1).iloc[:8] for each in errors]
    ahead = [np.mean(before[world]) < least for world, least in rivals[0].items()]
    assert sum(ahead) == 7
    assert "was ahead of both rivals in seven of the eight worlds" in page


def programs():
    """The README's programs."""
    return re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )


def test_the_ten_lines_for_a_table_forecast(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    program = programs()[1]
    assert len(program.splitlines()) <= 10
    # Greedy, so that it takes seconds: what is asked here is whether it runs.
    quick = program.replace("prediction_length=10", "num_samples=1, prediction_length=1")
    names = {}
    exec(compile(quick, "README.md", "exec"), names)
    assert names["forecaster"].adapter == GENERAL
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = [
        line.split()
        for line in re.search(r"```\n( +item_id.*?)```", readme, re.DOTALL)[1].splitlines()
    ]
    assert shown[0] == printed[0]
    assert [row[1:4] for row in shown[1:]] == [row[1:4] for row in printed[1:]]


def test_the_ten_lines_of_python_forecast(monkeypatch, capsys):
    monkeypatch.delenv("M2_DATA", raising=False)
    program = programs()[0]
    assert len(program.splitlines()) <= 10
    exec(compile(program, "README.md", "exec"), {})
    text, numbers = capsys.readouterr().out.split("\n", 1)
    assert text.count(";") == 20
    ahead, truth = np.array(re.findall(r"[\d.]+", numbers), dtype=float).reshape(2, 3, 2)
    assert np.abs(ahead - truth).max() < 2
    printed = re.search(
        r"```\n\d+,.*?\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )[1]
    shown_ahead, shown_truth = np.array(re.findall(r"[\d.]+", printed), dtype=float).reshape(
        2, 3, 2
    )
    assert (shown_truth == truth).all()
    assert np.abs(shown_ahead - ahead).max() < 1  # another processor may round another way


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*-cpu*.json"))
)
def test_benchmark_tables_are_the_recorded_ones(name):
    result = json.loads(
        (ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")
    )
    page = (ROOT / "book" / "speed.md").read_text(encoding="utf-8")
    if "memory" in result:
        assert bench.memory_table(result) in page
        return
    if "openvino" in result:  # where it was installed
        assert bench.openvino_table(result) in page
    if name.endswith("-openvino"):
        return
    for what, title in bench.titles(result).items():
        assert bench.table(result[what], title) in page


def test_the_page_on_speed_says_how_far_the_losses_are_apart():
    result = json.loads(
        (ROOT / "benchmarks/results/smollm2-135m-cpu.json").read_text(encoding="utf-8")
    )
    apart = np.abs(np.subtract(*result["loss_curves"].values()))
    page = words("book/speed.md")
    assert (
        f"Over {len(apart)} steps it differs from the plain loop's by {apart.mean():.4f} nats"
        in page
    )
    assert f"and by {apart.max():.4f} at most" in page
