# Long-running processes inside the node: starts each once, records its pid, and stops it by name.
# shellcheck shell=bash

# daemon NAME CMD...: starts the process unless it runs already. It inherits no lock and no terminal. Its log is log/NAME.log, its
# working folder $IN or $W.
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

# stop_daemon NAME [SIGNAL]: sends the signal (TERM) and waits until the process is gone. Kills it after 10 s.
stop_daemon() {
  alive "$W/pids/$1" || return 0
  kill -s "${2:-TERM}" "$(pid_in "$W/pids/$1")" 2>/dev/null || true
  wait_for 10 dead "$1" || {
    kill -9 "$(pid_in "$W/pids/$1")" 2>/dev/null || true
    wait_for 10 dead "$1" || die "$1 does not end"
  }
}

dead() { ! alive "$W/pids/$1"; }

# die_with_log DAEMON WHAT: ends the script with this message, and prints the end of the daemon's log, which may tell why.
die_with_log() {
  tail -n 5 "$W/log/$1.log" >&2 2>/dev/null || true
  die "$2; more in $W/log"
}
