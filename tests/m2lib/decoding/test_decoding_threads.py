"""Decoding takes one thread where more gain too little, and gives the others back."""

import pytest
import torch

from m2lib.decoding import threads
from m2lib.decoding.threads import LEAST_GAIN, decoding_threads, thread_gain

CPU = torch.device("cpu")


@pytest.fixture
def three_threads(monkeypatch):
    """Have three threads, and nothing said about them."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("gain", "while_decoding"), [(LEAST_GAIN, 3), (LEAST_GAIN - 0.01, 1)])
def test_threads_that_gain_too_little_are_left_out(
    gain, while_decoding, three_threads, monkeypatch
):
    monkeypatch.setattr(threads, "thread_gain", lambda: gain)
    with decoding_threads(CPU):
        assert torch.get_num_threads() == while_decoding
    assert torch.get_num_threads() == 3


def test_a_number_that_the_user_says_is_kept(three_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(threads, "thread_gain", lambda: 0.1)
    with decoding_threads(CPU):
        assert torch.get_num_threads() == 3


def test_an_error_gives_the_threads_back(three_threads, monkeypatch):
    monkeypatch.setattr(threads, "thread_gain", lambda: 0.1)
    with pytest.raises(ZeroDivisionError), decoding_threads(CPU):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3


def test_the_gain_is_measured_once(three_threads, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    gains = iter([1.5])
    monkeypatch.setattr(threads, "_timed_gain", lambda: next(gains))
    assert thread_gain() == thread_gain() == 1.5


def test_a_measurement_times_a_real_model_and_changes_nothing(three_threads):
    assert 0 < threads._timed_gain() < 30
    assert torch.get_num_threads() == 3
