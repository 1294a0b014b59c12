"""Frames of a flood: a template is copied and cut, then what changes is written and summed.

A checksum is not computed anew (RFC 1624): the sum of all that never changes is known, of a payload that may be cut the
sums of all its beginnings, so a frame costs its copy and its changed fields.  Sums are kept as 0 to 0xffff, 0 for zeros
only, because one's complement has two zeros and they are sent differently.
"""

from typing import Annotated, Any

from emu.capture.made import put_row
from emu.kernel.machine import DIR_INBOUND
from emu.kernel.record import record
from emu.traffic.draw import draw, draw_below
from emu.traffic.flood.plan import SHORTEST_FRAME, VARY_COUNT, VARY_FLOW, VARY_RANDOM, VARY_SEQ
from emu.traffic.flood.profile import Profile, advance, cost_of, with_pauses
from emu.wire.octets import Octets, be16, copy_octets

# What a plan may have; `tables` refuses more.
MAX_TRAINS = 4096
MAX_TEMPLATES = 8192
MAX_CHANGES = 32_768  # of all templates
MAX_LENGTHS = 32_768
MAX_CHECKSUMS = 32_768
MAX_SHARES = 131_072  # fields and the checksums that cover each
MAX_VARIABLES = 64
MAX_SIZES = 1024
MAX_SUMS = 8  # checksums of one template
MAX_SEQ_FLOWS = 65_536  # flows whose sequence numbers are kept

BATCH_DONE, FLOOD_DONE, FULL_WINDOW = range(3)

# Streams of drawn numbers; profile has number 1, variables those from STREAM_VARIABLES on.
STREAM_TRAIN, _, STREAM_SIZES, STREAM_SIZE = range(4)
STREAM_VARIABLES = 16


@record
class VariableRow:
    """A variable of the plan, its stream of drawn numbers, and its value in the present train."""

    vary: int
    first: int
    span: int
    step: int
    divisor: int
    key: int
    value: int


@record
class ChangeRow:
    """A field that takes a variable; its checksums are shares[first_share:end_share]."""

    variable: int
    offset: int  # -1: only summed
    width: int
    first_share: int
    end_share: int


@record
class LengthRow:
    """A length field."""

    offset: int  # -1: only summed
    bias: int
    first_share: int
    end_share: int


@record
class ChecksumRow:
    """A checksum, and the sum of all that it covers and never changes."""

    offset: int
    constant: int
    covers_payload: int  # 1: of a payload that may be cut; else `constant` has it
    zero_is_none: int


@record
class TemplateRow:
    """A template, its parts in the tables of all."""

    at: int  # in the image of all templates
    length: int
    payload: int
    smallest: int  # 0: its size is fixed
    seq_bytes: int
    seq_octets: int  # of its payload, where the size is fixed
    sums_at: int  # there too: sums of the payload's beginnings: 16 bits for each even length
    first_change: int
    end_change: int
    first_length: int
    end_length: int
    first_checksum: int
    end_checksum: int


@record
class TrainRow:
    """A train: templates[first_template:end_template]; `until`: the weights up to and with its own."""

    first_template: int
    end_template: int
    until: int


@record
class SizeRow:
    """An entry of the distribution of sizes; `until` as in TrainRow."""

    least: int
    span: int
    until: int


@record
class Flood:
    """A plan in tables, and how far it has been played."""

    trains: Annotated[list[TrainRow], MAX_TRAINS]
    templates: Annotated[list[TemplateRow], MAX_TEMPLATES]
    changes: Annotated[list[ChangeRow], MAX_CHANGES]
    lengths: Annotated[list[LengthRow], MAX_LENGTHS]
    checksums: Annotated[list[ChecksumRow], MAX_CHECKSUMS]
    shares: Annotated[list[int], MAX_SHARES]
    variables: Annotated[list[VariableRow], MAX_VARIABLES]
    sizes: Annotated[list[SizeRow], MAX_SIZES]
    trains_len: int
    variables_len: int
    sizes_len: int
    flows: int
    seq_len: int  # flows whose sequence numbers are kept; 0: no variable has any
    train_key: int
    sizes_key: int
    size_key: int
    frames_end: int  # 0: no such end
    start_ns: int

    begun: int  # trains
    flow: int
    template: int  # the train's next
    template_end: int
    frame_size: int  # of the train's templates that vary
    sums: Annotated[list[int], MAX_SUMS]
    seqs: Annotated[list[int], MAX_SEQ_FLOWS]  # what each flow has carried, modulo 2**32

    frames: int  # made so far


def emit(
    s: Flood,
    p: Profile,
    image: Octets,
    rows: Any,
    first: int,
    limit: int,
    out: bytearray,
    at: int,
) -> tuple[int, int, int]:
    """Make up to `limit` frames as rows from `rows[first]` on, their bytes at `out[at:]`.

    Returns how many there are, where their bytes end, and why it stopped: BATCH_DONE (the limit), FLOOD_DONE,
    FULL_WINDOW (no room for the next frame).
    """
    count = 0
    while count < limit:
        if s.template == s.template_end:
            if s.begun == 0 and p.poisson:
                begin_train(s)
                advance(p, cost_of(p, size_on_wire(s)))
            elif not is_over(s, p):
                begin_train(s)
            if is_over(s, p):
                s.template_end = s.template
                return count, at, FLOOD_DONE
        size = size_on_wire(s)
        if size > len(out) - at:
            return count, at, FULL_WINDOW
        put_frame(s, image, out, at, size)
        time_ns = s.start_ns + with_pauses(p, p.time_ns)
        s.frames += 1
        put_row(rows[first + count], s.frames, time_ns, at, size, DIR_INBOUND)
        advance(p, cost_of(p, size))
        s.template += 1
        at += size
        count += 1
    return count, at, BATCH_DONE


def is_over(s: Flood, p: Profile) -> bool:
    """Whether no further train begins."""
    return (s.frames_end > 0 and s.frames >= s.frames_end) or p.time_ns >= p.end_ns


# --- what a train draws


def begin_train(s: Flood) -> None:
    """Choose the next train, its flow, its size and its variables."""
    number = s.begun
    s.begun += 1
    train = 0
    if s.trains_len > 1:
        train = chosen_train(s, draw_below(draw(s.train_key, number), s.trains[s.trains_len - 1].until))
    s.template = s.trains[train].first_template
    s.template_end = s.trains[train].end_template
    s.flow = within(number, s.flows)
    if s.sizes_len > 0:
        s.frame_size = drawn_size(s, number)
    for at in range(s.variables_len):
        variable = s.variables[at]
        k = 0
        if variable.vary == VARY_COUNT:
            k = within(number, variable.span)
        elif variable.vary == VARY_RANDOM:
            k = draw_below(draw(variable.key, number), variable.span)
        elif variable.vary == VARY_FLOW:
            k = within(s.flow if variable.divisor == 1 else s.flow // variable.divisor, variable.span)
        variable.value = variable.first + variable.step * k


def within(number: int, span: int) -> int:
    """`number` modulo `span`; a division, which takes as long as the rest of a field, only where there is one to do."""
    if span == 1:
        return 0
    return number if number < span else number % span


def chosen_train(s: Flood, drawn: int) -> int:
    """The train whose share of all weights `drawn` falls in."""
    low = 0
    high = s.trains_len - 1
    while low < high:
        middle = (low + high) // 2
        if drawn < s.trains[middle].until:
            high = middle
        else:
            low = middle + 1
    return low


def drawn_size(s: Flood, number: int) -> int:
    """The size of train `number`: an entry by weight, then a size of its range."""
    low = 0
    high = s.sizes_len - 1
    if high > 0:
        drawn = draw_below(draw(s.sizes_key, number), s.sizes[high].until)
        while low < high:
            middle = (low + high) // 2
            if drawn < s.sizes[middle].until:
                high = middle
            else:
                low = middle + 1
    size = s.sizes[low].least
    if s.sizes[low].span > 1:
        size += draw_below(draw(s.size_key, number), s.sizes[low].span)
    return size


# --- one frame


def size_on_wire(s: Flood) -> int:
    """Bytes of the next frame, with padding."""
    template = s.templates[s.template]
    return max(s.frame_size if template.smallest > 0 else template.length, SHORTEST_FRAME)


def put_frame(s: Flood, image: Octets, out: bytearray, at: int, size: int) -> None:
    """The next frame at `out[at:]`, `size` bytes with padding."""
    template = s.templates[s.template]
    cut = s.frame_size if template.smallest > 0 else template.length
    copy_octets(out, at, image, template.at, cut)
    for pad in range(at + cut, at + size):
        out[pad] = 0
    for number in range(template.first_checksum, template.end_checksum):
        s.sums[number - template.first_checksum] = s.checksums[number].constant
    for number in range(template.first_change, template.end_change):
        change = s.changes[number]
        variable = s.variables[change.variable]
        value = variable.value
        if variable.vary == VARY_SEQ:
            value = variable.first + s.seqs[s.flow] & 0xFFFFFFFF
        if change.offset >= 0:
            # Here and not in a function: numba counts references to an array that it passes on.
            for byte in range(change.width):
                out[at + change.offset + byte] = value >> 8 * (change.width - 1 - byte) & 0xFF
        add_field(s, value, change.width, change.offset, change.first_share, change.end_share)
    if template.smallest > 0:
        for number in range(template.first_length, template.end_length):
            length = s.lengths[number]
            value = cut - length.bias
            if length.offset >= 0:
                out[at + length.offset] = value >> 8 & 0xFF
                out[at + length.offset + 1] = value & 0xFF
            add_field(s, value, 2, length.offset, length.first_share, length.end_share)
    for number in range(template.first_checksum, template.end_checksum):
        checksum = s.checksums[number]
        total = s.sums[number - template.first_checksum]
        if checksum.covers_payload:
            total += payload_sum(image, template.at + template.payload, template.sums_at, cut - template.payload)
        value = fold(total) ^ 0xFFFF
        if value == 0 and checksum.zero_is_none:
            value = 0xFFFF
        out[at + checksum.offset] = value >> 8
        out[at + checksum.offset + 1] = value & 0xFF
    if s.seq_len > 0 and template.seq_bytes >= 0:
        payload = cut - template.payload if template.smallest > 0 else template.seq_octets
        s.seqs[s.flow] = s.seqs[s.flow] + template.seq_bytes + payload & 0xFFFFFFFF


def add_field(s: Flood, value: int, width: int, offset: int, first_share: int, end_share: int) -> None:
    """Add a field to the sums that cover it."""
    if first_share < end_share:
        total = field_sum(value, width, offset)
        for share in range(first_share, end_share):
            s.sums[s.shares[share]] += total


def field_sum(value: int, width: int, offset: int) -> int:
    """What a field adds to a sum; one that ends at an odd offset adds it with its bytes swapped (RFC 1071, 2 B)."""
    if width < 8:
        value &= (1 << 8 * width) - 1
    total = (value & 0xFFFF) + (value >> 16 & 0xFFFF) + (value >> 32 & 0xFFFF) + (value >> 48 & 0xFFFF)
    if max(offset, 0) + width & 1:
        total = fold(total)
        total = (total & 0xFF) << 8 | total >> 8
    return total


def payload_sum(image: Octets, at: int, sums_at: int, length: int) -> int:
    """The sum of the first `length` bytes of a payload."""
    total = be16(image, sums_at + (length >> 1) * 2)
    if length & 1:
        total += (image[at + length - 1] & 0xFF) << 8
    return total


def fold(total: int) -> int:
    """A sum of words in 16 bits, with the carries added (RFC 1071); 0 only for 0.  `total` is not negative."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
