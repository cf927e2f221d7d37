"""Which placement profile the virtual node has: one that is shipped, or a file of the operator's own.

Decides how it is named in the configuration. What a profile may say is the judge's to decide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from dispatcher.judge import BadProfile, Profile, known_profiles, read_profile

_SUFFIXES = (".yaml", ".yml")


def is_file_name(name: str) -> bool:
    """Whether a name means a file and not a shipped profile."""
    return name.endswith(_SUFFIXES)


def placement_profile(name: str) -> Profile:
    """The profile of that name, or in that file. Raises ValueError: what is wrong; what to write instead."""
    known = known_profiles()
    if name in known:
        return known[name]
    if not is_file_name(name):
        raise ValueError(f"there is no profile {name!r}; known are {', '.join(known)}, or name a YAML file")
    try:
        return read_profile(Path(name))
    except BadProfile as error:
        faults = [mistake.replace("; ", ", ") for mistake in error.mistakes]
        raise ValueError(f"{' | '.join(faults)}; correct the file") from None


def _checked(name: str) -> str:
    placement_profile(name)
    return name


ProfileName = Annotated[str, AfterValidator(_checked), Field(examples=["virtual-node-v1"])]
