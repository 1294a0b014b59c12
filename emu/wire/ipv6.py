"""IPv6 header and its extension headers (RFC 8200 sections 3 and 4, RFC 2675): offsets from the start of each."""

PAYLOAD_LENGTH = 4
NEXT_HEADER = 6
SRC = 8
DST = 24
HEADER_LEN = 40
ADDRESS_LEN = 16

PROTO_HOPOPTS = 0
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_ROUTING = 43
PROTO_FRAGMENT = 44
PROTO_ESP = 50
PROTO_AH = 51
PROTO_ICMPV6 = 58
PROTO_NONE = 59
PROTO_DSTOPTS = 60
PROTO_MOBILITY = 135
EXTENSIONS = (PROTO_HOPOPTS, PROTO_ROUTING, PROTO_FRAGMENT, PROTO_AH, PROTO_DSTOPTS, PROTO_MOBILITY)

# All extension headers: at least 8 bytes; the length counts 8-byte units behind the first.
EXT_NEXT = 0
EXT_LENGTH = 1
EXT_LEN = 8
EXT_UNIT = 8
AH_UNIT = 4  # but AH counts 4-byte units behind the first two (RFC 4302 section 2.2)

ROUTING_TYPE = 2
SEGMENTS_LEFT = 3
ROUTING_ADDRESSES = 8
ROUTING_SOURCE = 0  # the last address is the final destination (RFC 5095 deprecates it)
ROUTING_HOME = 2  # the only address is (RFC 6275 section 6.4)
ROUTING_SEGMENTS = 4  # the first address is (RFC 8754 section 2)

FRAGMENT_OFFSET = 2
FRAGMENT_ID = 4
OFFSET_BYTES = 0xFFF8  # the field counts 8-byte units, above three other bits
MORE_FRAGMENTS = 1

OPTION_PAD1 = 0
OPTION_ROUTER_ALERT = 5
OPTION_JUMBO = 0xC2
OPTION_ACTION = 0xC0  # what to do with an unknown one: 0 skips it, all else discards the packet
MAX_PAYLOAD = 65535
