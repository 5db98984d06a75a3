# shellcheck shell=bash
# Starts a PostgreSQL server for tests that need nothing but a database. It opens no port, doesn't sync to disk, and is removed at the
# end. Scripts source this file after common.sh.

# Prints the folder with initdb and postgres; fails if there is none.
postgres_programs() {
  local at
  for at in /usr/lib/postgresql/1[5-9]/bin "$(pg_config --bindir 2>/dev/null || true)" "$BELFRY_POSTGRES"; do
    [ ! -x "$at/initdb" ] || { printf '%s\n' "$at" && return 0; }
  done
  return 1
}
BELFRY_POSTGRES=${BELFRY_POSTGRES:-}

# Unpacks Debian's server into the test bed's cache. Installing the package would start a service.
get_postgres() {
  BELFRY_POSTGRES=$(dirname "$("$testbed" unpack postgresql-15 usr/lib/postgresql/15/bin/postgres)")
  "$testbed" packages libgssapi-krb5-2 libicu72 libldap-2.5-0 libpq5 libxml2 tzdata
}

# on_postgres COMMAND...: starts a server, runs the command with the server's URL in BELFRY_TEST_POSTGRES, and removes the server.
on_postgres() {
  local programs folder as=() failed=0
  programs=$(postgres_programs) || die "PostgreSQL's initdb is not here: install postgresql-15 or newer"
  folder=$(mktemp -d)
  if [ "$programs" = "$BELFRY_POSTGRES" ]; then # it lies in a cache that the server's user may not be allowed to read
    cp -r "${programs%/usr/*}/usr" "$folder"
    programs=$folder/usr/${programs##*/usr/}
  fi
  # PostgreSQL refuses to run as root.
  [ "$(id -u)" != 0 ] || { chown nobody "$folder" && as=(setpriv --reuid=nobody --regid=nogroup --clear-groups); }
  (
    cd "$folder"
    "${as[@]}" "$programs/initdb" -D "$folder/data" -U belfry -A trust --locale=C --encoding=UTF8 --no-sync >"$folder/log" 2>&1 &&
      "${as[@]}" "$programs/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w start \
        -o "-k $folder -c listen_addresses= -c fsync=off -c max_connections=200" >>"$folder/log" 2>&1
  ) || {
    cat "$folder/log" "$folder/server.log" >&2
    die "PostgreSQL does not start"
  }
  BELFRY_TEST_POSTGRES="postgres://belfry@${folder//\//%2F}/postgres" "$@" || failed=$?
  (cd "$folder" && "${as[@]}" "$programs/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null) ||
    say "PostgreSQL does not stop: $folder"
  rm -rf "$folder"
  return "$failed"
}

# Prints the program redis-server; unpacks Debian's into the test bed's cache if there is none. Debian's redis-server is a link to another
# program of the package redis-tools.
redis_program() {
  command -v redis-server && return
  "$testbed" packages libjemalloc2 liblzf1 >&2
  "$testbed" unpack redis-tools usr/bin/redis-check-rdb
}
