"""The tables of Markdown, read back."""


def rows(table: str) -> dict[str, list[str]]:
    """The cells of each row of a Markdown table by the name in the first cell, without emphasis."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0].strip("*"): row[1:] for row in cells}
