"""Shared fixtures, and the surroundings in which unit tests and notebooks run."""

import difflib
import inspect
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

import m2lib  # noqa: F401  (before any test loads torch: see m2lib/threads.py)

# On a shared machine an example may take ten times as long as on the first try.
hypothesis.settings.register_profile("m2lib", deadline=None)
hypothesis.settings.load_profile("m2lib")


def pytest_configure(config):
    """Run offline at the slice profile, on its own backbone, and into an empty folder.

    The folder is empty so that all is computed anew.
    """
    os.environ["M2_PROFILE"] = "slice"
    # The last one is for this process alone: processes that tests start would print their warnings,
    # which the tests would take for messages.
    for name in ("M2_BACKBONE", "M2_RESULTS", "PYTHONWARNDEFAULTENCODING"):
        os.environ.pop(name, None)
    # The language model on tables too, which otherwise takes the dtype that is fastest here.
    os.environ["M2_DTYPE"] = os.environ.get("M2_DTYPE") or "float32"
    # Where git runs the tests as a hook, these name the real repository, and a test's own would be
    # committed into it. What an outer make was told goes before all that is set here.
    git_variables = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
    make_variables = ("FRESH", "ALL", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    # Help is as wide as the terminal, and in colours where a variable asks for them.
    terminal_variables = ("FORCE_COLOR", "TTY_COMPATIBLE")
    for name in (*git_variables, *make_variables, *terminal_variables):
        os.environ.pop(name, None)
    os.environ["COLUMNS"] = "80"
    os.environ["HF_HUB_OFFLINE"] = "1"
    config.scratch = tempfile.TemporaryDirectory(prefix="m2-test-")
    os.environ["M2_OUT"] = config.scratch.name
    for name in ("M2_DATA", "M2_CACHE"):  # notebooks run in their own folder
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())


def pytest_unconfigure(config):
    config.scratch.cleanup()


def pytest_collectstart(collector):
    """Compare checked cells by what they print, not by warnings or by the HTML of a table."""
    if collector.__class__.__name__ == "IPyNbFile":
        collector.skip_compare += ("stderr", "text/html")


@pytest.fixture(scope="session")
def data():
    """Return the data set as the recipe gives it; all tests share it, so it is read-only."""
    from m2lib.series import generate_series

    series = generate_series()
    for array in (series.trajectories, series.time):
        array.setflags(write=False)
    return series


@pytest.fixture(scope="session")
def recipe_file(data, tmp_path_factory):
    """Write the data set into a file, so that not every command makes it anew."""
    from m2lib.series import write_series

    path = tmp_path_factory.mktemp("data") / "series.h5"
    write_series(data, path)
    return path


@pytest.fixture(scope="session")
def tiny():
    """Return a model of two random layers, in float32 on the CPU."""
    from m2lib.model.backbones import load_backbone

    return load_backbone("tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def smollm2():
    """Return the default backbone, in float32 on the CPU."""
    from m2lib.model.backbones import load_backbone

    return load_backbone("smollm2-135m", device="cpu", dtype="float32")


def store_below(folder, patch):
    """Let records and live runs go below a folder, and compute in float32 on the CPU."""
    patch.setenv("M2_RESULTS", str(folder / "results"))
    patch.setenv("M2_OUT", str(folder / "build"))
    patch.setenv("M2_DTYPE", "float32")
    patch.setenv("M2_DEVICE", "cpu")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Make a folder of this test's own for records and live runs, in float32 on the CPU."""
    store_below(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def stored_below():
    """Return a context manager that does for a folder what `store` does for the folder of a test.

    It is for runs that the tests of a module share.
    """

    @contextmanager
    def surroundings(folder):
        with pytest.MonkeyPatch.context() as patch:
            store_below(folder, patch)
            yield patch

    return surroundings


@pytest.fixture
def note_calls(monkeypatch):
    """Return a function that takes a note of each call of another one, which works as before.

    The other one is given by its owner, a module or a class, and by its name. The note is what
    `what` makes of the call, which has the arguments as attributes: `lambda call: call.step`. The
    list that is returned fills with the notes.
    """

    def note(owner, name, what):
        real = getattr(owner, name)
        signature = inspect.signature(real)
        notes = []

        def noting(*arguments, **options):
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            notes.append(what(SimpleNamespace(**bound.arguments)))
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, noting)
        return notes

    return note


@pytest.fixture
def commands_on_tiny(tmp_path, recipe_file, monkeypatch):
    """Let commands take the tiny model on the CPU, and the data set from a file.

    What they write goes into a folder of the test.
    """
    monkeypatch.setenv("M2_OUT", str(tmp_path / "build"))
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_DATA", str(recipe_file))


@pytest.fixture(scope="session")
def refusal():
    """Return a function that makes a call and returns the one line in which it is refused."""
    from m2lib.errors import InputError

    def line_of(call, *arguments, **options):
        with pytest.raises(InputError) as error:
            call(*arguments, **options)
        # The message as it was written, because str(error) shows a line break as \n.
        (message,) = error.value.args
        assert "\n" not in message
        return str(error.value)

    return line_of


@pytest.fixture(scope="session")
def save_folder():
    """Return a function that writes a small Qwen2 and its tokenizer into a folder, as on a hub.

    The function returns the folder.
    """
    from tokenizers import Tokenizer, models

    from m2lib.model.backbones import load_backbone

    def save(path: Path) -> Path:
        full = load_backbone("tiny", device="cpu", dtype="float32", reduce=False)
        full.model.save_pretrained(path)
        printable = {chr(32 + i): i for i in range(95)}
        tokenizer = Tokenizer(models.BPE(printable, merges=[]))
        tokenizer.add_special_tokens(["<|endoftext|>"])
        tokenizer.save(str(path / "tokenizer.json"))
        return path

    return save


def pytest_assertrepr_compare(op, left, right):
    """Of a sentence that is not on a page, show what comes nearest to it there."""
    texts = isinstance(left, str) and isinstance(right, str)
    if op != "in" or not texts or len(right) < 1000:
        return None
    words = right.split()
    length = len(left.split())
    places = range(max(1, len(words) - length + 1))
    passages = [" ".join(words[place : place + length]) for place in places]
    nearest = difflib.get_close_matches(left, passages, n=1, cutoff=0.0)
    return ["this is not on the page:", left, "what comes nearest to it:", *nearest]
