# Makes an image from files, as a docker-archive, without Docker, registry or base image, and imports it into the node's containerd.
# shellcheck shell=bash

image_command() {
  [ $# -ge 3 ] || die "usage: testbed image NAME IMAGE:TAG ENTRYPOINT_JSON [--user UID:GID] [--env K=V] SOURCE:PATH..."
  local tag=$1 archive
  archive=$(mktemp "$W/image.XXXXXX")
  write_image "$archive" "$@"
  import_image "$archive"
  rm -f "$archive"
  say "image $tag loaded"
}

import_image() {
  enter ctr -a "$W/containerd/containerd.sock" -n k8s.io images import "$1" >/dev/null || die "containerd refused the image"
}

# write_image ARCHIVE IMAGE:TAG ENTRYPOINT_JSON [--user U] [--env K=V]... SOURCE:PATH...: writes an image of one layer, in which each
# SOURCE of this machine is at PATH.
write_image() {
  local archive=$1 tag=$2 entrypoint=$3 user='' env='' pair stage digest config
  shift 3
  while :; do
    case ${1:-} in
      --user) user=$2 ;;
      --env) env="$env${env:+,}\"$2\"" ;;
      *) break ;;
    esac
    shift 2
  done
  stage=$(mktemp -d "$W/stage.XXXXXX")
  mkdir "$stage/root" "$stage/archive"
  for pair in "$@"; do
    [ -e "${pair%%:*}" ] || die "no file ${pair%%:*} for the image"
    mkdir -p "$(dirname "$stage/root/${pair#*:}")"
    cp -rL "${pair%%:*}" "$stage/root/${pair#*:}"
  done
  chmod -R u=rwX,go=rX "$stage/root"
  tar -C "$stage/root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$stage/archive/layer.tar" .
  digest=$(sha256_of "$stage/archive/layer.tar")
  printf '{"architecture":"%s","os":"linux","config":{"User":"%s","Env":[%s],"Entrypoint":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(architecture)" "$user" "$env" "$entrypoint" "$digest" >"$stage/config"
  config=$(sha256_of "$stage/config").json
  mv "$stage/config" "$stage/archive/$config"
  printf '[{"Config":"%s","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$config" "$tag" >"$stage/archive/manifest.json"
  tar -C "$stage/archive" -cf "$archive" manifest.json "$config" layer.tar
  rm -rf "$stage"
}

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}
