"""Open every page of the built book in a browser, with the network off, and report its faults.

`make browse` runs it on build/report; by hand: `python book/browse.py FOLDER [--pictures FOLDER]`.
It needs the package playwright (`pip install -e ".[browser]"`) and a Chromium: Debian's, Google
Chrome, or the one that `playwright install chromium` fetches. Pages are opened as files, as a
reader without a server opens them.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

NARROW = {"width": 400, "height": 900}
# A laptop's 1366 pixels, less the 15 of a scrollbar, which a browser without a window leaves out.
WIDE = {"width": 1366 - 15, "height": 768}
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# The pages of which --pictures takes pictures.
SHOWN = ("index.html", "gallery.html", "notebooks/05_flops.html", "api/series.html")
# Chromium's own requests would fail, because the network is off, so it makes none.
FLAGS = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

# The page itself runs this, once it is loaded and its formulas are set.
LOOK = r"""async () => {
  if (window.MathJax) await MathJax.startup.promise;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const raw = [];
  while (texts.nextNode()) {
    const {data, parentElement} = texts.currentNode;
    const literal = parentElement.closest(
      "pre, code, script, style, noscript, template, mjx-container"
    );
    if (!literal && /\$\$|\$[^$\s][^$]*\$|\\[a-zA-Z()[\]]/.test(data)) raw.push(data.trim());
  }
  const failed = document.querySelectorAll("[data-mjx-error], .math:not(:has(mjx-container))");
  failed.forEach(it => raw.push(it.textContent));
  document.querySelectorAll("details").forEach(it => it.open = true);  // folded code has no width
  const longest = it => it.textContent.split("\n").reduce((a, b) => b.length > a.length ? b : a);
  const images = [...document.images];
  await Promise.allSettled(images.map(it => { it.loading = "eager"; return it.decode(); }));
  return {
    raw,
    formulas: document.querySelectorAll("mjx-container").length,
    images: images.length,
    broken: images.filter(it => !it.naturalWidth).map(it => it.src),
    // Sphinx puts the file's name where a picture has no text.
    silent: images.filter(it => !it.alt || /\.(png|svg|jpe?g)$/.test(it.alt)).map(it => it.src),
    clipped: [...document.querySelectorAll("pre")]
      .filter(it => it.scrollWidth > it.clientWidth)
      .map(it => `${longest(it).length} columns: ${longest(it)}`),
    still: [...document.querySelectorAll("input[type=range]")].filter(it => {
      const first = it.nextElementSibling.src;
      it.value = it.max;
      it.dispatchEvent(new Event("input"));
      return it.nextElementSibling.src === first;
    }).map(it => it.parentElement.textContent),
    links: [...document.links].map(it => it.href),
    anchors: [...document.querySelectorAll("[id]")].map(it => it.id),
  };
}"""
WIDTH = "() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
FAULTS = {
    "left": "requests that left the machine",
    "console": "errors on the console",
    "raw": "formulas left as TeX",
    "links": "broken links",
    "images": "broken images and files",
    "silent": "images without alternative text",
    "clipped": "blocks of code cut off at 1366 pixels",
    "still": "sliders that show no other picture",
    "wide": f"pages wider than a window of {NARROW['width']} pixels",
    "search": "words that the search does not find",
    "gallery": "series of the gallery that cannot be chosen",
}


SEEN = {
    "raw": "raw",
    "broken": "images",
    "silent": "silent",
    "clipped": "clipped",
    "still": "still",
}
"""Which fault it is, by what `LOOK` returns."""


@dataclass
class Report:
    """What a look at all pages of a site has found."""

    pages: int = 0
    formulas: int = 0
    images: int = 0
    links: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in FAULTS})
    """By kind, the pages and what is wrong there."""
    place: str = ""
    """The page that is being looked at."""

    def note(self, kind: str, fault: str) -> None:
        """Add a fault of the page that is being looked at."""
        self.faults[kind].append(f"{self.place}: {' '.join(fault.split())[:200]}")

    def lines(self) -> Iterator[str]:
        """Yield the report, with a line for all counts and one for each fault."""
        counts = f"{self.pages} pages, {self.formulas} formulas, {self.images} images"
        yield f"{counts}, {self.links} links inside"
        for kind, about in FAULTS.items():
            yield f"{len(self.faults[kind])} {about}"
            yield from (f"    {fault}" for fault in self.faults[kind])

    @property
    def good(self) -> bool:
        """Whether nothing is wrong, and there was something to look at."""
        return self.pages > 0 and not any(self.faults.values())


def pages_of(site: Path) -> list[Path]:
    """Return all pages of a site, without the templates that the theme's package leaves there."""
    paths = sorted(site.rglob("*.html"))
    return [path for path in paths if "_static" not in path.relative_to(site).parts]


def find_browser() -> str | None:
    """Return the path of an installed browser, or of playwright's own; None without either."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    for name in (*NAMES, own):
        path = shutil.which(name)
        if path:
            return path
    return None


def choose(gallery) -> bool:
    """Return whether the worst series' number and curves come once it is clicked in a gallery.

    The worst is the first row when the table is sorted by its last column, the errors of one run.
    """
    head = gallery.locator(".slick-header-column").last
    canvas = gallery.locator("canvas").last
    before = canvas.screenshot()
    head.click()
    head.click()  # the second time the largest comes first
    number = gallery.locator(".slick-row[style*='top:0px'] .slick-cell").first
    number.click()
    title = gallery.locator("b").first.inner_text()
    return title.startswith(f"series {number.inner_text()},") and canvas.screenshot() != before


def listen(page, report: Report) -> None:
    """Report what a page asks of other machines, what it cannot load, and its errors."""

    def on_request(request) -> None:
        if urlsplit(request.url).scheme not in ("file", "data", "blob"):
            report.note("left", request.url)

    def on_console(message) -> None:
        if message.type == "error":
            report.note("console", message.text)

    page.on("request", on_request)
    page.on("requestfailed", lambda request: report.note("images", request.url))
    page.on("console", on_console)
    page.on("pageerror", lambda error: report.note("console", str(error)))


def look_at(page, path: Path, report: Report) -> tuple[set[str], list[str]]:
    """Open one page and report its faults; returns its anchors and its links."""
    page.set_viewport_size(WIDE)
    page.goto(path.as_uri())
    findings = page.evaluate(LOOK)
    page.set_viewport_size(NARROW)
    width = page.evaluate(WIDTH)
    if width > NARROW["width"]:
        report.note("wide", f"{width} pixels")
    for key, kind in SEEN.items():
        for fault in findings[key]:
            report.note(kind, fault)
    report.pages += 1
    report.formulas += findings["formulas"]
    report.images += findings["images"]
    return set(findings["anchors"]), findings["links"]


def follow(link: str, site: Path, anchors: dict[Path, set[str]], report: Report) -> None:
    """Report a link inside the site whose file or anchor is missing."""
    address, fragment = urldefrag(link)
    if urlsplit(link).scheme != "file":  # to another site
        return
    report.links += 1
    target = Path(unquote(urlsplit(address).path))
    is_broken = not (target.is_file() and target.is_relative_to(site))
    if fragment and target in anchors:
        is_broken = is_broken or unquote(fragment) not in anchors[target]
    if is_broken:
        report.note("links", link)


def try_search(page, site: Path, report: Report) -> None:
    """Search the site for two words that it holds."""
    from playwright.sync_api import Error

    report.place = "search.html"
    for word in ("repair", "forecast_flops"):
        try:
            page.goto((site / "search.html").as_uri() + f"?q={word}")
            page.wait_for_selector("#search-results li a", timeout=10_000)
        except Error:
            report.note("search", word)


def try_galleries(page, site: Path, report: Report) -> None:
    """Choose a series in each of the two galleries."""
    from playwright.sync_api import Error

    report.place = "gallery.html"
    try:
        page.goto((site / "gallery.html").as_uri())
        if [choose(gallery) for gallery in page.locator(".gallery").all()] != [True, True]:
            report.note("gallery", "a click that changes nothing")
    except Error as error:
        report.note("gallery", str(error))


def take_pictures(page, site: Path, folder: Path) -> None:
    """Take pictures of the pages in `SHOWN`, light and dark, wide and narrow."""
    for name, theme, size in product(SHOWN, ("light", "dark"), (WIDE, NARROW)):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size(size)
        page.goto((site / name).as_uri())
        page.evaluate(LOOK)
        path = folder / f"{Path(name).stem}-{theme}-{size['width']}.png"
        page.screenshot(path=path, animations="disabled")


def browse(site: Path, browser: str, pictures: Path | None = None) -> Report:
    """Open every page of a site and look at it; `pictures` is a folder for pictures of some."""
    from playwright.sync_api import sync_playwright

    site = site.resolve()
    report = Report()
    flags = list(FLAGS)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # root has no sandbox

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=flags)
        page = chromium.new_context(offline=True).new_page()
        listen(page, report)

        anchors = {}
        links = {}
        for path in pages_of(site):
            report.place = path.relative_to(site).as_posix()
            anchors[path], links[report.place] = look_at(page, path, report)

        # Links are followed only now, when the anchors of all pages are known.
        for place, targets in links.items():
            report.place = place
            for link in targets:
                follow(link, site, anchors, report)

        try_search(page, site, report)
        try_galleries(page, site, report)
        if pictures:
            take_pictures(page, site, pictures)
        chromium.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("site", type=Path, help="the folder of the built book")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of some pages")
    arguments = parser.parse_args()
    browser = find_browser()
    if not browser:
        names = ", ".join(NAMES)
        sys.exit(f"no browser found: install one of {names}, or run `playwright install chromium`")
    report = browse(arguments.site, browser, arguments.pictures)
    print(*report.lines(), sep="\n")
    sys.exit(not report.good)


if __name__ == "__main__":
    main()
