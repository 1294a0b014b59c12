"""One run of a world: namespaces, target, initiator, programs, the writes, and the end of all of it."""

from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from emu.errors import UsageError
from emu.live.demo.initiator import Initiator
from emu.live.demo.jobs import Job, program
from emu.live.demo.joins import HOST_ADDRESS, NETWORK, WIRE_ADDRESS, WIRE_INTERFACE, Ends, Join, MakeJoin, capture_files
from emu.live.demo.page_cache import PageCacheInitiator
from emu.live.demo.programs.download import DownloadResult
from emu.live.demo.programs.flood import FloodResult
from emu.live.demo.programs.ports import PortsResult
from emu.live.demo.programs.writer import VERIFY_SECONDS, WriterResult
from emu.live.demo.result import RunResult, packets_of
from emu.live.demo.target import DISK_IMAGE, Target
from emu.live.demo.watch import Watch
from emu.live.lab.lab import Lab
from emu.live.state import WORDS_FILE, LiveState, Program, SharedWords

INITIATOR, WRITER = "initiator", "writer"  # of the run's jobs, whichever programs they are
CONNECT_SECONDS = 0.5  # of the download: by then it is connected, or the machine has refused it
LOGOUT_SECONDS = 1.0  # an initiator that is locked up never gets an answer to its logout
WRITER_GRACE_SECONDS = 3.0  # from the writes' limit to the writer's own end


class RunPlan(Struct, frozen=True, kw_only=True):
    """What one run does."""

    policy: str
    scenario: str
    flooded: bool
    writes: int
    depth: int
    verify_blocks: int
    lead_seconds: float  # flood and download run for so long before the first write
    limit_seconds: float  # of the writes
    flood_per_second: int
    flood_bytes: int
    ports: int
    download_bytes_per_second: int  # 0: as fast as it goes
    download_receive_bytes: int  # 0: the system's own
    seed: int
    page_cache: bool = False  # the machine's own page cache writes, not an NBD client
    captures: Path | None  # the beginning of the captures' paths

    @property
    def bound_seconds(self) -> float:
        """The run's programs end by themselves after so long."""
        return self.lead_seconds + self.limit_seconds + VERIFY_SECONDS + 20.0


def run_world(at: int, plan: RunPlan, make_join: MakeJoin, watch: Watch) -> RunResult:
    """Make the world, write, take the world down; a program that fails is told in `problem`."""
    run = RunResult(policy=plan.policy, flooded=plan.flooded)
    try:
        with Lab() as lab:
            world = _World(lab, at, plan, make_join, watch)
            try:
                run = world.run()
            finally:
                world.close()
    except UsageError as problem:
        # A run with a result keeps it: what could not be taken down is told with it.
        run = replace(run, problem=str(problem))
    return run


class _World:
    """The parts of one run, in the order in which they are started."""

    def __init__(self, lab: Lab, at: int, plan: RunPlan, make_join: MakeJoin, watch: Watch) -> None:
        self._lab = lab
        self._plan = plan
        self._make_join = make_join
        self._watch = watch
        self._jobs: dict[str, Job] = {}
        self._join: Join | None = None
        self._ended = False
        self._page_cache: PageCacheInitiator | None = None
        self._writer: tuple[object, ...] = ()
        self._host = self._wire = ""
        self.words = SharedWords(lab.folder / WORDS_FILE)
        watch.look_at(at, self.words, self._state)

    def run(self) -> RunResult:
        """All of it."""
        how = "under the flood" if self._plan.flooded else "without the flood"
        self._watch.phase(f"{how}: starting the machines")
        join = self._join = self._start_machines()
        self._start_traffic()
        self._watch.wait(lambda: False, self._plan.lead_seconds)
        self._watch.phase(f"{how}: writing")
        self._write(join)
        self._watch.phase(f"{how}: ending")
        self._watch.look_away()  # what is taken down now is not to be seen as broken
        return self._end(join)

    def close(self) -> None:
        """Whatever has happened: the emulated NIC closes its captures, and the figures stay as they were last."""
        if not self._ended:
            self._let_go()
        if self._join is not None and not self._ended:
            with suppress(UsageError):  # another problem is on its way, and is the one to tell
                self._join.finish(self._watch.wait)
        self._watch.look_away()
        self.words.close()

    def _state(self) -> LiveState | None:
        state = None if self._join is None else self._join.state()
        if state is None:
            return None
        programs = [Program(name=job.name, pid=job.process.pid) for job in self._jobs.values() if job.lives]
        return replace(state, programs=programs)

    def _start_machines(self) -> Join:
        lab, plan, wait = self._lab, self._plan, self._watch.wait
        self._host, self._wire = lab.namespace("host"), lab.namespace("target")
        join = self._make_join(lab, self._ends(), wait)
        # The default is not the same on every machine, and what a lost packet costs depends on it.
        lab.route_congestion(self._wire, NETWORK, WIRE_INTERFACE)
        target = Target(lab, self._wire, WIRE_ADDRESS, wait)
        self._jobs["tgtd"] = target.job
        self._program("ports", self._host, "--address", HOST_ADDRESS, "--ports", plan.ports)
        self._log_in()
        return join

    def _log_in(self) -> None:
        """The initiator, and how its writer is started."""
        plan, wait = self._plan, self._watch.wait
        writes = ("--writes", plan.writes, "--verify", plan.verify_blocks, "--seed", plan.seed)
        if plan.page_cache:
            cache = self._page_cache = PageCacheInitiator(self._lab, self._host, WIRE_ADDRESS, wait)
            self._jobs[INITIATOR] = cache.job
            image = self._lab.folder / DISK_IMAGE
            where = ("--disk", cache.disk, "--initiator", cache.job.process.pid, "--image", image)
            self._writer = ("page_writer", *where, *writes)
        else:
            initiator = Initiator(self._lab, self._host, WIRE_ADDRESS, wait)
            self._jobs[INITIATOR] = initiator.job
            self._writer = ("writer", "--socket", initiator.socket, "--depth", plan.depth, *writes)

    def _ends(self) -> Ends:
        return Ends(
            host_namespace=self._host,
            wire_namespace=self._wire,
            policy=self._plan.policy,
            scenario=self._plan.scenario,
            seconds=min(self._plan.bound_seconds, self._watch.seconds_left),
            words=self._lab.folder / WORDS_FILE,
            captures=self._plan.captures,
        )

    def _start_traffic(self) -> None:
        plan = self._plan
        pace = plan.download_bytes_per_second
        self._program("download_server", self._wire, "--address", WIRE_ADDRESS, "--bytes-per-second", pace)
        self._start_download()
        if plan.flooded:
            options = ("--to", HOST_ADDRESS, "--per-second", plan.flood_per_second, "--ports", plan.ports)
            self._program("flood", self._wire, *options, "--bytes", plan.flood_bytes)

    def _start_download(self) -> None:
        """A machine that is short of memory from the beginning may refuse its connection: then it goes on trying."""
        options = ("--host", WIRE_ADDRESS, "--receive-bytes", self._plan.download_receive_bytes)
        job = self._start("download", self._host, self._plan.bound_seconds, *options)
        self._watch.wait(lambda: job.says_ready() or not job.lives, CONNECT_SECONDS)

    def _program(self, name: str, namespace: str, *options: object) -> None:
        job = self._start(name, namespace, self._plan.bound_seconds, *options)
        job.require(job.says_ready, self._watch.wait)

    def _start(self, name: str, namespace: str, seconds: float, *options: object) -> Job:
        command = program(name, "--words", self._lab.folder / WORDS_FILE, "--seconds", seconds, *options)
        job = self._jobs[name] = Job(self._lab, name, command, namespace=namespace)
        return job

    def _write(self, join: Join) -> None:
        """Errors: UsageError when the emulated NIC or the target ends meanwhile."""
        plan = self._plan
        name, *options = self._writer
        writer = self._start(str(name), self._host, plan.limit_seconds, *options)
        self._jobs[WRITER] = self._jobs.pop(str(name))
        self._watch.wait(lambda: writer.says_ready() or not writer.lives, WRITER_GRACE_SECONDS)
        self._watch.writing()
        longest = plan.limit_seconds + VERIFY_SECONDS + WRITER_GRACE_SECONDS
        self._watch.wait(lambda: not writer.lives or bool(self._broken(join)), longest)
        if broken := self._broken(join):
            raise UsageError(broken)

    def _let_go(self) -> None:
        """A writer that is at work yet may be held by the kernel until its initiator is gone."""
        if self._page_cache is not None and (WRITER not in self._jobs or self._jobs[WRITER].lives):
            self._page_cache.cut()

    def _broken(self, join: Join) -> str:
        if not self._jobs["tgtd"].lives:
            return f"tgtd {self._jobs['tgtd'].ended_early()}"
        # The writer to the page cache ends its initiator itself when it is stuck.
        if not self._jobs[INITIATOR].lives and self._page_cache is None:
            return f"{self._jobs[INITIATOR].name} {self._jobs[INITIATOR].ended_early()}"
        return join.broken()

    def _end(self, join: Join) -> RunResult:
        """End the programs first, so that what they tell is not cut by the end of the wire."""
        wait = self._watch.wait
        last = self._state()
        self._let_go()
        self.words.put("stop", 1)
        for name in (WRITER, "flood", "download", "download_server", "ports"):
            if name in self._jobs:
                self._jobs[name].end(wait)
        self._jobs[INITIATOR].end(wait, LOGOUT_SECONDS)
        run = RunResult(
            policy=self._plan.policy,
            flooded=self._plan.flooded,
            writes=self._jobs[WRITER].result(WriterResult),
            flood=self._jobs["flood"].result(FloodResult) if "flood" in self._jobs else None,
            download=self._jobs["download"].result(DownloadResult),
            ports=self._jobs["ports"].result(PortsResult),
            state=last,
        )
        self._ended = True
        nic = join.finish(wait)
        if nic is None:
            return run
        return replace(run, nic=nic, files=self._files(), **packets_of(nic))

    def _files(self) -> dict[str, str]:
        if self._plan.captures is None:
            return {}
        named = zip(("wire", "host", "events"), capture_files(self._plan.captures).values(), strict=True)
        return {what: str(path) for what, path in named if path.exists()}
