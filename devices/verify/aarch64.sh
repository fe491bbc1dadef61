#!/usr/bin/env bash
# Proves a model bundle on 64-bit ARM without an ARM machine: a Debian user land for arm64 under emulation, the device
# packages from their aarch64 wheels, the bundle's golden vectors and a part of the demo in it, and how far the numbers
# lie from those of this x86-64 machine. A release check: it takes half an hour the first time, minutes afterwards.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: devices/verify/aarch64.sh [--work DIR] [--suite trixie|bookworm] [--bundle DIR] [--fields N] [--mirror URL]

  --work DIR      where the user land and the packages are kept between runs (default: build/aarch64)
  --suite NAME    Debian 13 (trixie, the default) or Debian 12 (bookworm)
  --bundle DIR    the bundle to prove (default: the shipped one)
  --fields N      fields of the simulated slide to analyse on both machines (default: 4)
  --mirror URL    Debian mirror

Needs root, and on Debian: apt-get install debootstrap qemu-user-static
PYTHON names the interpreter whose pip fetches the packages and which runs the x86-64 side (default: python3).
TEXT
}

fail() {
    echo "aarch64: $1" >&2
    [ -z "${2:-}" ] || echo "  $2" >&2
    exit 3
}

repository=$(cd "$(dirname "$0")/../.." && pwd)
work=$repository/build/aarch64
suite=trixie
bundle=$repository/edge/shipped/wbc-student
fields=4
mirror=http://deb.debian.org/debian
python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --work | --suite | --bundle | --fields | --mirror) [ $# -ge 2 ] || { usage >&2 && exit 2; } ;;
        *) usage >&2 && exit 2 ;;
    esac
    case $1 in
        --work) work=$2 ;;
        --suite) suite=$2 ;;
        --bundle) bundle=$2 ;;
        --fields) fields=$2 ;;
        --mirror) mirror=$2 ;;
    esac
    shift 2
done
case $suite in
    trixie) version=3.13 glibc=41 ;;
    bookworm) version=3.11 glibc=36 ;;
    *) usage >&2 && exit 2 ;;
esac

[ "$(uname -m)" = x86_64 ] || fail "this machine is $(uname -m), not x86-64" "Run: leuko model verify"
[ -f "$bundle/manifest.json" ] || fail "$bundle holds no manifest.json" "Name the folder of a bundle with --bundle."
[ "$(id -u)" = 0 ] || fail "making a user land needs root" "Run it with sudo."
for tool in debootstrap qemu-aarch64-static unshare; do
    command -v "$tool" >/dev/null || fail "$tool is missing" "Run: apt-get install debootstrap qemu-user-static util-linux"
done
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip" "Name another one: PYTHON=python3.11 $0"

# The kernel hands ARM programs to the emulator. F: it opens the emulator now, so that a chroot needs no copy of it.
registry=/proc/sys/fs/binfmt_misc
[ -e $registry/register ] || mount -t binfmt_misc binfmt_misc $registry ||
    fail "the kernel cannot run foreign programs" "Load the module binfmt_misc."
if [ ! -e $registry/qemu-aarch64 ]; then
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >$registry/register ||
        fail "qemu-aarch64 could not be registered" "Run: systemctl restart systemd-binfmt"
fi

mkdir -p "$work"
work=$(cd "$work" && pwd)
root=$work/root-$suite
started=$SECONDS
if [ ! -e "$root/.complete" ]; then
    echo "== Debian $suite for arm64 (about 9 minutes)" >&2
    rm -rf "$root"
    debootstrap --arch=arm64 --variant=minbase --include=python3 "$suite" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap failed; the end of its log is: $(tail -n 1 "$work/debootstrap.log")" "See $work/debootstrap.log."
    touch "$root/.complete"
fi

# The same locked packages twice. Wheels are unpacked from here: under emulation pip alone takes ten minutes.
install() {
    local target=$1 wheel
    shift
    rm -rf "$target"
    "$python" -m pip install --disable-pip-version-check --quiet --target "$target" --only-binary :all: --no-deps \
        --require-hashes -r "$repository/locks/device.txt" "$@"
    wheel=$(echo "$work"/wheel/leukoscope-*.whl)
    "$python" -m pip install --disable-pip-version-check --quiet --target "$target" --no-deps "$wheel"
}

echo "== packages" >&2
rm -rf "$work/source" "$work/wheel"
mkdir -p "$work/source"
# A copy: building inside the repository would leave files there.
tar -C "$repository" -cf - pyproject.toml README.md LICENSE NOTICE edge devices training quantization |
    tar -C "$work/source" -xf -
"$python" -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir "$work/wheel" "$work/source"
platforms=(--platform manylinux2014_aarch64 --platform linux_aarch64)
for minor in $(seq 17 "$glibc"); do
    platforms+=(--platform "manylinux_2_${minor}_aarch64")
done
install "$work/x86-64"
install "$root/opt/leuko" "${platforms[@]}" --implementation cp --python-version "$version" \
    --abi "cp${version/./}" --abi abi3 --abi none
rm -rf "$root/opt/bundle"
cp -r "$bundle" "$root/opt/bundle"

# Each side answers in JSON, the interface of the command line.
here() {
    (cd "$work" && HOME="$work/home" PYTHONPATH="$work/x86-64" OMP_NUM_THREADS=1 "$python" -m edge.cli "$@")
}

there() {
    # A mount namespace of its own: /proc goes when the command ends, however it ends.
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --mount --propagation private sh -c '
        root=$1; shift
        mount -t proc proc "$root/proc"
        exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONPATH=/opt/leuko \
            OMP_NUM_THREADS=1 python3 -m edge.cli "$@"' sh "$root" "$@"
}

mkdir -p "$work/home"
rm -rf "$work/demo" "$root/tmp/demo"
failed=0
echo "== golden vectors" >&2
here model verify --every-variant --json "$bundle" >"$work/verify-x86-64.json" || failed=1
there model verify --every-variant --json /opt/bundle >"$work/verify-aarch64.json" || failed=1
echo "== demo, $fields fields" >&2
LEUKO_BUNDLE=$bundle here demo --json --fields "$fields" --out demo >"$work/demo-x86-64.json" || failed=1
there demo --json --fields "$fields" --out /tmp/demo >"$work/demo-aarch64.json" || failed=1

system=$(chroot "$root" /usr/bin/uname -m)
# shellcheck disable=SC1091  # the file is made by debootstrap
echo "$(. "$root/etc/os-release" && echo "$PRETTY_NAME"), $system, $(chroot "$root" /usr/bin/python3 --version)"
"$python" - "$work" <<'PYTHON' || failed=1
import json
import sys
from pathlib import Path

folder = Path(sys.argv[1])


def read(name):
    try:
        return json.loads((folder / name).read_text())
    except ValueError:
        sys.exit(f"{name} holds no answer: the command above failed")


ours, theirs = read("verify-x86-64.json"), read("verify-aarch64.json")
good = True
for here, there in zip(ours["golden"], theirs["golden"], strict=True):
    good &= here["ok"] and there["ok"]
    for name, side in (("x86-64", here), ("aarch64", there)):
        print(
            f"{side['runtime']} {side['version']} on {name}: {side['agreeing']} of {side['vectors']} golden vectors keep "
            f"their class, largest logit difference to the reference {side['difference']:.6g} "
            f"(tolerance {side['tolerance']:.6g}): {'ok' if side['ok'] else 'FAILED'}"
        )
good &= bool(theirs["golden"])

ours, theirs = read("demo-x86-64.json"), read("demo-aarch64.json")
cells, same, largest, boxes = 0, 0, 0.0, 0
for here, there in zip(ours["fields"], theirs["fields"], strict=True):
    first, second = here.get("cells", []), there.get("cells", [])
    good &= len(first) == len(second)
    for one, other in zip(first, second):
        cells += 1
        same += one["label"] == other["label"]
        boxes += one["box"] == other["box"]
        largest = max(largest, *(abs(one["probabilities"][k] - other["probabilities"][k]) for k in one["probabilities"]))
print(
    f"demo: {cells} cells in {len(ours['fields'])} fields, {boxes} with the same box and {same} with the same class on "
    f"both, largest difference of a probability {largest:.6g}"
)
print("aarch64: passed" if good else "aarch64: FAILED")
sys.exit(not good)
PYTHON
echo "took $((SECONDS - started)) s"
exit "$failed"
