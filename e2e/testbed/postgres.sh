# PostgreSQL: one server at the node's address, outside of Kubernetes. Its data outlive the process.
# shellcheck shell=bash

# It refuses to run as root.
AS_NOBODY=(setpriv --reuid=nobody --regid=nogroup --clear-groups)

# postgres_start [PROGRAMS]: starts the server. The first time it needs the folder with initdb and postgres, and makes the data:
# database `postgres`, user `belfry` with a password, TLS with a certificate of the cluster's authority.
postgres_start() {
  local folder=$W/postgres
  [ -d "$folder/data" ] || make_postgres "${1:?is the folder with initdb and postgres}"
  daemon postgres "${AS_NOBODY[@]}" "$(<"$folder/programs")/postgres" -D "$folder/data" -k "$folder" \
    -c listen_addresses="$NODE_IP" -c ssl=on
  wait_for 60 postgres_answers || die_with_log postgres "PostgreSQL does not answer at $NODE_IP:5432"
  say "PostgreSQL: listening at $NODE_IP:5432"
}

postgres_answers() { ! dead postgres && port_open "$NODE_IP" 5432; }

# Stops at once, as `pg_ctl -m immediate` does: clients are cut off, and the next start recovers from the log.
postgres_stop() { stop_daemon postgres QUIT && say "PostgreSQL: stopped"; }

make_postgres() {
  local folder=$W/postgres programs=$1 password
  mkdir -p "$folder"
  case $programs in
    /usr/*) ;;
    *) # in a cache that another user may not enter
      cp -r "${programs%/usr/*}/usr" "$folder"
      programs=$folder/usr/${programs##*/usr/}
      ;;
  esac
  password=$(openssl rand -hex 16)
  echo "$password" >"$folder/password"
  chown -R nobody "$folder"
  (cd "$folder" && "${AS_NOBODY[@]}" "$programs/initdb" -D "$folder/data" -U belfry --pwfile="$folder/password" \
    --auth-local=trust --auth-host=scram-sha-256 --locale=C --encoding=UTF8 >"$W/log/initdb.log" 2>&1) ||
    die_with_log initdb "PostgreSQL's data can't be made"
  echo 'hostssl all all 0.0.0.0/0 scram-sha-256' >>"$folder/data/pg_hba.conf"
  certificate postgres /CN=postgres "subjectAltName=IP:$NODE_IP"
  command install -m 600 -o nobody "$W/pki/postgres.crt" "$folder/data/server.crt"
  command install -m 600 -o nobody "$W/pki/postgres.key" "$folder/data/server.key"
  # As pods see it, who have the authority beside the URL.
  echo "postgres://belfry:$password@$NODE_IP:5432/postgres?sslmode=verify-full&sslrootcert=/var/run/belfry/database/ca.crt" \
    >"$W/pki/postgres.url"
  echo "$programs" >"$folder/programs"
}
