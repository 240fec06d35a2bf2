"""The administrators' token, out of its file."""

import functools
import re
from pathlib import Path

from service.errors import SettingsError
from service.renewed import Renewed

MIN_TOKEN_CHARACTERS = 16


def read_token(file: Path) -> str:
    """The content of `file`, without the white space around it.

    Raises:
        SettingsError: it can't be read, is too short, or can't be sent in a header.
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
            " letters, digits and signs; `openssl rand -hex 32` makes one"
        )
    return token


def renewed_token(file: Path) -> Renewed[str]:
    """The token of a file that may be written anew.

    Raises:
        SettingsError: as `read_token` says.
    """
    return Renewed("admin token", (file,), functools.partial(read_token, file))
