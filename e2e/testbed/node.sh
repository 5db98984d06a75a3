# The node: a claimed slot, network, mount and UTS namespaces that a holder process keeps, and a cgroup for all processes in them. What
# daemons write outside of the cluster's folder goes to mounts that only they see.
# shellcheck shell=bash

# Claims the first free slot. The interface is the claim, and its alias names the cluster that holds it. The caller holds the lock.
claim_slot() {
  local i addresses
  addresses=$(ip -4 -o addr show)
  for ((i = 1; i <= SLOTS; i++)); do
    [[ $addresses != *" 10.99.$i."* ]] || continue
    addresses "$i"
    ip link add "$HOST_LINK" type veth peer name "$NODE_LINK" 2>/dev/null || continue
    ip link set dev "$HOST_LINK" alias "$W"
    echo "$i" >"$W/slot"
    return 0
  done
  die "all $SLOTS slots for clusters are taken: testbed list"
}

# Prints where the cgroup hierarchies are mounted: one on cgroup v2, one for each controller on v1.
cgroup_roots() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts; }

# Prints the hierarchy in which processes are found again. Any would do: it is `pids`, or else the first.
main_cgroup_root() {
  local roots
  roots=$(cgroup_roots)
  grep -m 1 '/pids$' <<<"$roots" || head -1 <<<"$roots"
}

make_cgroups() {
  local root
  while read -r root; do
    mkdir -p "$root/$CGROUP"
    [ ! -f "$root/$CGROUP/cpuset.cpus" ] || [ -f "$root/$CGROUP/cgroup.controllers" ] || {
      cat "$root/cpuset.cpus" >"$root/$CGROUP/cpuset.cpus"
      cat "$root/cpuset.mems" >"$root/$CGROUP/cpuset.mems"
    }
  done < <(cgroup_roots)
  mkdir -p "$(main_cgroup_root)/$CGROUP/node"
}

# Moves the calling shell, and so what it starts, into the cluster's cgroup, where `down` finds it.
join_cgroup() { echo "$BASHPID" >"$(main_cgroup_root)/$CGROUP/node/cgroup.procs"; }

# Kernel settings that the kubelet demands. It sees files with these values; the machine's own settings stay as they are.
TUNABLES=(vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000)

start_node() {
  local dir
  for dir in pids log conf/cni pki containerd node/{log,lib,libwork,tunables} volumes/tiny; do mkdir -p "$W/$dir"; done
  make_cgroups
  # A JVM looks up its host's name and would wait 20 s for an answer. Processes on the node may use the names of Services.
  printf '127.0.0.1 localhost\n%s node1\n' "$NODE_IP" >"$W/node/hosts"
  printf 'nameserver %s\nsearch svc.cluster.local cluster.local\noptions ndots:5\n' "$NODE_IP" >"$W/node/resolv.conf"
  (
    join_cgroup
    exec setsid unshare --net --mount --uts --propagation slave bash "$HERE/node.sh" hold "$W" "${TUNABLES[@]}"
  ) </dev/null >"$W/log/holder.log" 2>&1 &
  record "$W/pids/holder" $!
  wait_for 10 test -e "$W/node/ready" || die_with_log holder "the node's namespaces could not be made"

  ip link set "$NODE_LINK" netns "$(pid_in "$W/pids/holder")"
  ip addr add "$HOST_IP/24" dev "$HOST_LINK"
  ip link set "$HOST_LINK" up
  ip route add "$POD_CIDR" via "$NODE_IP"
  ip route add "$SERVICE_CIDR" via "$NODE_IP"
  enter sh -c "ip link set lo up && ip addr add $NODE_IP/24 dev $NODE_LINK && ip link set $NODE_LINK up &&
    ip route add default via $HOST_IP && echo 1 >/proc/sys/net/ipv4/ip_forward &&
    { echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; } 2>/dev/null || true"
}

# hold W SETTING=VALUE...: runs inside the new namespaces. Makes the private mounts, then sleeps for ever to keep the namespaces.
hold() {
  local work=$1 tunable path
  shift
  mount -n --make-rshared / # -n: leaves no /run/mount on the machine
  mount -n -t tmpfs -o mode=755 tmpfs /run
  mount --bind "$work/node/log" /var/log
  mount -t overlay overlay -o "lowerdir=/var/lib,upperdir=$work/node/lib,workdir=$work/node/libwork" /var/lib
  mount -t tmpfs -o size=16m,mode=777,uid=65532,gid=65532 tmpfs "$work/volumes/tiny"
  mount --bind "$work/node/hosts" /etc/hosts
  path=$(readlink -m /etc/resolv.conf) # often a link to below /run, which is empty here
  mkdir -p "${path%/*}"
  [ -e "$path" ] || touch "$path"
  mount --bind "$work/node/resolv.conf" "$path"
  for tunable in "$@"; do
    path=$work/node/tunables/$(tr / . <<<"${tunable%=*}")
    echo "${tunable#*=}" >"$path"
    mount --bind "$path" "/proc/sys/${tunable%=*}"
  done
  hostname node1
  touch "$work/node/ready"
  exec sleep infinity
}

# become CMD...: replaces this shell's process by a command in the node's namespaces. It keeps its pid, so it can be signalled from
# outside.
become() {
  exec nsenter -t "$(pid_in "$W/pids/holder")" --net --mount --uts --wdns="$(enterable "$PWD")" -- "$@"
}

# enterable FOLDER: prints the working folder to use in the node: /run and /var/log are private there and may lack the folder.
enterable() { case $1/ in /run/* | /var/log/*) echo / ;; *) echo "$1" ;; esac }

enter() { (join_cgroup && become "$@"); }

exec_command() {
  [ "${1:-}" = -- ] && shift
  [ $# -gt 0 ] || die "usage: testbed exec NAME -- CMD..."
  # shellcheck source=/dev/null
  . "$W/env"
  join_cgroup
  become "$@"
}

run_command() {
  local title=
  [ "${1:-}" = --as ] && title=$2 && shift 2
  [ "${1:-}" = -- ] && shift
  [ $# -gt 0 ] || die "usage: testbed run NAME [--as TITLE] -- CMD..."
  title=run-${title:-$(basename "$1")-$$}
  ! alive "$W/pids/$title" || die "'$title' is already running, pid $(pid_in "$W/pids/$title")"
  # shellcheck source=/dev/null
  . "$W/env"
  IN=$PWD daemon "$title" "$@"
  pid_in "$W/pids/$title"
}

stop_command() { stop_daemon "run-${1:?a title}"; }

# `start_node` also runs this file as the program of the holder process.
if [ "${1:-}" = hold ] && [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  shift
  hold "$@"
fi
