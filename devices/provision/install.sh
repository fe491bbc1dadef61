#!/usr/bin/env bash
# Installs Leukoscope on a Raspberry Pi (Raspberry Pi OS Bookworm or Trixie, 64-bit), a Jetson (JetPack 6), or another
# Debian or Ubuntu. May be run again: it brings everything to the state that it describes.
#
#   sudo ./install.sh [--from DIRECTORY|WHEEL] [--wheels DIRECTORY] [--no-start] [--no-apt]
#   sudo ./install.sh --uninstall
#
#   --from       what to install: a checkout of the repository (default: the one this script lies in) or a wheel
#   --wheels     take every package from this folder, not from the network
#   --no-start   install and enable the services, but do not start them
#   --no-apt     the system's packages are there already
#   --uninstall  remove program, services and rules; results in /var/lib/leukoscope and /etc/leukoscope stay
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program=/opt/leukoscope
state=/var/lib/leukoscope
settings=/etc/leukoscope
units=/etc/systemd/system
services=(leukoscope-health.service leukoscope.service)
timer=leukoscope-control.timer
from=$(cd "$here/../.." && pwd)
wheels='' start=yes apt=yes uninstall=no

say() { printf '== %s\n' "$*"; }
refuse() {
    printf 'error: %s\n  %s\n' "$1" "$2" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --from | --wheels)
            [ $# -ge 2 ] || refuse "$1 needs a path." "See the head of this script."
            path=$(realpath -e "$2") || refuse "There is no $2." "Name a path that exists."
            if [ "$1" = --from ]; then from=$path; else wheels=$path; fi
            shift
            ;;
        --no-start) start=no ;;
        --no-apt) apt=no ;;
        --uninstall) uninstall=yes ;;
        *) refuse "Unknown option $1." "See the head of this script." ;;
    esac
    shift
done

[ "$(id -u)" = 0 ] || refuse "This needs the rights of root." "Run: sudo $0"

systemd_runs() { [ -d /run/systemd/system ]; }

if [ "$uninstall" = yes ]; then
    for service in "${services[@]}"; do
        if systemd_runs; then systemctl disable --now "$service" 2>/dev/null || true; fi
        rm -f "$units/$service"
    done
    if systemd_runs; then systemctl disable --now "$timer" 2>/dev/null || true; fi
    rm -f "$units/$timer" "$units/${timer%.timer}.service" "$units/timers.target.wants/$timer"
    rm -rf "$units/leukoscope.service.d" "$program" /usr/local/bin/leuko
    rm -f /etc/udev/rules.d/99-leukoscope.rules
    if systemd_runs; then systemctl daemon-reload; fi
    say "removed; results in $state and settings in $settings stay"
    exit 0
fi

# What this machine is.

[ -r /etc/os-release ] || refuse "There is no /etc/os-release." "Use Raspberry Pi OS, Debian or Ubuntu."
# shellcheck source=/dev/null
. /etc/os-release
release=${VERSION_CODENAME:-unknown}
case $(dpkg --print-architecture) in
    arm64 | amd64) ;;
    *) refuse "This is a $(dpkg --print-architecture) system." "Install the 64-bit one: the runtimes exist for no other." ;;
esac
case $release in
    bookworm | trixie | jammy | noble) ;;
    *) refuse "$release was never tried." "Use Raspberry Pi OS Bookworm or Trixie, or JetPack 6." ;;
esac
model=''
if [ -r /proc/device-tree/model ]; then model=$(tr -d '\0' </proc/device-tree/model); fi
jetson=no pi=no
case $model in
    *Jetson* | *Orin*)
        jetson=yes
        if [ -r /etc/nv_tegra_release ] && ! grep -qE '# R(36|38|39)' /etc/nv_tegra_release; then
            refuse "This is not JetPack 6: $(head -c 60 /etc/nv_tegra_release)" "Flash JetPack 6."
        fi
        ;;
    Raspberry*) pi=yes ;;
esac
say "${model:-this computer}, ${PRETTY_NAME:-$release}"

# The system's packages.

if [ "$apt" = yes ]; then
    packages=(python3 python3-venv v4l-utils gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good)
    if [ "$pi" = yes ]; then packages+=(python3-picamera2 python3-libcamera); fi
    say "packages of the system: ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null || say "apt-get update failed; going on with the lists at hand"
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || refuse "Python 3.10 or later is needed." "Update the system."

# A user of its own, that can do nothing else.

if ! getent passwd leukoscope >/dev/null; then
    useradd --system --home-dir "$state" --no-create-home --shell /usr/sbin/nologin leukoscope
fi
usermod -aG video leukoscope
install -d -m 0700 -o leukoscope -g leukoscope "$state"
install -d -m 0755 "$settings"
if [ ! -e "$settings/leukoscope.toml" ]; then
    install -m 0644 "$here/leukoscope.toml" "$settings/leukoscope.toml"
fi

# The program. It sees the system's packages: picamera2, libcamera and TensorRT come from there alone.

say "program in $program"
fresh=$(mktemp -d /opt/.leukoscope-XXXXXX)
trap 'rm -rf "$fresh"' EXIT
chmod 0755 "$fresh"
python3 -m venv --system-site-packages "$fresh"
options=(--disable-pip-version-check --quiet --no-warn-script-location)
if [ -n "$wheels" ]; then options+=(--no-index --find-links "$wheels"); fi
needs=()
if [ "$pi" = yes ] && [ "$release" = bookworm ]; then
    # Bookworm's picamera2 is built for NumPy 1.
    needs=('numpy>=1.26,<2' 'opencv-python-headless>=4.10,<4.12')
fi
if [ -f "$from" ]; then
    package=$from
else
    package=$from/.
    if [ -z "$wheels" ] && [ ${#needs[@]} = 0 ] && [ -f "$from/locks/device.txt" ]; then
        "$fresh/bin/python" -m pip install "${options[@]}" --require-hashes --only-binary :all: -r "$from/locks/device.txt"
    fi
    # Built from a copy, so that nothing is written in the checkout.
    copy=$(mktemp -d)
    trap 'rm -rf "$fresh" "$copy"' EXIT
    tar -C "$from" -c --exclude=./.git --exclude='./.venv*' --exclude=./build --exclude=./runs . | tar -C "$copy" -x
    package=$copy
fi
extra=''
if [ "$jetson" = yes ]; then extra='[jetson]'; fi
"$fresh/bin/python" -m pip install "${options[@]}" "${needs[@]}" "$package$extra"
"$fresh/bin/leuko" --version
# The scripts name the place where they were made: they are made for the place where they will be.
"$fresh/bin/python" - "$fresh" "$program" <<'PYTHON'
import pathlib
import sys

made, place = sys.argv[1:]
for script in (pathlib.Path(made) / "bin").iterdir():
    if script.is_symlink() or not script.is_file():
        continue
    text = script.read_bytes()
    if made.encode() in text:
        script.write_bytes(text.replace(made.encode(), place.encode()))
configuration = pathlib.Path(made, "pyvenv.cfg")
configuration.write_text(configuration.read_text().replace(made, place))
PYTHON
"$fresh/bin/leuko" serve --help >/dev/null 2>&1 || services=(leukoscope-health.service)
if systemd_runs; then systemctl stop "${services[@]}" 2>/dev/null || true; fi
rm -rf "$program.before"
if [ -d "$program" ]; then mv "$program" "$program.before"; fi
mv "$fresh" "$program"
rm -rf "$program.before"
ln -sfn "$program/bin/leuko" /usr/local/bin/leuko

# Services and rules.

say "services"
for service in "${services[@]}"; do install -m 0644 "$here/$service" "$units/$service"; done
for unit in "$timer" "${timer%.timer}.service"; do install -m 0644 "$here/$unit" "$units/$unit"; done
if [ "$jetson" = yes ]; then
    install -D -m 0644 "$here/jetson.conf" "$units/leukoscope.service.d/jetson.conf"
fi
install -D -m 0644 "$here/99-leukoscope.rules" /etc/udev/rules.d/99-leukoscope.rules
if systemd_runs; then
    systemctl daemon-reload
    if systemctl is-active -q systemd-udevd; then
        udevadm control --reload
        udevadm trigger --subsystem-match=video4linux
    fi
    # A service that failed too often before is not started again until that is forgotten.
    systemctl reset-failed "${services[@]}" 2>/dev/null || true
    systemctl enable -q "${services[@]}" "$timer"
    if [ "$start" = yes ] && ! systemctl restart "${services[@]}"; then
        refuse "The services do not start." "See: journalctl -b -u 'leukoscope*'"
    fi
    if [ "$start" = yes ]; then systemctl restart "$timer"; fi
else
    for service in "${services[@]}"; do
        mkdir -p "$units/multi-user.target.wants"
        ln -sfn "$units/$service" "$units/multi-user.target.wants/$service"
    done
    mkdir -p "$units/timers.target.wants"
    ln -sfn "$units/$timer" "$units/timers.target.wants/$timer"
fi

say "this device"
as_leukoscope() {
    runuser -u leukoscope -- env LEUKO_CONFIG="$settings/leukoscope.toml" LEUKO_DATA_FOLDER="$state" HOME="$state" \
        "$program/bin/leuko" "$@"
}
as_leukoscope device detect
status=0
as_leukoscope doctor || status=$?
if [ "$status" -ge 2 ]; then
    printf 'Installed, but the doctor finds this device not fit: see above.\n' >&2
    exit 3
fi
say "done"
