"""Read the cells of an .xlsx file with the standard library, for the one corpus whose legend is a spreadsheet."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from repkit.errors import DataError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def read_xlsx(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return sheet name to rows; a row maps the words of the first row to text. Source: ECMA-376 part 1.

    Raises:
        DataError: the file is not a spreadsheet in the .xlsx form.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            shared = _shared(archive) if "xl/sharedStrings.xml" in names else []
            targets = _targets(archive)
            book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
            return {
                sheet.attrib["name"]: _rows(archive, targets[sheet.attrib[_LINK]], shared)
                for sheet in book.iter(f"{_MAIN}sheet")
            }
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, IndexError, ValueError) as error:
        raise DataError(f"{path}: could not be read as .xlsx ({error}); save it as CSV with the same name") from error


def _shared(archive: zipfile.ZipFile) -> list[str]:
    root = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
    return ["".join(t.text or "" for t in item.iter(f"{_MAIN}t")) for item in root.iter(f"{_MAIN}si")]


def _targets(archive: zipfile.ZipFile) -> dict[str, str]:
    root = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    found = {}
    for link in root:
        target = link.attrib["Target"].lstrip("/")
        found[link.attrib["Id"]] = target if target.startswith("xl/") else f"xl/{target}"
    return found


def _rows(archive: zipfile.ZipFile, name: str, shared: list[str]) -> list[dict[str, str]]:
    table: list[dict[str, str]] = []
    for row in ElementTree.fromstring(archive.read(name)).iter(f"{_MAIN}row"):
        cells: dict[str, str] = {}
        for cell in row.iter(f"{_MAIN}c"):
            column = re.sub(r"\d", "", cell.attrib["r"])
            value = cell.find(f"{_MAIN}v")
            if cell.attrib.get("t") == "inlineStr":
                cells[column] = "".join(t.text or "" for t in cell.iter(f"{_MAIN}t"))
            elif value is not None and value.text is not None:
                cells[column] = shared[int(value.text)] if cell.attrib.get("t") == "s" else value.text
        table.append(cells)
    if not table:
        return []
    header, *rest = table
    return [{word: row.get(column, "") for column, word in header.items()} for row in rest if row]
