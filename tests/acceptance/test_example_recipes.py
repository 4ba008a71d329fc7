"""The recipes that the repository ships: each has tests of its own, and they pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.demo import examples
from hub.library import PURPOSES_FILE, load_files, recipe_files
from hub.plugins import Plugins, load_plugins
from hub.rehearsal import run_test_file

_FOLDER = examples.folder()
_RECIPES = [path for path in recipe_files([_FOLDER]) if path.name != PURPOSES_FILE]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    """The installed plugins."""
    return load_plugins()


def test_the_examples_are_those_of_the_repository() -> None:
    assert Path(__file__).parents[2] / "recipes" == _FOLDER
    assert "abandoned-cart-sms.yaml" in {path.name for path in _RECIPES}


def test_the_examples_are_valid_together(plugins: Plugins) -> None:
    purposes, recipes = load_files([_FOLDER], plugins.catalogue)

    assert purposes is not None
    assert set(recipes) == {path.stem for path in _RECIPES}


@pytest.mark.parametrize("recipe", _RECIPES, ids=lambda path: path.stem)
async def test_each_example_passes_its_own_tests(recipe: Path, plugins: Plugins) -> None:
    tests = recipe.with_suffix(".test.yaml")
    assert tests.exists(), f"{recipe.name} has no tests beside it"

    report = await run_test_file(tests, plugins)

    failed = {case.name: (case.problems, case.trace) for case in report.cases if not case.passed}
    assert not failed
