#!/usr/bin/env bash
# A whole device in a virtual machine: Debian 13 with its own kernel, booted by qemu. In it the installer runs, systemd's
# watchdog restarts a hung service, the cameras that a kernel can pretend are driven for real, and the power is cut in
# mid-session. Without hardware virtualisation the stages take most of an hour; a release script, not for every change.
#
#   sudo devices/verify/vm.sh WORK-FOLDER [--stages "install services cameras session picamera2"]
#                             [--power-cuts N] [--seed N] [--fresh] [--installed]
#   sudo devices/verify/vm.sh WORK-FOLDER --container
#
#   --stages       what is run, one boot each (see inside.sh); "install" has to come first on a fresh disk
#   --power-cuts   afterwards kill the machine so often in mid-session, at moments drawn from the seed (default 0)
#   --fresh        make the disk anew; without it the disk of the last run is used again
#   --installed    with --fresh: the installer has run on the disk already, in a chroot, where it is quick
#   --container    the same system on the kernel of this machine: minutes, but no Video4Linux camera and no power cut
#
# Needs: debootstrap, qemu-system-x86, qemu-utils, e2fsprogs, python3, 8 GB in WORK-FOLDER, and the network the first
# time. The result is in WORK-FOLDER/out.txt; exit code 0 when every check passed.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,18p' "$0"; exit 2; }
[ "$(id -u)" = 0 ] || { echo "Run it as root: debootstrap makes a whole system." >&2; exit 2; }
work=$(realpath -m "$1")
shift
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=$work/root
way=machine stages="install services cameras session picamera2" cuts=0 seed=1 fresh=no installed=no
while [ $# -gt 0 ]; do
    case $1 in
        --container) way=--container ;;
        --fresh) fresh=yes ;;
        --installed) installed=yes ;;
        --stages | --power-cuts | --seed)
            [ $# -ge 2 ] || { echo "$1 needs a value." >&2; exit 2; }
            case $1 in --stages) stages=$2 ;; --power-cuts) cuts=$2 ;; --seed) seed=$2 ;; esac
            shift
            ;;
        *) echo "Unknown option $1: see the head of this script." >&2; exit 2 ;;
    esac
    shift
done
mkdir -p "$work"
for tool in debootstrap qemu-system-x86_64 qemu-img mke2fs python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install debootstrap qemu-system-x86 qemu-utils e2fsprogs python3" >&2; exit 2; }
done

inside() { env -u PIP_FIND_LINKS DEBIAN_FRONTEND=noninteractive PIP_CONFIG_FILE=/dev/null PIP_CERT="${authority:-}" chroot "$root" "$@"; }

if [ ! -e "$root/.made" ]; then
    echo "== a Debian 13 system"
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates,dbus,dbus-user-session,python3,python3-venv,python3-dev,gcc,libcap-dev trixie "$root" >"$work/debootstrap.log"
    mount --bind /proc "$root/proc"
    trap 'umount "$root/proc"' EXIT
    inside apt-get install -y -qq --no-install-recommends linux-image-amd64 systemd-sysv udev kmod util-linux passwd \
        python3-libcamera libcamera-tools libcamera-ipa v4l-utils gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good >>"$work/debootstrap.log"
    # Where the network's certificates are signed by an authority of this machine's own, it is known in there too.
    authority=''
    if [ -n "${PIP_CERT:-}" ]; then
        install -m 0644 "$PIP_CERT" "$root/etc/ssl/authority.crt"
        authority=/etc/ssl/authority.crt
    fi
    install -m 0644 /etc/resolv.conf "$root/etc/resolv.conf"
    echo "== packages"
    install -D -m 0644 "$repository/locks/device.txt" "$root/verify/device.txt"
    inside python3 -m venv --system-site-packages /verify/test-venv
    inside /verify/test-venv/bin/pip download -q --only-binary :all: -d /verify/wheels --require-hashes -r /verify/device.txt
    inside /verify/test-venv/bin/pip download -q --only-binary :all: -d /verify/wheels 'setuptools>=77' pytest hypothesis psutil
    inside /verify/test-venv/bin/pip install -q --no-index --find-links /verify/wheels --no-deps --require-hashes -r /verify/device.txt
    inside /verify/test-venv/bin/pip install -q --no-index --find-links /verify/wheels pytest hypothesis psutil
    # As Raspberry Pi OS has it: picamera2 belongs to the system's Python. The display library is what headless ones lack.
    place=$(inside python3 -c 'import sys; print(f"/usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/dist-packages")')
    inside /verify/test-venv/bin/pip install -q --target "$place" 'picamera2==0.3.38'
    cat >"$root$place/pykms.py" <<'PYTHON'
class _Formats(type):
    def __getattr__(cls, name):
        return name


class PixelFormat(metaclass=_Formats):
    pass
PYTHON
    umount "$root/proc"
    trap - EXIT
    touch "$root/.made"
fi

prepare() { # what is copied into the system before its disk is made
echo "== the repository, and what runs at the start"
rm -rf "$root/verify/leukoscope" "$root/verify/out.txt" "$root/opt/leukoscope" "$root/var/lib/leukoscope"
rm -rf "$root"/etc/systemd/system/leukoscope* "$root"/etc/systemd/system/*/leukoscope*
mkdir -p "$root/verify/leukoscope"
git -C "$repository" ls-files -z --cached --others --exclude-standard |
    tar -C "$repository" --null --no-recursion -c -T - 2>/dev/null | tar -C "$root/verify/leukoscope" -x
if [ ! -e "$root/verify/fields/013.png" ]; then
    draw=(env PYTHONPATH=/verify/leukoscope /verify/test-venv/bin/python -B /verify/leukoscope/devices/verify/draw_fields.py)
    inside "${draw[@]}" /verify/fields 480 300 14
    inside "${draw[@]}" /verify/fields-vga 640 480 14
fi
cat >"$root/etc/systemd/system/verify.service" <<'UNIT'
[Unit]
Description=Verification
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/verify/leukoscope/devices/verify/inside.sh
ExecStopPost=/usr/bin/systemctl --no-block poweroff
TimeoutStartSec=5400

[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sfn ../verify.service "$root/etc/systemd/system/multi-user.target.wants/verify.service"
echo leukoscope-vm >"$root/etc/hostname"
if ! grep -qs '^virtio_blk' "$root/etc/initramfs-tools/modules"; then
    # With the drivers of this machine alone it is unpacked in a tenth of the time.
    sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
    printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
    inside update-initramfs -u >>"$work/debootstrap.log" 2>&1
fi
# libcamera's virtual camera, with a moving test picture.
mkdir -p "$root/usr/share/libcamera/pipeline/virtual"
cat >"$root/usr/share/libcamera/pipeline/virtual/virtual.yaml" <<'YAML'
"Virtual0":
  supported_formats:
    - width: 1280
      height: 720
      frame_rates: [30, 60]
    - width: 640
      height: 480
      frame_rates: [30, 60]
  test_pattern: "bars"
  location: "CameraLocationFront"
  model: "Virtual Video Device"
YAML
}

if [ "$way" = --container ]; then
    prepare
    echo "== the container runs; $work/console.log shows it"
    group=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)/leukoscope-verify
    mkdir -p "$group"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec timeout 3600 unshare --mount --pid --fork --kill-child --uts --ipc --cgroup \
            "$repository/devices/verify/container.sh" "$root" </dev/null >"$work/console.log" 2>&1
    ) || true
    cp "$root/verify/out.txt" "$work/out.txt"
    cat "$work/out.txt"
    grep -q 'failed 0$' "$work/out.txt"
    exit
fi

if [ "$fresh" = yes ] || [ ! -e "$work/state.qcow2" ]; then
    prepare
    if [ "$installed" = yes ]; then
        echo "== the installer, in a chroot"
        mount --bind /proc "$root/proc"
        trap 'umount "$root/proc"' EXIT
        inside /verify/leukoscope/devices/provision/install.sh --from /verify/leukoscope --wheels /verify/wheels --no-apt >"$work/install.log" 2>&1 ||
            { tail -20 "$work/install.log"; exit 1; }
        umount "$root/proc"
        trap - EXIT
    fi
    echo "== the disk"
    rm -f "$work/disk.img" "$work/state.qcow2"
    mke2fs -q -t ext4 -d "$root" "$work/disk.img" 6G
    qemu-img create -q -f qcow2 -F raw -b "$work/disk.img" "$work/state.qcow2"
fi

# What the machine says comes over its second serial port, so that a power cut takes nothing of it back.
# The machine's clock follows its own instructions, 500 million a second, as on a small board: a busy host must not look
# like a camera that hangs.
accelerator=(-cpu max -icount shift=1 -rtc clock=vm)
if [ -w /dev/kvm ] && grep -qE 'svm|vmx' /proc/cpuinfo; then accelerator=(-enable-kvm -cpu host); fi
machine() { # STAGE: the command that boots it, one word a line
    # Installer and services need the whole system. The rest is the first process itself: with an emulated processor
    # each second of a start counts.
    local first=/verify/leukoscope/devices/verify/inside.sh
    case $1 in install | services) first=/sbin/init ;; esac
    printf '%s\n' qemu-system-x86_64 "${accelerator[@]}" -m 2000 -smp 1 -display none -monitor none -no-reboot \
        -kernel "$(echo "$root"/boot/vmlinuz-*)" -initrd "$(echo "$root"/boot/initrd.img-*)" \
        -append "root=/dev/vda rw console=ttyS0 quiet init=$first verify=$1" \
        -drive "file=$work/state.qcow2,format=qcow2,if=virtio" -serial "file:$work/console-$1.log"
}

: >"$work/out.txt"
for stage in $stages; do
    echo "== stage $stage; $work/console-$stage.log shows it"
    mapfile -t command < <(machine "$stage")
    timeout 3600 "${command[@]}" -serial "file:$work/$stage.txt" </dev/null || echo "qemu ended with $?"
    tr -d '\r' <"$work/$stage.txt" | tee -a "$work/out.txt"
    grep -q 'failed 0' "$work/$stage.txt" || echo "FAIL  stage $stage did not end well" | tee -a "$work/out.txt"
done
if [ "$cuts" != 0 ]; then
    echo "== the power is cut $cuts times"
    mapfile -t command < <(machine power-cut)
    python3 "$repository/devices/verify/power_cuts.py" "$work" --cuts "$cuts" --seed "$seed" -- "${command[@]}" 2>&1 |
        tee -a "$work/out.txt" || true
fi
! grep -qE '^FAIL' "$work/out.txt"
