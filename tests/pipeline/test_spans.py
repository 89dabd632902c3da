"""The data of a span: how it is found, and what is said when no pipeline could use it."""

from __future__ import annotations

import csv
import hashlib
import io
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.pipeline.csv_columns import Column, Kind, kind_of
from tfx_encore.pipeline.csv_file import read_csv
from tfx_encore.pipeline.spans import available_spans, read_span
from tfx_encore.schemas.errors import DataError

COLUMNS = {
    "age": Column("age", "INT", required=True),
    "fare": Column("fare", "FLOAT", required=False),
    "job": Column("job", "BYTES", required=False),
}
ROWS = "41,5.5,nurse\n52,6,\n33,,clerk\n"
HEADER = "age,fare,job\n"
PATTERN = "data/span-{SPAN}/*.csv"


@pytest.fixture
def span(tmp_path):
    """Writes a file of span 1 and reads the span."""

    def read(content: str | bytes, name: str = "a.csv", columns=COLUMNS):
        folder = tmp_path / "data" / "span-1"
        folder.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
        return read_span(PATTERN, tmp_path, 1, columns)

    return read


def _refused(read, content, **arguments) -> str:
    with pytest.raises(DataError) as caught:
        read(content, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_span_is_counted_and_digested(span, tmp_path):
    found = span(HEADER + ROWS)
    file = tmp_path / "data/span-1/a.csv"
    digest = hashlib.sha256(hashlib.sha256(file.read_bytes()).digest()).hexdigest()
    assert (found.rows, found.files, found.folder) == (3, (file,), file.parent)
    assert found.digest == f"sha256:{digest}"
    assert found.describe().examples == {"all": 3}


def test_the_digest_changes_with_a_single_cell(span):
    before = span(HEADER + ROWS).digest
    assert span(HEADER + ROWS.replace("41", "42")).digest != before


def test_columns_may_come_in_another_order_and_others_beside_them(span):
    assert span("note,job,fare,age\nx,nurse,5.5,41\n").rows == 1


def test_several_files_make_one_span(span):
    span(HEADER + ROWS)
    assert span(HEADER + ROWS, name="b.csv").rows == 6


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_endings_blank_lines_and_a_missing_last_one_do_no_harm(span, ending):
    text = (HEADER + ROWS + "\n" + ROWS).rstrip("\n").replace("\n", ending)
    assert span(text).rows == 6


def test_quoted_values_hold_commas_quotes_and_line_breaks(span):
    assert span(HEADER + '41,5.5,"a, ""b""\nc"\n52,6.5,"d"\n').rows == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a.csv: empty; expected a header line and rows"),
        ("\n\n", "a.csv: empty"),
        (HEADER, "span 1: no rows in "),
        ("age,job\n41,nurse\n", "missing column fare that the schema names; the file has age, job"),
        ("age\n41\n", "missing columns fare, job that the schema names"),
        ("age;fare;job\n41;5.5;nurse\n", "columns are separated by ';'; write them with commas"),
        ("age\tfare\tjob\n", "columns are separated by '\\t'"),
        ("age,fare,job,age\n", "column 'age' appears twice in the header"),
        ('"age","fare","job"\n', "the header has quotes"),
        (HEADER + "41,5.5\n", "line 2: 2 values for 3 columns"),
        (HEADER + ROWS + "41,5.5,nurse,\n", "line 5: 4 values for 3 columns"),
        (HEADER + ROWS + ",5.5,nurse\n", "line 5: age has no value, but the schema requires one"),
        (HEADER + "x,5.5,nurse\n", "line 2: age is 'x', which is no INT as the schema says"),
        (HEADER + "5.0,5.5,nurse\n", "age is '5.0', which is no INT as the schema says; write"),
        (HEADER + f"{2**63},5.5,\n", f"age is '{2**63}', which is no INT"),
        (HEADER + "41,cheap,\n", "fare is 'cheap', which is no FLOAT as the schema says; leave"),
        (HEADER + "41,NaN,\n", "fare is 'NaN', which is no FLOAT as the schema says; leave"),
        (HEADER + "41,-inf,\n", "fare is '-inf', which is no FLOAT"),
        (HEADER + '41,"3,5",\n', "fare is '3,5', which is no FLOAT as the schema says; write it"),
        (HEADER + "41,1e39,\n", "fare is '1e39', which is no FLOAT as the schema says; it does"),
        (HEADER + f"41,5.5,\n41,{10**20},\n", "write so large a number with a point"),
        (HEADER + f"41,{'9' * 400}x,\n", "fare is '9999999999999999999999999999999999999999...'"),
        (HEADER + '41,5.5,5" pipe\n' + ROWS, "line 2: a quote is opened and never closed"),
        (HEADER + '41,5.5,"a"b"\n' + ROWS, "line 2: a quote is opened and never closed"),
        (HEADER + '41,5.5,"a"b\n' + ROWS, "line 2: not CSV"),
        (HEADER + "41,5.5,a\0b\n", "line 2: not CSV"),
        (HEADER.encode() + b"41,5.5,caf\xe9\n", "line 2: byte 0xe9 is not UTF-8; convert"),
        (b"age,fare,caf\xe9\n", "line 1: byte 0xe9 is not UTF-8"),
        (b"\xef\xbb\xbf" + (HEADER + ROWS).encode(), "begins with a byte order mark"),
        ((HEADER + ROWS).encode("utf-16"), "begins with a byte order mark"),
        ((HEADER + ROWS).replace("\n", "\r"), "the file has age, fare, job\\r41"),
    ],
)  # fmt: skip
def test_bad_data_is_refused_with_file_line_column_and_value(span, tmp_path, content, said):
    message = _refused(span, content)
    if "\\r" in said:  # a file of an old Mac is one long header
        assert "missing column" in message
        return
    assert said in message
    assert str(tmp_path / "data/span-1/a.csv") in message


def test_the_line_of_an_error_counts_line_breaks_in_values(span):
    assert "line 4: age is 'x'" in _refused(span, HEADER + '41,5.5,"a\nb"\nx,5.5,\n')


def test_a_stray_quote_does_not_read_a_large_file_to_its_end(span):
    content = HEADER + '41,5.5,5" pipe\n' + "41,5.5,nurse\n" * 200_000
    assert "line 2: a quote is opened and never closed" in _refused(span, content)


def test_a_float_column_written_as_whole_numbers_is_refused_with_both_ways_out(span):
    message = _refused(span, HEADER + "41,5,nurse\n52,6,clerk\n")
    assert "fare is FLOAT in the schema, but every value is written as a whole number" in message
    assert "write 5.0 for 5, or declare it INT" in message


def test_one_point_in_one_file_of_the_span_is_enough_for_a_float_column(span):
    with pytest.raises(DataError):
        span(HEADER + "41,5,nurse\n")
    assert span(HEADER + "41,5.0,nurse\n", name="b.csv").rows == 2


def test_a_float_column_without_a_single_value_does_no_harm(span):
    assert span(HEADER + "41,,nurse\n").rows == 1


@pytest.mark.parametrize(("cells", "kind"), [(("1", "2"), "INT"), (("1", "2.5"), "FLOAT")])
def test_a_text_column_of_numbers_only_is_refused_with_both_ways_out(span, cells, kind):
    message = _refused(span, HEADER + "".join(f"41,5.5,{cell}\n" for cell in cells))
    assert f"job is BYTES in the schema, but every value is a number, so that CsvExampleGen takes it for {kind}; declare it {kind}" in message  # fmt: skip # noqa: E501


def test_a_text_column_with_one_word_may_hold_numbers(span):
    assert span(HEADER + "41,5.5,1\n41,5.5,nurse\n41,5.5,2\n").rows == 3


def test_files_of_one_span_must_have_one_header(span):
    span(HEADER + ROWS)
    message = _refused(span, "fare,age,job\n5.5,41,nurse\n", name="b.csv")
    assert "b.csv: its header differs from that of " in message


def test_a_type_that_a_csv_cannot_hold_is_named(span):
    columns = {"age": Column("age", "STRUCT", required=False)}
    assert "gives age the type STRUCT" in _refused(span, "age\n1\n", columns=columns)


def test_a_required_text_column_must_have_a_value(span):
    columns = {**COLUMNS, "job": Column("job", "BYTES", required=True)}
    assert "line 3: job has no value" in _refused(span, HEADER + ROWS, columns=columns)


def test_a_folder_named_as_a_file_is_named(tmp_path):
    (tmp_path / "data/span-1/a.csv").mkdir(parents=True)
    with pytest.raises(DataError, match="is a folder"):
        read_span(PATTERN, tmp_path, 1, COLUMNS)


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "data/span-1").mkdir(parents=True)
    (tmp_path / "data/span-1/a.csv").symlink_to("absent")
    with pytest.raises(DataError, match=r"a\.csv: cannot be read: No such file"):
        read_span(PATTERN, tmp_path, 1, COLUMNS)


def _touch(root: pathlib.Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(HEADER + ROWS)


def test_spans_are_in_order_of_number_not_of_name(tmp_path):
    _touch(tmp_path, *(f"data/span-{number}/a.csv" for number in range(1, 13)))
    assert available_spans(PATTERN, tmp_path) == tuple(range(1, 13))


@pytest.mark.parametrize(
    ("pattern", "names", "spans"),
    [
        ("day-{SPAN}.csv", ["day-3.csv", "day-20240131.csv"], (3, 20240131)),
        ("{SPAN}/{SPAN}.csv", ["1/1.csv", "2/1.csv", "3/3.csv"], (1, 3)),
        ("v2/span-{SPAN}/part-*", ["v2/span-7/part-0", "v2/span-7/part-1"], (7,)),
        ("span-{SPAN}/?.csv", ["span-1/a.csv", "span-2/ab.csv"], (1,)),
        ("span-{SPAN}/[ab].csv", ["span-1/a.csv", "span-2/c.csv"], (1,)),
        ("span-{SPAN}/*.csv", ["span-x/a.csv", "span-01/a.csv", "span-1b/a.csv"], ()),
        ("*/span-{SPAN}.csv", ["new/span-4.csv"], (4,)),
    ],
)
def test_a_pattern_finds_its_spans_and_no_others(tmp_path, pattern, names, spans):
    _touch(tmp_path, *names)
    assert available_spans(pattern, tmp_path) == spans
    for number in spans:
        assert read_span(pattern, tmp_path, number, COLUMNS).number == number


def test_an_absolute_pattern_and_a_folder_with_brackets_work(tmp_path):
    folder = tmp_path / "a [b] {c}"
    _touch(folder, "data/span-2/a.csv")
    assert available_spans(PATTERN, folder) == (2,)
    assert read_span(PATTERN, folder, 2, COLUMNS).rows == 3
    _touch(tmp_path, "data/span-2/a.csv")
    absolute = f"{tmp_path}/{PATTERN}"
    assert available_spans(absolute, folder) == (2,)
    assert read_span(absolute, folder, 2, COLUMNS).folder == tmp_path / "data/span-2"


def test_a_pattern_without_a_place_for_the_number_has_span_1_only(tmp_path):
    assert available_spans("data/*.csv", tmp_path) == ()
    _touch(tmp_path, "data/a.csv")
    assert available_spans("data/*.csv", tmp_path) == (1,)
    assert read_span("data/*.csv", tmp_path, 1, COLUMNS).rows == 3
    with pytest.raises(DataError, match=r"has no \{SPAN\}, so there is span 1 only"):
        read_span("data/*.csv", tmp_path, 2, COLUMNS)


def test_a_span_that_is_not_there_lists_those_that_are(tmp_path):
    _touch(tmp_path, "data/span-2/a.csv", "data/span-10/a.csv")
    with pytest.raises(DataError, match=r"no files for span 3 .* spans that have files: 2, 10"):
        read_span(PATTERN, tmp_path, 3, COLUMNS)


def test_a_span_in_two_folders_is_refused(tmp_path):
    _touch(tmp_path, "a/span-1.csv", "b/span-1.csv")
    with pytest.raises(DataError, match="span 1: files lie in 2 folders"):
        read_span("*/span-{SPAN}.csv", tmp_path, 1, COLUMNS)


_CELLS = st.one_of(
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", " 5 ", "1_000", "٣", "1e5", ".5", "+7", "0x1F", "Infinity", "nan", "5.", "-"]
    ),
)


@given(cell=_CELLS)
def test_a_cell_has_the_type_that_tfx_gives_it(cell):
    from tfx_bsl.coders import csv_decoder

    theirs = csv_decoder._InferValueType(cell.encode("utf-8", "surrogatepass"))
    ours = {
        csv_decoder.ColumnType.UNKNOWN: Kind.EMPTY,
        csv_decoder.ColumnType.INT: Kind.INT,
        csv_decoder.ColumnType.FLOAT: Kind.FLOAT,
        csv_decoder.ColumnType.STRING: Kind.BYTES,
    }
    assert kind_of(cell) is ours[theirs]


_TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6)


@given(rows=st.lists(st.lists(_TEXTS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_rows_are_read_as_tfx_reads_them_and_refused_where_it_cannot(rows, tmp_path_factory):
    from tfx.components.example_gen.csv_example_gen import executor
    from tfx_bsl.coders import csv_decoder

    file = tmp_path_factory.mktemp("csv") / "a.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["a", "b"], *rows])
    file.write_bytes(text.getvalue().encode())
    parse = csv_decoder.ParseCSVLine(",")
    parse.setup()
    records = list(executor._ReadCsvRecordsFromTextFile().process(str(file)))
    try:
        theirs = [[c.decode() for c in cells] for r in records for cells, _ in parse.process(r)]
    except csv.Error:
        with pytest.raises(DataError, match="not CSV"):
            list(read_csv(file))
        return
    assert [cells for _, cells in list(read_csv(file))[1:]] == [cells for cells in theirs if cells]
