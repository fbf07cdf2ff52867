"""Nonsensical command lines, settings and surroundings: a status and a line, never a traceback or a stray file."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import chdir
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2lib import cli
from m2lib.series import recipe, series_files

pytestmark = pytest.mark.fuzz
COMMANDS, PROCESSES = 500, 14  # under a minute on an idle machine
SETTINGS = settings(
    database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, report_multiple_bugs=False
)

# What the commands are given. Nothing here names a model that could be downloaded, or makes a run that takes long.
LONG = ("a" * 300, "a/" * 3000, "9" * 400, "9" * 5000)
ODD = (*LONG, "~nosuchuser/x", "line\nbreak", "caf\udce9", "naïve", "\x1b[2J", "-1", "1e9", "%s", "{0}", " ", "*")
HOSTILE = st.sampled_from(ODD) | st.text(st.characters(exclude_characters="/\0"), max_size=20).filter(
    lambda text: text not in ("", ".", "..") and not text.startswith("-") and can_be_passed(text)
)
PLACES = ("series.h5", "damaged.h5", "empty", "folder", "folder/new", "empty/below", "circle", "circle/x", "dangling")
PLACES += ("~", "~/x", "new/new/x.h5", ".", "", "model", "/dev/null", "deep", "sealed", "sealed/x")
MODELS = ("tiny", "model", "broken", "deep", "junk.gguf", "folder", "empty", "circle", "~/x", "gpt-5")


def mostly(*values):
    """One of these, or now and then anything."""
    return st.one_of(*[st.sampled_from(values)] * 4, HOSTILE)


PLACE, MODEL = mostly(*PLACES), mostly(*MODELS)
NUMBER = mostly("0", "1", "512", "٣", "1_000", "+1", "1.5", str(10**18), str(10**19), str(2**32))
SIZE = mostly("3", "5", "0", "-3", str(10**12), str(10**18), "x")
EXPERIMENT = mostly("baseline", "baseline-constrained", "untuned-test", "untuned-test-constrained", "../x")
FLOPS = ("--length", "--rank", "--batch", "--steps", "--new-tokens")
# Of each command: what always follows it, and what may.
ARGUMENTS = {
    # Without a path it would write into the checkout.
    ("data", "generate"): ([PLACE], [("--n", SIZE), ("--seed", NUMBER), ("--force",), (HOSTILE,)]),
    ("data", "check"): ([], [(PLACE,)]),
    ("model",): ([], [(MODEL,)]),
    ("run",): ([EXPERIMENT], [(EXPERIMENT,), ("--fresh",), ("--beyond",)]),
    ("status",): ([], []),
    ("budget",): ([], []),
    ("pdf",): ([], [(PLACE,)]),
    ("flops",): (
        [],
        [
            *((size, NUMBER) for size in FLOPS),
            ("--backbone", MODEL),
            ("--convention", mostly("executed", "published", "x")),
            ("--json",),
            (EXPERIMENT,),
        ],
    ),
    (): ([], [("data",), ("check",), ("run",), ("flops",), ("--json",), ("--help",), (HOSTILE,)]),
}
# Of each variable: what is good, and what may be anything. Two are never left out: without them `m2 model` could
# download, and `m2 pdf` draw the whole report.
PATHS = mostly(*(place for place in PLACES if place))
VARIABLES = {
    "M2_PROFILE": ("slice", mostly("report", "laptop\n", "SLICE", "")),
    "M2_BACKBONE": ("tiny", MODEL),
    "M2_DATA": ("series.h5", PATHS | st.none()),
    "M2_DEVICE": ("cpu", mostly("cuda:99", "meta", "mps", "cpu:0")),
    "M2_DTYPE": ("float32", mostly("bfloat16", "float16")),
    "M2_RECOMPUTE": ("0", mostly("no", "YES", "maybe")),
    "M2_CACHE": ("cache", PATHS),
    "M2_OUT": ("out", PATHS),
    "M2_RESULTS": ("results", PATHS),
    "HOME": ("home", st.sampled_from(("", "nowhere", "caf\udce9"))),
}
REDIRECTIONS = (">/dev/full", "2>/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", "<&- >&- 2>&-", "| head -c 1", "| true")
TERMINALS = {"PYTHONIOENCODING": ("ascii", "latin-1"), "LC_ALL": ("C", "C.UTF-8"), "PYTHONUNBUFFERED": ("1", "")}
TERMINALS |= {"PYTHONUTF8": ("0", "1"), "COLUMNS": ("0", "x"), "PYTHONCOERCECLOCALE": ("0", "1")}


def can_be_passed(text):
    """Whether the system hands it over to a process."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


@st.composite
def command_lines(draw):
    command = draw(st.sampled_from(list(ARGUMENTS)))
    always, optional = ARGUMENTS[command]
    chosen = draw(st.lists(st.integers(0, len(optional) - 1), unique=True, max_size=3)) if optional else []
    words = [*always, *(word for i in chosen for word in optional[i])]
    return [*command, *(word if isinstance(word, str) else draw(word) for word in words)]


@st.composite
def variables(draw):
    """All variables, few or none of them odd."""
    odd = draw(st.sets(st.sampled_from(list(VARIABLES)), max_size=draw(st.sampled_from((0, 1, 3)))))
    return {name: draw(anything) if name in odd else good for name, (good, anything) in VARIABLES.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory, save_folder):
    """A folder of files good and bad, which each command gets a copy of."""
    folder = tmp_path_factory.mktemp("commands") / "scratch"
    for name in ("folder", "home", "broken", "deep", "out/results/slice-tiny", "results/report-tiny"):
        (folder / name).mkdir(parents=True)
    series_files.write_series(recipe.generate_series(20), folder / "series.h5")
    damaged = bytearray((folder / "series.h5").read_bytes())
    damaged[200:1200] = bytes(1000)
    (folder / "damaged.h5").write_bytes(damaged)
    (folder / "empty").touch()
    (folder / "junk.gguf").write_bytes(b"GGUF" + bytes(range(256)))
    (folder / "circle").symlink_to("circle")
    (folder / "dangling").symlink_to("nowhere")
    save_folder(folder / "model")
    for name, config in (("broken", "{"), ("deep", "[" * 100_000)):
        shutil.copytree(folder / "model", folder / name, dirs_exist_ok=True)
        (folder / name / "config.json").write_text(config, encoding="utf-8")
    for name, record in (("baseline", "[" * 100_000), ("default", "{}"), ("final", "")):
        (folder / f"out/results/slice-tiny/{name}.json").write_text(record, encoding="utf-8")
        (folder / f"results/report-tiny/{name}.json").write_text(record, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def recipe_at_hand():
    """Series that the recipe has given are kept: `m2 data check` asks for all 1000 each time."""
    kept = cache(recipe.generate_series)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.series, "generate_series", kept)
        patch.setattr(series_files, "generate_series", kept)
        yield


inside: list[Path] = []
"""The folder that may be written to, while it is watched."""
strays: list[str] = []
"""What was written elsewhere, or would have been."""
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")


def watch(event, arguments):
    """Notes, and prevents, what is written outside the folder."""
    if not inside or (event not in CHANGES and event != "open"):
        return
    path, *more = arguments
    if isinstance(path, int) or (event == "open" and not more[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        return
    if event in ("os.remove", "os.rmdir", "os.mkdir") and more[-1] != -1:  # relative to a folder that was opened
        return
    place = Path(os.path.abspath(os.fsdecode(path)))
    harmless = place.is_dir() if event == "os.mkdir" else place.parent == Path("/dev")
    if not harmless and not place.is_relative_to(inside[0]):
        strays.append(f"{event} {place}")
        raise PermissionError(13, "outside the test's folder", str(place))


def copy_of(template, folder):
    """The template, in a folder of this command's own."""
    shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True)
    (folder / "tmp").mkdir()
    (folder / "sealed").mkdir(mode=0)
    return folder


def environment(folder, chosen):
    """The variables as they are to be, with what keeps a command off the network and in its folder."""
    fixed = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    fixed |= {"MPLCONFIGDIR": str(folder / "tmp"), "HOME": str(folder / "home")}
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES and name not in TERMINALS}
    return kept | fixed | {name: value for name, value in chosen.items() if value is not None}


def check(status, err):
    """What holds of every end of a command; err: None where nobody sees what it says."""
    assert status in (0, 1, 2, 130, 141)
    if err is None:
        return
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    if status == 1:
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert len(err) < 20_000
    elif status != 2:
        assert "error" not in err


def test_commands(template, tmp_path, capsys):
    sys.addaudithook(watch)
    outcomes = Counter()

    @settings(SETTINGS, max_examples=COMMANDS)
    @given(command_lines(), variables())
    def attack(words, chosen):
        strays.clear()
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            scratch = copy_of(template, Path(folder))
            with mock.patch.dict(os.environ, environment(scratch, chosen), clear=True), chdir(scratch):
                inside[:] = [scratch]
                try:
                    status = cli.main(words)
                except SystemExit as stop:
                    status = stop.code
                finally:
                    inside.clear()
                    (scratch / "sealed").chmod(0o700)
        check(status, capsys.readouterr().err)
        assert not strays
        known = {word for command in ARGUMENTS for word in command}
        outcomes[" ".join(word for word in words[:1] if word in known), status] += 1

    attack()
    with capsys.disabled():
        print(f"\n{sum(outcomes.values())} commands:", dict(sorted(outcomes.items())))


def test_commands_in_odd_surroundings(template, tmp_path, capsys):
    outcomes = Counter()
    odd = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in TERMINALS.items()})

    @settings(SETTINGS, max_examples=PROCESSES)
    @given(command_lines(), variables(), odd, st.sampled_from(REDIRECTIONS))
    def attack(words, chosen, terminal, redirection):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            scratch = copy_of(template, Path(folder))
            line = f'set -o pipefail; "$@" {redirection}'
            command = [sys.executable, __file__, folder, *words]
            done = subprocess.run(
                ["bash", "-c", line, "m2", *command],
                cwd=scratch,
                env=environment(scratch, chosen) | terminal,
                capture_output=True,
                timeout=100,
            )
            (scratch / "sealed").chmod(0o700)
        check(done.returncode, None if "2>" in redirection else done.stderr.decode(errors="replace"))
        outcomes[redirection, done.returncode] += 1

    attack()
    with capsys.disabled():
        print(f"\n{sum(outcomes.values())} processes:", dict(sorted(outcomes.items())))


if __name__ == "__main__":  # one command, watched
    sys.addaudithook(watch)
    inside.append(Path(sys.argv[1]))
    end = cli.main(sys.argv[2:])
    sys.exit(99 if strays else end)
