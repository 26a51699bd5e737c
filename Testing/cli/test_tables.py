"""Tables in a terminal of a given width and in a pipe."""

import io

import pytest
from rich.console import Console

from MedFMLib.cli.tables import print_table

TITLES = ["segment", "volume (mL)", "L–R", "A–P", "S–I", "mean", "SD", "side", "surface", "cut off"]
ROWS = [
    ["left cerebral white matter", "282", "69.0", "173", "125", "214", "12.1", "left", "1234.5", "at the image's edge"],
    ["brainstem", "31.9", "35.0", "41.0", "70.0", "178", "8.8", "midline", "65.4", ""],
]
FIRST = ["segment", "volume (mL)", "side"]


def printed(width, terminal=True, **options):
    out = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_table(out, TITLES, ROWS, first=FIRST, right=TITLES[1:7], caption="from geometry", **options)
    return out.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_terminal_gets_the_columns_that_fit_whole_the_most_important_first(width):
    text = printed(width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "left cerebral white matter" in text  # no word is broken
    header = next(line for line in text.splitlines() if "segment" in line)
    shown = [title for title in TITLES if title in header]
    assert shown[:1] == ["segment"]
    assert ("more column" in " ".join(text.split())) == (len(shown) < len(TITLES))
    if width >= 60:
        assert "volume (mL)" in shown and "side" in shown
        assert "282" in next(line for line in text.splitlines() if "white matter" in line)


def test_a_wide_table_and_a_pipe_get_every_column_at_any_width():
    piped = {printed(width, terminal=False) for width in (20, 80, 300)}
    assert len(piped) == 1  # nothing depends on the width
    (text,) = piped
    assert all(title in text for title in TITLES) and "at the image's edge" in text
    assert printed(20, wide=True) == text
    header, _, first, second = text.splitlines()[:4]
    assert first.index("282") + 3 == header.index("(mL)") + 4 == second.index("31.9") + 4  # aligned to the right
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_what_looks_like_markup_is_printed_as_it_is():
    out = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    print_table(out, ["name"], [["[bold]x[/bold]"]], first=["name"])
    assert "[bold]x[/bold]" in out.file.getvalue()
