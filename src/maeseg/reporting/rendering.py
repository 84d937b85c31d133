"""Rendering of a page's values to HTML by the Jinja2 templates of this package.

Every text is escaped by the environment. The one exception is the SVG of a figure, which ``pictures.figure_svg``
marks as markup.
"""

from jinja2 import Environment, PackageLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=PackageLoader("maeseg.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, page: object) -> str:
    """HTML of a page.

    Args:
        template: File of the folder ``templates``.
        page: Values that the template shows, as ``page``.
    """
    return _ENVIRONMENT.get_template(template).render(page=page)
