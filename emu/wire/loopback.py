"""BSD loopback (LINKTYPE_NULL, LINKTYPE_LOOP): 4 bytes of address family.  Source: the tcpdump.org link types.

NULL has them in the byte order of the machine that captured, which need not be the file's; LOOP in network order.
"""

FAMILY = 0
HEADER_LEN = 4

AF_INET = 2
AF_INET6 = (24, 28, 30, 10)  # NetBSD and OpenBSD, FreeBSD, Darwin, Linux
