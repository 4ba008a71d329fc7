"""Where the example recipes are: in the installed package, or in the checkout that this module is part of."""

from __future__ import annotations

from pathlib import Path

from hub.errors import ConfigError


def folder() -> Path:
    """The folder with the example recipes, their purposes and their tests. Raises ConfigError when it is missing."""
    here = Path(__file__).parent
    # A wheel packs the repository's `recipes/` beside this module (setup.py); a checkout has it at its root.
    for place in (here / "recipes", here.parents[1] / "recipes"):
        if (place / "purposes.yaml").exists():
            return place
    raise ConfigError(f"the example recipes are neither in {here} nor in a checkout around it; install tetik-hub again")
