"""The line about a name that nobody knows: what was given, what is near, what is allowed; a file's name, a model's.

Knows: how alike names are, which letters a file's name may have. Does not know: which names there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def unknown(kind: str, given: str, allowed: Iterable[str]) -> str:
    """The text of an error, such as `unknown task 'STS-B' (did you mean 'stsb'?); allowed: cola, sst2, ...`."""
    names = list(allowed)
    return f"unknown {kind} {given!r}{nearest(given, names)}; allowed: {', '.join(names)}"


def nearest(given: str, allowed: Iterable[str]) -> str:
    """The ` (did you mean 'stsb'?)` of an error, or nothing where no allowed name comes near or begins so.

    Case, hyphens and underscores do not count.
    """
    plain = {_plain(name): name for name in allowed}
    begun = sorted((name for name in plain if _plain(given) and name.startswith(_plain(given))), key=len)
    close = get_close_matches(_plain(given), plain, n=1, cutoff=0.5) or begun
    return f" (did you mean {plain[close[0]]!r}?)" if close else ""


def _plain(name: str) -> str:
    return re.sub(r"[-_]", "", name.lower())


def file_name_of(name: str) -> str:
    """The name with a hyphen for every letter that a file's name had better not have."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)


def model_name(model: str) -> str:
    """The last part of a hub name or folder, or the part above it where that is `model`, which says nothing."""
    parts = [part for part in model.removeprefix("package:").split("/") if part not in ("", ".", "..")]
    if not parts:
        return Path(model).resolve().name
    return parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]
