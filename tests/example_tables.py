"""A table of two series, for tests that read, guess and take apart tables."""

import numpy as np
import pandas as pd

from m2tables import Columns

DAYS = pd.date_range("2024-01-01", periods=12)
WAVE = np.sin(np.arange(12.0))
TWO_SERIES = pd.DataFrame(
    {
        "item_id": ["B"] * 12 + ["A"] * 12,
        "timestamp": [*DAYS, *DAYS],
        "target": [*WAVE, *-WAVE],
    }
)
COLUMNS = Columns("item_id", "timestamp", ("target",))
"""The columns of `TWO_SERIES`."""
B_ALONE = TWO_SERIES[:12]
