#!/bin/sh
# The other end of scripts/gpu-pack.ts, on a machine with a GPU: unpacks the pieces once, then
#   check                    every op on WebGPU beside the CPU
#   bench                    training speed of the pocket UNet by batch size
#   train CONFIG.json        also pretrain: makes the config's data if they aren't there, trains for LIMIT_S seconds at
#                            most (500), and copies the weights and the log to $OUT/weights; goes on when called again
#   world FILE               draws that data set (COUNT scenes, shares PORTRAITS and LOOKS), if it isn't there
#   anything else            is run as it is, with Node and the GPU in reach
set -eu
cd "$(dirname "$0")/.."

if [ ! -e .gpu/ready ] && ls .gpu/pack.?? >/dev/null 2>&1; then
  cat .gpu/pack.?? | python3 -c 'import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(".")'
  if ! ldconfig -p | grep -q libvulkan.so.1; then
    for deb in .gpu/debs/*.deb; do dpkg -x "$deb" /; done
    ldconfig
  fi
  touch .gpu/ready
fi
[ ! -x .gpu/bin/node ] || export PATH="$PWD/.gpu/bin:$PATH"
nvidia=/usr/local/nvidia/share
if [ -z "${VK_DRIVER_FILES-}${VK_ICD_FILENAMES-}" ] && [ -e $nvidia/vulkan/icd.d/nvidia_icd.json ]; then
  export VK_DRIVER_FILES=$nvidia/vulkan/icd.d/nvidia_icd.json __EGL_VENDOR_LIBRARY_FILENAMES=$nvidia/glvnd/egl_vendor.d/10_nvidia.json
fi
device=${DEVICE-webgpu}

field() { # of a config, by name
  node -p 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"))[process.argv[2]]' "$1" "$2"
}

world() { # a data set as models/pocket/README.md makes it
  [ -e "$1" ] && return
  case $1 in
    data/world/train.safetensors) set -- "$1" --count "${COUNT-60000}" --seed 1 ;;
    data/world/portraits.safetensors) set -- "$1" --count "${COUNT-60000}" --seed 7 --portraits 0.6 --masks ;;
    data/world/portraits-*.safetensors)
      seed=${1#data/world/portraits-} seed=${seed%.safetensors}
      set -- "$1" --count "${COUNT-60000}" --seed "$seed" --portraits "${PORTRAITS-0.6}" ${LOOKS:+--looks "$LOOKS"} --masks ;;
    data/world/pairs-*.safetensors)
      seed=${1#data/world/pairs-} seed=${seed%.safetensors}
      set -- "$1" --count "${COUNT-20000}" --seed "$seed" --pairs --portraits "${PORTRAITS-0}" --masks ;;
    data/world/pairs.safetensors) set -- "$1" --count "${COUNT-20000}" --seed 2 --pairs ;;
    *) echo "$1: needed this file, found none, and no way to make it. Carry it along." >&2; exit 2 ;;
  esac
  out=$1; shift
  node --import tsx packages/world/src/main.ts --split train --out "$out" "$@"
}

case ${1-} in
  check) node --import tsx bench/gpu-check.ts --device "$device" ;;
  bench) node --import tsx bench/gpu-train.ts --device "$device" --batch-sizes "${BATCH_SIZES-32,128,512}" --steps "${STEPS-10}" ;;
  world) world "$2" ;;
  train | pretrain)
    [ -f "${2-}" ] || { echo "${2-CONFIG.json}: needed a config, found none." >&2; exit 2; }
    model=$(field "$2" model) run=$(field "$2" run)
    world "$(field "$2" data)"
    mkdir -p .gpu && touch .gpu/started
    status=0
    timeout -s INT "${LIMIT_S-500}" node apps/cli/bin/likeness.js "$1" "$2" --device "$device" --resume latest || status=$?
    weights=${OUT-out/gpu}/weights
    find "$model" -newer .gpu/started -name '*.safetensors' | while read -r file; do
      part=$weights/$(basename "$(dirname "$file")")
      mkdir -p "$part" && cp "$file" "$(dirname "$file")/config.json" "$part/"
    done
    mkdir -p "$weights" && cp "$run/log.ndjson" "$weights/"
    [ $status = 0 ] || [ $status = 124 ] || exit $status ;;
  *) "$@" ;;
esac
