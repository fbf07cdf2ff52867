"""What waits for the records of the samples: section, numbers, figures, README row. apply.py [TREE]; a second call changes nothing."""
import sys, pathlib
here=pathlib.Path(__file__).resolve().parent; tree=pathlib.Path(sys.argv[1]) if len(sys.argv)>1 else here.parents[2]
def edit(name, *pairs):
    p=tree/name; s=p.read_text()
    for old,new in pairs:
        if new in s: continue
        assert s.count(old)==1, (name, s.count(old), old)
        s=s.replace(old,new)
    p.write_text(s)
edit("m2lib/paper/panels.py",
  ('FIGURES |= {draw.__name__: draw for draw in yardstick_panels.FIGURES}',
   'def _of_samples(draw: Callable[[uncertainty.Sampled], "Figure"]) -> Callable[[study.Profile], "Figure"]:\n    return lambda profile: draw(sampled(profile))\n\n\nFIGURES |= {draw.__name__: _of_samples(draw) for draw in uncertainty.FIGURES}\nFIGURES |= {draw.__name__: draw for draw in yardstick_panels.FIGURES}'))
s=(tree/"m2lib/paper/numbers.py").read_text()
if "uncertainty" not in s:
    edit("m2lib/paper/numbers.py",
      ("import panels, yardstick_panels\n","import panels, uncertainty, yardstick_panels\n"),
      ('    "context/768-rest",\n)','    "context/768-rest",\n    *(f"samples/{who}/{split}" for who in ("untuned", "final") for split in ("validation", "test")),\n    *(f"temperature/{who}/{temperature}" for who in ("untuned", "final") for temperature in TEMPERATURES),\n)'),
      ('        "table3": _table_3(),\n','        "uncertainty": uncertainty.numbers(\n            panels.sampled(profile),\n            panels.sampled(profile, "validation"),\n            {name: record for name, record in everything.items() if name.startswith("temperature/")},\n        ),\n        "table3": _table_3(),\n'),
      ("    STATISTICAL,\n    TRIALS,","    STATISTICAL,\n    TEMPERATURES,\n    TRIALS,"))
t=(tree/"report/main.typ").read_text()
if "= How sure the forecasts are" not in t:
    section=(here/"section.typ").read_text()
    mark="= What it cost\n"
    assert t.count(mark)==1
    later=[t.find(m) for m in ("\n= Yardsticks","\n= What needs no language model","\n= Without a language model") if t.find(m)>0]
    print("headings:", [l for l in t.splitlines() if l.startswith("= ")])
    at=int(sys.argv[2]) if len(sys.argv)>2 else (min(later)+1 if later else t.index(mark))
    (tree/"report/main.typ").write_text(t[:at]+section+t[at:])
b=(tree/"report/references.bib").read_text()
if "romano2019" not in b: (tree/"report/references.bib").write_text(b.rstrip("\n")+"\n"+(here/"romano.bib").read_text())

r=(tree/"README.md")
if r.exists():
    t=r.read_text()
    if "11_uncertainty" not in t:
        ten=next(l for l in t.splitlines() if l.startswith("| [10 FLOP review]"))
        r.write_text(t.replace(ten, ten+"\n| [11 uncertainty](notebooks/11_uncertainty.ipynb) | beyond | sampling by hand, the CRPS three ways, bands that keep their promise, fan charts, what doubt costs | 35 s |"))
