"""The Lua plugin as it is installed: its table of fields comes from the comment's keys and the log's columns.

`emu.lua` holds the table too, so that the file works as it lies there; a test compares.
"""

from importlib.resources import files
from typing import NamedTuple

from emu.capture.annotate import KEYS, NAMES
from emu.kernel.drop_reason import NOT_PLAYED, VERDICTS
from emu.verdicts.schema import COLUMNS, ENUM, FLAG, INT, TEXT, UINT, Column

PLUGIN_FILE = "emu.lua"
BEGIN, END = "-- BEGIN TABLE", "-- END TABLE\n"
PREFIX = "emu verdict="  # how the comment begins
ALONE = {"NOT PLAYED": VERDICTS[NOT_PLAYED]}  # a short comment that may stand without the long one

# Where a name of the comment is not the column's own.
COLUMN_OF_NAME = {"rule": "policy_rule"}
POLICY = Column("policy", TEXT, "", "The policy that ran.", "")  # one for the whole log, so no column of it
HAS_SOCKET = Column("has_socket", FLAG, "", "1: a socket was found for the packet.", "")
WAITED = Column("waited_ns", INT, "ns", "From the frame's arrival until its verdict.", "")
CULPRIT = Column("culprit_id", UINT, "", "epb_packetid of the frame that last took what this one lacked; 0: none.", "")
# Keys that are not the column itself, but follow from it.
OF_KEY = {column.name: column for column in (HAS_SOCKET, WAITED)} | {"culprit": CULPRIT}

KINDS = {TEXT: "text", ENUM: "text", FLAG: "flag", INT: "number", UINT: "id"}  # of the Lua table, by column type
KIND_OF_KEY = {"time_ns": "moment", "waited_ns": "span"}


class Field(NamedTuple):
    """A field of Wireshark: the comment's key, the filter's name, how it is read, and its texts."""

    key: str
    field: str
    kind: str
    name: str
    about: str
    written: dict[str, str]  # names that the comment writes otherwise, blanks as `_`


def fields() -> list[Field]:
    """The fields of the comment's names and keys, in their order."""
    columns = {column.name: column for column in COLUMNS}
    found = [_field(name, columns.get(COLUMN_OF_NAME.get(name, name), POLICY)) for name in NAMES]
    return found + [_field(key, OF_KEY.get(key) or columns[column]) for key, column in KEYS.items()]


def plugin_text() -> str:
    """The text of the plugin, with the table of this version of emu."""
    text = files("emu.wireshark").joinpath(PLUGIN_FILE).read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    marked, rest = rest.split("\n", 1)
    return f"{head}{BEGIN}{marked}\n{_table()}{END}{rest.split(END, 1)[1]}"


def _field(key: str, column: Column) -> Field:
    kind = KIND_OF_KEY.get(key, KINDS[column.type])
    name = "culprit_id" if key == "culprit" else key.removesuffix("_ns")
    unit = f" ({column.unit})" if kind == "number" and not name.endswith(column.unit) else ""
    words = {"_".join(said.split()): said for said in column.names}
    written = {word: said for word, said in words.items() if word != said}
    title = (name[:1].upper() + name[1:]).replace("_", " ")
    return Field(key, f"emu.{name}", kind, title + unit, column.meaning, written)


def _table() -> str:
    """The Lua source of what comes from tables."""
    pattern = PREFIX.replace("-", "%-")
    lines = [f'local PREFIX_PATTERN = "^{pattern}(%S+)"', f"local ALONE = {_pairs(ALONE)}"]
    lines += ["-- In a comment, blanks in names are `_`.", "local WRITTEN = {"]
    for field in fields():
        if field.written:
            lines += [f"  {field.key} = {{"]
            lines += [f"    [{_quoted(word)}] = {_quoted(said)}," for word, said in field.written.items()]
            lines += ["  },"]
    lines += ["}", "local FIELDS = {"]
    for field in fields():
        lines += [
            f'  {{ key = "{field.key}", field = "{field.field}", kind = "{field.kind}", name = {_quoted(field.name)},',
            f"    about = {_quoted(field.about)} }},",
        ]
    return "\n".join([*lines, "}", ""])


def _pairs(values: dict[str, str]) -> str:
    return "{ " + ", ".join(f"[{_quoted(key)}] = {_quoted(value)}" for key, value in values.items()) + " }"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
