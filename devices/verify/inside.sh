#!/usr/bin/env bash
# Runs as root inside the machine that vm.sh boots, and writes what it sees. Not for a real device. The kernel's command
# line names the stage ("verify=cameras"); in a container all stages that need no kernel of their own run in turn.
set -uo pipefail
# Where it is itself the first process, there is no udev and nothing but what the initial file system has mounted.
if [ $$ = 1 ]; then
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    mkdir -p /dev/shm
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs /tmp
fi
stage=$(sed -n 's/.*verify=\([a-z0-9-]*\).*/\1/p' /proc/cmdline)
if [ -n "$stage" ]; then
    stty -F /dev/ttyS1 raw -echo
    exec >/dev/ttyS1 2>&1
else
    exec >/verify/out.txt 2>&1
fi
repository=/verify/leukoscope
wheels=/verify/wheels
passed=0 failed=0

check() { # NAME COMMAND...
    local name=$1 begin=$SECONDS
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "PASS  $name ($((SECONDS - begin)) s)"
    else
        failed=$((failed + 1))
        echo "FAIL  $name ($((SECONDS - begin)) s)"
    fi
    sync
}

restarts() { systemctl show -p NRestarts --value "$1"; }

installs() { "$repository/devices/provision/install.sh" --from "$repository" --wheels "$wheels" --no-apt >/verify/install.txt 2>&1 || { tail -30 /verify/install.txt; false; }; }

runs() { # SERVICE
    systemctl is-active "$1" && systemctl status --no-pager "$1" | grep -E 'Main PID|Status:|Memory:'
}

services_run() {
    local waited=0
    until systemctl is-active leukoscope-health.service leukoscope.service >/dev/null; do
        sleep 2
        waited=$((waited + 2))
        [ "$waited" -lt 300 ] || return 1
    done
    runs leukoscope-health.service && runs leukoscope.service
}

hung_is_restarted() { # SERVICE
    local before after main waited=0
    mkdir -p "/etc/systemd/system/$1.d"
    printf '[Service]\nWatchdogSec=10\n' >"/etc/systemd/system/$1.d/quick.conf"
    systemctl daemon-reload
    systemctl restart "$1" || return 1
    before=$(restarts "$1")
    main=$(systemctl show -p MainPID --value "$1")
    kill -STOP "$main"
    while after=$(restarts "$1"); [ "$after" -le "$before" ]; do
        sleep 1
        waited=$((waited + 1))
        [ "$waited" -lt 300 ] || return 1
    done
    echo "hung process $main was killed and restarted after $waited s"
    sleep 15
    systemctl is-active "$1"
}

shut_in() {
    local main
    main=$(systemctl show -p MainPID --value leukoscope-health.service)
    # Its own view of the root is read-only, its own state is not.
    ! touch "/proc/$main/root/etc/leukoscope/x" 2>/dev/null && touch "/proc/$main/root/var/lib/leukoscope/x" &&
        ! touch "/proc/$main/root/opt/leukoscope/x" 2>/dev/null && rm "/proc/$main/root/var/lib/leukoscope/x" &&
        [ "$(stat -c %U "/proc/$main")" = leukoscope ] && [ "$(stat -c %a /var/lib/leukoscope)" = 700 ]
}

as_leukoscope() {
    runuser -u leukoscope -- env HOME=/var/lib/leukoscope LEUKO_DATA_FOLDER=/var/lib/leukoscope leuko "$@"
}

demo_counts() { as_leukoscope demo --fields 6 --out /var/lib/leukoscope/demo 2>&1 | tail -12; [ "${PIPESTATUS[0]}" = 0 ]; }

vivid_appears() { # MODULE-PARAMETER...
    local waited=0
    modprobe vivid n_devs=1 "$@" || return 1
    until [ -c /dev/video0 ]; do
        sleep 1
        waited=$((waited + 1))
        [ "$waited" -lt 60 ] || return 1
    done
    chgrp video /dev/video* && chmod g+rw /dev/video* && ls -l /dev/video*
}

camera_works() { as_leukoscope camera test uvc:/dev/video0,width=640,height=360 --frames 20; }

vivid_plays() {
    # What is put into vivid's HDMI output comes out of its HDMI input: the camera shows the fields of a slide.
    local vga=width=640,height=480,interlaced=0,polarities=0,pixelclock=25175000,hfp=16,hs=96,hbp=48,vfp=10,vs=2,vbp=33 node
    rmmod vivid 2>/dev/null
    vivid_appears node_types=0x101 num_inputs=1 input_types=3 num_outputs=1 output_types=1 || return 1
    for node in 1 0; do v4l2-ctl -d /dev/video$node --set-dv-bt-timings "$vga" || return 1; done
    v4l2-ctl -d /dev/video1 --set-fmt-video-out pixelformat=YUYV || return 1
    v4l2-ctl -d /dev/video0 --set-ctrl hdmi_000_0_is_connected_to=2 || return 1
    v4l2-ctl -d /dev/video0 --set-fmt-video pixelformat=YUYV || return 1
    /verify/test-venv/bin/python "$repository/devices/verify/play_fields.py" /verify/fields-vga 300 |
        v4l2-ctl -d /dev/video1 --stream-out-mmap --stream-from=- >/dev/null 2>&1 &
    sleep 20
    as_leukoscope camera test uvc:/dev/video0,width=640,height=480,settle=2 --frames 3 --out /var/lib/leukoscope/seen.png
}

session_counts() {
    # A real camera is locked until a control has passed, or somebody has answered for it.
    as_leukoscope control override --operator verify --reason "a machine without a patient" &&
        as_leukoscope session start --camera uvc:/dev/video0,width=640,height=480,settle=2 --sample vivid --target 100
}

contract() { # TEST...
    (cd "$repository" && LEUKO_DATA=/none timeout 3000 /verify/test-venv/bin/python -m pytest -v --tb=short -p no:cacheprovider -p no:xdist "$@" 2>&1)
}

unplugged() {
    # The driver is taken from the camera while frames are read, and given back.
    (cd "$repository" && PYTHONPATH=$repository timeout 900 /verify/test-venv/bin/python devices/verify/unplug.py)
}

libcamera_sees() { cam --list 2>/dev/null | grep -i virtual; }

picamera2_drives() { as_leukoscope camera test picamera2:0,width=640,height=480,settle=1 --frames 5; }

install_stage() {
    check "installer" installs
    tail -8 /verify/install.txt
    check "health service runs and tells systemd" runs leukoscope-health.service
    check "page service runs and tells systemd" runs leukoscope.service
    check "service is shut in" shut_in
    check "demo under the service's user" demo_counts
}

services_stage() {
    check "services run after a start of the machine" services_run
    check "hung health service is restarted by the watchdog" hung_is_restarted leukoscope-health.service
    check "hung page is restarted by the watchdog" hung_is_restarted leukoscope.service
}

cameras_stage() {
    check "vivid gives /dev/video0" vivid_appears node_types=0x1
    check "camera contract suite, uvc" contract tests/contract/test_camera_contract.py -k uvc
    check "unplugged while reading" unplugged
    check "leuko camera test uvc" camera_works
    check "leuko camera list" as_leukoscope camera list
}

session_stage() {
    check "vivid shows smear fields" vivid_plays
    check "a session counts from /dev/video0" session_counts
}

picamera2_stage() {
    check "libcamera sees its virtual camera" libcamera_sees
    check "picamera2 drives it" picamera2_drives
}

container_stages() {
    install_stage
    check "installer a second time" installs
    check "hung health service is restarted by the watchdog" hung_is_restarted leukoscope-health.service
    check "hung page is restarted by the watchdog" hung_is_restarted leukoscope.service
    check "leuko camera list" as_leukoscope camera list
    echo "SKIP  cameras: this kernel cannot pretend any"
    check "camera contract suite" contract tests/contract/test_camera_contract.py -k "process or gstreamer"
}

echo "$(uname -sr), $(grep PRETTY /etc/os-release), $(nproc) processors, $(awk '/MemTotal/ {print $2}' /proc/meminfo) kB"
case $stage in
    '') container_stages ;;
    power-cut) exec "$repository/devices/verify/power_cut.sh" ;;
    *) "${stage}_stage" ;;
esac
echo "$stage: passed $passed, failed $failed"
if [ $$ = 1 ]; then
    sync
    poweroff -f
fi
