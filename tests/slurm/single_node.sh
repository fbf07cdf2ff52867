#!/bin/bash
# A Slurm cluster of this machine alone, and on it four experiments, one of them stopped and requeued in two ways.
#
#   apt-get install slurmctld slurmd slurm-client munge     # Debian's; all of it as root
#   bash tests/slurm/single_node.sh [FOLDER]                # default: build/slurm; three minutes
#
# Two random layers stand in for the language model. Exits 1 where a record or an adapter is not that of an unbroken run
# outside Slurm. The daemons are stopped at the end, whatever happens.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath -m "${1:-build/slurm}")
bin=$PWD/.venv/bin
rm -rf "$folder"
mkdir -p "$folder"/{state,spool}
export SLURM_CONF=$folder/slurm.conf M2_OUT=$folder/build M2_RESULTS=$folder/results
export M2_PROFILE=laptop M2_BACKBONE=tiny M2_DTYPE=float32 M2_DEVICE=cpu OMP_NUM_THREADS=1

say() { printf '\n== %s\n' "$*"; }
until_it_is() { for _ in $(seq 1200); do "$@" && return; sleep 0.25; done; say "waited in vain: $*"; return 1; }
job() { squeue --noheader --name "laptop-$1" --format %i; }
show() { scontrol show job "$1" | grep -oE '(JobId|JobName|JobState|Requeue|Restarts|BatchFlag|ExitCode|RunTime|Dependency|Command)=\S+' | paste -sd' '; }
ended() { [ -z "$(squeue --noheader)" ]; }
steps() { "$bin/python" -c "import json; print(len(json.load(open('$M2_RESULTS/laptop-tiny/$1.json'))['loss_curve']))"; }
trained() {
    ended && say "no job is left" && exit 1
    [ "$(steps "$1" 2>/dev/null || echo 0)" -ge "$2" ]
}
restarted() { scontrol show job "$1" | grep -q "Restarts=$2"; }

# A job may start again only when its old credential is no longer valid: ten seconds, not two minutes.
cat >"$SLURM_CONF" <<CONF
ClusterName=m2
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/completed.txt
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc --all) State=UNKNOWN
PartitionName=m2 Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

stop() {
    scancel --partition m2 2>/dev/null && until_it_is ended || true  # where something went wrong
    scontrol shutdown 2>/dev/null || true
    [ -e "$folder/munged.pid" ] && kill "$(cat "$folder/munged.pid")"
    say "the daemons are stopped"
}
trap stop EXIT
mungekey --create --keyfile "$folder/munge.key"
munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" --pid-file "$folder/munged.pid" \
    --log-file "$folder/munged.log" --seed-file "$folder/munged.seed"
slurmctld
slurmd
until_it_is bash -c 'sinfo --noheader --format %t | grep -q idle'
say "sinfo ($(slurmctld -V), accounting off)"
sinfo

say "python -m study run context/128 search/expt_0 --cluster slurm"
"$bin/python" -m study run context/128 search/expt_0 --cluster slurm --cluster-option timeout_min=30 \
    --cluster-option slurm_partition=m2
say "squeue"
queue() { squeue --format '%.3i %.22j %.10T %.10M %.32E %R'; }
queue

default=$(job default)
until_it_is trained default 50
say "scancel --signal=USR2 $default: what Slurm sends before the time limit"
scancel --signal=USR2 "$default"
until_it_is restarted "$default" 1
queue
show "$default"
say "python -m study status"
"$bin/python" -m study status | sed -n 1,4p
until_it_is trained default 100
say "scontrol requeue $default: what Slurm does when it takes the node away"
scontrol requeue "$default"
until_it_is restarted "$default" 2
show "$default"

until_it_is ended
say "python -m study status, at the end"
"$bin/python" -m study status | grep -v "not run"
say "sacct --completion"
sacct --completion --format JobID,JobName%22,State,Start,End,ExitCode 2>&1 || cat "$folder/completed.txt"
say "the log of default"
grep -v '^train\|it/s\|step/s' "$folder/build/jobs/${default}_0_log.out" || true

say "the same, unbroken and outside Slurm"
export M2_RESULTS=$folder/unbroken/results M2_OUT=$folder/unbroken/build
"$bin/python" -m study run context/128 search/expt_0 2>/dev/null
cd "$folder"
"$bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

MAY_DIFFER = ("run", "seconds", "train_seconds", "evaluation_seconds", "commit", "steps_run", "flops")
slurm, unbroken = (
    {path.relative_to(folder): path for path in Path(folder).rglob("*") if path.suffix in (".json", ".safetensors")}
    for folder in ("results", "unbroken/results")
)


def content(path):
    """A file's bytes; of a record, what two runs may not differ in."""
    if path.suffix == ".json" and "schema" in (record := json.loads(path.read_text(encoding="utf-8"))):
        return {key: value for key, value in record.items() if key not in MAY_DIFFER}
    return path.read_bytes()


same = {name: name in slurm and content(slurm[name]) == content(path) for name, path in sorted(unbroken.items())}
for name, equal in same.items():
    print("equal" if equal else "DIFFERS", name)
sys.exit(not all(same.values()) or slurm.keys() != unbroken.keys())
PYTHON
