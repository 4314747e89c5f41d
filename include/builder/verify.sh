#!/bin/bash
# Startup script of the machine that verifies a disk image: a disk made from it is attached read-only, and every layer
# is read. A container starts silently from a damaged layer, so only an image that passed here may be used.
#   llm-release-run     a word that is in every line and in the result
#   llm-release-images  images by digest, separated by spaces
#   llm-release-chains  chain IDs that the images' configs ask for, separated by spaces
#   llm-release-trees   sha256 of snapshots.treehash, as the build reported it; its first 63 characters
set -Eeuo pipefail
shopt -s inherit_errexit
DEVICE=/dev/disk/by-id/google-llm-release-image
DISK=/mnt/disks/container_layers
RUN=/run/llm-release
SERVER=http://metadata.google.internal/computeMetadata/v1/instance

metadata() { curl -sSf --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' "$SERVER/$1"; }
say() { echo "llm-release-verify[$ID]: $*"; }
finish() {
  code=$?
  trap - EXIT ERR
  set +e
  mountpoint -q $DISK && umount $DISK
  # a layer that cannot be read is damaged, too; a script that was killed has read nothing wrong
  [[ $STAGE == layers && $code -ne 0 && $code -lt 128 ]] && VERDICT=damaged
  if [[ $code -eq 0 ]]; then
    result="SUCCESS layers=$COUNT"
  else
    result="FAILURE stage=$STAGE verdict=${VERDICT:-none} code=$code line=${LINE:-?} reason=${REASON:-${COMMAND:-?}}"
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
damaged() { # the same, of a disk that was read: only this costs the image
  VERDICT=damaged
  refuse "$@"
}

STAGE=start ID=unknown COUNT=0
trap finish EXIT
trap 'LINE=$LINENO COMMAND=$BASH_COMMAND' ERR
trap 'exit 143' TERM
ID=$(metadata attributes/llm-release-run)
TREES=$(metadata attributes/llm-release-trees)
IMAGES=$(metadata attributes/llm-release-images)
chains=$(metadata attributes/llm-release-chains)
CHAINS=$(echo "$chains" | tr ' ' '\n' | LC_ALL=C sort -u)

[[ ${#TREES} -eq 63 ]] || refuse "the image's label has no hash of its layers"

STAGE=disk
for _ in $(seq 60); do [[ -b $DEVICE ]] && break; sleep 1; done
[[ -b $DEVICE ]] || refuse "there is no disk with device name llm-release-image"
mkdir -p $DISK $RUN
mount -o ro,noload $DEVICE $DISK || damaged "the disk holds no file system that can be mounted"
for file in snapshots.metadata snapshots.treehash images.metadata; do
  [[ -f $DISK/$file ]] || damaged "the disk has no $file"
done

STAGE=layers
[[ $(cut -d' ' -f1 $DISK/snapshots.metadata | LC_ALL=C sort) == "$CHAINS" ]] \
  || damaged "the disk holds other layers than the images' configs name"
[[ -z $(cut -d' ' -f2 $DISK/snapshots.metadata | sort | uniq -d) ]] || damaged "two layers have one folder"
# the label that carried the hash has room for all but its last character
[[ $(sha256sum < $DISK/snapshots.treehash | cut -c 1-63) == "$TREES" ]] \
  || damaged "snapshots.treehash is not the one that the build reported"
for image in $IMAGES; do
  grep -qF "$image" $DISK/images.metadata || damaged "images.metadata does not name $image"
done
content_hash() { # GKE's formula
  find "$1" -type f -exec md5sum {} + | cut -d' ' -f1 | LC_ALL=C sort | md5sum | cut -d' ' -f1
}
while read -r chain path content; do
  content_hash "$DISK/$path" > $RUN/content & reading=$!
  hash=$(tar -C "$DISK/$path" --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=posix \
    --pax-option=exthdr.name=%d/P/%f,delete=atime,delete=ctime -cf - . | openssl dgst -sha256 -r | cut -d' ' -f1)
  wait $reading
  grep -qxF "$chain $path $hash" $DISK/snapshots.treehash || damaged "layer $chain is damaged"
  [[ $(< $RUN/content) == "$content" ]] || damaged "layer $chain has another md5 than snapshots.metadata says"
  COUNT=$((COUNT + 1))
  say "verified layer=$chain"
done < $DISK/snapshots.metadata
((COUNT)) || damaged "the disk holds no layer"
