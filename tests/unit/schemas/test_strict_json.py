"""Strict JSON: a hostile document is refused by field and rule, and a sane one is accepted."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageRejected, Violation
from schemas.strict_json import DEFAULT_LIMITS, INEXACT_NUMBER, JsonLimits, load

HIDDEN = "hunter2"
ONCE = "a key may appear only once in an object"
FINITE = "must be a finite number"
NO_NUL = "must not contain NUL"
NO_SURROGATE = "must not contain a lone surrogate"


def refusal(document: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> Violation:
    """The one rule that `document` breaks."""
    with pytest.raises(MessageRejected) as caught:
        load(document, limits)
    (violation,) = caught.value.violations
    return violation


@pytest.mark.parametrize(
    ("document", "field", "rule"),
    [
        pytest.param(b'{"a": NaN}', "a", FINITE, id="nan"),
        pytest.param(b'{"a": [1, Infinity]}', "a.1", FINITE, id="infinity"),
        pytest.param(b'{"a": {"b": -Infinity}}', "a.b", FINITE, id="minus infinity"),
        pytest.param(b'{"a": 1e400}', "a", FINITE, id="1e400"),
        pytest.param(b'{"a": -1e400}', "a", FINITE, id="-1e400"),
        pytest.param(b"NaN", "body", FINITE, id="nan alone"),
        pytest.param(b'{"a": 1, "a": 1}', "a", ONCE, id="duplicate key"),
        pytest.param(b'{"x": [{"a": 1, "b": 2, "a": 3}]}', "a", ONCE, id="nested duplicate key"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', "a", ONCE, id="duplicate key, escaped"),
        pytest.param(b'{"a": "x\\u0000y"}', "a", NO_NUL, id="NUL escaped"),
        pytest.param(b'{"a\\u0000": 1}', r"a\x00", NO_NUL, id="NUL in a key"),
        pytest.param(b'{"a": "\\ud800"}', "a", NO_SURROGATE, id="high surrogate"),
        pytest.param(b'["\\udc00\\ud800"]', "0", NO_SURROGATE, id="surrogates in wrong order"),
        pytest.param(b'{"\\udfff": 1}', r"\udfff", NO_SURROGATE, id="surrogate in a key"),
    ],
)
def test_what_other_readers_disagree_about_is_refused(
    document: bytes, field: str, rule: str
) -> None:
    assert refusal(document) == Violation(field, rule)


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        pytest.param(b'{"a": "x\x00y"}', "must be JSON", id="raw NUL"),
        pytest.param(b"\x00{}", "must be JSON", id="NUL before"),
        pytest.param(b'{"a": "\xff"}', "must be UTF-8 (byte 7)", id="not UTF-8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', "must be UTF-8", id="surrogate in UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", "must be JSON", id="byte order mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), "must be UTF-8", id="UTF-16"),
        pytest.param(b"", "must be JSON", id="empty"),
        pytest.param(b" \n", "must be JSON", id="white space alone"),
        pytest.param(b"{} {}", "must be JSON", id="trailing document"),
        pytest.param(b'{"a": 1}x', "must be JSON", id="trailing garbage"),
        pytest.param(b'{"a": 1,}', "must be JSON", id="trailing comma"),
        pytest.param(b"{'a': 1}", "must be JSON", id="single quotes"),
        pytest.param(b'{"a": ' + b"9" * 100_000 + b"}", "too many digits", id="10^5 digits"),
        pytest.param(b"-" + b"9" * 100_000, "too many digits", id="-10^5 digits"),
    ],
)
def test_what_is_not_json_is_refused(document: bytes, rule: str) -> None:
    violation = refusal(document)
    assert violation.field == "body"
    assert rule in violation.rule


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_sixty_four_levels_are_accepted(opening: bytes, closing: bytes) -> None:
    document = opening * 64 + b"1" + closing * 64
    assert load(document) == json.loads(document)


@pytest.mark.parametrize("levels", [65, 200, 100_000])
@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_more_levels_are_refused_however_many(opening: bytes, closing: bytes, levels: int) -> None:
    violation = refusal(opening * levels + b"1" + closing * levels)
    assert violation.field in {"a", "0", "body"}
    assert "nested" in violation.rule


def test_unclosed_levels_are_refused_too() -> None:
    assert refusal(b"[" * 500_000).field == "body"


def test_an_object_has_at_most_a_thousand_keys() -> None:
    def document(keys: int) -> bytes:
        return json.dumps({"a": {str(n): n for n in range(keys)}}).encode()

    assert len(load(document(1_000))["a"]) == 1_000
    assert refusal(document(1_001)) == Violation("a", "at most 1000 keys")


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_a_string_is_measured_in_bytes(letter: str) -> None:
    limit = DEFAULT_LIMITS.string_bytes
    fits = letter * (limit // len(letter.encode()))
    assert load(json.dumps([fits], ensure_ascii=False).encode()) == [fits]
    too_long = json.dumps({"a": fits + letter}, ensure_ascii=False).encode()
    assert refusal(too_long) == Violation("a", f"at most {limit} bytes of text")


def test_a_key_is_a_string_too_and_is_not_shown_whole() -> None:
    document = json.dumps({"k" * (DEFAULT_LIMITS.string_bytes + 1): 1}).encode()
    violation = refusal(document)
    assert violation.rule == f"at most {DEFAULT_LIMITS.string_bytes} bytes of text"
    assert violation.field == "k" * 100


def test_a_document_has_at_most_its_size() -> None:
    limit = DEFAULT_LIMITS.size_bytes
    assert load(b"{}".ljust(limit)) == {}
    assert refusal(b"{}".ljust(limit + 1)) == Violation("body", f"at most {limit} bytes")


def test_what_is_too_large_says_so() -> None:
    with pytest.raises(MessageRejected) as caught:
        load(b"[1]", JsonLimits(size_bytes=2))
    assert caught.value.reason == "too-large"


def test_the_place_of_a_mistake_is_counted_as_it_says() -> None:
    assert refusal('["€€€", x]'.encode()).rule == "must be JSON (Expecting value, character 8)"


@pytest.mark.parametrize(
    "document",
    [
        f'{{"a": "{HIDDEN}", "a": "{HIDDEN}"}}',
        f'{{"a": "{HIDDEN}\\u0000"}}',
        f'{{"a": "{HIDDEN}\\ud800"}}',
        f'{{"a": "{HIDDEN}\x00"}}',
        f'{{"a": {HIDDEN}}}',
        f'{{"a": "{HIDDEN}',
        f'{{}} "{HIDDEN}"',
        f'{{"a": "\\{HIDDEN}"}}',
        f'{{"a": "\\u{HIDDEN}"}}',
        f'{{"a": "{HIDDEN}{"x" * DEFAULT_LIMITS.string_bytes}"}}',
        "[" * 65 + f'"{HIDDEN}"' + "]" * 65,
        f'{{"a": "{HIDDEN}", "b": NaN}}',
        "7" * 100_000,
    ],
)
def test_a_refusal_never_repeats_the_value(document: str) -> None:
    with pytest.raises(MessageRejected) as caught:
        load(document.encode())
    assert HIDDEN not in str(caught.value)
    assert "777" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_field_is_named_without_control_characters() -> None:
    assert refusal(b'{"a\\nERROR forged": NaN}').field == r"a\nERROR forged"


SANE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda children: (
        st.lists(children, max_size=5)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            children,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(value=SANE, ascii_only=st.booleans())
def test_every_sane_value_comes_through_unchanged(value: Any, ascii_only: bool) -> None:
    assert load(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    "literal",
    [
        "0.12345678901234567890",
        "12345678901234567.5",
        "9007199254740993.0",
        "9007199254740993e0",
        "0.1000000000000000055511151231257827",
        "1e-400",
        "-1e-9999999999999999999999",
        "4.9e-325",
    ],
)
def test_a_fraction_that_a_float_would_change_is_refused_where_it_stands(literal: str) -> None:
    """FA6: every reader would store another number than the one that was sent."""
    assert refusal(b'{"a": [%s]}' % literal.encode()) == Violation("a.0", INEXACT_NUMBER)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_as_its_shortest_text_is_kept(number: float) -> None:
    """FA6."""
    assert load(json.dumps([number]).encode()) == [number]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=0, max_value=10**9))
def test_a_decimal_of_fifteen_digits_is_kept(number: Decimal) -> None:
    """FA6: prices and coordinates."""
    (kept,) = load(f"[{number:f}]".encode())
    assert Decimal(repr(kept)) == number


PIECES = [b"{", b"}", b"[", b"]", b":", b",", b'"a"', b'"b"', b"NaN", b"1e999", b"-", b"0", b"9"]
PIECES += [b'"\\ud800"', b'"\\u0000"', b"\x00", b"\xff", b"\xef\xbb\xbf", b"null", b"tru", b'"']


@given(document=st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_no_bytes_raise_anything_but_a_refusal(document: bytes) -> None:
    try:
        load(document)
    except MessageRejected as error:
        assert error.violations
        assert str(error).isprintable()
