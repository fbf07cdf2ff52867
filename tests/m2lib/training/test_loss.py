"""The training loss: that of transformers, without pads, and weighed by place and digit."""

import pytest
import torch

from m2lib.model import PAD_ID, text_to_ids
from m2lib.training import window_loss
from m2lib.training.loss import loss_weights

IDS = torch.tensor([text_to_ids("952,1034;948,1029;")])
"""A window of 18 tokens, of which 17 are predicted."""
PADDED = torch.nn.functional.pad(IDS, (0, 9), value=PAD_ID)


def test_pads_change_nothing(tiny):
    with torch.no_grad():
        loss = window_loss(tiny.model, IDS).item()
        assert window_loss(tiny.model, PADDED).item() == pytest.approx(loss, abs=1e-5)


def test_a_loss_is_the_mean_over_all_tokens_of_a_batch(tiny):
    other_ids = torch.tensor([text_to_ids("1,2;" * 6 + "12;")])  # 26 of its 27 tokens are predicted
    with torch.no_grad():
        loss = window_loss(tiny.model, IDS)
        other_loss = window_loss(tiny.model, other_ids)
        loss_of_both = window_loss(tiny.model, torch.cat([PADDED, other_ids]))

    expected = (loss * 17 + other_loss * 26) / (17 + 26)
    assert loss_of_both.item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_loss_is_that_of_transformers(tiny):
    with torch.no_grad():
        theirs = tiny.model(IDS, labels=IDS).loss
        assert window_loss(tiny.model, IDS).item() == pytest.approx(theirs.item(), abs=1e-5)


def test_tail_weight_moves_the_loss_toward_the_end(tiny):
    with torch.no_grad():
        logits = tiny.model(IDS).logits
        of_window = window_loss(tiny.model, IDS, 3.0).item()
        of_padded = window_loss(tiny.model, PADDED, 3.0).item()

    losses = torch.nn.functional.cross_entropy(logits[0, :-1], IDS[0, 1:], reduction="none")
    ramp = torch.linspace(1, 3, 17)
    expected = ((losses * ramp).sum() / ramp.sum()).item()
    assert of_window == pytest.approx(expected)
    assert of_padded == pytest.approx(expected, abs=1e-5)


def test_a_numbers_last_digit_can_weigh_less():
    ids = torch.tensor([[*text_to_ids("952,1034;948,7"), PAD_ID, PAD_ID]])
    # The weights of 5 2 , 1 0 3 4 ; 9 4 8 , 7 and two pads: nothing predicts the first 9.
    weights = [1, 0.25, 1, 1, 1, 1, 0.25, 1, 1, 1, 0.25, 1, 0.25, 0, 0]
    assert loss_weights(ids, units_weight=0.25)[0].tolist() == weights
    assert loss_weights(ids)[0].tolist() == [1.0] * 13 + [0, 0]


def test_what_follows_the_last_column_is_not_known_so_its_digit_weighs_one():
    ids = torch.tensor([text_to_ids("12,34")])
    assert loss_weights(ids, units_weight=0.25)[0].tolist() == [0.25, 1, 1, 1]


def test_a_window_of_two_tokens_predicts_one():
    ids = torch.tensor([text_to_ids("12")])
    assert loss_weights(ids, tail_weight=3.0).tolist() == [[1.0]]
