"""Where a run ran."""

from m2lib.files import ROOT
from m2lib.study import provenance


def test_a_commit_is_of_the_checkout_alone(monkeypatch):
    if (ROOT / ".git").exists():
        assert len(provenance.git_commit().removesuffix("+changes")) == 40
    monkeypatch.setattr(provenance, "IN_CHECKOUT", False)  # installed, perhaps below another project
    assert provenance.git_commit() is None
