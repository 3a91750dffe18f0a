import make_doctor

from eyebright.doctor.examine import RULES


def test_the_page_of_rules_is_made_from_the_sources():
    page = make_doctor.PAGE.read_text(encoding="utf-8")
    assert page == make_doctor.render(), "run: make docs"
    assert page.count("### ") == len(RULES)
