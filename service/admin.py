"""The admin token, read from its file."""

import functools
import re
from pathlib import Path

from service.errors import SettingsError
from service.renewed import Renewed

MIN_TOKEN_CHARACTERS = 16


def read_token(file: Path) -> str:
    """Return the content of `file` without surrounding white space.

    Raises:
        SettingsError: the token can't be read, is too short, or can't be sent in a header.
    """
    try:
        token = file.read_text("ascii").strip()
    except OSError as error:
        raise SettingsError(f"EDGEWISE_ADMIN_TOKEN_FILE: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not re.fullmatch(rf"[!-~]{{{MIN_TOKEN_CHARACTERS},}}", token):
        raise SettingsError(
            f"EDGEWISE_ADMIN_TOKEN_FILE: {file} must hold one token of {MIN_TOKEN_CHARACTERS} or more ASCII"
            " letters, digits and symbols; `openssl rand -hex 32` makes one"
        )
    return token


def renewed_token(file: Path) -> Renewed[str]:
    """Return the token of a file that can be rewritten while the service runs.

    Raises:
        SettingsError: see `read_token`.
    """
    return Renewed("admin token", (file,), functools.partial(read_token, file))
