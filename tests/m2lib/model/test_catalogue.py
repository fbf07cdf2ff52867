"""Every known model has a name of its own, and one is meant where none is named."""

from pathlib import Path

from m2lib.model.catalogue import BACKBONES, DEFAULT_BACKBONE, chosen_backbone


def test_every_backbone_with_weights_has_a_name_on_the_hub_of_its_own():
    hub_ids = []
    for name, spec in BACKBONES.items():
        if spec.licence or spec.wheel or spec.gguf_sha256:
            assert spec.hub_id, f"without one {name} would be random"
            hub_ids.append(spec.hub_id)
    assert len(set(hub_ids)) == len(hub_ids), "adapters name their model by it"


def test_every_wheel_has_the_hash_of_its_file():
    for name, spec in BACKBONES.items():
        assert spec.gguf_sha256 or not spec.wheel, f"whatever {name}'s wheel holds would be refused"


def test_a_name_comes_before_the_setting_and_the_setting_before_the_default(monkeypatch):
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    assert chosen_backbone() == DEFAULT_BACKBONE

    monkeypatch.setenv("M2_BACKBONE", "tiny")
    assert chosen_backbone() == "tiny"
    assert chosen_backbone(Path("mine")) == "mine"
