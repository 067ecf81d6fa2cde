# ruff: noqa: S101 - a test
"""How rules are tested: `python -m pytest examples/07-own-rule`. No server is needed."""

from pathlib import Path

from sampan.testing.rules import Bench, node, pod

RULES = Path(__file__).with_name("rules.py")
RACK = {"example.com/rack": "r1", "example.com/watts": "60"}


def test_a_rack_draws_no_more_power_than_it_has() -> None:
    bench = Bench(RULES, node("a", RACK, cpu="4"), node("b", RACK, cpu="4"))
    assert bench.place(pod(cpu="3"))
    assert bench.place(pod(cpu="2"))
    assert bench.place(pod(cpu="1")) is None
    assert "2 node(s) are in a rack without enough power" in bench.why(pod(cpu="1"))


def test_the_cooler_rack_is_better() -> None:
    bench = Bench(
        RULES,
        node("hot", {"example.com/celsius": "35"}),
        node("cool", {"example.com/celsius": "18"}),
    )
    assert bench.place(pod(cpu="100m")) == "cool"


def test_the_rules_never_fail() -> None:
    bench = Bench(RULES, node("unlabelled"))
    assert bench.place(pod()) == "unlabelled"
    assert not bench.faults
