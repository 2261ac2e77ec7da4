"""The HTML of a chapter's body: made safe first, then made readable."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from posixpath import basename
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Comment, NavigableString, Tag

ACTIVE = "script iframe object embed link meta base title frame frameset applet audio video source track template"
CONTROLS = "noscript form input button textarea select dialog animate animatemotion animatetransform set foreignobject"
PICTURE = re.compile(r"data:image/(png|svg\+xml|jpeg|gif|webp)[;,]", re.IGNORECASE)
BAD_STYLE = re.compile(r"url\s*\(|@import|expression|position\s*:|\\", re.IGNORECASE)
DROPPED = {"srcdoc", "srcset", "formaction", "action", "background", "ping", "poster", "data", "autofocus"}
LABELS = {"how to read this", "what to do", "what would make it wrong", "answers", "needs", "does not say"}
NUMBER = re.compile(r"(?:[A-Z]{3} |× ?|[<>] ?)?([-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?= ?%|\s|\(|$)")
PAPER = 478  # points between the margins of an A4 page
CHARACTER, GAP = 0.63, 0.7  # ems that a character of a wide typeface takes, and the space between two columns
LARGEST, SMALL, SMALLEST = 8.5, 5.5, 4.0  # points of a table's text on paper
LONG_WORD = 14  # characters; on paper a longer word of a crowded table may break
WIDE = 26  # characters that a column of sentences should have on a line
READABLE = 0.5  # of its own size a figure's text (9.5 pt) is still legible on a phone
UNITS = re.compile(r"\d[\d.,]* (?:%|days\b|points\b)|\b(?:EUR|USD|GBP|CHF|n =) \d[\d.,]*")


def clean(soup: BeautifulSoup, pages: dict[str, str]) -> None:
    """Take out whatever could act or load: scripts, frames, forms, handlers, foreign pictures, odd links.

    The page's content-security policy already stops scripts and requests; this also stops injected forms and
    redirects, which a policy in a meta tag does not. Links to notebooks become links to their pages.
    """
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    names = set(f"{ACTIVE} {CONTROLS}".split())
    for tag in soup.find_all(lambda tag: tag.name.lower() in names):
        tag.decompose()
    for tag in soup.find_all("style"):
        # pandas' Styler scopes every rule to its own table; nothing else may bring rules.
        rules = [rule.split("{")[0] for rule in tag.get_text().split("}") if rule.strip()]
        if BAD_STYLE.search(tag.get_text()) or not all(
            part.strip().startswith("#T_") for rule in rules for part in rule.split(",")
        ):
            tag.decompose()
    for tag in soup.find_all(True):
        _clean_attributes(tag, pages)
    for image in soup.find_all("img"):
        if not PICTURE.match(str(image.get("src", "")).strip()):
            note = soup.new_tag("span", attrs={"class": "note"})
            note.string = "[a picture from outside this report is left out]"
            image.replace_with(note)


def _clean_attributes(tag: Tag, pages: dict[str, str]) -> None:
    for key in list(tag.attrs):
        name, value = key.lower(), str(tag.attrs[key])
        if name.startswith("on") or name in DROPPED or (name == "style" and BAD_STYLE.search(value)):
            del tag.attrs[key]
        elif name in ("href", "xlink:href"):
            if tag.name == "a":
                _clean_link(tag, key, value, pages)
            elif not value.strip().startswith("#") and not PICTURE.match(value.strip()):
                del tag.attrs[key]
        elif name == "src" and tag.name != "img":
            del tag.attrs[key]


def _clean_link(tag: Tag, key: str, value: str, pages: dict[str, str]) -> None:
    target = re.sub(r"[\x00-\x20]+", "", value)
    try:
        parts = urlsplit(target)
    except ValueError:
        del tag.attrs[key]
        return
    if parts.scheme.lower() not in ("", "http", "https", "mailto"):
        del tag.attrs[key]
    elif parts.scheme.lower() in ("http", "https") or parts.netloc:
        tag["rel"] = "noopener noreferrer"
    elif parts.path.endswith(".ipynb"):
        page = pages.get(basename(unquote(parts.path)))
        if page:
            tag[key] = page + (f"#{_slug(parts.fragment)}" if parts.fragment else "")
        else:
            tag.unwrap()


def embed(soup: BeautifulSoup, contents: list[str]) -> int:
    """Put the data of each interactive figure (JSON without markup) beside its drawing; return how many there are."""
    count = 0
    for number, content in enumerate(contents):
        figure = soup.find("figure", attrs={"data-interactive": str(number)})
        if figure is not None:
            data = soup.new_tag("script", attrs={"type": "application/json"})
            data.string = content
            figure.append(data)
            count += 1
    return count


def headings(soup: BeautifulSoup) -> tuple[str, list[tuple[str, str]]]:
    """Take the first h1 out (the page has its own), make others h2, give each an anchor; return title and contents."""
    first = soup.find("h1")
    title = first.get_text(" ", strip=True) if first else ""
    if first:
        first.decompose()
    for tag in soup.find_all("h1"):
        tag.name = "h2"
    contents: list[tuple[str, str]] = []
    used = {"main", "nav", "contents"}
    for tag in soup.find_all(["h2", "h3", "h4"]):
        text = tag.get_text(" ", strip=True)
        anchor = stem = _slug(text) or "part"
        number = 2
        while anchor in used:
            anchor, number = f"{stem}-{number}", number + 1
        used.add(anchor)
        tag["id"] = anchor
        if tag.name == "h2":
            contents.append((anchor, text))
    return title, contents


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def polish(soup: BeautifulSoup, run_folder: Path) -> None:
    """Make tables scroll in their own box and sortable, name every picture, set the notes of a block as a list."""
    for wrapper in soup.select("div.input, div.output_wrapper, div.output, div.output_area"):
        wrapper.unwrap()  # layers that the template inherits and the page has no use for
    for cell in soup.select("div.code_cell"):
        cell["class"] = "cell code-cell"
    for image in soup.find_all("img"):
        alt = str(image.get("alt", "")).strip()
        if not alt or alt.startswith("No description has been provided"):
            heading = image.find_previous(["h2", "h3"])
            image["alt"] = f"Figure of the section “{heading.get_text(' ', strip=True)}”" if heading else "Figure"
        image["decoding"] = "async"
        _note_size(image)
    for table in soup.find_all("table"):
        _polish_table(soup, table)
    for paragraph in soup.select(".text-cell p"):
        _labelled(soup, paragraph)
    for items in soup.select(".text-cell ul"):
        rows = items.find_all("li", recursive=False)
        if rows and all(_label(row) for row in rows):
            for row in rows:
                _labelled(soup, row)
            items.name = "div"
            for row in rows:
                row.unwrap()
    for sentence in soup.select(".say p"):
        _keep_units(soup, sentence)
    for rest in soup.select("p.rest"):
        _link_table(soup, rest, run_folder)


def _label(tag: Tag) -> str:
    filled = (child for child in tag.children if isinstance(child, Tag) or str(child).strip())
    first = next(filled, None)
    if not isinstance(first, Tag) or first.name not in ("strong", "em"):
        return ""
    text = first.get_text(" ", strip=True).rstrip(".:")
    return text if text.lower() in LABELS else ""


def _labelled(soup: BeautifulSoup, tag: Tag) -> None:
    """Set "**What to do.** Text" as a term and its description; one paragraph may hold several."""
    if not _label(tag):
        return
    notes = soup.new_tag("dl", attrs={"class": "notes"})
    text: Tag | None = None
    for child in list(tag.contents):
        if (
            isinstance(child, Tag)
            and child.name in ("strong", "em")
            and (child.get_text(" ", strip=True).rstrip(".:").lower() in LABELS)
        ):
            row, term, text = soup.new_tag("div"), soup.new_tag("dt"), soup.new_tag("dd")
            term.string = child.get_text(" ", strip=True).rstrip(".:")
            row.extend([term, text])
            notes.append(row)
        elif text is not None:
            text.append(child.extract())
    for entry in notes.find_all("dd"):
        # A separator between two labels ("Answers · Needs") is not part of the text.
        if entry.contents and isinstance(entry.contents[-1], NavigableString):
            entry.contents[-1].replace_with(entry.contents[-1].rstrip(" ·\n"))
        if entry.contents and isinstance(entry.contents[0], NavigableString):
            entry.contents[0].replace_with(entry.contents[0].lstrip(" .:"))
    before = tag.find_previous_sibling()
    if tag.name == "p" and isinstance(before, Tag) and "notes" in (before.get("class") or []):
        before.extend(notes.find_all("div", recursive=False))  # one list for neighbouring paragraphs
        tag.decompose()
    elif tag.name == "p":
        tag.replace_with(notes)
    else:
        tag.clear()
        tag.append(notes)


def _keep_units(soup: BeautifulSoup, sentence: Tag) -> None:
    """Keep a number and its unit on one line; the text stays as it is."""
    for text in sentence.find_all(string=UNITS):
        parts: list[Tag | str] = []
        end = 0
        for match in UNITS.finditer(text):
            span = soup.new_tag("span", attrs={"class": "nb"})
            span.string = match[0]
            parts += [text[end : match.start()], span]
            end = match.end()
        text.replace_with(*parts, text[end:])


def _link_table(soup: BeautifulSoup, rest: Tag, run_folder: Path) -> None:
    """Link the CSV that "12 more rows in x.csv" names, when it is there."""
    match = re.fullmatch(r"(.*?)([\w-]+\.csv)", rest.get_text())
    if match and (run_folder / "tables" / match[2]).exists():
        rest.clear()
        link = soup.new_tag("a", attrs={"href": f"tables/{match[2]}"})
        link.string = match[2]
        rest.extend([match[1], link])


def _polish_table(soup: BeautifulSoup, table: Tag) -> None:
    if table.find_parent("table"):
        return
    for key in ("border", "width", "height", "align", "bgcolor"):
        table.attrs.pop(key, None)
    head = table.find("thead")
    head_rows = head.find_all("tr") if head else []
    for row in head_rows:
        row.attrs.pop("style", None)
    body = [row for row in table.find_all("tr") if not row.find_parent(["thead", "tfoot"])]
    merged = any(cell.get("rowspan") or cell.get("colspan") for row in body for cell in row.find_all(["td", "th"]))
    if len(head_rows) == 1 and not merged:
        titles = head_rows[0].find_all(["th", "td"])
        for title in titles:
            title["scope"] = "col"
        for index, title in enumerate(titles):
            column = [cells[index] for cells in (row.find_all(["td", "th"]) for row in body) if index < len(cells)]
            _align(title, column)
        _fit_on_paper(table, titles, body)
        if len(body) > 1:
            _add_class(table, "sortable")
    table.wrap(soup.new_tag("div", attrs={"class": "scroll"}))


def _fit_on_paper(table: Tag, titles: list[Tag], body: list[Tag]) -> None:
    """Note the size of text at which a wide table fits on paper without a break inside a word.

    A number stays on one line, its interval goes below it. Where that takes very small text, long words may break,
    and where even that is not enough, all may.
    """
    columns = [[title] for title in titles]
    for row in body:
        for column, cell in zip(columns, row.find_all(["td", "th"]), strict=False):
            column.append(cell)
    characters = sum(max(_least_characters(cell) for cell in column) for column in columns)
    beside = sum(max(_least_characters(cell, beside=True) for cell in column) for column in columns)
    if PAPER / (CHARACTER * beside + 2 * GAP * len(titles)) >= LARGEST:
        return
    fit = PAPER / (CHARACTER * characters + GAP * len(titles))
    _add_class(table, "tight")
    if fit < SMALL:
        for cell in (cell for column in columns for cell in column):
            if any(len(word) > LONG_WORD for word in cell.get_text(" ").split()):
                _add_class(cell, "long")
        characters = sum(min(LONG_WORD, max(_least_characters(cell) for cell in column)) for column in columns)
        fit = min(SMALL, PAPER / (CHARACTER * characters + GAP * len(titles)))
    if fit < SMALLEST:
        _add_class(table, "crowded")
    table["style"] = f"--fit:{min(LARGEST, max(SMALLEST, int(10 * fit) / 10))}pt"


def _least_characters(cell: Tag, beside: bool = False) -> int:
    """How many characters wide a cell must be for no word of it to break."""
    classes = list(cell.get("class") or [])
    text = cell.get_text(" ", strip=True)
    words = [len(word) for word in text.split()] or [0]
    if "num" in classes and cell.name == "td":
        return len(text) if beside else max(len(part.strip()) for part in text.replace(" (", "\n(").split("\n"))
    return max(*words, min(len(text), WIDE)) if "wide" in classes else max(words)


def _note_size(image: Tag) -> None:
    """Note below which width (CSS pixels) the text of a drawing is too small to read."""
    match = PICTURE.match(str(image.get("src", "")))
    if not match or match[1].lower() != "svg+xml" or ";base64," not in str(image["src"])[:60]:
        return
    start = str(image["src"]).split(";base64,", 1)[1][:2000]
    try:
        head = base64.b64decode(start[: len(start) // 4 * 4])
    except ValueError:
        return
    width = re.search(rb"""<svg[^>]*?\swidth=["']([\d.]+)pt["']""", head)
    if width:
        image["style"] = f"--least:{READABLE * float(width[1]) * 4 / 3:.0f}px"


def _align(title: Tag, column: list[Tag]) -> None:
    """Set a column of numbers right-aligned, and note each number's value for sorting."""
    texts = [cell.get_text(" ", strip=True) for cell in column]
    filled = [text for text in texts if text not in ("", "–", "NaN", "None", "nan", "NaT")]
    marked = "num" in (title.get("class") or [])
    if not filled or not (marked or all(_is_number(text) for text in filled)):
        return
    for tag, text in [(title, ""), *zip(column, texts, strict=True)]:
        _add_class(tag, "num")
        match = NUMBER.match(text)
        if match and not tag.get("data-sort"):
            tag["data-sort"] = match[1].replace(",", "").replace("−", "-")


def _add_class(tag: Tag, name: str) -> None:
    classes = tag.get("class") or ""
    names = classes.split() if isinstance(classes, str) else list(classes)
    if name not in names:
        tag["class"] = " ".join([*names, name])


def _is_number(text: str) -> bool:
    return bool(NUMBER.match(text)) and not re.match(r"\d{4}-\d\d", text) and len(text) < 40
