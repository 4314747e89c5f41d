#!/bin/bash
# Startup script of the machine that verifies a disk image: a disk made from it is attached read-only, and every layer
# is read. A container starts silently from a damaged layer, so only an image that passed here may be used.
#   llm-release-run     a word that is in every line and in the result
#   llm-release-chains  chain IDs that the images' configs ask for, separated by spaces
#   llm-release-trees   sha256 of snapshots.treehash, as the build reported it; its first 63 characters
set -Eeuo pipefail
shopt -s inherit_errexit
DEVICE=/dev/disk/by-id/google-llm-release-image
DISK=/mnt/disks/container_layers
SERVER=http://metadata.google.internal/computeMetadata/v1/instance

metadata() { curl -sSf --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' "$SERVER/$1"; }
say() { echo "llm-release-verify[$ID]: $*"; }
finish() {
  code=$?
  trap - EXIT ERR
  set +e
  mountpoint -q $DISK && umount $DISK
  if [[ $code -eq 0 ]]; then
    result="SUCCESS layers=$COUNT"
  else
    result="FAILURE stage=$STAGE code=$code line=${LINE:-?} reason=${REASON:-${COMMAND:-?}}"
  fi
  curl -s -X PUT --data "$ID $result" -H 'Metadata-Flavor: Google' \
    "$SERVER/guest-attributes/llm-release/result" >/dev/null
  say "RESULT=$result"
  exit "$code"
}
refuse() { # reason, in words
  REASON=$*
  exit 1
}

STAGE=start ID=unknown COUNT=0
trap finish EXIT
trap 'LINE=$LINENO COMMAND=$BASH_COMMAND' ERR
trap 'exit 143' TERM
ID=$(metadata attributes/llm-release-run)
TREES=$(metadata attributes/llm-release-trees)
CHAINS=$(metadata attributes/llm-release-chains | tr ' ' '\n' | LC_ALL=C sort -u)

STAGE=disk
for _ in $(seq 60); do [[ -b $DEVICE ]] && break; sleep 1; done
[[ -b $DEVICE ]] || refuse "there is no disk with device name llm-release-image"
mkdir -p $DISK
mount -o ro,noload $DEVICE $DISK || refuse "the disk holds no file system that can be mounted"
for file in snapshots.metadata snapshots.treehash images.metadata; do
  [[ -f $DISK/$file ]] || refuse "the disk has no $file"
done

STAGE=layers
[[ $(cut -d' ' -f1 $DISK/snapshots.metadata | LC_ALL=C sort) == "$CHAINS" ]] \
  || refuse "the disk holds other layers than the images' configs name"
[[ -z $(cut -d' ' -f2 $DISK/snapshots.metadata | sort | uniq -d) ]] || refuse "two layers have one folder"
# the label that carried the hash has room for all but its last character
[[ $TREES && $(sha256sum < $DISK/snapshots.treehash | cut -c "1-${#TREES}") == "$TREES" ]] \
  || refuse "snapshots.treehash is not the one that the build reported"
while read -r chain path _; do
  hash=$(tar -C "$DISK/$path" --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=posix \
    --pax-option=exthdr.name=%d/P/%f,delete=atime,delete=ctime -cf - . | openssl dgst -sha256 -r | cut -d' ' -f1)
  grep -qxF "$chain $path $hash" $DISK/snapshots.treehash || refuse "layer $chain is damaged"
  COUNT=$((COUNT + 1))
  say "verified layer=$chain"
done < $DISK/snapshots.metadata
