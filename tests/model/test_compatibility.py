"""Both generations of transformers, whichever is installed: each stands in for the model."""

from types import SimpleNamespace

import pytest

from m2lib.model.compatibility import cache_argument, checkpoint_activations


def test_the_cache_has_the_name_that_the_model_takes(tiny):
    newer = SimpleNamespace(forward=lambda input_ids, cache=None: None)
    older = SimpleNamespace(forward=lambda input_ids, past_key_values=None: None)
    assert (cache_argument(newer), cache_argument(older)) == ("cache", "past_key_values")
    assert cache_argument(tiny.model) in ("cache", "past_key_values")


@pytest.mark.parametrize("kinds", [["gradient"], ["activation"], ["activation", "gradient"]])  # between them, both
def test_checkpointing_is_asked_for_by_the_newest_name(kinds):
    asked = []
    model = SimpleNamespace()
    for kind in kinds:
        setattr(model, f"{kind}_checkpointing_enable", lambda how, kind=kind: asked.append((kind, how)))
        setattr(model, f"{kind}_checkpointing_disable", lambda kind=kind: asked.append((kind, "off")))
    checkpoint_activations(model, True)
    checkpoint_activations(model, False)
    assert asked == [(kinds[0], {"use_reentrant": False}), (kinds[0], "off")]
