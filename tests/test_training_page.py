"""The programs of book/training.md run, on a tiny model and a small table."""

import numpy as np
import pandas as pd
import pytest

from m2lib.forecaster import Forecaster
from m2lib.series import TABLES
from pages import execute, programs_of, sentences_of, text_of

PROGRAMS = programs_of(text_of("book/training.md"))
SMALLER = {
    '"models/Qwen2.5-1.5B-Instruct"': '"tiny"',
    "HORIZON = 24": "HORIZON = 3",
    "names[:100], names[100:300], names[300:]": "names[:1], names[1:2], names[2:]",
    "steps=2000": "steps=4",
    "range(200, 2001, 200)": "range(2, 5, 2)",
    "range(2000)": "range(2)",
}
"""What is replaced in the programs, so that they take seconds."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a table as the programs read it into an empty folder, and work there."""
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=60, freq="h")
    frames = []
    for name in "ABCDE":
        values = rng.uniform(1, 100, (len(times), 4))
        frame = pd.DataFrame(values, columns=["load", "wind", "sun", "price"])
        frames.append(frame.assign(item_id=name, timestamp=times))
    pd.concat(frames).to_csv(tmp_path / "hourly.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2_DTYPE", "float32")
    return tmp_path


def test_the_programs_run_one_after_the_other(folder):
    names = {}
    for program in PROGRAMS:
        for at_full_size, small in SMALLER.items():
            program = program.replace(at_full_size, small)
        execute(program, names)

    assert names["flops"] == 4 * names["first_step"]["executed"] > 0
    log = names["log"]
    assert [evaluation["step"] for evaluation in log.evaluations] == [0, 2, 4]
    assert names["best"]["step"] in (2, 4)
    assert names["found"].errors.shape[0] == 6, "one series, six moments"
    assert names["ahead"][0].physical.shape == (20, 3, 4)
    by_hand = Forecaster.from_pretrained(folder / "mine" / "by-hand")
    assert by_hand.text_format == TABLES.for_variables(4)


@pytest.mark.parametrize("at_full_size", SMALLER)
def test_what_is_replaced_is_in_the_programs(at_full_size):
    assert at_full_size in "".join(PROGRAMS)


def test_the_page_says_how_many_steps_are_read():
    step = TABLES.for_variables(4).longest_step
    said = f"Four columns then take {step} tokens a step, so the model reads {1024 // step}"
    assert said in sentences_of("book/training.md")
