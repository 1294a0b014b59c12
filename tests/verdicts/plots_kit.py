"""Runs made by hand for the plots' tests: how a lockup, a cure and a stall look in samples and summaries."""

from typing import Any

from emu.kernel.closed_loop import Sample
from emu.kernel.record import fields_of
from emu.verdicts.plots.timeline import Run

MS = 1_000_000
S = 1_000 * MS

CHAIN = [
    {
        "actor": "flusher",
        "waits_for": "a SCSI Response of session 0",
        "why": "all 1 412 dirty pages are under write-back: only responses make them clean",
    },
    {
        "actor": "receive ring of eth0",
        "waits_for": "a page for a receive buffer",
        "why": "0 of 256 descriptors are filled, free pages stand at the atomic floor",
    },
    {
        "actor": "reader of the download",
        "waits_for": "a page (GFP_KERNEL)",
        "why": "its 38 skbs would give 76 pages back, and it sleeps in try_to_free_pages below pages_min",
    },
]


def summary(policy: str, outcome: str, **more: Any) -> dict[str, Any]:
    """A run's summary with the keys that plots read."""
    return {
        "policy": policy,
        "outcome": outcome,
        "lockup": None,
        "next_deadline": None,
        "block_io": {
            "mb_per_s": 41.73,
            "baseline_mb_per_s": 88.2,
            "writes_issued": 9_120,
            "writes_completed": 9_088,
            "bytes_completed": 37_224_448,
            "longest_stall_ms": 412,
            "latency_us": {"p50": 1_240, "p99": 38_000, "max": 412_000},
            "clean_after_ms": 2_250,
            "reinstatements": 0,
            "retransmits": 14,
            "timeouts": 2,
        },
        "memalloc": {"received": 9_800, "delivered": 9_788, "dropped": 12},
        "other": {"received": 310_000, "delivered": 190_000, "dropped": 120_000},
        "drops_by_class": {"memalloc": 12, "other": 120_000, "wire": 0},
        "drops_by_reason": {"NOMEM": 12, "RX_MISSED": 119_000, "PROTO_MEM": 1_000},
        "devices": {"eth0": {"rx_reserve_used_max": 50}, "eth1": {"rx_reserve_used_max": 7}},
    } | more


def lockup(time_ns: int, last_page_ns: int | None, frame: int = 48_211) -> dict[str, Any]:
    """What a summary says of a lockup."""
    return {"time_ns": time_ns, "frame": frame, "last_page_ns": last_page_ns, "chain": CHAIN}


def samples(count: int, step_ns: int = 10 * MS, **columns: Any) -> dict[str, list[int]]:
    """Samples of a machine in which nothing happens, but for the columns given."""
    still = {
        "normal_free_pages": 5_000,
        "free_pages": 7_000,
        "pages_min": 256,
        "pages_low": 320,
        "pages_high": 384,
        "atomic_floor_pages": 64,
        "ring_free": 256,
        "ring_filled": 256,
    }
    made = {sample.name: [still.get(sample.name, 0)] * count for sample in fields_of(Sample)}
    made["time_ns"] = [number * step_ns for number in range(count)]
    return made | columns


def _wave(number: int, size: int) -> int:
    """Something that goes up and down, from integers alone."""
    return (number * 7_919 % 97 + number * 104_729 % 61) * size // 158


def story(policy: str, *, locks: bool, count: int = 1_200, step_ns: int = 10 * MS, cap: int = 0, pace: int = 7) -> Run:
    """A flood comes in after a fifth of the run; memory goes, and with `locks` everything stands still at the end."""
    flood_at, gone_at = count // 5, count - count // 12
    columns: dict[str, list[int]] = {sample.name: [] for sample in fields_of(Sample)}
    done = other = lost = lost_other = missed = 0
    for number in range(count):
        strain = max(number - flood_at, 0)
        stuck = locks and number >= gone_at
        left = max(20_000 - number * 90000 // count, 0) if number < flood_at else max(2_000 - strain * 9, 0)
        if not locks:
            left = max(left, 230 + _wave(number, 140))
        free = 66 if stuck else left + 66 + (0 if strain and left == 0 else _wave(number, 40))
        done += (
            0 if stuck else max(pace * (1 if strain else 2) + _wave(number, 3) - (5 if strain and left == 0 else 0), 0)
        )
        other += 0 if stuck else 30 + _wave(number, 20)
        lost += 1 if strain and left == 0 and not stuck and number % 9 == 0 else 0
        lost_other += _wave(number, 60) if strain else 0
        missed += _wave(number, 220) if stuck else 0
        row = {
            "time_ns": number * step_ns,
            "free_pages": free + min(free, 1_100),
            "normal_free_pages": free,
            "atomic_floor_pages": 64,
            "pages_min": 256,
            "pages_low": 320,
            "pages_high": 384,
            "reserve_used": min(strain // 3, cap or 400) if strain else 0,
            "reserve_cap": cap,
            "ring_filled": 0 if stuck else 256 - _wave(number, 12 if not strain else 120),
            "ring_free": 0 if stuck else 256 - _wave(number, 24 if not strain else 200),
            "slab_pages": 900 + min(strain * 3, 1_400),
            "socket_skbs": min(strain * 2, 1_900) if locks else min(strain, 240) + _wave(number, 60),
            "dirty_pages": 1_200 if stuck else min(number * 9, 3_200) + _wave(number, 300),
            "writeback_pages": 1_412 if stuck else 600 + _wave(number, 500),
            "clean_pages": 12 if stuck else max(9_000 - strain * 22, 700 if not locks else 12),
            "writes_completed": done,
            "bytes_completed": done * 4_096,
            "rx_frames": other + done,
            "memalloc_delivered": done,
            "memalloc_dropped": lost,
            "other_delivered": other,
            "other_dropped": lost_other,
            "rx_missed": missed,
            "pfmemalloc_drops": 0,
            "tx_failed": lost // 2,
        }
        for name, value in row.items():
            columns[name].append(value)
    if not locks:
        return policy, summary(policy, "progress" if cap else "degraded"), columns
    end_ns = (count - 1) * step_ns
    told = lockup(end_ns, gone_at * step_ns)
    block_io = summary(policy, "")["block_io"] | {
        "clean_after_ms": None,
        "longest_stall_ms": (end_ns - gone_at * step_ns) // MS,
    }
    return policy, summary(policy, "LOCKUP", lockup=told, block_io=block_io), columns
