"""The programs of book/training.md run, on a tiny model and a small table."""

import numpy as np
import pandas as pd

from pages import execute, programs_of, text_of

SMALLER = {
    '"smollm2-135m"': '"tiny"',
    "HORIZON = 24": "HORIZON = 3",
    "items[:-20], items[-20:]": "items[:-1], items[-1:]",
    "steps=500": "steps=4",
    "Forecaster.from_pretrained(folder)": "None",
}
"""What is replaced in the programs, so that they take seconds."""


def test_the_programs_run_one_after_the_other(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=60, freq="h")
    frames = [
        pd.DataFrame({"item_id": name, "timestamp": times, "load": rng.uniform(1, 100, 60)})
        for name in "ABC"
    ]
    pd.concat(frames).to_csv(tmp_path / "hourly.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names = {}
    for program in programs_of(text_of("book/training.md")):
        for at_full_size, small in SMALLER.items():
            program = program.replace(at_full_size, small)
        execute(program, names)

    assert len(names["log"].losses) == 4
    assert names["found"].mase.shape[0] == 1
    assert {"adapter_model.safetensors", "text_format.json"} <= {
        path.name for path in (tmp_path / "mine").iterdir()
    }
