"""The commit that a record names."""

import re
import shutil
import subprocess

import pytest

from m2lib import provenance

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not on this machine")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a folder that stands in for the project's; it is not in git yet."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def commit_code(folder):
    """Make a folder a repository with one commit, of a file `code.py`."""

    def git(*words):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", folder, *author, *words], check=True, capture_output=True)

    git("init")
    (folder / "code.py").write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "first")


def test_a_folder_that_is_not_in_git_has_no_commit(checkout):
    assert provenance.git_commit() is None


def test_a_commit_says_whether_a_tracked_file_has_changed(checkout):
    commit_code(checkout)

    (checkout / "notes.txt").write_text("untracked", encoding="utf-8")
    commit = provenance.git_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)

    (checkout / "code.py").write_text("2", encoding="utf-8")
    assert provenance.git_commit() == f"{commit}+changes"


def test_an_installation_below_another_project_does_not_name_its_commit(checkout, monkeypatch):
    commit_code(checkout)
    installed = checkout / "installed"
    installed.mkdir()
    monkeypatch.setattr(provenance, "ROOT", installed)

    assert provenance.git_commit() is None
