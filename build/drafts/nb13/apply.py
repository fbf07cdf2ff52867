import pathlib
p = pathlib.Path(__file__).resolve().parents[3] / "m2lib/paper/panels.py"
s = p.read_text()
s = s.replace("from m2lib.paper import diagrams, plots, uncertainty, yardstick_panels", "from m2lib.paper import diagrams, more_per_flop, plots, uncertainty, yardstick_panels")
if "more_per_flop.draw" not in s:
    s = s.replace('''@_figure
def table3_budget(''', '''def _of_long_run(profile: study.Profile) -> "Figure":
    best, final = finished_record(profile, "best"), finished_record(profile, "final")
    arms = finished_records(profile, more_per_flop.START, *study.ARMS)
    return more_per_flop.draw(best, final, arms, _series(), profile.budget)


FIGURES["more_per_flop"] = _of_long_run


@_figure
def table3_budget(''')
p.write_text(s)
