"""The sample sheet: what is accepted, and what each mistake is answered with."""

import pytest

from ercohort.errors import InputError
from ercohort.sheet import read_sheet

HEADER = "slide_id\tpath\tmpp\tblock\n"


def write(tmp_path, text):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text(text)
    return sheet


def test_rows_come_in_order_with_their_extra_columns(tmp_path):
    sheet = write(tmp_path, "# a comment\n" + HEADER + "b2\tx.svs\t\tA1\n\na1\ty.png\t0.25\t\n")
    samples = read_sheet(sheet)
    assert list(samples) == ["b2", "a1"]
    assert samples["b2"].mpp is None
    assert samples["b2"].extra == {"block": "A1"}
    assert samples["a1"].mpp == 0.25
    assert samples["a1"].extra == {"block": ""}


def test_a_path_beside_the_sheet_is_found(tmp_path):
    (tmp_path / "x.svs").write_text("slide")
    samples = read_sheet(write(tmp_path, HEADER + "a\tx.svs\t\t\nb\tgone.svs\t\t\n"))
    assert samples["a"].path == str(tmp_path / "x.svs")
    assert samples["b"].path == "gone.svs"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "is empty"),
        ("# only a comment\n", None, "is empty"),
        (HEADER, None, "no slides"),
        ("slide_id\tmpp\na\t1\n", 1, "column `path` is missing"),
        ("slide\tpath\na\tb\n", 1, "rename column `slide`"),
        ("slide_id,path\na,b\n", 1, "separate the columns by tabs"),
        ("slide_id\tpath\tpath\na\tb\tc\n", 1, "there twice"),
        ("slide_id\tpath\tstatus\na\tb\tc\n", 1, "`status` is one that ercohort writes"),
        (HEADER + "a\tx\t\t\na\ty\t\t\n", 3, "there twice"),
        (HEADER + "a\tx\t\t\nA\ty\t\t\n", 3, "there twice"),
        (HEADER + "a/b\tx\t\t\n", 2, "may hold only"),
        (HEADER + "..\tx\t\t\n", 2, "may hold only"),
        (HEADER + "=1+1\tx\t\t\n", 2, "may hold only"),
        (HEADER + "-rf\tx\t\t\n", 2, "may hold only"),
        (HEADER + "a b\tx\t\t\n", 2, "may hold only"),
        (HEADER + "a;rm\tx\t\t\n", 2, "may hold only"),
        (HEADER + "\tx\t\t\n", 2, "slide_id is empty"),
        (HEADER + "a\t\t\t\n", 2, "path is empty"),
        (HEADER + "a\tx\t-0.25\t\n", 2, "must be above 0"),
        (HEADER + "a\tx\tnan\t\n", 2, "must be above 0"),
        (HEADER + "a\tx\t0,25\t\n", 2, "is no number"),
        (HEADER + "a\tx\t\tb\tc\n", 2, "5 cells for 4 columns"),
        (HEADER + 'a\tx\t0.25\t"core\n', 2, "a quote"),
        (HEADER + "a\t" + "x" * 5000 + "\t\t\n", 2, "5000 characters"),
        (HEADER + "a" * 200_000 + "\tx\t\t\n", 2, "200000 characters"),
        ("# my slides\n\nslide_id\n", 3, "column `path` is missing"),
    ],
)
def test_each_mistake_names_file_line_and_cure(tmp_path, text, line, words):
    sheet = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_sheet(sheet)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"{sheet}, line {line}: " if line else f"{sheet}: ")
    assert "\n" not in message


def test_all_mistakes_are_told_at_once(tmp_path):
    sheet = write(tmp_path, HEADER + "a/b\tx\t\t\nc\t\t\t\n")
    with pytest.raises(InputError, match=r"(?s)line 2.*\n.*line 3"):
        read_sheet(sheet)


def test_a_missing_sheet_and_a_binary_one(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_sheet(tmp_path / "none.tsv")
    (tmp_path / "samples.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InputError, match="save it as UTF-8 TSV"):
        read_sheet(tmp_path / "samples.xlsx")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sheets_as_windows_programs_write_them(tmp_path, encoding, end):
    sheet = tmp_path / "samples.tsv"
    lines = ["slide_id\tpath\tnote", 'a\tmy slide (1).svs\t"x, ""y"""', ""]
    sheet.write_bytes(end.join(lines).encode(encoding))
    samples = read_sheet(sheet)
    assert samples["a"].path == "my slide (1).svs"
    assert samples["a"].extra == {"note": 'x, "y"'}


def test_a_line_ends_only_where_editors_end_it(tmp_path):
    samples = read_sheet(write(tmp_path, HEADER + "a\tx\t\tone\u2028two\x0cthree\n"))
    assert samples["a"].extra["block"] == "one\u2028two\x0cthree"
