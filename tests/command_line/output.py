"""The output of commands."""


def one_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.startswith("edgewise: ")]
    return line.removeprefix("edgewise: ")
