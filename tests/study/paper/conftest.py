"""Figures without a window, closed after each test, and the numbers that the PDF prints."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

from m2lib.files import read_json
from study.paper import pdf

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def printed_numbers():
    """Return report/numbers.json, the numbers that the committed PDF prints."""
    return read_json(pdf.REPORT_FOLDER / "numbers.json")
