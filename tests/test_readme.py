"""The README's numbers are those of the records."""

import json

import pytest

from benchmarks import bench
from m2lib.files import ROOT
from m2lib.paper import pdf
from m2lib.paper.numbers import results_table


def test_results_are_those_of_the_records():
    found = json.loads((pdf.REPORT_FOLDER / "numbers.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table(found) in readme
    words, study = " ".join(readme.split()), found["study"]
    mantissa, exponent = f"{study['charged']['flops']:.1e}".split("e+")
    assert f"took {study['charged']['hours']:.1f} hours and {mantissa} × 10^{exponent} FLOPs" in words
    assert f"{study['share of the training published']:.1%} of what the report's training costs" in words
    assert f"{study['all']['hours']:.1f} hours and {study['share of all']:.1%}" in words


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")))
def test_benchmark_tables_are_the_recorded_ones(name):
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if "memory" in result:
        assert bench.memory_table(result) in readme
        return
    for what, title in bench.titles(result).items():
        assert bench.table(result[what], title) in readme
