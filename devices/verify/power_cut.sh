#!/usr/bin/env bash
# Runs as root inside the virtual machine after each power cut: says what is there, then lets sessions go on or begin,
# one after the other, until the power goes again. Its words leave over the serial port as they are spoken.
set -uo pipefail
repository=/verify/leukoscope
as_leukoscope() { runuser -u leukoscope -- env HOME=/var/lib/leukoscope LEUKO_DATA_FOLDER=/var/lib/leukoscope "$@"; }
echo "booted"
while :; do
    as_leukoscope /opt/leukoscope/bin/python "$repository/tests/crash/power_cut.py" || { echo "broken"; exit 1; }
done
