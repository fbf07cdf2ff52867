"""The figures of all forecasters, against the record that they are drawn from."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from m2lib import study
from m2lib.paper import yardstick_panels
from m2lib.series import WORLDS

LAPTOP = study.PROFILES["laptop"]


@pytest.fixture
def drawn():
    figures = []
    yield lambda draw: figures.append(draw(LAPTOP)) or figures[-1]
    for figure in figures:
        plt.close(figure)


def test_costs_are_the_recorded_rows_and_the_published_ones():
    found = yardstick_panels.costs()
    for name, row in study.recorded_rows("test").items():
        assert found[name]["mean"] == pytest.approx(np.mean(list(row["maes"].values())))
        assert found[name]["median"] == pytest.approx(np.median(list(row["maes"].values())))
        assert (found[name]["seconds"], found[name]["flops"]) == (row["seconds"], row["flops"])
    published = found["published: Qwen2.5-0.5B, final adapter"]
    assert published["seconds"] is None
    assert round(published["mean"], 1) == 37.6


def test_worlds_hold_only_who_forecast_all_of_them(monkeypatch):
    rows = {world: dict(study.recorded_yardsticks(world)) for world in WORLDS}
    rows["as trained"]["a newcomer"] = {0: 1.0}
    monkeypatch.setattr(yardstick_panels.study, "recorded_yardsticks", rows.__getitem__)
    found = yardstick_panels.worlds()
    assert list(found) == list(WORLDS)
    assert {len(errors) for errors in found.values()} == {len(rows["as trained"]) - 1}
    assert "a newcomer" not in found["as trained"]


def test_every_forecaster_is_named_in_both_panels(drawn):
    figure = drawn(yardstick_panels.yardstick_costs)
    names = {yardstick_panels.short(name) for name in yardstick_panels.costs()}
    for ax in figure.axes:
        assert names <= {text.get_text() for text in ax.texts}


def test_the_smallest_error_of_each_world_is_bold(drawn):
    figure = drawn(yardstick_panels.changed_worlds)
    found = list(yardstick_panels.worlds().values())
    bold = [text for text in figure.axes[0].texts if text.get_weight() == "bold"]
    assert len(bold) == len(WORLDS)
    for text in bold:
        column, row = map(int, text.get_position())
        means = [errors["mean"] for errors in found[row].values()]
        assert means[column] == min(means)
