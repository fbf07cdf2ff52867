"""Fixtures that several tests of the models share."""

import copy
import shutil

import pytest
import torch

from m2lib.model.lora import ALL_TARGETS, TARGETS, inject_lora, lora_layers


@pytest.fixture
def model(tiny):
    """Return a copy of the model `tiny`, for a test to change."""
    return copy.deepcopy(tiny.model)


@pytest.fixture(
    params=[
        pytest.param(TARGETS, id="the report's"),
        pytest.param(ALL_TARGETS, id="all"),
        pytest.param(("k_proj", "o_proj", "up_proj"), id="three others"),
    ]
)
def targets(request):
    """Return the names of the projections that get adapters, in each of three choices."""
    return request.param


@pytest.fixture(scope="session")
def add_random_adapter():
    """Return a function that injects an adapter into a model, with random numbers throughout.

    B and the head's bias would be zero otherwise, and the adapter would change nothing.
    """

    def add(model, targets=TARGETS):
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1, 2)]
        inject_lora(model, rank=3, alpha=6.0, targets=targets, generator=generators[0])
        with torch.no_grad():
            for layer in lora_layers(model).values():
                layer.lora_B.normal_(std=0.3, generator=generators[1])
            model.lm_head.bias.normal_(generator=generators[2])
        return model

    return add


@pytest.fixture(scope="session")
def original_folder(tmp_path_factory, save_folder):
    """Return a folder that holds the model `tiny`, with its full vocabulary; for reading only."""
    return save_folder(tmp_path_factory.mktemp("folders") / "model")


@pytest.fixture
def folder(original_folder, tmp_path):
    """Return a folder that holds the model `tiny`, for a test to change."""
    return shutil.copytree(original_folder, tmp_path / "model")
