# shellcheck shell=bash
# The machine: what has to be installed, and a Docker daemon.

DAEMON=$RUN/docker # what we know of the daemon that we started

am_root() { [ "$(id -u)" = 0 ]; }

# need COMMAND PACKAGE...: install a Debian package for a missing command when that is possible.
need() {
  local missing=() packages=()
  while [ $# -gt 0 ]; do
    if ! command -v "$1" > /dev/null; then
      missing+=("$1")
      packages+=("$2")
    fi
    shift 2
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if am_root && command -v apt-get > /dev/null; then
    say "installing ${packages[*]}"
    quietly apt-update apt-get update
    quietly apt-install env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
  else
    fail "missing: ${missing[*]}. Install (Debian's names): ${packages[*]}"
  fi
}

check_machine() {
  [ "$(uname -s)" = Linux ] || fail "the test environment needs Linux; on other systems run it in a virtual machine"
  need docker docker.io ssh openssh-client ssh-keygen openssh-client flock util-linux curl curl pgrep procps
  command -v go > /dev/null || fail "missing: go, 1.21 or later (kind and some tools are built with it)"
  local version
  version=$(go env GOVERSION)
  if ! [[ $version =~ ^go1\.([0-9]+) ]] || [ "${BASH_REMATCH[1]}" -lt 21 ]; then
    fail "go 1.21 or later is needed, this is $version"
  fi
  if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    local controller
    for controller in cpu cpuacct cpuset memory devices freezer pids; do
      grep -q "^cgroup .*[ ,]${controller}[, ]" /proc/self/mounts || fail "the control group '$controller' is not mounted: the kubelet cannot work here"
    done
  fi
  enough_space "$CACHE" 6
}

# Every systemd, kubelet and API server holds inotify instances, all of them root's. The default of 128
# is used up by seven nodes, and what starts then fails without saying why
# (https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files).
INSTANCES=/proc/sys/fs/inotify/max_user_instances
INSTANCES_WANTED=512
INSTANCES_BEFORE=$RUN/inotify-instances # what it was before we raised it

raise_inotify_limit() {
  local now
  now=$(cat "$INSTANCES")
  [ "$now" -lt $INSTANCES_WANTED ] || return 0
  mkdir -p "$RUN"
  if am_root && echo "$now" > "$INSTANCES_BEFORE" && { echo $INSTANCES_WANTED > "$INSTANCES"; } 2> /dev/null; then
    say "fs.inotify.max_user_instances raised from $now to $INSTANCES_WANTED, until testenv/down all"
  else
    rm -f "$INSTANCES_BEFORE"
    say "fs.inotify.max_user_instances is $now: enough for one cluster; for more: sudo sysctl fs.inotify.max_user_instances=$INSTANCES_WANTED"
  fi
}

restore_inotify_limit() {
  local before
  before=$(cat "$INSTANCES_BEFORE" 2> /dev/null) || return 0
  if [ "$(cat "$INSTANCES")" = $INSTANCES_WANTED ]; then
    say "fs.inotify.max_user_instances is $before again"
    echo "$before" > "$INSTANCES"
  fi
  rm -f "$INSTANCES_BEFORE"
}

enough_space() { # DIRECTORY GIGABYTES
  local free
  mkdir -p "$1"
  free=$(df --output=avail -B1G "$1" | tail -n 1)
  [ "$free" -ge "$2" ] || fail "only $((free)) GB free in $1: $2 GB are needed"
}

daemon_answers() { timeout 10 docker info > /dev/null 2>&1; }

ensure_daemon() {
  if ! daemon_answers; then
    if docker info 2>&1 | grep -qi 'permission denied'; then
      fail "a Docker daemon runs, but $(id -un) may not use it: add yourself to the group docker"
    elif [ -n "${DOCKER_HOST:-}" ]; then
      fail "no Docker daemon answers at DOCKER_HOST=$DOCKER_HOST"
    elif ! am_root; then
      fail "no Docker daemon answers, and only root can start one: systemctl start docker"
    elif [ -d /run/systemd/system ]; then
      say "starting Docker"
      quietly systemctl-start systemctl start docker
      mkdir -p "$DAEMON"
      echo systemd > "$DAEMON/started"
      wait_for_daemon || fail "systemd started Docker, but it does not answer: journalctl -u docker"
    else
      start_daemon
    fi
  fi
  enough_space "$(docker info --format '{{.DockerRootDir}}')" 8
}

wait_for_daemon() { # [PID]
  local i
  for ((i = 0; i < 150; i++)); do
    daemon_answers && return
    [ -z "${1:-}" ] || [ -n "$(start_time "$1")" ] || return
    sleep 0.2
  done
  return 1
}

start_daemon() {
  need dockerd docker.io iptables iptables
  mkdir -p "$DAEMON"
  # A daemon that was killed leaves its pid file. Ours is in our own folder; the packaged
  # one's would stop nobody but a second daemon on the same data.
  local file pid bounded runtime=()
  for file in "$DAEMON/pid" /var/run/docker.pid; do
    pid=$(cat "$file" 2> /dev/null) || continue
    if [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = dockerd ] && [ -n "$(start_time "$pid")" ]; then
      say "a Docker daemon (process $pid) is there but does not answer yet: waiting"
      if wait_for_daemon "$pid"; then return; fi
      [ -z "$(start_time "$pid")" ] || fail "the Docker daemon, process $pid, does not answer: stop it, then try again"
    fi
    rm -f "$file"
  done
  if (( !($((16#$(awk '/^CapBnd/ { print $2 }' /proc/self/status))) >> 24 & 1) )); then
    say "no CAP_SYS_RESOURCE on this machine: containers run through runc-bounded"
    bounded=$(tool runc-bounded)
    runtime=(--add-runtime "bounded=$bounded" --default-runtime bounded)
  fi
  say "starting a Docker daemon (log: ${DAEMON#"$REPOSITORY"/}/log)"
  setsid nohup dockerd --pidfile "$DAEMON/pid" "${runtime[@]}" > "$DAEMON/log" 2>&1 < /dev/null 9>&- &
  pid=$!
  echo "$pid $(start_time "$pid")" > "$DAEMON/started" # at once: we may be interrupted while it starts
  if ! wait_for_daemon "$pid" || ! daemon_answers; then
    tail -n 15 "$DAEMON/log" | sed 's/^/  | /' >&2
    fail "dockerd did not start (its log: $DAEMON/log)"
  fi
}

# When a process was started, in ticks since boot, so that a process ID is never taken for another's.
# Nothing for one that has ended, even if nobody has collected its status yet.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | awk '$1 != "Z" && $1 != "X" { print $20 }'; }

# Stop the daemon that ensure_daemon started, and no other.
stop_daemon() {
  local pid started i
  read -r pid started 2> /dev/null < "$DAEMON/started" || return 0
  if [ "$pid" = systemd ]; then
    say "stopping the Docker daemon that the test environment had started"
    quietly systemctl-stop systemctl stop docker
  elif [ -n "$pid" ] && [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]; then
    say "stopping the Docker daemon that the test environment started (process $pid)"
    kill -TERM "$pid"
    for ((i = 0; i < 300; i++)); do
      [ "$(start_time "$pid")" = "$started" ] || break
      sleep 0.1
    done
    [ "$(start_time "$pid")" != "$started" ] || fail "process $pid does not stop"
  fi
  rm -rf "$DAEMON"
}

# harden itself is built here, by the toolchain that Cargo.toml asks for.
check_cargo() {
  need cc build-essential pkg-config pkg-config
  # libssh2 is built against the system's OpenSSL
  pkg-config --exists openssl || need openssl-headers libssl-dev
  local wanted have
  command -v cargo > /dev/null || fail "missing: cargo (with rustfmt and clippy)"
  wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$REPOSITORY/Cargo.toml")
  have=$(cargo --version | cut -d ' ' -f 2)
  [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] || fail "cargo $wanted or later is needed, this is $have"
}

# Where cargo puts what it builds.
target_directory() {
  cargo metadata --format-version 1 --no-deps --offline --manifest-path "$REPOSITORY/Cargo.toml" \
    | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}
