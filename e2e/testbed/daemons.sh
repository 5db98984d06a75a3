# Role: long-running processes inside the node: started once, recorded, stopped by name.
# shellcheck shell=bash

# daemon NAME CMD...: unless it runs. It inherits no lock and no terminal, its log is log/NAME.log, its folder is $IN or W.
daemon() {
  local name=$1
  shift
  ! alive "$W/pids/$name" || return 0
  (
    exec 8<&- 9<&-
    cd "${IN:-$W}" || exit
    join_cgroup
    become setsid "$@"
  ) </dev/null >>"$W/log/$name.log" 2>&1 &
  record "$W/pids/$name" $!
}

# stop_daemon NAME [SIGNAL]: and waits until it is gone; after 10 s it is killed.
stop_daemon() {
  alive "$W/pids/$1" || return 0
  kill -s "${2:-TERM}" "$(pid_in "$W/pids/$1")" 2>/dev/null || true
  wait_for 10 dead "$1" || {
    kill -9 "$(pid_in "$W/pids/$1")" 2>/dev/null || true
    wait_for 10 dead "$1" || die "$1 does not end"
  }
}

dead() { ! alive "$W/pids/$1"; }

# failed DAEMON WHAT: says what did not come about, and the end of the log that may tell why.
failed() {
  tail -n 5 "$W/log/$1.log" >&2 2>/dev/null || true
  die "$2; more in $W/log"
}
