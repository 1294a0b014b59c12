"""Records: how state is declared, once, for the plain engine and for the compiled one.

A record is a class of annotations: `int` is a 64-bit integer, `Annotated[list[int], N]` an array of them, another
record a nested record, and `Annotated[list[Row], N]` an array of records.  `@record` turns it into a slotted class
whose instance is all zeros; `emu.engine.compiled` reads the same `FIELDS` to build a numpy dtype.
"""

from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Field(NamedTuple):
    """One field: `row` is the record class of a nested record (None for integers), `length` 0 for a scalar."""

    name: str
    row: Any
    length: int


class Rows(dict[int, Any]):
    """An array of records that come into being, zeroed, when they are first touched."""

    def __init__(self, row: type, length: int) -> None:
        """Make an array of `length` records of class `row`."""
        self.row = row
        self.length = length

    def __missing__(self, index: int) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(f"{self.row.__name__}[{index}]: there are {self.length}")
        row = self[index] = self.row()
        return row


def _field(name: str, annotation: Any) -> Field:
    length = 0
    if get_origin(annotation) is Annotated:
        annotation, length = get_args(annotation)
        (annotation,) = get_args(annotation)
    return Field(name, None if annotation is int else annotation, length)


def record(cls: type[T]) -> type[T]:
    """Turn a class of annotations into a slotted record with all fields zero."""
    fields = tuple(_field(name, hint) for name, hint in get_type_hints(cls, include_extras=True).items())

    def __init__(self: Any) -> None:  # noqa: N807
        for name, row, length in fields:
            if row is None:
                setattr(self, name, [0] * length if length else 0)
            else:
                setattr(self, name, Rows(row, length) if length else row())

    slots = tuple(field.name for field in fields)
    body = {"__slots__": slots, "__init__": __init__, "__doc__": cls.__doc__, "__module__": cls.__module__}
    made: type[T] = type(cls.__name__, (), body | {"FIELDS": fields})
    return made


def fields_of(cls: type) -> tuple[Field, ...]:
    """The fields of a record class, in order."""
    fields: tuple[Field, ...] = cls.FIELDS  # type: ignore[attr-defined]
    return fields


def as_wholes(rows: Any) -> Any:
    """An array's rows without their fields: numpy copies structured ones field by field, thirty times as long."""
    return rows.view(f"V{rows.itemsize}")
