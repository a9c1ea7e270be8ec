"""Tables are written as Markdown, LaTeX and CSV."""

import csv
import io

from attnbench.report.table import Table, TableCell, row, to_csv, to_latex, to_markdown

TABLE = Table(
    "A | <b>table</b>",
    ("variant", "time_ms"),
    (
        row("a|b", TableCell("1.0 ± 0.1", best=True)),
        row("<script>alert(1)</script>", TableCell("2", tied=True)),
        row("50% & $x_1$", None),
    ),
    ("A note with *stars*.",),
)  # fmt: skip


def test_markdown_is_a_github_table_with_escaped_text():
    """Markup is escaped, best cells are bold, tied cells are italic, and numbers are right-aligned."""
    assert to_markdown(TABLE) == (
        "### A \\| &lt;b&gt;table&lt;/b&gt;\n"
        "\n"
        "| variant | time\\_ms |\n"
        "| --- | ---: |\n"
        "| a\\|b | **1.0 ± 0.1** |\n"
        "| &lt;script&gt;alert(1)&lt;/script&gt; | *2* |\n"
        "| 50% &amp; $x\\_1$ |  |\n"
        "\n"
        "A note with \\*stars\\*.\n"
    )


def test_latex_has_booktabs_rules_and_escaped_text():
    """LaTeX tables use booktabs, and special characters in names are escaped."""
    text = to_latex(TABLE)
    assert r"\toprule" in text
    assert r"\bottomrule" in text
    assert r"\textbf{1.0 $\pm$ 0.1}" in text
    assert r"50\% \& \$x\_1\$ &  \\" in text


def test_csv_reads_back_as_the_same_text():
    """The CSV text contains the column names and the unchanged text of the cells."""
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ["variant", "time_ms"]
    assert rows[1] == ["a|b", "1.0 ± 0.1"]
    assert len(rows) == 4


def test_a_line_break_in_a_cell_becomes_a_space():
    """A line break in a cell does not end the table's row."""
    table = Table("", ("reason",), (row("first\nsecond"),))
    assert "| first second |" in to_markdown(table)
