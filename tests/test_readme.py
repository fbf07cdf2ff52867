"""The numbers of the README, and of the book's page on speed, are those of the records."""

import json
import re

import numpy as np
import pytest

from benchmarks import bench
from m2lib.files import ROOT
from m2lib.paper import pdf
from m2lib.paper.errors import LOG_VAR
from m2lib.study import TUNED


def words(page):
    """A page's text on one line."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def found():
    return json.loads((pdf.REPORT_FOLDER / "numbers.json").read_text(encoding="utf-8"))


def test_results_are_those_of_the_records():
    text = (ROOT / "book" / "results.md").read_text(encoding="utf-8")
    table = re.search(r"\| forecast of the 50 test series .*?\n\n", text, re.DOTALL)[0].splitlines()[2:]
    assert [row.split("|")[2:-1] for row in table if row] == [cells(errors) for errors in shown(found())]
    page, study, more = words("book/results.md"), found()["study"], found()["more per flop"]
    mantissa, exponent = f"{study['charged']['flops']:.1e}".split("e+")
    assert f"took {study['charged']['hours']:.1f} hours and {mantissa} × 10^{exponent} FLOPs" in page
    assert f"{study['share of the training published']:.1%} of what the report's training costs" in page
    assert f"{study['all']['hours']:.1f} hours and {study['share of all']:.1%}" in page
    best = more["errors"]["greedy"]
    assert f"better one on {best['n'] - more['gains']['greedy'][TUNED]['better']} of the {best['n']}" in page
    tuned = next(row for row in found()["recorded yardsticks"] if row["name"] == TUNED)
    assert best["mean"] < tuned["mean"]
    assert best["median"] < tuned["median"]


def shown(found):
    """The errors in the README's table, row by row."""
    names = "published untuned", "published final", "untuned-test", "untuned", "final", "sampled"
    ours = [found["final"]["errors"][name] for name in names]
    return [
        *found["yardsticks"]["test"],
        *found["recorded yardsticks"],
        *ours,
        *(found["more per flop"]["errors"][how] for how in ("greedy", "sampled")),
    ]


def cells(errors):
    intervals = [errors.get(f"{of} interval") for of in ("mean", "median")]
    mean, median = (" {:.1f} to {:.1f} ".format(*ends) if ends else " " for ends in intervals)
    return [f" {errors['mean']:.1f} ", mean, f" {errors['median']:.1f} ", median]


def test_the_first_table_is_that_of_the_records():
    errors, yardsticks = found()["final"]["errors"], found()["yardsticks"]["test"]
    beside = {row["name"].split(",")[0]: row["mean"] for row in found()["recorded yardsticks"]}
    copying = next(row["mean"] for row in yardsticks if row["name"].startswith("nearest"))
    greedy, sampled = (found()["more per flop"]["errors"][how]["mean"] for how in ("greedy", "sampled"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"\| forecast of the 50 test series .*?\n\n", readme, re.DOTALL)[0].splitlines()[2:]
    assert [row.split("|")[2].strip(" *") for row in table if row] == [
        f"{errors['untuned']['mean']:.0f}",
        f"{copying:.0f}",
        f"{errors['published final']['mean']:.0f}",
        f"{beside['log-VAR(9)']:.0f}",
        f"{greedy:.0f}",
        f"{sampled:.0f}",
        f"{beside['the equations known']:.1f}",
    ]
    front = words("book/index.md")
    assert f"falls from {errors['untuned']['mean']:.0f} to {greedy:.0f} scaled units" in front
    for said in (f"past has {copying:.0f}", f"logarithms {beside['log-VAR(9)']:.0f}"):
        assert said in front, said
    assert f"made the series has {beside['the equations known']:.1f}" in front


def test_how_sure_it_is_is_what_the_samples_are():
    samples = found()["uncertainty"]
    rows = {row["name"]: row for row in samples["rows"]}
    ours, theirs = rows[samples["shown"]], rows[LOG_VAR]
    page = words("book/results.md")
    assert f"Of {samples['samples']} samples of each test series the central 80% hold {ours['held'][1]:.0%}" in page
    assert f"a CRPS of {ours['crps']:.1f}, against {theirs['crps']:.1f} of log-VAR" in page


def test_no_paragraph_of_the_readme_is_long():
    readme = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    paragraphs = [part for part in readme.split("\n\n") if not part.startswith(("|", "!", "#"))]
    assert max(len(paragraph.split()) for paragraph in paragraphs) <= 60


def programs():
    """The README's programs."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_ten_lines_for_a_table_forecast(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    program = programs()[1]
    assert len(program.splitlines()) <= 10
    # Greedy, so that it takes seconds: what is asked here is whether it runs.
    quick = program.replace("prediction_length=10", "num_samples=1, prediction_length=1")
    exec(compile(quick, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "target_name" in shown
    assert shown.count("1936") == 2


def test_the_ten_lines_of_python_forecast(monkeypatch, capsys):
    monkeypatch.delenv("M2_DATA", raising=False)
    program = programs()[0]
    assert len(program.splitlines()) <= 10
    exec(compile(program, "README.md", "exec"), {})
    text, numbers = capsys.readouterr().out.split("\n", 1)
    assert text.count(";") == 20
    ahead, truth = np.array(re.findall(r"[\d.]+", numbers), dtype=float).reshape(2, 3, 2)
    assert np.abs(ahead - truth).max() < 2
    printed = re.search(r"```\n\d+,.*?\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    shown_ahead, shown_truth = np.array(re.findall(r"[\d.]+", printed), dtype=float).reshape(2, 3, 2)
    assert (shown_truth == truth).all()
    assert np.abs(shown_ahead - ahead).max() < 1  # another processor may round another way


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")))
def test_benchmark_tables_are_the_recorded_ones(name):
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    page = (ROOT / "book" / "speed.md").read_text(encoding="utf-8")
    if "memory" in result:
        assert bench.memory_table(result) in page
        return
    for what, title in bench.titles(result).items():
        assert bench.table(result[what], title) in page


def test_the_page_on_speed_says_how_far_the_losses_are_apart():
    result = json.loads((ROOT / "benchmarks/results/smollm2-135m-cpu.json").read_text(encoding="utf-8"))
    apart = np.abs(np.subtract(*result["loss_curves"].values()))
    words = " ".join((ROOT / "book" / "speed.md").read_text(encoding="utf-8").split())
    assert f"Over {len(apart)} steps it differs from the plain loop's by {apart.mean():.4f} nats" in words
    assert f"and by {apart.max():.4f} at most" in words
