"""Pages made of Jinja templates."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(package: str, name: str) -> Template:
    """A template in the folder ``templates`` of a package.

    Everything is escaped, and undefined names are errors.
    """
    return _environment(package).get_template(f"{name}.html.j2")


@cache
def _environment(package: str) -> Environment:
    return Environment(loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined)
