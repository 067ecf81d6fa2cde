"""CEL as Kubernetes speaks it: its own functions, and the words of its errors."""

from typing import Any

import pytest

from sampan.apiserver.expressions import CannotCompile, CannotEvaluate, compile_expression


def value(source: str, self: Any = None) -> Any:
    return compile_expression(source, {"self": "dyn"}).evaluate({"self": self})


@pytest.mark.parametrize(
    "source",
    [
        "[1, 2, 2].isSorted() && !['b', 'a'].isSorted()",
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [3, 1].max() == 3",
        "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(5) == -1",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1])",
        "sets.intersects([1], [1, 2]) && !sets.intersects([1], [2])",
        "'a12b3'.find('[0-9]+') == '12' && 'abc'.find('[0-9]+') == ''",
        "'a12b3'.findAll('[0-9]+') == ['12', '3'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1').isLessThan(quantity('2'))",
        "quantity('1').compareTo(quantity('1000m')) == 0",
        "quantity('1k').asInteger() == 1000 && !quantity('1m').isInteger() && isQuantity('5Mi')",
        "quantity('1').add(quantity('500m')) == quantity('1500m')",
        "quantity('3').sub(1) == quantity('2')",
        "!isQuantity('five') && quantity('-1').sign() == -1",
        "semver('1.2.3').minor() == 2 && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
        "semver('v1.2', true) == semver('1.2.0') && !isSemver('1.2')",
        "url('https://user@example.org:8443/a?b=c').getHost() == 'example.org:8443'",
        "url('https://example.org:8443/a?b=c').getPort() == '8443' && !isURL('no url')",
        "url('https://example.org/a?b=c&b=d').getQuery()['b'] == ['c', 'd']",
        "ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && !isIP('300.0.0.1')",
        "cidr('10.0.0.0/8').containsIP('10.9.9.9')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.0.0.0/8').prefixLength() == 8",
        "format.dns1123Label().validate('Nope').size() == 1",
        "format.dns1123Label().validate('yes').size() == 0",
        "'AbC'.lowerAscii() == 'abc' && 'a,b'.split(',').size() == 2 && 'abc'.substring(1) == 'bc'",
        "math.greatest(1, 3) == 3 && cel.bind(x, 2, x * x) == 4",
    ],
)
def test_kubernetes_functions_say(source: str) -> None:
    assert value(source) is True


def test_optionals_reach_for_what_may_be_missing() -> None:
    assert value("self.?a.?b.orValue('none')", {"a": {}}) == "none"
    assert value("self[?'a'].hasValue()", {"a": 1}) is True


def test_a_syntax_error_points_at_its_place() -> None:
    with pytest.raises(CannotCompile, match=r"compilation failed: ERROR: <input>:1:9: Syntax"):
        compile_expression("self.a >", {"self": "dyn"})


def test_an_unknown_variable_is_named() -> None:
    with pytest.raises(CannotCompile, match="undeclared reference to 'other'"):
        compile_expression("other == 1", {"self": "dyn"})


def test_types_are_checked_before_anything_is_evaluated() -> None:
    with pytest.raises(CannotCompile, match="found no matching overload for '_>_'"):
        compile_expression("self > 'a'", {"self": "int"})


def test_a_missing_field_is_an_error_that_names_it() -> None:
    with pytest.raises(CannotEvaluate, match="no such key: b"):
        value("self.b == 1", {"a": 1})


def test_an_error_behind_a_decided_or_does_not_matter() -> None:
    assert value("self.b == 1 || true", {}) is True


def test_a_functions_failure_is_the_expressions() -> None:
    with pytest.raises(CannotEvaluate, match="is not a quantity"):
        value("quantity('much').isInteger()")


def test_a_regular_expression_takes_no_exponential_time() -> None:
    assert value("self.find('(a+)+$')", "a" * 5000 + "b") == ""


def test_a_very_long_expression_is_refused() -> None:
    with pytest.raises(CannotCompile, match="longer than"):
        compile_expression("1 + " * 5000 + "1", {})
