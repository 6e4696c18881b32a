"""A real Slurm on this machine: a controller, nodes that it takes for two hosts, and GPUs made of nothing.

Debian's packages, no database, no systemd. A fake GPU is a device file that every Linux has: Slurm counts it,
gives it to one job at a time and sets CUDA_VISIBLE_DEVICES; nothing can compute on it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "mungekey", "sbatch", "srun", "squeue", "scontrol", "scancel")
SYSTEM = Path("/etc/slurm")  # the Slurm plugin reads no other place: it drops SLURM_CONF
MARK = "# Written by ercohort's tests/cluster, which remove it when they end.\n"
MARKED = "ERCOHORT_TEST_CLUSTER"  # in the environment of all that is started here, to end all of it
LOG = "ercohort-slurmd"  # and the node's name; steps of jobs show no environment, but hold this file open
FAKE_GPUS = ("/dev/null", "/dev/zero", "/dev/full")
NODES = {"node1": 2, "node2": 1}  # fake GPUs of each


def what_is_missing() -> str | None:
    """Say in one line why no Slurm can be started here, with the cure; None if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_environment()["PATH"]) is None]
    if absent:
        return f"{', '.join(absent)}: not installed; as root, on Debian: make setup-slurm"
    if os.geteuid() != 0:
        return f"a Slurm can be started by root only, since its config has to be in {SYSTEM}"
    for name in ("slurm.conf", "gres.conf"):
        if (SYSTEM / name).exists() and not (SYSTEM / name).read_text().startswith(MARK):
            return f"{SYSTEM / name}: this machine has a Slurm of its own, which is left alone"
    return None


@dataclass(frozen=True)
class Job:
    """A job as Slurm's controller knows it, until minutes after its end; start since the epoch, s."""

    number: int
    state: str
    rule: str
    node: str
    start: float


@dataclass(frozen=True)
class Task:
    """What a job's own process saw: when it ran (seconds since the epoch), where, with which GPUs."""

    job: int
    node: str
    gpus: tuple[str, ...]
    start: float
    end: float


@dataclass
class Slurm:
    """A Slurm that runs until `stop`; its files are in `folder`."""

    folder: Path

    def start(self) -> None:
        """Write the config and start munged, the controller and the nodes; return when they are ready."""
        self.stop()  # what an earlier run of the tests left, if it was killed
        self._write_config()
        key = self.folder / "munge.key"
        run("mungekey", "--create", "--keyfile", str(key))
        self._daemon(
            "munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", f"--key-file={key}",
            f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed",
            f"--log-file={self.folder}/munged.log",
        )  # fmt: skip
        wait_until((self.folder / "munge.socket").exists, 20, "munged to start")
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: set(self.node_states().values()) == {"IDLE"}, 60, "the nodes to be idle")

    def stop(self) -> None:
        """End all that was started, also jobs, and remove the config."""
        subprocess.run(
            ["scancel", "--user=root", "--signal=KILL"], capture_output=True, timeout=30, check=False
        )
        for _ in range(20):  # a process may start another while this looks
            left = _marked(MARKED, "1") + _steps()
            for process in left:
                _kill(process)
            if not left:
                break
            psutil.wait_procs(left, timeout=1)
        for name in ("slurm.conf", "gres.conf"):
            (SYSTEM / name).unlink(missing_ok=True)

    def start_controller(self) -> None:
        """Start the controller, which goes on where it was killed."""
        self._daemon("slurmctld", "-D")
        wait_until(lambda: _ok("scontrol", "ping"), 30, "slurmctld to answer")

    def kill_controller(self) -> None:
        """Kill the controller; jobs run on."""
        _kill(psutil.Process(int((self.folder / "slurmctld.pid").read_text())))

    def start_node(self, node: str, *before: str) -> None:
        """Start a node; `before` is a command that it is run by, such as `unshare --mount`."""
        self._daemon(*before, "slurmd", "-N", node, "-D")

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and the jobs on it, as a power failure would."""
        for process in _marked(f"{MARKED}_NODE", node) + _steps(node):
            _kill(process)

    def drain(self, node: str) -> float:
        """Let a node's jobs end, and give it no new ones; return when that was."""
        run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
        return time.time()

    def cancel(self, job: int) -> None:
        """Cancel a job, as its owner or an administrator may."""
        run("scancel", str(job))

    def resume(self, node: str) -> None:
        """Let a node take jobs again; nothing happens where it does."""
        if re.search("DOWN|DRAIN|FAIL", self.node_states()[node]):
            run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def node_states(self) -> dict[str, str]:
        """Return the state of each node, such as IDLE, or IDLE+DRAIN."""
        text = run("scontrol", "show", "nodes", "--oneliner")
        return dict(re.findall(r"NodeName=(\S+) .*? State=(\S+) ", text))

    def jobs(self) -> list[Job]:
        """Return all jobs of the last minutes, in the order in which they were submitted."""
        text = run("squeue", "--states=all", "--noheader", "--format=%A|%T|%k|%N|%S")
        rows = [line.split("|") for line in text.splitlines()]
        jobs = [Job(int(number), *row, _seconds(start)) for number, *row, start in rows]
        return sorted(jobs, key=_number)

    def tasks(self) -> list[Task]:
        """Return what the jobs' own steps saw, in the order in which they started."""
        begun: dict[str, tuple[str, tuple[str, ...], float]] = {}
        ended: dict[str, float] = {}
        for line in (self.folder / "trace").read_text().splitlines():
            moment, what, step, node, gpus = line.split(" ", 4)
            if what == "start":
                begun[step] = (node, tuple(filter(None, gpus.split(","))), float(moment))
            else:
                ended[step] = float(moment)
        tasks = [
            Task(int(step.split(".")[0]), *seen, ended.get(step, float("inf")))
            for step, seen in begun.items()
        ]
        return sorted(tasks, key=_start)

    def _write_config(self) -> None:
        host = socket.gethostname()
        text = SLURM_CONF.format(folder=self.folder, log=LOG, host=host, port=_free_port())
        for node, gpus in NODES.items():
            text += (
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs=4 "
                f"RealMemory=12000 Gres=gpu:{gpus}\n"
            )
        text += f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP\n"
        gres = [
            f"NodeName={node} Name=gpu File={file}\n"
            for node, gpus in NODES.items()
            for file in FAKE_GPUS[:gpus]
        ]
        (self.folder / "state").mkdir()
        for name, script in (("start", TRACE), ("end", TRACE)):
            file = self.folder / name
            file.write_text(script.format(folder=self.folder, what=name))
            file.chmod(0o755)
        (self.folder / "trace").touch()
        (SYSTEM / "gres.conf").write_text(MARK + "".join(gres))
        (SYSTEM / "slurm.conf").write_text(MARK + text)

    def _daemon(self, *command: str) -> None:
        environment = _environment() | {MARKED: "1"}
        if "-N" in command:
            environment[f"{MARKED}_NODE"] = command[command.index("-N") + 1]
        with (self.folder / "daemons.log").open("a") as log:
            subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )


def _environment() -> dict[str, str]:
    """Return this process's, with the daemons' folder, which not every root has in its path."""
    return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}


def _marked(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes that have a variable of their environment at this value."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(variable) == value:
                found.append(process)
    return found


def _steps(node: str = "") -> list[psutil.Process]:
    """Return the steps of jobs, known by the log of their node, and all that they started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "slurmstepd" and any(
                f"/{LOG}.{node}" in file.path for file in process.open_files()
            ):
                found += [process, *process.children(recursive=True)]
    return found


def run(*command: str) -> str:
    """Run a command of Slurm; return what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=_environment()
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds; fail, naming it, if that takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def _ok(*command: str) -> bool:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0 and "DOWN" not in done.stdout


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.kill()


def _number(job: Job) -> int:
    return job.number


def _seconds(moment: str) -> float:
    """Turn a time as Slurm writes it into seconds since the epoch; without one, a job has yet to start."""
    return float("inf") if moment == "N/A" else datetime.fromisoformat(moment).timestamp()


def _start(task: Task) -> float:
    return task.start


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# OverMemoryKill: a job that uses more than its `mem_mb` is ended, as a site's cgroups would do it.
# 40 s instead of Slurm's five minutes until a node that does not answer counts as dead.
SLURM_CONF = """\
ClusterName=ercohort-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/start
TaskEpilog={folder}/end
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=UsePss,OverMemoryKill
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
GresTypes=gpu
MpiDefault=none
MinJobAge=900
KillWait=5
SlurmdTimeout=40
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/{log}.%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
"""

# A job's script starts a step, which does the work; the script itself has a number beyond all others.
TRACE = """\
#!/bin/sh
[ "$SLURM_STEP_ID" -lt 1000 ] || exit 0
step="$SLURM_JOB_ID.$SLURM_STEP_ID"
echo "$(date +%s.%N) {what} $step $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES" >> {folder}/trace
"""
