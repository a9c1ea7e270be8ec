"""Tables as text."""

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


def test_markdown_is_a_github_table_in_which_outside_text_stays_text():
    """Bars, markup and HTML in names are escaped; best is bold, tied italic, labels left and numbers right."""
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
    """LaTeX tables use booktabs, and no name can end the row or start mathematics."""
    text = to_latex(TABLE)
    assert r"\toprule" in text
    assert r"\bottomrule" in text
    assert r"\textbf{1.0 $\pm$ 0.1}" in text
    assert r"50\% \& \$x\_1\$ &  \\" in text


def test_csv_reads_back_as_the_same_texts():
    """CSV holds heads and texts as they are."""
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ["variant", "time_ms"]
    assert rows[1] == ["a|b", "1.0 ± 0.1"]
    assert len(rows) == 4


def test_a_name_with_line_breaks_stays_in_its_row():
    """A line break in a reason can't end a table's row."""
    table = Table("", ("reason",), (row("first\nsecond"),))
    assert "| first second |" in to_markdown(table)
