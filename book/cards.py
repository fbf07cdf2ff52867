"""`python book/cards.py FOLDER` writes the lectures' cards for the first page into FOLDER.

A card has a picture, a title, a question and the minutes. All but the picture stand in the map of
`before.md`, and the picture is a figure of the lecture itself, with its alternative text.
"""

import base64
import json
import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

# By lecture, how the alternative text of the figure on its card begins.
PICTURES = {
    "01_task_and_data": "Thousands of pelts a year",
    "02_model_and_vocabulary": "The three characters 7, semicolon and 7",
    "03_preprocessing": "Two series, one above the other, each drawn twice",
    "04_baseline": "Four panels of context, truth and forecast",
    "05_flops": "FLOPs per token against the length of the text",
    "06_lora_default": "Three panels of the last sixty steps of series 94",
    "07_hyperparameter_search": "Two panels. Left: three distributions of a mean error",
    "08_context_length": "Six panels: two validation series in rows",
    "09_final_model": "Two scatter plots on logarithmic axes, the final",
    "10_flop_review": "Forecasts against training steps",
    "11_yardsticks": "Ten small panels, the same system in eight worlds",
    "12_the_rival": "Mean test error against the number of training series",
    "13_uncertainty": "Fan charts of the long run for an easy",
    "14_your_own_series": "Four fan charts, hares above and lynxes below",
}

CARD = """<li>
<img src="_static/cards/{name}.png" alt="{alt}">
<p class="title"><a href="notebooks/{name}.html">{title}</a></p>
<p>{question}</p>
<p class="minutes">{minutes} minutes{path}</p>
</li>"""


@dataclass(frozen=True)
class Lecture:
    """A row of the map."""

    name: str
    """The notebook's file name, without its suffix."""
    title: str
    question: str
    minutes: int
    """Reading time, without the exercises."""
    short: bool
    """Whether the lecture is on the short path, which the map shows in bold."""


def lectures_of(page: str) -> list[Lecture]:
    """Return the lectures in the map.

    A row is `| [**1 · Title**](../notebooks/01_name.ipynb) | Question? | 45 | builds on |`.
    """
    lectures = []
    for line in page.splitlines():
        row = re.match(r"\| \[(.+)\]\(\.\./notebooks/(.+)\.ipynb\) \| (.+?) \| (\d+) \|", line)
        if row:
            title, name, question, minutes = row.groups()
            short = title.startswith("**")
            lectures.append(Lecture(name, title.strip("*"), question, int(minutes), short))
    return lectures


def picture(notebook: dict, begins: str) -> tuple[bytes, str]:
    """Return the figure of an executed notebook whose text begins so, as a PNG, and its text."""
    figures = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = cell["metadata"]["mystnb"]["image"]["alt"]
                figures[alt] = "".join(output["data"]["image/png"])
    for alt, png in figures.items():
        if alt.startswith(begins):
            return base64.b64decode(png), alt
    texts = "\n".join(figures)
    sys.exit(f"PICTURES in book/cards.py: no figure's text begins with {begins!r}, only:\n{texts}")


def card(lecture: Lecture, alt: str) -> str:
    """Return a lecture's card as an item of a list."""
    return CARD.format(
        name=lecture.name,
        alt=escape(alt),
        title=escape(lecture.title),
        question=escape(lecture.question),
        minutes=lecture.minutes,
        path=" · short path" if lecture.short else "",
    )


def write_cards(folder: Path) -> None:
    """Write `cards.html` and its pictures, from the map and the notebooks in the same folder."""
    pictures = folder / "_static" / "cards"
    pictures.mkdir()
    cards = []
    for lecture in lectures_of((folder / "before.md").read_text(encoding="utf-8")):
        text = (folder / "notebooks" / f"{lecture.name}.ipynb").read_text(encoding="utf-8")
        png, alt = picture(json.loads(text), PICTURES[lecture.name])
        (pictures / f"{lecture.name}.png").write_bytes(png)
        cards.append(card(lecture, alt))
    page = "\n".join(['<ol class="cards">', *cards, "</ol>"])
    (folder / "cards.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_cards(Path(sys.argv[1]))
