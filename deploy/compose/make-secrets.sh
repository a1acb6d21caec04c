#!/bin/sh
# Makes what the containers need to know each other: a CA and certificates, NATS' keys and configuration, a token for
# each service and the first administrator, and the database's password. Runs in the image of the registry, as root, before everything else; what exists is kept.
#   RENEW=1 docker-compose run --rm setup    new certificates; then: docker-compose kill -s HUP nats
set -eu
umask 077
secrets=/secrets

tunix-rt certs init "$secrets" ${RENEW:+--renew}
python -m tunix_rt.bus.server_config "$secrets"

# keep FILE [SECRET]: FILE with the secret, or a random one, unless it is there already
keep() {
  [ -s "$1" ] || printf '%s\n' "${2:-$(python -c 'import secrets; print(secrets.token_urlsafe(32))')}" >"$1"
}

mkdir -p "$secrets/registry/tokens"
for name in trainer inferencer evaluator tuner; do
  keep "$secrets/$name/token"
  cp "$secrets/$name/token" "$secrets/registry/tokens/$name"
done
keep "$secrets/registry/token" "${TUNIX_RT_TOKEN:-}"
cp "$secrets/registry/token" "$secrets/client/token"
keep "$secrets/postgres/password" "${POSTGRES_PASSWORD:-}"
cp "$secrets/postgres/password" "$secrets/registry/database.password"

# The services run as this user; NATS and PostgreSQL read theirs as root.
for name in registry trainer inferencer evaluator tuner; do
  chown -R 10001:10001 "$secrets/$name"
  chmod 700 "$secrets/$name"
done
