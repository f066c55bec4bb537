# shellcheck shell=bash
# A cluster made by kind, and the workspace from which harden reaches it.

cluster_name() { echo "$PREFIX-$1"; }

# The nodes that a topology has, in kind's names.
cluster_nodes() {
  case $1 in
    single | second) printf "$PREFIX-$1-%s " control-plane worker ;;
    ha) printf "$PREFIX-ha-%s " control-plane control-plane2 control-plane3 worker ;;
  esac
}

control_planes() {
  local node
  for node in $(cluster_nodes "$1"); do
    case $node in *-control-plane*) echo "$node" ;; esac
  done
}

first_control_plane() { echo "$PREFIX-$1-control-plane"; }

# on NODE COMMAND...: as root on a node. Standard input is passed on.
on() { docker exec -i "$@"; }

# kubectl_in TOPOLOGY ARGUMENT...: with the administrator's rights, on the first control plane.
kubectl_in() {
  local topology=$1
  shift
  on "$(first_control_plane "$topology")" kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"
}

# kind's configuration. The patch directory is in the node image, whichever it is; see there.
cluster_configuration() {
  local node
  cat << 'EOF'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  apiServerAddress: 127.0.0.1
kubeadmConfigPatches:
- |
  kind: InitConfiguration
  patches: {directory: /kind/patches}
- |
  kind: JoinConfiguration
  patches: {directory: /kind/patches}
nodes:
EOF
  for node in $(cluster_nodes "$1"); do
    case $node in
      *-control-plane*) echo '- role: control-plane' ;;
      *) echo '- role: worker' ;;
    esac
    echo '  extraPortMappings: [{containerPort: 22, listenAddress: 127.0.0.1}]'
  done
}

cluster_exists() { [ -n "$(cluster_containers "$1")" ]; }

cluster_containers() { docker ps --all --quiet --filter "label=io.x-k8s.kind.cluster=$(cluster_name "$1")"; }

# Every node runs, is Ready, and has a running sshd; the API server answers.
cluster_is_healthy() {
  local node ready wanted=''
  for node in $(cluster_nodes "$1"); do
    [ "$(docker inspect --format '{{.State.Running}}' "$node" 2> /dev/null)" = true ] || return
    timeout 10 docker exec "$node" systemctl is-active --quiet ssh.service 2> /dev/null || return
    wanted+='True '
  done
  ready=$(timeout 20 docker exec "$(first_control_plane "$1")" kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes \
    --output 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{" "}{end}' 2> /dev/null) || return
  [ "$ready" = "$wanted" ]
}

create_cluster() {
  local name log=$RUN/logs/create-$1.log
  name=$(cluster_name "$1")
  mkdir -p "$RUN/logs" "$RUN/$1"
  if ! docker run --rm --privileged --network none --entrypoint /bin/true "$NODE_IMAGE" > "$log" 2>&1; then
    sed 's/^/  | /' "$log" >&2
    fail "this Docker daemon cannot start privileged containers. Where root lacks capabilities, stop the daemon: 'up' then starts one that can"
  fi
  cluster_configuration "$1" > "$RUN/$1/kind.yaml"
  say "creating the cluster $name, $(cluster_nodes "$1" | wc -w) nodes (to follow it: tail -f ${log#"$PWD"/})"
  if ! kind create cluster --name "$name" --image "$NODE_IMAGE" --config "$RUN/$1/kind.yaml" \
    --kubeconfig "$RUN/$1/kubeconfig" --wait 180s --retain > "$log" 2>&1 < /dev/null; then
    tail -n 25 "$log" | sed 's/^/  | /' >&2
    kind export logs --name "$name" "$RUN/logs/$name" > /dev/null 2>&1 || true
    delete_cluster "$1"
    fail "kind could not create the cluster (all it said: $log; the nodes' logs: $RUN/logs/$name)"
  fi
  if [ "$IMAGES" = pull ]; then
    say "loading the image of the test pods"
    quietly load-busybox kind load docker-image --name "$name" "$BUSYBOX_IMAGE"
  fi
  say "waiting for every node and system pod"
  quietly wait-for-nodes kubectl_in "$1" wait --for=condition=Ready node --all --timeout=120s
  quietly wait-for-pods kubectl_in "$1" --namespace kube-system wait --for=condition=Ready pod --all --timeout=180s
}

# Removes also what kind has lost sight of, such as the containers of a killed daemon.
delete_cluster() {
  local name left
  name=$(cluster_name "$1")
  kind delete cluster --name "$name" --kubeconfig "$RUN/$1/kubeconfig" > /dev/null 2>&1 < /dev/null || true
  left=$(cluster_containers "$1")
  if [ -n "$left" ]; then
    # shellcheck disable=SC2086  # one word a container
    docker rm --force --volumes $left > /dev/null 2>&1 || true
    left=$(cluster_containers "$1")
    [ -z "$left" ] || fail "docker cannot remove these containers of $name: $left"
  fi
}

# --- the workspace

# Every file appears whole, under a temporary name first, so that nobody reads half of one.
# The key pair stays what it is as long as it is usable.
write_workspace() {
  local topology=$1 directory=$RUN/$1 node
  (
    umask 077
    mkdir -p "$directory"
    if ! ssh-keygen -y -P '' -f "$directory/id_ed25519" > /dev/null 2>&1; then
      rm -f "$directory/id_ed25519"
      ssh-keygen -q -t ed25519 -N '' -C testenv -f "$directory/id_ed25519"
    fi
    ssh-keygen -y -P '' -f "$directory/id_ed25519" | into "$directory/id_ed25519.pub"
    kind get kubeconfig --name "$(cluster_name "$topology")" < /dev/null | into "$directory/kubeconfig"
  )
  mkdir -p "$directory/docker"
  for node in $(cluster_nodes "$topology"); do
    # the key of another checkout that uses the same cluster stays
    # shellcheck disable=SC2016  # the node's variable
    on "$node" sh -c 'cd /home/ops/.ssh && read -r key && touch authorized_keys &&
      { grep -qxF "$key" authorized_keys || echo "$key" >> authorized_keys; } &&
      chown ops:ops authorized_keys && chmod 0600 authorized_keys' < "$directory/id_ed25519.pub" \
      || fail "cannot install the SSH key on $node"
  done
  known_hosts "$topology" | into "$directory/known_hosts"
  ssh_configuration "$topology" | into "$directory/ssh_config"
  ssh_profile "$topology" | into "$directory/harden.toml"
  docker_profile "$topology" | into "$directory/docker/harden.toml"
  for node in $(cluster_nodes "$topology"); do
    ssh -F "$directory/ssh_config" -o BatchMode=yes -o ConnectTimeout=10 "$node" sudo -n true < /dev/null \
      || fail "$node does not let ops in by SSH, or does not let ops use sudo (docker exec $node journalctl -u ssh)"
  done
}

into() { cat > "$1.new" && mv "$1.new" "$1"; }

# Read inside the nodes: whoever asks the network for a host key believes whoever answers.
known_hosts() {
  local node
  for node in $(cluster_nodes "$1"); do
    on "$node" sh -c 'cat /etc/ssh/ssh_host_*_key.pub' < /dev/null | awk -v node="$node" '{ print node, $1, $2 }'
  done
}

ssh_configuration() {
  local node
  for node in $(cluster_nodes "$1"); do
    cat << EOF
Host $node
  HostName 127.0.0.1
  Port $(ssh_port "$node")
  User ops
  IdentityFile "$RUN/$1/id_ed25519"
  IdentitiesOnly yes
  UserKnownHostsFile "$RUN/$1/known_hosts"
  GlobalKnownHostsFile /dev/null
  HostKeyAlias $node
  StrictHostKeyChecking yes
EOF
  done
}

# The port of 127.0.0.1 behind which a node's sshd is.
ssh_port() {
  local published
  published=$(docker port "$1" 22/tcp) || fail "$1 publishes no port for SSH: take the cluster down and up again"
  echo "${published##*:}"
}

ssh_profile() {
  local node
  profile_head "$1" kubeconfig
  cat << 'EOF'
transport   = "ssh"
user        = "ops"
become      = "sudo"
identity    = "id_ed25519"
known-hosts = "known_hosts"
EOF
  for node in $(cluster_nodes "$1"); do
    printf '\n[nodes.host.%s]\naddress = "127.0.0.1"\nport    = %s\n' "$node" "$(ssh_port "$node")"
  done
  profile_tail
}

docker_profile() {
  profile_head "$1" ../kubeconfig
  echo 'transport   = "docker"'
  profile_tail
}

profile_head() { # TOPOLOGY KUBECONFIG
  cat << EOF
# written by testenv/up
imports = ["builtin:baseline"]
accept  = ["tenants"]

[cluster]
name       = "$(cluster_name "$1")"
kubeconfig = "$2"
context    = "kind-$(cluster_name "$1")"

[nodes]
discover    = true
EOF
}

profile_tail() {
  cat << 'EOF'

[tenants.payments]
namespaces   = ["payments"]
network      = "isolated"
pod-security = "restricted"
quota        = { pods = "20", "requests.cpu" = "4", "requests.memory" = "4Gi" }
egress       = [{ to = [{ ipBlock = { cidr = "203.0.113.0/24" } }], ports = [{ protocol = "TCP", port = 443 }] }]
EOF
}
