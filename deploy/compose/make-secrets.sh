#!/bin/sh
# Makes what the containers need to know each other: a CA and certificates, NATS' keys and configuration, a token for
# each service and the first administrator, and the database's password. Runs in the image of the registry before
# everything else, as root, which gives each volume to the user of the containers; what exists is kept.
#   RENEW=1 docker-compose run --rm setup    new certificates; then: docker-compose kill -s HUP nats postgres
set -eu
umask 077
secrets=/secrets

tunix-rt certs init "$secrets" ${RENEW:+--renew}
python -m tunix_rt.bus.server_config "$secrets"

# keep FILE: FILE with a random secret, unless it is there already
keep() {
  [ -s "$1" ] || python -c 'import secrets; print(secrets.token_urlsafe(32))' >"$1"
}

mkdir -p "$secrets/registry/tokens"
for name in trainer inferencer evaluator tuner; do
  keep "$secrets/$name/token"
  cp "$secrets/$name/token" "$secrets/registry/tokens/$name"
done
keep "$secrets/registry/token"
cp "$secrets/registry/token" "$secrets/client/token"
keep "$secrets/postgres/password"
cp "$secrets/postgres/password" "$secrets/registry/database.password"

# All containers run as this user.
for name in nats postgres registry trainer inferencer evaluator tuner; do
  chown -R 10001:10001 "$secrets/$name"
  chmod 700 "$secrets/$name"
done
chown -R 10001:10001 /data/nats /data/postgres
