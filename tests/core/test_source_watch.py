"""Source watch: which tables a run looks into, and that nothing is asked for for ever."""

import json
from dataclasses import asdict

from mimic_core.source_watch import Asked, choose
from mimic_core.world import TableState

TABLES = {"h.large": TableState(token="1", rows=9), "h.small": TableState(token="2", rows=1)}
LACKING = {"h.large": "v1", "h.small": "v2"}


def test_nothing_is_asked_for_where_all_is_known_and_fresh():
    wanted = choose(TABLES, {}, set(), Asked())
    assert (wanted.profiles, wanted.ages, wanted.asked) == ((), (), Asked())


def test_tables_without_a_profile_are_asked_for_the_smallest_first():
    assert choose(TABLES, LACKING, set(), Asked()).profiles == ("h.small", "h.large")


def test_what_is_not_made_is_asked_for_twice_and_then_given_up_until_something_changes():
    asked, found = Asked(), []
    for lacking in (LACKING, LACKING, LACKING, {"h.large": "v3"}):
        wanted = choose(TABLES, lacking, set(), asked)
        asked = wanted.asked
        found.append((len(wanted.profiles), wanted.given_up))
    assert found == [(2, 0), (2, 0), (0, 2), (1, 0)]


def test_a_table_that_holds_again_what_it_once_held_is_asked_for_again():
    asked = Asked()
    for lacking in ({"h.small": "v1"}, {}, {"h.small": "v1"}, {}, {"h.small": "v1"}):
        wanted = choose(TABLES, lacking, set(), asked)
        assert bool(wanted.profiles) == bool(lacking)
        asked = wanted.asked


def test_only_the_age_is_judged_of_a_table_that_became_too_old_and_again_when_it_is_not():
    first = choose(TABLES, {}, {"h.small"}, Asked())
    assert (first.profiles, first.ages) == ((), ("h.small",))
    second = choose(TABLES, {}, {"h.small"}, first.asked)
    assert second.ages == ()
    assert choose(TABLES, {}, set(), second.asked).ages == ("h.small",)


def test_a_table_that_is_profiled_has_its_age_judged_with_that():
    wanted = choose(TABLES, {"h.small": "v"}, {"h.small", "h.large"}, Asked())
    assert (wanted.profiles, wanted.ages) == (("h.small",), ("h.large",))


def test_a_table_that_is_gone_is_asked_for_nothing():
    assert choose({}, {}, set(), Asked(stale=("h.small",))).ages == ()


def test_a_table_that_cannot_be_read_is_looked_into_once_whatever_it_says_and_once_when_it_can_be_again():
    asked, found = Asked(), []
    for error in ("gone", "gone", "still gone", "", ""):
        tables = TABLES | {"h.small": TableState(error=error) if error else TABLES["h.small"]}
        wanted = choose(tables, {}, set(), asked)
        asked = Asked(**json.loads(json.dumps(asdict(wanted.asked))))
        found.append(wanted.profiles)
    assert found == [("h.small",), (), (), ("h.small",), ()]
