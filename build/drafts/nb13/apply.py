import pathlib
p = pathlib.Path(__file__).resolve().parents[3] / "m2lib/paper/panels.py"
s = p.read_text()
s = s.replace("from m2lib.paper import diagrams, plots, uncertainty, yardstick_panels", "from m2lib.paper import diagrams, more_per_flop, plots, uncertainty, yardstick_panels")
if "more_per_flop.draw" not in s:
    s = s.replace('''@_figure
def table3_budget(''', '''def _of_long_run(profile: study.Profile) -> "Figure":
    best, final = finished_record(profile, "best"), finished_record(profile, "final")
    arms = finished_records(profile, more_per_flop.START, *study.ARMS)
    return more_per_flop.draw(best, final, arms, profile.budget)


FIGURES["more_per_flop"] = _of_long_run


@_figure
def table3_budget(''')
p.write_text(s)


def edit(name, *pairs):
    path = p.parents[2] / name
    text = path.read_text()
    for old, new in pairs:
        if new in text:
            continue
        assert text.count(old) == 1, (name, text.count(old), old)
        text = text.replace(old, new)
    path.write_text(text)


edit(
    "m2lib/paper/numbers.py",
    ("from m2lib.paper import panels,", "from m2lib.paper import more_per_flop, panels,"),
    ("    EXPERIMENTS,\n", "    ARMS,\n    EXPERIMENTS,\n"),
    ('        "table3": _table_3(),\n', '        "more per flop": _more_per_flop(profile, everything, yardsticks["test"]),\n        "table3": _table_3(),\n'),
    ('def _table_3() -> dict:', '''def _more_per_flop(profile: Profile, records: dict[str, Record], yardsticks: dict) -> dict:
    others = {"final": records["final"].maes(), "published final": published_maes("final")} | yardsticks
    others[TUNED] = recorded_yardsticks("test")[TUNED]
    best = {"greedy": records["best"], "sampled": records["samples/best/test"]}
    arms = {name: records[name] for name in (more_per_flop.START, *ARMS)}
    errors = {how: _errors(record.maes()) | _intervals(record.maes()) for how, record in best.items()}
    return more_per_flop.numbers(best, others, arms, profile.budget) | {"errors": errors}


def _table_3() -> dict:'''),
)
here = pathlib.Path(__file__).resolve().parent
t = p.parents[2] / "report/main.typ"
text = t.read_text()
if "= More accuracy per FLOP" not in text:
    mark = "= What it cost\n"
    assert text.count(mark) == 1
    t.write_text(text.replace(mark, (here / "section.typ").read_text() + mark))
b = p.parents[2] / "report/references.bib"
if "kaplan2020" not in b.read_text():
    b.write_text(b.read_text().rstrip("\n") + "\n" + (here / "kaplan.bib").read_text())
