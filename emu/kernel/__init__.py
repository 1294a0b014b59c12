"""The emulated machine: one file per kernel file that it mirrors, functions named as the kernel names them.

A packet's way through it: `e1000` (ring) -> `dev` (softirq) -> `ip_input` / `arp` -> `tcp_ipv4` / `udp` / `icmp`
-> `sock` (queue, reader).  What it lives on: `page_alloc` -> `slab` -> `skbuff`; what the patch adds: `netdevice`.
The whole state is one record, declared in `machine`.  Nothing here knows a file, a clock, a random number, numpy,
numba or Scapy: the same functions run as plain Python and compiled (see `emu.engine.compiled`), so they keep to
integers, records and loops.
"""
