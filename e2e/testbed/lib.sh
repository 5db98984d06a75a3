# What every file of the test bed uses: messages to the user, the cluster's names and addresses, the machine-wide lock, pid files, and
# templates.
#
# A cluster is its folder W. Everything else about it is in the kernel: the interface bf<SLOT>h, whose alias is W, claims slot and
# addresses for the whole machine, and the cgroup of W holds all of the cluster's processes. So if the folder or the processes are
# lost, `gc` still finds the rest.
# shellcheck shell=bash disable=SC2034

BELFRY_WORK=${BELFRY_WORK:-/var/tmp/belfry}
BELFRY_CACHE=${BELFRY_CACHE:-${HOME:-/root}/.cache/belfry}
STARTED=${EPOCHREALTIME/./}

# Prints a line with the seconds since this command began.
say() {
  local tenths=$(((${EPOCHREALTIME/./} - STARTED) / 100000))
  printf '%4d.%d s  %s\n' $((tenths / 10)) $((tenths % 10)) "$*" >&2
}

die() {
  printf 'testbed: %s\n' "$*" >&2
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "needs root, for namespaces and packages: run it with sudo"; }

# Sets NAME, W (the cluster's folder) and CGROUP from a command's first argument. Two clusters of different $BELFRY_WORKs may have
# the same name; their cgroups differ.
select_cluster() {
  NAME=${1:-}
  [[ $NAME =~ ^[a-z][a-z0-9-]{0,19}$ ]] || die "a cluster's name has 1 to 20 of a-z, 0-9 and '-', not '$NAME'"
  of_folder "$(readlink -m "$BELFRY_WORK")/$NAME"
  case $W in
    /run/* | /var/lib/* | /var/log/*) die "BELFRY_WORK must not be below /run, /var/lib or /var/log: a node has its own" ;;
  esac
}

of_folder() {
  local sum
  W=$1 NAME=${1##*/}
  sum=$(printf %s "$W" | sha256sum)
  CGROUP=belfry-$NAME-${sum:0:6}
}

# Like `select_cluster`, but the cluster must be up. Also sets its addresses and TOOLS.
require_cluster() {
  need_root
  select_cluster "$@"
  if [ ! -s "$W/slot" ] || ! alive "$W/pids/holder"; then die "no cluster '$NAME' is up: testbed up $NAME"; fi
  addresses "$(<"$W/slot")"
  TOOLS=$(readlink "$W/tools")
}

# addresses SLOT: sets the interfaces and addresses of a slot. No two slots share any of them.
addresses() {
  SLOT=$1
  HOST_LINK=bf${SLOT}h NODE_LINK=bf${SLOT}n
  HOST_IP=10.99.$SLOT.1 NODE_IP=10.99.$SLOT.2
  POD_CIDR=10.88.$SLOT.0/24
  SERVICE_CIDR=10.97.$((SLOT * 8)).0/21 SERVICE_IP=10.97.$((SLOT * 8)).1
}
SLOTS=30

# locked FUNCTION...: runs a function while no other test bed on this machine claims or removes anything. The function must not
# start a daemon, which would inherit the lock. The lock is on a folder that always exists, so it leaves nothing behind.
locked() { (flock 9 && "$@") 9</run; }

# record FILE PID: writes "PID STARTTIME". With the start time, another process that gets the same pid later is not taken for ours.
record() { printf '%s %s\n' "$2" "$(start_time "$2")" >"$1.new" && mv "$1.new" "$1"; }

start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # The process's name, in brackets, may hold spaces. After it come the fields from 3 on; field 22 is the start time.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" = Z ] || printf %s "${20}"
}

alive() {
  local pid begun
  read -r pid begun 2>/dev/null <"$1" && [ -n "$begun" ] && [ "$(start_time "$pid")" = "$begun" ]
}

pid_in() { cut -d' ' -f1 "$1"; }

# wait_for SECONDS CMD...: waits until a command succeeds, at most so many seconds.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# render FILE [USER]: prints a template with its @WORD@s filled in.
render() {
  sed -e "s|@WORK@|$W|g; s|@NODE_IP@|$NODE_IP|g; s|@POD_CIDR@|$POD_CIDR|g; s|@CGROUP@|$CGROUP|g; s|@USER@|${2:-}|g" "$HERE/$1"
}

# Runs kubectl as the cluster's administrator, outside of the node's namespaces.
k() { "$TOOLS/bin/kubectl" --kubeconfig="$W/conf/admin.kubeconfig" "$@"; }
