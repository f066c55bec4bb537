# shellcheck shell=bash disable=SC2034  # read by the files that source this one
# What every command needs first: places, versions, messages and arguments.

TESTENV=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPOSITORY=$(dirname "$TESTENV")
RUN=$TESTENV/run # workspaces, logs, the daemon that we started; not in git
PREFIX=${HARDEN_TESTENV_PREFIX:-harden} # of the clusters' names: another one lets two clones have theirs side by side
CACHE=${HARDEN_TESTENV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/harden-testenv}

KIND_VERSION=v0.33.0
ENVOY_IMAGE=docker.io/envoyproxy/envoy:v1.36.2 # hard coded in that kind
# for images that are built; go/go.mod has the same versions
KUBERNETES_VERSION=v1.35.4
DEBIAN_SUITE=bookworm
# the names by which kubeadm v1.35.4 asks for them
ETCD_TAG=3.6.6-0
COREDNS_TAG=v1.13.1
PAUSE_TAG=3.10.1
BUSYBOX_IMAGE=docker.io/library/busybox:1.35.0 # what the pods of weaken and smoke run

# Everything that we say goes to stderr: stdout belongs to the programs that are run.
say() { printf '[%4d s] %s\n' "$SECONDS" "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
refuse() { # a wrong call
  printf '%s: %s\nTry: %s --help\n' "$(basename "$0")" "$*" "$0" >&2
  exit 2
}

# The text of --help is the comment at the top of the command's own file.
help() { sed -n '2,/^$/ { s/^# \{0,1\}//p }' "$0"; }

# quietly NAME COMMAND...: run it with its words in a log file; show the end of that when it fails.
quietly() {
  local log=$RUN/logs/$1.log
  shift
  mkdir -p "$RUN/logs"
  if "$@" > "$log" 2>&1 9>&- < /dev/null; then return; fi
  tail -n 25 "$log" | sed 's/^/  | /' >&2
  fail "this failed: $* (all it said: $log)"
}

# The key of a cached artefact: the contents and names of the files it is made from (without Go's
# tests), and given words.
key() { # PATH... [-- WORD...]
  {
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
      (cd "$1" && find . -type f ! -name '*_test.go' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
      shift
    done
    echo "$*"
  } | sha256sum | cut -c1-16
}

# One command at a time on this machine: they share docker, the cache and the clusters.
take_lock() {
  mkdir -p "$CACHE" "$RUN"
  exec 9>> "$CACHE/lock"
  if ! flock --nonblock 9; then
    say "waiting for another testenv command to finish"
    flock 9
  fi
}

only_topologies() { # WORD...: refuse what is not one
  local word
  for word; do
    case $word in
      single | second | ha) ;;
      *) refuse "unknown topology '$word': single, second or ha" ;;
    esac
  done
}
