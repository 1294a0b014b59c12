"""Conditions over the log's columns, such as `reserve_used_before > 40 and free_pages < floor_pages + 10`.

    condition  = all {"or" all}          all = one {"and" one}          one = "not" one | "(" condition ")" | comparison
    comparison = value OP value          OP  = == != < <= > >= contains
    value      = operand {("+" | "-") operand}                      operand = a column, an integer, a 'text', a word

A word is one of the names of the column that it is compared with; texts and names take == and !=, texts `contains`.
Nothing is evaluated: the condition becomes an expression of polars.
"""

import operator
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.errors import UsageError
from emu.near_miss import did_you_mean
from emu.verdicts.expect import OPERATORS
from emu.verdicts.names import name_of
from emu.verdicts.schema import COLUMNS, ENUM, NAMES, TEXT, Column

if TYPE_CHECKING:
    import polars

TOKEN = re.compile(
    r"\s*(?:(?P<integer>\d+)|(?P<word>[A-Za-z_]\w*(?:-[A-Za-z]\w*)*)|(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign>==|!=|<=|>=|[<>()+-]))"
)
BY_NAME = {column.name: column for column in COLUMNS}
CONTAINS = "contains"
MAX_DEPTH = 50  # parentheses and `not` within each other
MAX_INTEGER = (1 << 63) - 1


class Token(NamedTuple):
    """A piece of the condition: its kind (a group of TOKEN, or `end`), its text, where it stands."""

    kind: str
    text: str
    at: int


class Value(NamedTuple):
    """A side of a comparison: its expression, and the column if it is one; `word`: a name or text, not yet either."""

    expression: Any
    column: Column | None
    word: str | None = None


def where_expression(text: str) -> "polars.Expr":
    """The condition as an expression.  Errors: UsageError that names the place."""
    expression: polars.Expr = _Parser(text).whole()
    return expression


class _Parser:
    """Recursive descent over the tokens, one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._cut(text)
        self._next = 0
        self._depth = 0

    def _cut(self, text: str) -> list[Token]:
        tokens, at = [], 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            if not found or found.lastgroup is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise self._wrong(at, f"'{text[at]}' means nothing here")
            tokens.append(Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            at = found.end()
        return [*tokens, Token("end", "", len(text))]

    def whole(self) -> Any:
        expression = self._any()
        if self._peek().kind != "end":
            raise self._wrong(self._peek().at, f"'{self._peek().text}' is too much; expected and, or")
        return expression

    def _any(self) -> Any:
        expression = self._all()
        while self._took("or"):
            expression = expression | self._all()
        return expression

    def _all(self) -> Any:
        expression = self._one()
        while self._took("and"):
            expression = expression & self._one()
        return expression

    def _one(self) -> Any:
        at = self._peek().at
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(at, f"more than {MAX_DEPTH} parentheses within each other")
        if self._took("not"):
            expression = ~self._one()
        elif self._took("("):
            expression = self._any()
            if not self._took(")"):
                raise self._wrong(self._peek().at, "expected )")
        else:
            expression = self._comparison()
        self._depth -= 1
        return expression

    def _comparison(self) -> Any:
        left = self._value()
        sign = self._take()
        if sign.text not in OPERATORS and sign.text != CONTAINS:
            raise self._wrong(sign.at, f"expected one of {' '.join(OPERATORS)} {CONTAINS}")
        right = self._value()
        left, right = _as_name(left, right), _as_name(right, left)
        for value, other in ((left, right), (right, left)):
            if value.expression is None and not _is_enum(other):
                raise self._unknown(value.word or "")
        left, right = self._resolved(left, right, sign), self._resolved(right, left, sign)
        if sign.text == CONTAINS:
            return left.expression.str.contains(right.expression, literal=True)
        return OPERATORS[sign.text](left.expression, right.expression)

    def _value(self) -> Value:
        value = self._operand()
        while self._peek().text in ("+", "-") and self._peek().kind == "sign":
            sign = self._take()
            other = self._operand()
            if not (_is_number(value) and _is_number(other)):
                raise self._wrong(sign.at, "only numbers can be added")
            combined = operator.add if sign.text == "+" else operator.sub
            value = Value(combined(value.expression, other.expression), None)
        return value

    def _operand(self) -> Value:
        import polars

        token = self._take()
        if token.kind == "integer" and int(token.text) <= MAX_INTEGER:
            return Value(polars.lit(int(token.text)), None)
        if token.text == "-" and self._peek().kind == "integer":
            return Value(polars.lit(-int(self._take().text)), None)
        if token.kind == "text":
            return Value(polars.lit(token.text[1:-1]), None, token.text[1:-1])
        if token.kind != "word" or token.text in ("and", "or", "not", CONTAINS):
            raise self._wrong(token.at, "expected a column, an integer or a 'text'")
        column = BY_NAME.get(token.text)
        if column is None:
            return Value(None, None, token.text)
        expression = polars.col(column.name)
        # Signed and wide, so that sums do not wrap; a packet_id beyond 63 bits is none that can be typed.
        return Value(expression if column.type in (ENUM, TEXT) else expression.cast(polars.Int64, strict=False), column)

    def _resolved(self, value: Value, other: Value, sign: Token) -> Value:
        """The value, whose word is made a name of the column that it is compared with; refused if they do not fit."""
        import polars

        column = other.column
        if value.word is not None and column is not None and column.type == ENUM and sign.text in ("==", "!="):
            name = value.word and name_of(f"--where '{self._text}': {column.name}", value.word, column.names)
            return Value(polars.lit(name), column)
        if value.expression is None:
            raise self._wrong(sign.at, f"names can be compared with == and !=; a text for {CONTAINS} stands in quotes")
        if _is_number(value) != _is_number(other):
            raise self._wrong(sign.at, "a number and a text cannot be compared")
        if sign.text == CONTAINS and (_is_number(value) or (value.column or other.column) is None):
            raise self._wrong(sign.at, "contains is for texts, such as flow contains '10.66.'")
        if not _is_number(value):
            if sign.text not in ("==", "!=", CONTAINS):
                raise self._wrong(sign.at, f"texts can be compared with ==, != and {CONTAINS}")
            return value._replace(expression=value.expression.cast(polars.String))
        return value

    def _unknown(self, word: str) -> UsageError:
        hint = did_you_mean(word, NAMES, "emu schema lists them; a text stands in quotes")
        return UsageError(f"--where '{self._text}': there is no column '{word}'; {hint}")

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _took(self, text: str) -> bool:
        if self._peek().text == text and self._peek().kind in ("word", "sign"):
            self._next += 1
            return True
        return False

    def _wrong(self, at: int, why: str) -> UsageError:
        return UsageError(f"--where '{self._text}': at character {at + 1}: {why}")


def _as_name(value: Value, other: Value) -> Value:
    """The value; a column of numbers beside one of names is a name itself, such as PFMEMALLOC beside `reason`."""
    if _is_enum(other) and value.column is not None and _is_number(value):
        return Value(None, None, value.column.name)
    return value


def _is_enum(value: Value) -> bool:
    return value.column is not None and value.column.type == ENUM


def _is_number(value: Value) -> bool:
    return value.word is None and (value.column is None or value.column.type not in (ENUM, TEXT))
