"""The benchmark of the textbook's series: its halves, its measures by hand, its checkpoints."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks import textbook
from benchmarks.textbook import (
    GENERAL,
    TEXTBOOK,
    TextbookSource,
)
from m2lib.files import InputError, read_json
from study.paper import textbook as recorded
from study.paper.textbook import CHOOSING, JUDGING, LAST_SEASON


def steps_source(name="steps", values=None, horizon=2, season=2, origins=1, half=CHOOSING):
    values = np.arange(40.0) if values is None else values
    return TextbookSource(name, half, horizon, season, origins, lambda: pd.DataFrame(values))


def test_the_halves_are_those_that_were_drawn():
    lots = {source.name: textbook.LOT_OF.get(source.name, source.name) for source in TEXTBOOK}
    halves = textbook.drawn_halves()
    assert {source.name: halves[lots[source.name]] for source in TEXTBOOK} == {
        source.name: source.split for source in TEXTBOOK
    }
    assert set(lots.values()) == set(halves)
    for frequency in textbook.LOTS.values():
        assert Counter(halves[lot] for lot in frequency) == dict.fromkeys(
            (CHOOSING, JUDGING), len(frequency) // 2
        )


def test_what_was_read_before_does_not_judge():
    choosing = {source.name for source in textbook.sources_of(CHOOSING)}
    judging = {source.name for source in textbook.sources_of(JUDGING)}
    assert not choosing & judging
    assert {source.name for source in textbook.EARLIER} <= choosing
    with pytest.raises(InputError, match="no source prices is for choosing"):
        textbook.sources_of(CHOOSING, ["retail", "prices"])
    assert [source.name for source in textbook.sources_of(CHOOSING, ["Nile"])] == ["Nile"]


def test_the_ensemble_is_the_median_of_three(monkeypatch):
    levels = dict(zip(textbook.STATISTICAL, (1.0, 5.0, 2.0, 100.0, 50.0), strict=False))
    level_of = {model: levels[name] for name, model in textbook.STATISTICAL.items()}

    def statistical(model, cuts, horizon, season):
        return [np.full((9, horizon), level_of[model]) for _ in cuts]

    def score(cuts, season, deciles):
        return {"forecast": float(deciles[0][0, 0])}

    monkeypatch.setattr(textbook, "_compile", lambda: None)
    monkeypatch.setattr(textbook, "statistical", statistical)
    monkeypatch.setattr(textbook, "score", score)
    rows = textbook.statistical_rows(steps_source())
    three = [levels[name] for name in textbook.ENSEMBLED]
    assert len(three) == 3
    assert rows[textbook.ENSEMBLE]["forecast"] == np.median(three)


def test_series_are_drawn_of_those_that_are_fit():
    rng = np.random.default_rng(0)
    walks = {f"walk {i}": rng.normal(size=60).cumsum() for i in range(40)}
    short = np.where(np.arange(60) < 40, np.nan, rng.normal(size=60))
    given_up = np.where(np.arange(60) < 20, rng.normal(size=60), 0.0)
    source = steps_source(values=walks | {"short": short, "given up": given_up})
    drawn = source.series()
    assert len(drawn) == textbook.MOST_SERIES
    names = [name for values in drawn for name in walks if np.array_equal(values, walks[name])]
    assert len(set(names)) == textbook.MOST_SERIES
    assert names != list(walks)[: textbook.MOST_SERIES]
    # What is judged by plays no part in it: a series may rest there.
    resting = {name: np.append(values[:-2], [1.0, 1.0]) for name, values in walks.items()}
    assert len(steps_source(values=resting).series()) == textbook.MOST_SERIES
    assert steps_source(values={"short": short, "given up": given_up}).series() == []


def test_a_score_by_hand():
    # Each value is 2 above the one a season of two before, so errors count in units of 2.
    (cut,) = textbook.cuts_of(steps_source())
    deciles = np.repeat([38, 41], 9).reshape(2, 9).T + np.linspace(-4, 4, 9)[:, None]
    row = textbook.score([cut], 2, [deciles])
    assert row["mase"] == [(0 + 2) / 2 / 2]
    share = np.arange(1, 10)[:, None] / 10
    off = np.array([38, 39]) - deciles
    loss = 2 * np.maximum(share * off, (share - 1) * off).mean() / 2
    assert row["loss"] == pytest.approx([loss], rel=1e-4)
    assert (row["series"], row["held"]) == ([0], [1.0])


def test_forecasts_know_their_series():
    values = np.random.default_rng(0).normal(size=(40, 3))
    cuts = textbook.cuts_of(steps_source(values=values, origins=2))
    assert [number for number, _, _ in cuts] == [0, 0, 1, 1, 2, 2]
    for number, context, truth in cuts:
        known = np.append(context, truth)
        np.testing.assert_array_equal(known, values[: len(known), number])
    assert [number for number, _, _ in textbook.cuts_of(steps_source(values=values), 2)] == [0, 2]


def row_of(source, forecaster, mase, series=None):
    series = list(range(len(mase))) if series is None else series
    held = [0.8] * len(mase)
    row = {"source": source, "forecaster": forecaster, "series": series, "mase": mase}
    return row | {"held": held, "seconds": 1.0}


def test_series_count_once_whatever_their_origins():
    rows = [
        row_of("many", "ours", [1.0, 2.0, 4.0]),
        row_of("many", "theirs", [2.0, 4.0, 8.0]),
        row_of("few", "ours", [1.0, 3.0, 0.0], series=[0, 0, 1]),
        row_of("few", "theirs", [1.0, 1.0, 0.0], series=[0, 0, 1]),
    ]
    errors = recorded.errors_by_series(rows)
    # Of `few` the first series has errors of 2 and 1; the second has none, which counts as equal.
    assert errors["ours"].tolist() == [1, 2, 4, 2, recorded.LEAST_ERROR]
    comparison = recorded.compared(errors, "ours", "theirs")
    assert comparison.over_series.ratio == pytest.approx((0.5**3 * 2 * 1) ** (1 / 5))
    assert comparison.over_sources.ratio == pytest.approx((0.5 * 2**0.5) ** 0.5)
    assert (comparison.better, comparison.count) == (3, 5)
    assert recorded.compared(errors.loc[["many"]], "ours", "theirs").over_sources is None
    assert recorded.by_source(rows, "theirs").loc["few", "ours"] == pytest.approx(2**0.5)


def fakes(monkeypatch, sources):
    """Replace all that takes long; returns the list that names each source that is forecast."""
    measured = []

    def statistical_rows(source):
        measured.append(source.name)
        if source.name == "broken":
            raise KeyboardInterrupt
        names = (*textbook.STATISTICAL, textbook.ENSEMBLE)
        return {name: row_of(source.name, name, [1.0, 2.0]) for name in names}

    def language_row(name, source, cuts):
        measured.append(f"{name} on {source.name}")
        return row_of(source.name, name, [1.0, 1.0])

    monkeypatch.setattr(textbook, "TEXTBOOK", sources)
    monkeypatch.setattr(textbook, "EARLIER", ())
    monkeypatch.setattr(textbook, "statistical_rows", statistical_rows)
    monkeypatch.setattr(textbook, "language_row", language_row)
    monkeypatch.setattr(textbook, "forecaster_of", lambda name: name)
    monkeypatch.setattr(textbook, "model_key", lambda name: {"adapter": name})
    return measured


def test_a_stopped_record_goes_on_after_its_last_source(tmp_path, monkeypatch):
    path = tmp_path / "textbook.json"
    measured = fakes(monkeypatch, [steps_source("whole"), steps_source("broken")])
    with pytest.raises(KeyboardInterrupt):
        textbook.record_half(path, CHOOSING, [GENERAL])
    assert measured == ["whole", "general on whole", "broken"]
    assert {row["source"] for row in read_json(path)["rows"]} == {"whole"}

    measured = fakes(monkeypatch, [steps_source("whole"), steps_source("next")])
    textbook.record_half(path, CHOOSING, [GENERAL])
    assert measured == ["next", "general on next"]
    rows = read_json(path)["rows"]
    assert len(rows) == 2 * (len(textbook.STATISTICAL) + 2)

    # Other weights: the model is measured anew, the statistical forecasters are not.
    measured = fakes(monkeypatch, [steps_source("whole")])
    monkeypatch.setattr(textbook, "model_key", lambda name: {"adapter": "another"})
    textbook.record_half(path, CHOOSING, [GENERAL])
    assert measured == ["general on whole"]
    assert len(read_json(path)["rows"]) == len(rows)
    assert recorded.summary(rows, LAST_SEASON, GENERAL).loc[GENERAL, "error"] == pytest.approx(
        0.5**0.5
    )


def test_without_being_told_so_the_judging_half_is_not_read(tmp_path, monkeypatch):
    def read():
        raise AssertionError("the half for judging was read")

    kept_back = TextbookSource("kept back", JUDGING, 2, 2, 1, read)
    measured = fakes(monkeypatch, [steps_source("open"), kept_back])
    textbook.record_half(tmp_path / "textbook.json", CHOOSING, [])
    assert measured == ["open"]


def test_the_textbook_has_these_series():
    pytest.importorskip("tsdata", reason="the extra `yardsticks` brings it")
    assert [len(source.series()) for source in TEXTBOOK if source.split == CHOOSING] == [
        25, 25, 4, 25, 25, 25, 1, 4,
    ]  # fmt: skip
    for source in TEXTBOOK:
        assert all(np.isfinite(values).all() for values in source.series())
