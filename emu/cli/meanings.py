"""What options mean that Wireshark shows as well as the command line: its dialog must not wait for typer."""

POLICY = "A row of `emu policies`"
POLICY_OF_REPLAY = f"{POLICY} (default phillips-v5)."
POLICY_OF_RUN = f"{POLICY} (default: the scenario's)."
SCENARIO = "The experiment as data (emu scenarios)."
SCENARIO_OF_RUN = "A shipped scenario's name (emu scenarios), or a file."
FLOOD = (
    "Crafted traffic beside the captures, aimed at their host, such as udp:pps=100k,size=1400; `start=2s` "
    "and `device=NAME` say when and where it begins (emu flood --list)"
)
SETTINGS = "Change one key of the scenario"
HOST = "Which end of the capture is the host."
MEMALLOC = (
    "Flows that block I/O depends on, seen from the remote end: tcp|udp [host A] [port N] [or ...], or "
    "iscsi (default), nbd, nvme-tcp, nfs, none."
)
SPEED = "Play X times as fast as captured."
ANNOTATE = "Which frames of it get a comment."
DURATION = "How long a run lasts, such as 30s."
SEED = "The seed of a run."
ENGINE = "How the machine runs; results are identical."
REALTIME = "Let time pass as on the clock, or =X times as fast: what -w writes appears when its time has come."
