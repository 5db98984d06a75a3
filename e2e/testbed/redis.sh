# Redis: one server at the node's address, outside of Kubernetes. It keeps nothing.
# shellcheck shell=bash

# redis_start [PROGRAM]: starts the server. The first time it needs the program; Debian's is one file that acts by its name.
redis_start() {
  local folder=$W/redis
  if [ ! -d "$folder" ]; then
    : "${1:?is the program, redis-server}"
    mkdir -p "$folder"
    cp -L "$1" "$folder/redis-server"
    openssl rand -hex 16 >"$folder/password"
    echo "redis://:$(<"$folder/password")@$NODE_IP:6379" >"$W/pki/redis.url"
  fi
  daemon redis "$folder/redis-server" --bind "$NODE_IP" --requirepass "$(<"$folder/password")" --save '' --dir "$folder"
  wait_for 20 redis_answers || die_with_log redis "Redis does not answer at $NODE_IP:6379"
  say "Redis: listening at $NODE_IP:6379"
}

redis_answers() { ! dead redis && port_open "$NODE_IP" 6379; }

redis_stop() { stop_daemon redis KILL && say "Redis: killed"; }
