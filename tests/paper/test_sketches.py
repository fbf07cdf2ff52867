import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from m2lib.forecasting import Engine, StepGrammar
from m2lib.model import PAD_ID, text_to_ids
from m2lib.paper import sketches
from m2lib.series import encode, split_ids
from m2lib.study import EXPERIMENTS
from m2lib.training import make_windows


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def colours(ax):
    """The cells of the drawing row by row, as (column, colour)."""
    rows = {}
    for cell in ax.patches:
        rows.setdefault(int(cell.get_y()), []).append((int(cell.get_x()), matplotlib.colors.to_hex(cell.get_fc())))
    return rows


def test_the_cache_keeps_what_is_drawn_as_kept(tiny):
    prompt, written = "95,1;", "12,"
    naive, cached = sketches.kv_cache(prompt, written).axes
    assert naive.get_title().endswith(": 5 + 6 + 7 = 18 keys a layer and head")
    assert cached.get_title().endswith(": 5 + 1 + 1 = 7 keys a layer and head")
    assert {colour for row in colours(naive).values() for _, colour in row} == {sketches.TRAINED.lower()}
    with torch.inference_mode():
        engine = Engine(tiny.model, [text_to_ids(prompt)])
        for number, token in enumerate(text_to_ids(written), start=1):
            if number == len(written):
                break  # the last token is read by no pass
            before = engine.own[-1][0].clone()
            engine.step(torch.tensor([token]))
            changed = (engine.own[-1][0] != before).any(-1).any(0).nonzero()[:, 0].tolist()
            drawn = [column for column, colour in colours(cached)[number] if colour == sketches.TRAINED.lower()]
            assert changed == drawn


def test_the_grammar_that_is_drawn_is_the_grammar():
    edges, rows = sketches._machine()
    assert rows == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    rules = StepGrammar(1, torch.device("cpu"))
    assert sum(map(len, edges.values())) == rules.allowed.sum()
    assert edges[0, 1] == list("0123456789")
    assert {pair for pair, tokens in edges.items() if tokens == [","]} == {(state, 5) for state in (1, 2, 3, 4)}
    assert {pair for pair, tokens in edges.items() if tokens == [";"]} == {(state, 0) for state in (6, 7, 8, 9)}
    shown = texts(sketches.grammar().axes[0])
    assert [shown.count(text) for text in (*map(str, range(10)), ",", ";")] == [1] * 10 + [4, 4]
    assert {"nothing yet", "d", "dddd", "...,", "...,dddd"} <= set(shown)


def test_windows_are_the_librarys(data):
    values, scale = data.trajectories[1], data.scales[1]
    ids = text_to_ids(encode(values, scale))
    figure = sketches.windows(values, scale, (128, 512), "series 1")
    for ax, length in zip(figure.axes[1:], (128, 512), strict=True):
        starts = [int(text.removeprefix("from ")) for text in texts(ax)]
        cut = make_windows([ids], length)
        assert ax.get_ylabel() == f"{len(cut)} windows\nof {length}"
        for start, window in zip(starts, cut, strict=True):
            kept = window[window != PAD_ID].tolist()
            assert kept == ids[start : start + length]
    prey = figure.axes[0].lines[0]
    assert np.all(np.diff(prey.get_xdata()) >= 4)
    assert [ids[int(x) - 1] for x in prey.get_xdata()[1:]] == text_to_ids(";") * (len(values) - 1)


def test_no_choice_reads_the_test_split():
    readers = sketches._readers()
    assert readers["decisive"][:2] == ["baseline", "default"]
    assert not set(readers["decisive"]) & set(readers["test"])
    assert len(readers["validation"]) + len(readers["test"]) == len(EXPERIMENTS)
    ax = sketches.splits().axes[0]
    shown = "\n".join(texts(ax))
    for name in ("train", "validation", "test"):
        assert f"{name} split\n{len(getattr(split_ids(), name))} series" in shown
    assert ax.get_title(loc="left") == "Who reads which of the 1000 series"
