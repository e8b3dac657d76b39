"""A Slurm of one node with two GPUs that are none, for the tests that need a real one; as root, without systemd."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "munged")
CONFIGURATION = """\
ClusterName=reidtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
KillWait=30
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=01:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={host} MaxTime=01:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Say what a Slurm for tests lacks here; empty if nothing."""
    if os.geteuid():
        return "only root can start Slurm's daemons"
    absent = [name for name in PROGRAMS if not find(name)]
    return f"no {', '.join(absent)} here" if absent else ""


def find(name: str) -> str | None:
    """Return the path of a program; daemons lie where a user's PATH does not look."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Node:
    """The daemons, and what one asks them.

    Attributes
    ----------
    host : str
    base : Path
        Folder of everything that they write.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.host = base, socket.gethostname().partition(".")[0]
        for name in ("munge", "state", "spool", "gpus"):
            (base / name).mkdir()
        base.chmod(0o755)
        (base / "munge").chmod(0o755)
        key = base / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        for number in (0, 1):  # plain files would be taken, but then CUDA_VISIBLE_DEVICES is not set
            os.mknod(base / "gpus" / f"nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(195, number))
        text = CONFIGURATION.format(host=self.host, base=base, cpus=os.cpu_count())
        (base / "slurm.conf").write_text(text)
        (base / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={base}/gpus/nvidia[0-1]\n")
        (base / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        os.environ["SLURM_CONF"] = str(base / "slurm.conf")
        m = base / "munge"
        self.call(
            *("munged", "--force", f"--key-file={key}", f"--socket={m}/socket", f"--pid-file={m}/pid"),
            *(f"--log-file={m}/log", f"--seed-file={m}/seed"),
        )
        self.begin("slurmctld", "-c", "-i")
        self.begin("slurmd")
        self.until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), "the node to be idle")

    def call(self, name: str, *words: str) -> None:
        subprocess.run([str(find(name)), *words], check=True, capture_output=True, timeout=60)

    def begin(self, name: str, *words: str) -> None:
        """Start a daemon, which goes into the background."""
        self.call(name, "-f", str(self.base / "slurm.conf"), *words)

    def ask(self, *words: str) -> str:
        """Return what a program of Slurm prints; nothing if it fails or hangs."""
        try:
            return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout
        except subprocess.TimeoutExpired:
            return ""

    def until(self, true: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Wait for something to be true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, (
                f"waited {seconds} s for {what}\n{self.ask('squeue', '--array')}"
            )
            time.sleep(0.2)

    def kill(self, name: str, how: signal.Signals) -> None:
        """Kill a daemon and wait for its end."""
        pid = int((self.base / f"{name}.pid").read_text())
        os.kill(pid, how)
        self.until(lambda: not Path(f"/proc/{pid}").exists(), f"{name} to end")

    def close(self) -> None:
        """End the daemons that this made."""
        self.ask("scancel", "--full", "--user=root")
        for name in ("slurmd", "slurmctld", "munge/"):
            path = self.base / (f"{name}.pid" if name[-1] != "/" else f"{name}pid")
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
        os.environ.pop("SLURM_CONF", None)
