"""The README's numbers are those of the records."""

import json

import pytest

from benchmarks import bench
from m2lib.baselines import context_mean, last_value
from m2lib.codec import to_integers
from m2lib.data import split_ids
from m2lib.files import ROOT
from m2lib.metrics import series_mae, summarise
from m2lib.results import load_result, published_maes


@pytest.fixture
def rows():
    lines = (ROOT / "README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("smollm2-135m untuned, the report's protocol", "baseline"),
        ("smollm2-135m untuned, whole context, constrained", "baseline-constrained"),
        ("smollm2-135m with a LoRA adapter of rank 16, 700 steps", "default-warm"),
    ],
)
def test_recorded_runs(rows, row, name, monkeypatch):
    monkeypatch.delenv("M2_RESULTS", raising=False)
    result = load_result("laptop", name)
    assert result.status == "done"
    assert sorted(result.series) == list(split_ids().validation)
    summary = summarise(result.maes().values())
    expected = [f"{summary.mean:.1f}", f"{summary.median:.1f}", str(result.repairs), f"{result.seconds:.0f}"]
    assert rows[row] == expected


def test_baselines_and_published(rows, data):
    validation = list(split_ids().validation)
    integers = to_integers(data.trajectories[validation], data.scales[validation])
    errors = {
        "last value of the context, repeated": series_mae(last_value(integers[:, :80]), integers[:, 80:]),
        "mean of the context, repeated": series_mae(context_mean(integers[:, :80]), integers[:, 80:]),
        "published: Qwen2.5-0.5B untuned": published_maes("baseline").values(),
    }
    for row, values in errors.items():
        summary = summarise(values)
        assert rows[row][:2] == [f"{summary.mean:.1f}", f"{summary.median:.1f}"]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")))
def test_benchmark_tables_are_the_recorded_ones(name):
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    readme = (ROOT / "README.md").read_text()
    if "memory" in result:
        assert bench.memory_table(result) in readme
        return
    for what, title in bench.titles(result).items():
        assert bench.table(result[what], title) in readme
