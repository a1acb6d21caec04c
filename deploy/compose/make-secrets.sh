#!/bin/sh
# Makes what the containers need to know each other: a CA and certificates, NATS' keys and configuration, and the
# database's password. Runs in the image of the registry, as root, before everything else; what exists is kept.
#   RENEW=1 docker-compose run --rm setup    new certificates; then: docker-compose kill -s HUP nats
set -eu
umask 077
secrets=/secrets

tunix-rt certs init "$secrets" ${RENEW:+--renew}
python -m tunix_rt.bus.server_config "$secrets"

password=$secrets/postgres/password
if [ ! -s "$password" ]; then
  if [ -n "${POSTGRES_PASSWORD:-}" ]; then # of a database that exists
    printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
  else
    python -c 'import secrets; print(secrets.token_urlsafe(32))' >"$password"
  fi
fi
cp "$password" "$secrets/registry/database.password"

# The services run as this user; NATS and PostgreSQL read theirs as root.
for name in registry trainer inferencer evaluator tuner; do
  chown -R 10001:10001 "$secrets/$name"
  chmod 700 "$secrets/$name"
done
