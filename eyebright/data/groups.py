"""Groups from names: which pictures are of the same subject."""

from __future__ import annotations

import re
from dataclasses import replace

from eyebright.data.images import ImageFiles, Images, Pictures, names_below
from eyebright.errors import DataError


def group_by_name(parts: dict[str, Pictures], pattern: str) -> dict[str, Pictures]:
    r"""The same pictures with the groups that their names tell.

    Args:
        parts: pictures by part.
        pattern: a regular expression that is searched for in each picture's name, the path below the data's folder;
            what its first bracket matches is the group: ``patient(\d+)_``.

    Raises:
        DataError: it is no regular expression with a bracket, or a name does not match it.
    """
    try:
        expression = re.compile(pattern)
        if not expression.groups:
            raise re.error("it has no bracket")
    except re.error as error:
        raise DataError(
            f"cannot group pictures by '{pattern}': {error}",
            expected="a regular expression whose first bracket is the group",
            remedy=r"write it like group_by = 'patient(\d+)_', in single quotes in a recipe",
        ) from error

    def group_of(name: str) -> str:
        found = expression.search(name)
        if found is None or found[1] is None:
            raise DataError(
                f"the picture {name} has no group: '{pattern}' is not in its name",
                expected="a group for each picture, from its path below the data's folder",
                remedy="change the regular expression, or rename the picture",
            )
        return found[1]

    grouped: dict[str, Pictures] = {}
    for part, names in names_below(parts).items():
        pictures = parts[part]
        assert isinstance(pictures, Images | ImageFiles)
        grouped[part] = replace(pictures, groups=tuple(map(group_of, names)))
    return grouped
