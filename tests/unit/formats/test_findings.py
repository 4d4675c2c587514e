"""Collecting what there is to say about a file."""

from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.strict_yaml import PROBLEMS, load


def test_problems_come_in_order_of_place_and_each_once() -> None:
    findings = Findings(load(b"a: 1\nb: 2\n", "site.yaml"))
    for key in ("b", "a", "b"):
        findings.problem((key,), "wrong", "right it")
    assert [problem.line for problem in findings.problems] == [1, 2]


def test_a_flood_of_problems_is_cut_and_counted() -> None:
    findings = Findings(load(b"a: 1\n", "site.yaml"))
    for number in range(PROBLEMS + 7):
        findings.problem(("a",), f"wrong {number}", "right it")
    assert len(findings.problems) == PROBLEMS + 1
    assert findings.problems[-1].message() == "site.yaml: 7 more problems"


def test_the_nearest_known_word_is_offered_or_all_of_them() -> None:
    assert did_you_mean("shres", ["shares", "public"]) == "did you mean 'shares'?"
    assert did_you_mean("zzz", ["shares", "public"]) == "known are: public, shares"
    assert did_you_mean("zzz", []) == "there are none yet"
    assert did_you_mean("a" * 1_000_000, ["shares"]) == "known are: shares"
