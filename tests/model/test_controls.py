import copy

import pytest
import torch

from m2lib.model.backbones import load_backbone
from m2lib.model.controls import shuffle_weights, train_everything


def test_shuffling_keeps_what_each_matrix_holds_and_no_place_of_it(tiny):
    before, after = tiny.model, shuffle_weights(copy.deepcopy(tiny.model))
    for (name, old), (_, new) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values), name
        assert torch.equal(old, new) == (old.dim() == 1), name
    again = shuffle_weights(copy.deepcopy(tiny.model)).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in after.state_dict().items())
    other = shuffle_weights(copy.deepcopy(tiny.model), seed=1).state_dict()
    assert not torch.equal(other["lm_head.weight"], after.state_dict()["lm_head.weight"])


def test_all_weights_train_in_float32_only(tiny):
    model = train_everything(copy.deepcopy(tiny.model))
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match=r"in float32 only, not in torch.bfloat16"):
        train_everything(load_backbone("tiny", device="cpu", dtype="bfloat16").model)


def test_the_small_model_is_random_and_the_same_each_time():
    small, again = load_backbone("small", device="cpu", dtype="float32"), load_backbone("small", device="cpu")
    assert small.weight_hash == again.weight_hash != load_backbone("tiny").weight_hash
    assert small.source == "random weights"
    assert 2.3e6 < sum(parameter.numel() for parameter in small.model.parameters()) < 2.5e6
