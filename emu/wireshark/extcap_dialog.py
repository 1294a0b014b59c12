"""What Wireshark shows of our capture interfaces: their names, their options, what each option may be.

Wireshark asks at every start, tshark too, so nothing heavy is imported here.  Sentences are those of extcap(4) and of
the Wireshark Developer's Guide, chapter "Adding Capture Sources: Extcap".
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emu import __version__
from emu.cli import meanings

HELP_PAGE = "https://www.wireshark.org/docs/man-pages/extcap.html"
REPLAY, RUN = "emu0", "emu-run"
INTERFACES = {REPLAY: "Emulated NIC: replay a capture", RUN: "Emulated NIC: run a scenario"}
ITS_OWN = "scenario"  # the word of a selector for: as the scenario says
OWN_VALUE = (ITS_OWN, "as the scenario says")
BETWEEN = ";"  # several values in one field
REPEATED = f"several: with `{BETWEEN}` between them"
RUN_TABLES = re.compile(r"^\s*(?:\[run\]|\[\[session\]\])", re.MULTILINE)

# Wireshark shows a number that has no default as 0, which would be a cap, a seed: such a field is a text of digits.
DIGITS, DECIMAL = r"{validation=^[0-9]*$}", r"{validation=^[0-9]*[.]?[0-9]*$}"

Values = Callable[[], Sequence[tuple[str, str]]]


class Field(NamedTuple):
    """One field of the dialog; its `call` is what the extcap is given, without hyphens in its name.

    Wireshark makes the preference `extcap.INTERFACE.NAME` of it, in which a hyphen of the interface is an underscore.
    """

    name: str
    display: str
    type: str  # selector, fileselect, string, unsigned, double, boolflag
    tooltip: str
    group: str
    default: str = ""
    limits: str = ""  # least,most
    more: str = ""  # further parts of the sentence
    values: Values | None = None

    @property
    def call(self) -> str:
        """The option."""
        return f"--{self.name}"


def policies() -> list[tuple[str, str]]:
    """The policies, by name; first the scenario's own."""
    from emu.kernel.policy import POLICIES

    return [OWN_VALUE, *((name, f"{name}: {row.title}") for name, row in POLICIES.items())]


def runs() -> list[tuple[str, str]]:
    """The shipped scenarios that are runs."""
    from emu.scenarios import shipped_names, shipped_scenario

    texts = {name: shipped_scenario(name).read_text(encoding="utf-8") for name in shipped_names()}
    return [(name, name) for name, text in texts.items() if RUN_TABLES.search(text)]


def engines() -> list[tuple[str, str]]:
    """How the machine may run."""
    return [
        ("auto", "auto: compiled where that is ready, else plain"),
        ("compiled", "compiled: the first time takes a minute (emu warmup)"),
        ("plain", "plain: at once, some 20000 frames per second"),
    ]


PLAY, FRAMES, SHOWN, FURTHER = "Play", "Capture", "Shown", "Further"

POLICY = Field("policy", "Policy", "selector", meanings.POLICY_OF_REPLAY, PLAY, ITS_OWN, values=policies)
CAP = Field(
    "cap",
    "Cap on the reserve",
    "string",
    "How many of the first device's buffers may come from the reserve (device.0.rx_reserve); empty: the policy's cap.",
    PLAY,
    more=DIGITS,
)
REALTIME = Field(
    "realtime",
    "Times the clock",
    "double",
    "How fast time passes: 1 as on the clock, 10 ten times as fast.",
    SHOWN,
    "1",
    "0.001,1000000",
)
ANNOTATE = Field(
    "annotateall",
    "Comment every packet",
    "boolflag",
    "Survivors, too, get the comment that says how they fared; else only what was lost has one.",
    SHOWN,
    "false",
)
SETTINGS = Field("set", "Settings", "string", f"KEY=VALUE: {meanings.SETTINGS}; {REPEATED}.", FURTHER)
ENGINE = Field("engine", "Engine", "selector", meanings.ENGINE, FURTHER, "auto", values=engines)
TOML = "{fileext=Scenarios (*.toml)}{mustexist=true}"

FIELDS: dict[str, tuple[Field, ...]] = {
    REPLAY: (
        Field(
            "file",
            "Capture file",
            "fileselect",
            "The capture to replay: pcap or pcapng, plain or compressed.",
            PLAY,
            more="{required=true}{mustexist=true}"
            "{fileext=Captures (*.pcap *.pcapng *.pcap.gz *.pcapng.gz *.zst *.xz *.lz4)}",
        ),
        POLICY,
        CAP,
        Field("flood", "Floods", "string", f"{meanings.FLOOD}; {REPEATED}.", PLAY),
        Field("host", "Host", "string", f"IP or MAC: {meanings.HOST}", FRAMES),
        Field("memalloc", "Flows of block I/O", "string", meanings.MEMALLOC, FRAMES),
        Field("speed", "Speed of the capture", "string", meanings.SPEED, FRAMES, more=DECIMAL),
        REALTIME,
        ANNOTATE,
        Field("scenario", "Scenario", "fileselect", meanings.SCENARIO, FURTHER, more=TOML),
        SETTINGS,
        ENGINE,
    ),
    RUN: (
        Field("scenario", "Scenario", "selector", meanings.SCENARIO_OF_RUN, PLAY, "deadlock", values=runs),
        Field(
            "scenariofile",
            "Scenario file",
            "fileselect",
            "A scenario of your own, in place of a shipped one (emu scenarios schema).",
            PLAY,
            more=TOML,
        ),
        POLICY._replace(tooltip=meanings.POLICY_OF_RUN),
        CAP,
        Field(
            "flood",
            "Floods",
            "string",
            f"In place of the scenario's: KIND:KEY=VALUE,... such as udp:pps=10k (emu flood --list); {REPEATED}.",
            PLAY,
        ),
        Field("for", "Lasts", "string", meanings.DURATION, FRAMES),
        Field("seed", "Seed", "string", meanings.SEED, FRAMES, more=DIGITS),
        REALTIME,
        ANNOTATE,
        SETTINGS,
        ENGINE,
    ),
}


def sentence(word: str, **parts: object) -> str:
    """One sentence of the protocol; a part that is empty is left out."""
    return f"{word} " + "".join(f"{{{name}={_escaped(str(value))}}}" for name, value in parts.items() if value != "")


def _escaped(text: str) -> str:
    """A text as the value of a part: a brace would end it."""
    return text.replace("\\", "\\\\").replace("}", "\\}")


def interface_sentences() -> list[str]:
    """What there is to capture from."""
    named = [sentence("interface", value=name, display=display) for name, display in INTERFACES.items()]
    return [sentence("extcap", version=__version__, help=HELP_PAGE, display="emu"), *named]


def dlt_sentences() -> list[str]:
    """The link type; what is captured says itself which interfaces it has."""
    return [sentence("dlt", number=1, name="EN10MB", display="Ethernet")]


def config_sentences(interface: str) -> list[str]:
    """The options of an interface."""
    said = []
    for number, field in enumerate(FIELDS[interface]):
        plain_default = "" if field.values else field.default
        said.append(
            sentence(
                "arg",
                number=number,
                call=field.call,
                display=field.display,
                tooltip=field.tooltip,
                type=field.type,
                range=field.limits,
                default=plain_default,
                group=field.group,
            )
            + field.more
        )
        for value, display in field.values() if field.values else ():
            default = "true" if value == field.default else "false"
            said.append(sentence("value", arg=number, value=value, display=display, default=default))
    return said
