"""`python book/gallery.py FOLDER` writes the galleries of test and validation series into FOLDER.

A series is a row of a table. Its curves lie in the same row, in columns that the table does not
show, and what is drawn is the chosen row alone. The first file carries Bokeh's scripts, out of its
package.
"""

import sys
from pathlib import Path

import numpy as np
from bokeh import embed, models, plotting, resources

import study
from m2lib.series import CONTEXT_STEPS, VARIABLES, band, encode, to_integers
from study import plots
from study.paper import errors

# Recorded runs, by what they are called here. Those with ×48 are samples, of which the median and
# the 80% band are drawn.
SHOWN = {
    "test": {
        "untuned": "untuned-test-constrained", "final": "final",
        "long run": "best", "long run ×48": "samples/best/test"
    },
    "validation": {
        "untuned": "baseline-constrained", "default-warm": "default-warm",
        "final ×48": "samples/final/validation", "long run ×48": "samples/best/validation"
    },
}  # fmt: skip
WIDE = {"sizing_mode": "stretch_width"}
AHEAD = list(range(CONTEXT_STEPS + 1, 101))
SHARED = {"steps": list(range(1, 101)), "ahead": AHEAD, "there and back": AHEAD + AHEAD[::-1]}
SAY = "words.text = source.data.words[source.selected.indices[0]] ?? ''"


def row_of(i: int, records: dict[str, study.Record]) -> dict:
    """Return a series: its course, the MAE, forecast and band of each run, and the texts."""
    series = errors.data()
    scale = series.scales[i]
    course = to_integers(series.trajectories[i], scale)
    row = {**SHARED, "series": i}
    for variable, name in enumerate(VARIABLES):
        row[name] = course[:, variable].tolist()

    texts = {f"series {i}, as it went on": encode(series.truths[i], scale)}
    for title, record in records.items():
        entry = record.series[i]
        forecast = study.recorded_forecast(record, series, i)
        low, high = band(study.recorded_samples(record, series, i), 0.8)
        # The outline of the band goes below from step 81 to 100, and back above from 100 to 81.
        outline = np.rint([*low, *high[::-1]]).astype(int)
        row[title] = round(entry["mae"], 1)
        for variable, name in enumerate(VARIABLES):
            row[f"{title} {name}"] = forecast[:, variable].tolist()
            row[f"{title} {name} band"] = outline[:, variable].tolist()
        text = entry["text"] if "text" in entry else entry["texts"][0]
        texts[f"{title}, MAE {row[title]}"] = text

    lines = [f"<b>{title}</b> <code>{text}</code>" for title, text in texts.items()]
    row["words"] = "<br>".join(lines)
    return row


def panel(
    title: str, source: models.ColumnDataSource, view: models.CDSView, heights: models.DataRange1d
):
    """Draw the chosen series, solid, and what one run forecast, dashed in its band."""
    figure = plotting.figure(
        title=title, height=190, y_range=heights, toolbar_location=None, tools="", **WIDE
    )
    figure.add_layout(
        models.BoxAnnotation(left=AHEAD[0], right=AHEAD[-1], fill_color="#eeeeee", level="image")
    )
    for name in VARIABLES:
        style = {"source": source, "view": view, "color": plots.COLOURS[name]}
        figure.patches("there and back", f"{title} {name} band", alpha=0.25, line_width=0, **style)
        figure.multi_line("steps", name, **style)
        figure.multi_line("ahead", f"{title} {name}", line_dash="dashed", line_width=2.5, **style)
    return figure


def gallery(split: str) -> str:
    """Return the table of a split's series, and below it what the chosen one's row holds."""
    records = {}
    for title, name in SHOWN[split].items():
        records[title] = errors.finished_record(study.PROFILES["laptop"], name)
    rows = [row_of(i, records) for i in sorted(records["untuned"].series)]
    source = models.ColumnDataSource()
    for name in rows[0]:
        source.add([row[name] for row in rows], name)
    source.selected.indices = [0]
    row_filter = models.IndexFilter([0])

    columns = [models.TableColumn(field=name, title=name) for name in ("series", *records)]
    for column in columns[1:]:
        column.formatter = models.NumberFormatter(format="0.0")
    table = models.DataTable(
        source=source, columns=columns, index_position=None, height=215, **WIDE
    )
    table.reorderable = False
    table.scroll_to_selection = False

    words = models.Div(text=rows[0]["words"], styles={"overflow-wrap": "anywhere"}, **WIDE)
    source.selected.js_link("indices", row_filter, "indices")
    show_words = models.CustomJS(args={"source": source, "words": words}, code=SAY)
    source.selected.js_on_change("indices", show_words)

    heights = models.DataRange1d()  # one for all panels, so that they compare
    panels = [panel(title, source, models.CDSView(filter=row_filter), heights) for title in records]
    script, divs = embed.components([table, *panels, words])
    return "\n".join(['<div class="gallery">', *divs, "</div>", script])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    scripts = resources.Resources(
        "inline", components=["bokeh", "bokeh-widgets", "bokeh-tables"]
    ).render()
    (folder / "gallery_test.html").write_text(scripts + gallery("test"), encoding="utf-8")
    (folder / "gallery_validation.html").write_text(gallery("validation"), encoding="utf-8")
