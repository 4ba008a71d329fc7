"""What pyproject.toml cannot say: the repository's `recipes/` is packed as `hub/demo/recipes`, for `hub demo`."""

from setuptools import find_namespace_packages, setup

setup(packages=[*find_namespace_packages(include=["hub", "hub.*"], exclude=["*.__pycache__"]), "hub.demo.recipes"])
