# Removes clusters without a trace, and finds the stale ones, which nobody else will remove.
# shellcheck shell=bash

down_command() {
  need_root
  locked take_down
  say "cluster '$NAME' is down"
}

# Prints the state of the cluster in W: `starting` while an `up` is at work, `up`, or `stale` if its holder, its owner or the `up` that
# made it is gone.
cluster_state() {
  if alive "$W/up"; then
    echo starting
  elif [ -e "$W/owner" ] && ! alive "$W/owner"; then
    echo stale
  elif [ -e "$W/complete" ] && alive "$W/pids/holder"; then
    echo up
  else
    echo stale
  fi
}

# Removes all of the cluster. It finds the processes by the cgroup and the interface by its alias, both of which the kernel keeps. So
# it works on half a cluster, on one whose folder is gone, and if there is no cluster.
take_down() {
  local link
  ! alive "$W/up" || [ "$(pid_in "$W/up")" = $$ ] || kill -9 "$(pid_in "$W/up")" 2>/dev/null || true
  wait_for 20 kill_all || die "processes of '$NAME' do not end: $(processes | tr '\n' ' ')"
  for link in $(links_of "$W"); do ip link del "$link" 2>/dev/null || true; done
  wait_for 10 remove_cgroups || die "a cgroup $CGROUP can't be removed"
  [ ! -d "$W" ] || rm -rf --one-file-system "$W"
  rmdir "$(dirname "$W")" 2>/dev/null || true
}

processes() {
  local root
  while read -r root; do
    [ ! -d "$root/$CGROUP" ] || find "$root/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null
  done < <(cgroup_roots) | sort -un
}

# Kills all processes of the cluster that are there now. Succeeds only if there were none.
kill_all() {
  local found
  found=$(processes)
  [ -n "$found" ] || return 0
  # shellcheck disable=SC2086
  kill -9 $found 2>/dev/null
  return 1
}

remove_cgroups() {
  local root left=0
  while read -r root; do
    [ ! -d "$root/$CGROUP" ] || find "$root/$CGROUP" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ ! -d "$root/$CGROUP" ] || left=1
  done < <(cgroup_roots)
  [ $left = 0 ]
}

# "INTERFACE FOLDER" of every claimed slot on this machine.
claims() {
  local alias link
  for alias in /sys/class/net/bf*h/ifalias; do
    [ -e "$alias" ] || continue
    link=${alias%/ifalias}
    printf '%s %s\n' "${link##*/}" "$(cat "$alias" 2>/dev/null)"
  done
}

links_of() { claims | awk -v folder="$1" '$2 == folder { print $1 }'; }

# Removes every stale cluster of this BELFRY_WORK, and those of other BELFRY_WORKs that hold a slot. The caller holds the lock.
gc() {
  local folder
  { ls -d "$(readlink -m "$BELFRY_WORK")"/*/ 2>/dev/null || true; claims | cut -d' ' -f2-; } |
    sed 's|/$||' | sort -u | while read -r folder; do
    [ -n "$folder" ] || continue
    of_folder "$folder"
    if [ "$(cluster_state)" = stale ]; then
      say "removing what is left of cluster '$NAME' ($W)"
      take_down
    fi
  done
}
