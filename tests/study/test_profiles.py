from dataclasses import replace

import pytest

from m2lib.study.profiles import PROFILES, active_profile


def test_profile_and_backbone_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("M2_PROFILE", raising=False)
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    assert active_profile() == PROFILES["slice"]
    monkeypatch.setenv("M2_PROFILE", "report")
    assert active_profile().backbone == "qwen2.5-0.5b"
    monkeypatch.setenv("M2_BACKBONE", "/models/x")
    assert active_profile().backbone == "/models/x"
    with pytest.raises(ValueError, match="at least 1"):
        replace(PROFILES["slice"], series=0)
