"""From a plan to the tables that emit plays: checked, and with all sums made that frames share."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.traffic.draw import BITS, MAX_SPAN, stream_key
from emu.traffic.expression import signed64
from emu.traffic.flood import emit
from emu.traffic.flood.plan import (
    SHORTEST_FRAME,
    VARY_COUNT,
    VARY_FLOW,
    VARY_RANDOM,
    VARY_SEQ,
    Change,
    Length,
    Plan,
    Template,
    Variable,
)

VARIES = (VARY_COUNT, VARY_RANDOM, VARY_FLOW, VARY_SEQ)
MAX_FRAME = 65_549  # an Ethernet header, a VLAN tag less than two, and the largest IPv4 packet
MAX_WEIGHT = MAX_SPAN - 1  # of all trains, or of all sizes


class Tables(NamedTuple):
    """A plan as emit takes it: a Flood, and the bytes of all templates and sums as the engine views them."""

    flood: Any
    image: Any


def largest_frame(plan: Plan) -> int:
    """Bytes of the largest frame that a plan can give."""
    fixed = [len(t.octets) for train in plan.trains for t in train.templates if not t.smallest]
    return max([*fixed, *(entry.most for entry in plan.sizes), SHORTEST_FRAME])


def tables_of(plan: Plan, engine: Engine, start_ns: int) -> Tables:
    """The plan in tables, nothing played.

    Errors: UsageError for a plan that has more of anything than emit's maxima, or sizes that its templates cannot have.
    """
    check_plan(plan)
    flood = engine.new(emit.Flood)
    builder = _Builder(flood, engine)
    has_seq = any(variable.vary == VARY_SEQ for variable in plan.variables)
    for at, variable in enumerate(plan.variables):
        builder.add_variable(at, variable, stream_key(plan.seed, emit.STREAM_VARIABLES + at))
    until = 0
    for at, train in enumerate(plan.trains):
        first = builder.templates
        for template in train.templates:
            builder.add_template(template, plan.variables)
        until += train.weight
        row = {"first_template": first, "end_template": builder.templates, "until": until}
        engine.fill(flood.trains[at], row)
    until = 0
    for at, entry in enumerate(plan.sizes):
        until += entry.weight
        row = {"least": entry.least, "span": entry.most - entry.least + 1, "until": until}
        engine.fill(flood.sizes[at], row)
    values = {
        "trains_len": len(plan.trains),
        "variables_len": len(plan.variables),
        "sizes_len": len(plan.sizes),
        "flows": plan.flows,
        "seq_len": plan.flows if has_seq else 0,
        "train_key": stream_key(plan.seed, emit.STREAM_TRAIN),
        "sizes_key": stream_key(plan.seed, emit.STREAM_SIZES),
        "size_key": stream_key(plan.seed, emit.STREAM_SIZE),
        "frames_end": plan.frames,
        "start_ns": start_ns,
    }
    engine.fill(flood, values)
    return Tables(flood, engine.view(builder.image))


class _Builder:
    """Appends to the tables."""

    def __init__(self, flood: Any, engine: Engine) -> None:
        self.flood = flood
        self.engine = engine
        self.image = bytearray()
        self.templates = self.changes = self.lengths = self.checksums = self.shares = 0

    def add_variable(self, at: int, variable: Variable, key: int) -> None:
        fields = {name: signed64(value) for name, value in variable._asdict().items()}
        self.engine.fill(self.flood.variables[at], fields | {"key": key})

    def add_shares(self, checksums: Iterable[int]) -> dict[str, int]:
        first = self.shares
        for number in checksums:
            self.flood.shares[self.shares] = number
            self.shares += 1
        return {"first_share": first, "end_share": self.shares}

    def add_template(self, template: Template, variables: tuple[Variable, ...]) -> None:
        check_template(template, len(variables))
        constants, octets, prefixes = sums_of(template, variables)
        row: dict[str, int] = {
            "at": len(self.image),
            "length": len(octets),
            "payload": template.payload,
            "smallest": template.smallest,
            "seq_bytes": template.seq_bytes,
            "seq_octets": max(len(octets) - template.payload, 0),
            "sums_at": len(self.image) + len(octets),
            "first_change": self.changes,
            "first_length": self.lengths,
            "first_checksum": self.checksums,
        }
        self.image += octets + prefixes
        for change in template.changes:
            fields = {"variable": change.variable, "offset": change.offset, "width": change.width}
            self.engine.fill(self.flood.changes[self.changes], fields | self.add_shares(change.checksums))
            self.changes += 1
        for length in template.lengths:
            fields = {"offset": length.offset, "bias": length.bias}
            self.engine.fill(self.flood.lengths[self.lengths], fields | self.add_shares(length.checksums))
            self.lengths += 1
        for checksum, constant in zip(template.checksums, constants, strict=True):
            fields = {
                "offset": checksum.offset,
                "constant": constant,
                "covers_payload": checksum.covers_payload and template.smallest > 0,
                "zero_is_none": checksum.zero_is_none,
            }
            self.engine.fill(self.flood.checksums[self.checksums], fields)
            self.checksums += 1
        row |= {"end_change": self.changes, "end_length": self.lengths, "end_checksum": self.checksums}
        self.engine.fill(self.flood.templates[self.templates], row)
        self.templates += 1


def sums_of(template: Template, variables: tuple[Variable, ...]) -> tuple[list[int], bytes, bytes]:
    """A template's constant sums, its bytes with all that changes as zeros, and the sums of its payload's beginnings.

    From what each checksum says of the template, what changes is subtracted.  That leaves 0 or 0xffff open where
    nothing else has a bit set; it is taken as 0 only if the template's sum was 0.
    """
    octets = bytearray(template.octets)
    total = [int.from_bytes(octets[c.offset : c.offset + 2]) ^ 0xFFFF for c in template.checksums]
    empty = [value == 0 for value in total]
    for offset, width, value, checksums in old_fields(template, variables):
        for number in checksums:
            total[number] -= emit.field_sum(value, width, offset)
        if offset >= 0:
            octets[offset : offset + width] = bytes(width)
    prefixes = bytearray()
    if template.smallest and any(checksum.covers_payload for checksum in template.checksums):
        prefixes, whole = payload_sums(octets, template.payload)
        for number, checksum in enumerate(template.checksums):
            total[number] -= whole if checksum.covers_payload else 0
    constants = [0 if none else value % 0xFFFF or 0xFFFF for value, none in zip(total, empty, strict=True)]
    return constants, bytes(octets), bytes(prefixes)


def old_fields(template: Template, variables: tuple[Variable, ...]) -> list[tuple[int, int, int, tuple[int, ...]]]:
    """What the template has in the fields that change: offset, width, value, checksums.

    What is only summed has, in the template, its variable's first value.
    """
    changing: list[Change | Length] = [*template.changes]
    if template.smallest:
        changing += template.lengths
    found = []
    for field in changing:
        width = field.width if isinstance(field, Change) else 2
        if field.offset >= 0:
            value = int.from_bytes(template.octets[field.offset : field.offset + width])
        elif isinstance(field, Change):
            value = variables[field.variable].first
        else:
            value = len(template.octets) - field.bias
        found.append((field.offset, width, value, field.checksums))
    return found


def payload_sums(octets: bytes | bytearray, payload: int) -> tuple[bytearray, int]:
    """The sums of octets[payload : payload + 2k] for all k, 16 bits each, and the sum of the whole payload."""
    prefixes = bytearray(2)
    total = 0
    for at in range(payload, len(octets) - 1, 2):
        total = emit.fold(total + (octets[at] << 8 | octets[at + 1]))
        prefixes += total.to_bytes(2)
    if len(octets) - payload & 1:
        total = emit.fold(total + (octets[-1] << 8))
    return prefixes, total


# --- checks


def check_plan(plan: Plan) -> None:
    """Refuse with a UsageError what a user can ask for and emit cannot do."""
    templates = [template for train in plan.trains for template in train.templates]
    assert plan.trains and all(train.templates and train.weight > 0 for train in plan.trains), "a train of nothing"
    assert plan.flows > 0, plan.flows
    fields: list[Change | Length] = []
    for template in templates:
        fields += [*template.changes, *template.lengths]
    has_seq = any(variable.vary == VARY_SEQ for variable in plan.variables)
    bounds: Mapping[str, tuple[int, int]] = {
        "trains": (len(plan.trains), emit.MAX_TRAINS),
        "templates": (len(templates), emit.MAX_TEMPLATES),
        "variables": (len(plan.variables), emit.MAX_VARIABLES),
        "sizes": (len(plan.sizes), emit.MAX_SIZES),
        "changing fields": (sum(len(template.changes) for template in templates), emit.MAX_CHANGES),
        "length fields": (sum(len(template.lengths) for template in templates), emit.MAX_LENGTHS),
        "checksums": (sum(len(template.checksums) for template in templates), emit.MAX_CHECKSUMS),
        "checksums in one frame": (max(len(template.checksums) for template in templates), emit.MAX_SUMS),
        "summed fields": (sum(len(field.checksums) for field in fields), emit.MAX_SHARES),
        "flows": (plan.flows, emit.MAX_SEQ_FLOWS if has_seq else MAX_SPAN),
        "weights of trains together": (sum(train.weight for train in plan.trains), MAX_WEIGHT),
        "weights of sizes together": (sum(entry.weight for entry in plan.sizes), MAX_WEIGHT),
        "bytes in a frame": (largest_frame(plan), MAX_FRAME),
        "seed": (plan.seed, (1 << BITS) - 1),
        "frames": (plan.frames, (1 << BITS) - 1),
    }
    for name, (value, bound) in bounds.items():
        if not 0 <= value <= bound:
            raise UsageError(f"flood: {value} {name}; expected at most {bound}")
    for variable in plan.variables:
        assert variable.vary in VARIES and variable.divisor > 0, variable
        if not 1 <= variable.span <= MAX_SPAN:
            raise UsageError(f"flood: a variable with {variable.span} values; expected 1 to {MAX_SPAN}")
    check_sizes(plan, templates)


def check_sizes(plan: Plan, templates: list[Template]) -> None:
    """The sizes asked for are such that every template that varies can have them."""
    varied = [template for template in templates if template.smallest]
    assert bool(plan.sizes) or not varied, "templates whose size varies, and no sizes"
    for entry in plan.sizes:
        assert entry.weight > 0, entry
        for template in varied:
            if not template.smallest <= entry.least <= entry.most <= len(template.octets):
                size = str(entry.least) if entry.least == entry.most else f"{entry.least}..{entry.most}"
                raise UsageError(f"size {size}: expected {template.smallest}..{len(template.octets)} for these frames")


def check_template(template: Template, variables: int) -> None:
    """A template that a recipe made must make sense."""
    length = template.smallest or len(template.octets)
    assert len(template.octets) >= template.smallest >= 0
    assert not template.smallest or template.smallest >= template.payload, "the headers would be cut"
    summed = any(checksum.covers_payload for checksum in template.checksums)
    assert not (template.smallest and summed and template.payload & 1), "payload at an odd offset"
    taken: set[int] = set()
    places = [(checksum.offset, 2) for checksum in template.checksums]
    places += [(field.offset, 2) for field in template.lengths if field.offset >= 0]
    places += [(field.offset, field.width) for field in template.changes if field.offset >= 0]
    for offset, width in places:
        span = range(offset, offset + width)
        assert offset >= 0 and offset + width <= length and not taken.intersection(span), (offset, width)
        taken.update(span)
    assert all(checksum.offset % 2 == 0 for checksum in template.checksums)
    assert all(1 <= change.width <= 8 and 0 <= change.variable < variables for change in template.changes)
    fields: list[Change | Length] = [*template.changes, *template.lengths]
    assert all(0 <= number < len(template.checksums) for field in fields for number in field.checksums)
