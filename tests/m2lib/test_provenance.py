"""The commit that a record names."""

import re
import shutil
import subprocess

import pytest

from m2lib import provenance


@pytest.mark.skipif(not shutil.which("git"), reason="git is not on this machine")
def test_a_commit_says_whether_a_tracked_file_has_changed(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):  # those of a hook that runs tests
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_commit() is None
    git("init")
    (tmp_path / "code.py").write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "untracked").mkdir()
    commit = provenance.git_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert provenance.git_commit() == f"{commit}+changes"
    # Installed below another project, it does not name that one's commit.
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "untracked")
    assert provenance.git_commit() is None
