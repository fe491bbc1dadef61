#!/usr/bin/env bash
# Proves TensorRT on a Jetson, or on any machine with an NVIDIA GPU: builds the engines of a bundle, compares them with the
# CPU, measures latency and memory, and damages a kept engine to see it built again. Nothing leaves the machine.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: devices/verify/jetson.sh --bundle DIR [--out DIR]

  --bundle DIR   a bundle with ONNX networks, as `leuko quantize pack-onnx` makes it
  --out DIR      where the figures go (default: jetson-proof); its folder "engines" is emptied first

PYTHON names the interpreter that has leukoscope, tensorrt and cuda-python (default: python3). On a Jetson that is a
virtual environment made with --system-site-packages, since TensorRT comes with JetPack.
TEXT
}

fail() {
    echo "jetson: $1" >&2
    [ -z "${2:-}" ] || echo "  $2" >&2
    exit 3
}

bundle=
out=jetson-proof
python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --bundle | --out) [ $# -ge 2 ] || { usage >&2 && exit 2; } ;;
        *) usage >&2 && exit 2 ;;
    esac
    case $1 in
        --bundle) bundle=$2 ;;
        --out) out=$2 ;;
    esac
    shift 2
done
[ -n "$bundle" ] || { usage >&2 && exit 2; }
[ -f "$bundle/manifest.json" ] || fail "$bundle holds no manifest.json" "Name the folder of a bundle with --bundle."

# What is missing is said before anything is made, one thing at a time, from the hardware upwards.
"$python" -c 'import edge.cli' 2>/dev/null ||
    fail "$python cannot import leukoscope" "Run: $python -m pip install 'leukoscope[jetson,tensorrt]', or set PYTHON."
reason=$("$python" -c 'from edge.inference.negotiate import tensorrt_obstacle as find; print(find()[0], end="")')
[ -z "$reason" ] || fail "TensorRT cannot be proven here: $reason" \
    "Run this on a Jetson with JetPack 6 or newer, or on a machine with an NVIDIA GPU, TensorRT 10 or newer, and cuda-python."

mkdir -p "$out"
rm -rf "$out/engines"
leuko() { "$python" -m edge.cli "$@"; }

{
    date -u '+%Y-%m-%d %H:%M UTC'
    if [ -r /proc/device-tree/model ]; then tr -d '\0' </proc/device-tree/model && echo; fi
    if [ -r /etc/nv_tegra_release ]; then head -n 1 /etc/nv_tegra_release; fi
    if command -v nvpmodel >/dev/null; then nvpmodel -q 2>/dev/null | head -n 2 || true; fi
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
    fi
    "$python" -c 'import platform, tensorrt; print("Python", platform.python_version(), "TensorRT", tensorrt.__version__)'
} | tee "$out/machine.txt"

failed=0
proven=0
for precision in fp32 fp16 int8; do
    echo "== $precision"
    status=0
    leuko quantize tensorrt "$bundle" --precision "$precision" --out "$out/engines" --measure --json \
        >"$out/$precision.json" 2>"$out/$precision.log" || status=$?
    if [ "$status" -ne 0 ]; then
        # A bundle without this precision, and a chip without integers, are no failures of the engine.
        if grep -q -e '\[no-such-variant\]' -e '\[no-int8\]' "$out/$precision.log"; then
            echo "left out: $(grep -m 1 'error \[' "$out/$precision.log")"
            continue
        fi
        cat "$out/$precision.log" >&2
        failed=1
        continue
    fi
    "$python" - "$out/$precision.json" <<'PYTHON' || failed=1
import json
import sys
from pathlib import Path

found = json.loads(Path(sys.argv[1]).read_text())
golden, measured = found["golden"], found["measured"]
print(f"{found['device']}, compute capability {found['key']['compute_capability']}, CUDA {found['key']['cuda']}")
print(f"built in {found['seconds']} s, {found['bytes']} bytes")
print(f"golden vectors: {golden['agreeing']} of {golden['vectors']}, largest difference {golden['difference']:.4g}")
if measured["agreeing"] is not None:
    print(
        f"parity with float32 on the CPU: {measured['agreeing']} of {measured['cells']} cells alike, logits differ by "
        f"{measured['mean_difference']:.4g} in the mean, {measured['largest_difference']:.4g} at most"
    )
    print("recall:", ", ".join(f"{name} {100 * change:+.1f}" for name, change in measured["recall_change"].items()))
for times in measured["times"]:
    cpu = times["cpu_median"]
    beside = "" if cpu is None else f", CPU {cpu:.2f} ms, {cpu / times['median']:.1f} times faster"
    print(f"batch {times['batch']}: {times['median']:.3f} ms, 95th percentile {times['slowest_twentieth']:.3f}{beside}")
print(f"memory: {measured['gpu_bytes'] / 1e6:.0f} MB of the GPU, {(measured['resident_bytes'] or 0) / 1e6:.0f} MB resident")
sys.exit(not golden["ok"])
PYTHON
    proven=$((proven + 1))

    echo "-- kept, then damaged"
    seconds() { "$python" -c 'import json, sys; print(json.load(sys.stdin)["seconds"])'; }
    again=$(leuko quantize tensorrt "$bundle" --precision "$precision" --out "$out/engines" --json 2>/dev/null | seconds)
    [ "$again" = 0.0 ] || { echo "the kept engine was not used" >&2 && failed=1; }
    engine=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["engine"])' "$out/$precision.json")
    printf 'damaged' | dd of="$engine" bs=1 seek=2000 conv=notrunc status=none
    again=$(leuko quantize tensorrt "$bundle" --precision "$precision" --out "$out/engines" --json 2>/dev/null | seconds)
    if [ "$again" = 0.0 ]; then
        echo "a damaged engine was used" >&2
        failed=1
    else
        echo "the kept engine was used; the damaged one was built again in $again s"
    fi
done

[ "$proven" -gt 0 ] || fail "no engine could be built from $bundle" "It needs ONNX networks: leuko quantize pack-onnx"
[ "$failed" = 0 ] && echo "jetson: passed; the figures are in $out" || echo "jetson: FAILED; see $out" >&2
exit "$failed"
