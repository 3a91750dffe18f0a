"""All that may be wrong with a data set, the worst first."""

from __future__ import annotations

from eyebright.inspection import class_checks, name_checks, picture_checks
from eyebright.inspection.finding import Finding
from eyebright.inspection.picture_facts import Facts

CHECKS = (
    picture_checks.find_unreadable,
    picture_checks.find_two_labels,
    picture_checks.find_leakage,
    picture_checks.find_copies,
    class_checks.find_missing,
    class_checks.find_shortcuts,
    class_checks.find_differing_parts,
    class_checks.find_few,
    class_checks.find_imbalance,
    name_checks.find_odd_names,
    picture_checks.find_constant,
    picture_checks.find_small,
    picture_checks.find_grey,
    picture_checks.find_turned,
)


def find_warnings(facts: dict[str, Facts], classes: tuple[str, ...]) -> tuple[Finding, ...]:
    """Does every check.

    Args:
        facts: part → a row for each picture; the training part among them.
        classes: names in order.
    """
    return tuple(finding for check in CHECKS for finding in check(facts, classes))
