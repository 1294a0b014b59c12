"""VLAN tags (IEEE 802.1Q): a TPID, which stands where an ethertype stands, and behind it 4 bytes a tag."""

TCI = 0  # priority and VLAN id
TYPE = 2  # what follows: another TPID, or an ethertype
TAG_LEN = 4

TPID_8021Q = 0x8100
TPID_8021AD = 0x88A8
TPID_QINQ = 0x9100  # before 802.1ad, of some vendors
TPIDS = (TPID_8021Q, TPID_8021AD, TPID_QINQ)
VLAN_ID = 0x0FFF

MAX_TAGS = 8  # more are left unread
