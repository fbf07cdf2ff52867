"""Adapter folders: how one is found, and what its files say of it."""

import re

import pytest

from m2lib import __version__
from m2lib.errors import InputError
from m2lib.forecaster import adapter_folder, read_format
from m2lib.forecaster.adapters import GENERAL_FOLDER, base_here, base_of
from m2lib.model import inject_lora, load_backbone, save_adapter
from m2lib.model.adapter_files import VERSION_FILE
from m2lib.series import STUDY


@pytest.fixture
def folder(tmp_path):
    """Write an adapter of the tiny model, without a text format, and return its folder."""
    path = tmp_path / "results" / "laptop-tiny" / "trial" / "mine"
    model = inject_lora(load_backbone("tiny", device="cpu", dtype="float32").model, 2)
    save_adapter(model, path, "tiny")
    return path


def test_the_adapter_that_comes_with_the_package_has_a_name():
    assert adapter_folder("general") == GENERAL_FOLDER


def test_an_adapter_is_found_by_its_folder(folder):
    assert adapter_folder(folder) == folder
    assert adapter_folder(str(folder)) == folder


@pytest.mark.parametrize("pattern", ["trial/*", "trial/min?", "*/mine"])
def test_a_name_is_no_pattern(folder, monkeypatch, pattern):
    monkeypatch.chdir(folder.parent.parent)  # where each of these patterns would match the adapter
    with pytest.raises(InputError, match="is no folder"):
        adapter_folder(pattern)


def test_a_folder_that_is_no_adapter_is_refused():
    with pytest.raises(
        InputError,
        match=r"'other' is no folder with an adapter_config\.json; give an adapter's folder",
    ):
        adapter_folder("other")


def test_a_language_model_that_is_given_as_an_adapter_is_named_as_one(tmp_path):
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "config.json").write_text("{}", encoding="utf-8")
    for model in ("smollm2-135m", exported):
        with pytest.raises(InputError, match=r"is a language model and not an adapter; give it as"):
            adapter_folder(model)


def test_an_adapter_names_its_backbone(folder):
    assert base_of(folder) == "tiny"
    assert base_here(folder) == "tiny"


def test_an_adapter_whose_backbone_has_moved_says_so(folder):
    config = folder / "adapter_config.json"
    moved = config.read_text(encoding="utf-8").replace('"tiny"', '"/moved/model"')
    config.write_text(moved, encoding="utf-8")
    message = r"mine was trained on '/moved/model', and no model lies there; say where it is \(--b"
    with pytest.raises(InputError, match=message):
        base_here(folder)


def test_an_adapter_without_a_text_format_has_that_of_the_study(folder):
    assert read_format(folder) == STUDY


def test_a_text_format_that_cannot_be_is_refused(folder):
    (folder / "text_format.json").write_text('{"digits": 9}', encoding="utf-8")
    with pytest.raises(InputError, match=r"text_format\.json cannot be read \(a text format has"):
        read_format(folder)


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        pytest.param(None, "or update m2lib, if a newer one has written it", id="not named"),
        pytest.param(__version__, "; copy the adapter again", id="this one"),
        pytest.param(
            "9.9.9",
            f"or install m2lib 9.9.9, which has written it (this is {__version__})",
            id="another one",
        ),
    ],
)
def test_where_a_file_cannot_be_read_the_version_that_wrote_it_is_said(folder, version, remedy):
    (folder / "text_format.json").write_text('{"of_the_future": 1}', encoding="utf-8")
    (folder / VERSION_FILE).unlink()
    if version:
        (folder / VERSION_FILE).write_text(f"{version}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"{re.escape(remedy)}$"):
        read_format(folder)


def test_a_folder_that_holds_no_adapter_is_refused_as_one_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"adapter_config\.json cannot be read"):
        base_of(tmp_path / "nowhere")


def test_a_config_that_is_cut_off_is_refused(folder):
    (folder / "adapter_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"adapter_config\.json cannot be read"):
        base_of(folder)
