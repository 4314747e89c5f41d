#!/bin/bash
# Startup script of the machine that builds a secondary boot disk. What to build is in the instance's metadata:
#   llm-release-run         a word that is in every line and in the result
#   llm-release-images      images by digest, separated by spaces
#   llm-release-token-hosts registries that get the machine's own token; every other one is asked anonymously
#   llm-release-plain-http-hosts  registries without TLS
# On the disk, as GKE reads it: snapshots/<n>/fs, snapshots.metadata "<chain ID> <path> <md5 of md5s>",
# images.metadata. Beside them snapshots.treehash: "<chain ID> <path> <sha256 over types, modes, owners, times, links,
# xattrs and content>", because the md5 sees the content of regular files only.
# Exactly one line at the end has RESULT=; the same word is the guest attribute llm-release/result.
set -Eeuo pipefail
shopt -s inherit_errexit
DEVICE=/dev/disk/by-id/google-llm-release-image
DISK=/mnt/disks/container_layers
WORK=/var/lib/llm-release
RUN=/run/llm-release
SERVER=http://metadata.google.internal/computeMetadata/v1/instance

metadata() { curl -sSf --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' "$SERVER/$1"; }
say() { echo "llm-release-build[$ID]: $*"; }
tell() { # guest attributes may be switched off by policy: the serial port says the same
  curl -s -X PUT --data "$1" -H 'Metadata-Flavor: Google' "$SERVER/guest-attributes/llm-release/result" >/dev/null || true
}
finish() {
  code=$?
  trap - EXIT ERR
  set +e
  if [[ $code -eq 0 && -e $DONE ]]; then
    result="SUCCESS $(cat "$DONE")"
  else
    [[ $code -ne 0 ]] || code=1
    mountpoint -q $DISK && umount $DISK
    [[ -s $RUN/containerd.pid ]] && kill "$(cat $RUN/containerd.pid)" 2>/dev/null
    result="FAILURE stage=$STAGE code=$code line=${LINE:-?} reason=${REASON:-${COMMAND:-?}}"
  fi
  tell "$ID $result"
  say "RESULT=$result"
  exit "$code"
}
refuse() { # reason, in words
  REASON=$*
  exit 1
}

STAGE=start ID=unknown DONE=/nonexistent
trap finish EXIT
trap 'LINE=$LINENO COMMAND=$BASH_COMMAND' ERR
trap 'exit 143' TERM
ID=$(metadata attributes/llm-release-run)
images=$(metadata attributes/llm-release-images) # not inside of read: its failure would be lost there
read -r -a IMAGES <<<"$images"
TOKEN_HOSTS=$(metadata attributes/llm-release-token-hosts)
PLAIN_HOSTS=$(metadata attributes/llm-release-plain-http-hosts)
mkdir -p $WORK $RUN $DISK
DONE=$WORK/done.$ID
# Compute runs a startup script at every boot, and the disk of a build that is done must not be formatted again.
[[ -e $DONE ]] && exit 0
((${#IMAGES[@]})) || refuse "no image is named in the metadata"

STAGE=install
missing=
for tool in containerd ctr jq; do command -v $tool >/dev/null || missing+=" $tool"; done
if [[ $missing ]]; then
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  # a fresh Debian may be upgrading itself: its locks are waited for
  apt() { apt-get -q -o DPkg::Lock::Timeout=300 "$@" > $WORK/apt.log 2>&1; }
  for try in 1 2 3; do
    apt update && apt install -y --no-install-recommends containerd jq && break
    said=$(grep -E '^(E|Err)' $WORK/apt.log | tail -n 1) || true
    say "apt-get try=$try said=${said:-$(tail -n 1 $WORK/apt.log)}"
    [[ $try -lt 3 ]] || refuse "containerd could not be installed, apt-get failed 3 times: ${said:-nothing was said}"
    sleep $((try * 5))
  done
  for tool in containerd ctr jq; do command -v $tool >/dev/null || refuse "apt-get installed no $tool"; done
fi

STAGE=disk
for _ in $(seq 60); do [[ -b $DEVICE ]] && break; sleep 1; done
[[ -b $DEVICE ]] || refuse "there is no disk with device name llm-release-image"
mkfs.ext4 -q -F -m 0 -E lazy_itable_init=0,lazy_journal_init=0 "$(readlink -f $DEVICE)"
mount $DEVICE $DISK

STAGE=containerd
# A daemon of our own: it holds nothing but these images, and needs no service manager.
rm -rf $WORK/root $RUN/state
CTR=(ctr -a $RUN/containerd.sock -n k8s.io)
cat > $WORK/containerd.toml <<TOML
version = 2
root = "$WORK/root"
state = "$RUN/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[plugins."io.containerd.gc.v1.scheduler"]
  # nothing refers to a view: a collection in the middle would take it away
  mutation_threshold = 1000000000
[grpc]
  address = "$RUN/containerd.sock"
TOML
containerd -c $WORK/containerd.toml > $WORK/containerd.log 2>&1 &
echo $! > $RUN/containerd.pid
for _ in $(seq 100); do
  "${CTR[@]}" version >/dev/null 2>&1 && break
  kill -0 "$(cat $RUN/containerd.pid)" 2>/dev/null || refuse "containerd ended: $(tail -n 1 $WORK/containerd.log)"
  sleep 0.2
done

STAGE=pull
for image in "${IMAGES[@]}"; do
  [[ $image == *@sha256:* ]] || refuse "$image is not pinned by digest"
  host=${image%%/*}
  PULL=(--platform linux/amd64)
  [[ " $PLAIN_HOSTS " == *" $host "* ]] && PULL+=(--plain-http)
  if [[ " $TOKEN_HOSTS " == *" $host "* ]]; then # fresh for every image: it lives an hour at most
    token=$(metadata service-accounts/default/token | jq -er .access_token)
    PULL+=(--user "oauth2accesstoken:$token")
  fi
  for try in 1 2 3; do
    "${CTR[@]}" images pull "${PULL[@]}" "$image" > $WORK/pull.log 2>&1 && break
    said=$(grep -o 'ctr: .*' $WORK/pull.log | tail -n 1) || true
    said=${said:-$(tail -n 1 $WORK/pull.log)}
    say "pull try=$try image=$image said=$said"
    [[ $try -lt 3 ]] || refuse "$image could not be pulled: ${said#ctr: }"
    sleep $((try * 2))
  done
  say "pulled image=$image"
done

STAGE=plan
# The chain IDs that the images' configs ask for must be those that containerd committed, no fewer and no others.
chain_ids() { # image
  local manifest config chain='' layer
  manifest=$("${CTR[@]}" content get "${1##*@}")
  if jq -e .manifests <<<"$manifest" >/dev/null; then
    manifest=$("${CTR[@]}" content get "$(jq -er \
      'first(.manifests[] | select(.platform.os == "linux" and .platform.architecture == "amd64")).digest' <<<"$manifest")")
  fi
  config=$("${CTR[@]}" content get "$(jq -er .config.digest <<<"$manifest")")
  for layer in $(jq -er '.rootfs.diff_ids[]' <<<"$config"); do
    if [[ $chain ]]; then chain=sha256:$(printf '%s %s' "$chain" "$layer" | sha256sum | cut -d' ' -f1); else chain=$layer; fi
    echo "$chain"
  done
}
for image in "${IMAGES[@]}"; do chain_ids "$image"; done | LC_ALL=C sort -u > $WORK/wanted
"${CTR[@]}" snapshots ls | awk '$NF == "Committed" {print $1}' | LC_ALL=C sort > $WORK/committed
cmp -s $WORK/wanted $WORK/committed || refuse "containerd committed other layers than the images' configs name"
need=$(du -sk $WORK/root/io.containerd.snapshotter.v1.overlayfs/snapshots | cut -f1)
free=$(df -Pk $DISK | awk 'NR == 2 {print $4}')
say "plan layers=$(wc -l < $WORK/committed) need_kib=$need free_kib=$free"
((need + need / 20 < free)) || refuse "disk too small: $need KiB and 5 % are needed, $free KiB are free"

STAGE=copy
tree_hash() { # over everything that a container can see of a layer
  tar -C "$1" --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=posix \
    --pax-option=exthdr.name=%d/P/%f,delete=atime,delete=ctime -cf - . | openssl dgst -sha256 -r | cut -d' ' -f1
}
content_hash() { # GKE's formula
  find "$1" -type f -exec md5sum {} + | cut -d' ' -f1 | LC_ALL=C sort | md5sum | cut -d' ' -f1
}
"${CTR[@]}" images ls > $DISK/images.metadata
: > $WORK/snapshots.metadata
: > $WORK/snapshots.treehash
declare -A used=()
while read -r chain; do
  # in one call: nothing refers to a view, and containerd may collect it before it is asked for again
  mounts=$("${CTR[@]}" snapshots view --mounts "view-$chain" "$chain")
  folder=$(grep -oP '/[^ :,="]+/snapshots/[0-9]+/fs' <<<"$mounts" | head -n 1) || true
  [[ -n $folder && -d $folder ]] || refuse "containerd names no folder for layer $chain"
  [[ -z ${used[$folder]:-} ]] || refuse "layers $chain and ${used[$folder]} have one folder"
  used[$folder]=$chain
  path=snapshots/${folder##*/snapshots/}
  mkdir -p "$DISK/${path%/fs}"
  # -a would forgive what -p --preserve=xattr does not: opaque folders and file capabilities are xattrs
  cp -R --no-dereference --preserve=mode,ownership,timestamps,links,xattr "$folder" "$DISK/${path%/fs}/" \
    2> $WORK/cp.log || refuse "layer $chain could not be copied: $(tail -n 1 $WORK/cp.log)"
  # a process that reads 10 GB three times is slower than three that do it at once
  tree_hash "$folder" > $WORK/source.hash & source=$!
  tree_hash "$DISK/$path" > $WORK/copy.hash & copy=$!
  content=$(content_hash "$DISK/$path")
  wait $source
  wait $copy
  hash=$(< $WORK/source.hash)
  [[ $hash && $hash == "$(< $WORK/copy.hash)" ]] || refuse "the copy of layer $chain differs from its source"
  echo "$chain $path $content" >> $WORK/snapshots.metadata
  echo "$chain $path $hash" >> $WORK/snapshots.treehash
  say "copied layer=$chain"
done < $WORK/committed
cp $WORK/snapshots.metadata $WORK/snapshots.treehash $DISK/

STAGE=close
kill "$(cat $RUN/containerd.pid)"
wait "$(cat $RUN/containerd.pid)" || true
: > $RUN/containerd.pid
used_kib=$(df -Pk $DISK | awk 'NR == 2 {print $3}')
sync -f $DISK
umount $DISK
e2fsck -fn $DEVICE > $WORK/fsck.log 2>&1 || refuse "the disk's file system is damaged: $(tail -n 1 $WORK/fsck.log)"
blockdev --flushbufs $DEVICE
echo "layers=$(wc -l < $WORK/committed) used_kib=$used_kib trees=$(sha256sum < $WORK/snapshots.treehash | cut -d' ' -f1)" > "$DONE"
sync
