#!/bin/bash
# The launcher as a small job of its own, where login nodes end what runs for long and execution
# hosts may call `qsub`. Submit it from the farm's folder: `qsub launcher.sh`. It queues its own
# successor, which starts when it has ended, takes the farm's jobs over and goes on.
#
# `qdel` of this job ends the launcher alone, and the successor starts. To end all:
# `qfarm launcher drain` (or `stop`), after which there is no successor.

#$ -N qfarm-launcher
#$ -S /bin/bash
#$ -cwd
#$ -j y
#$ -l h_rt=48:00:00,s_rt=47:55:00
# HERE: #$ -q ... and #$ -P ...

export PATH="$HOME/qfarm/bin:$PATH" # HERE: qfarm's environment

next=$(qsub -terse -hold_jid "$JOB_ID" launcher.sh)

ending=
trap 'ending=yes; kill "$launcher" "$pause" 2>/dev/null' USR1 # Grid Engine's, at s_rt
while [ -z "$ending" ]; do
    qfarm launch &
    launcher=$!
    wait "$launcher"
    code=$?
    if [ -n "$ending" ]; then
        wait "$launcher" # a signal ended the first wait, not the launcher
    elif [ "$code" -eq 0 ]; then
        qdel "$next" # drained or stopped
        exit 0
    else
        sleep 60 & # MongoDB or the scheduler is away, or qfarm.toml is wrong: try again
        pause=$!
        wait "$pause"
    fi
done
