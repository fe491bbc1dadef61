#!/usr/bin/env bash
# A whole device in a virtual machine: Debian 13 with its own kernel, booted by qemu. In it the installer runs, systemd's
# watchdog restarts a hung service, and the cameras that a kernel can pretend are driven for real. Takes about half an
# hour without hardware virtualisation; a release script, not for every change.
#
#   sudo devices/verify/vm.sh WORK-FOLDER [--container]
#
# With --container the same system runs on the kernel of this machine: minutes, but no Video4Linux camera.
#
# Needs: debootstrap, qemu-system-x86, e2fsprogs, 8 GB in WORK-FOLDER, and the network the first time. The result is in
# WORK-FOLDER/out.txt; exit code 0 when every check passed.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,12p' "$0"; exit 2; }
[ "$(id -u)" = 0 ] || { echo "Run it as root: debootstrap makes a whole system." >&2; exit 2; }
work=$(realpath -m "$1")
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=$work/root
way=${2:-machine}
mkdir -p "$work"
for tool in debootstrap qemu-system-x86_64 mke2fs debugfs; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install debootstrap qemu-system-x86 e2fsprogs" >&2; exit 2; }
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

echo "== the repository, and what runs at the start"
rm -rf "$root/verify/leukoscope" "$root/verify/out.txt" "$root/opt/leukoscope" "$root/var/lib/leukoscope"
rm -rf "$root"/etc/systemd/system/leukoscope* "$root"/etc/systemd/system/*/leukoscope*
mkdir -p "$root/verify/leukoscope"
git -C "$repository" ls-files -z --cached --others --exclude-standard |
    tar -C "$repository" --null --no-recursion -c -T - 2>/dev/null | tar -C "$root/verify/leukoscope" -x
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

if [ "$way" = --container ]; then
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

echo "== the disk"
rm -f "$work/disk.img"
mke2fs -q -t ext4 -d "$root" "$work/disk.img" 6G

echo "== the machine runs; $work/console.log shows it"
accelerator=()
if [ -w /dev/kvm ] && grep -qE 'svm|vmx' /proc/cpuinfo; then accelerator=(-enable-kvm -cpu host); else accelerator=(-cpu max); fi
timeout 5400 qemu-system-x86_64 "${accelerator[@]}" -m 3000 -smp 2 -nographic -no-reboot \
    -kernel "$(echo "$root"/boot/vmlinuz-*)" -initrd "$(echo "$root"/boot/initrd.img-*)" \
    -append "root=/dev/vda rw console=ttyS0 quiet" -drive "file=$work/disk.img,format=raw,if=virtio,cache=unsafe" \
    </dev/null >"$work/console.log" 2>&1 || echo "qemu ended with $?"
debugfs -R "cat /verify/out.txt" "$work/disk.img" 2>/dev/null >"$work/out.txt"
cat "$work/out.txt"
grep -q 'failed 0$' "$work/out.txt"
