#!/bin/sh
# PostgreSQL that answers over TLS only, to clients with a certificate of the CA. As entrypoint of the official image.
set -eu
secrets=/run/secrets/tunix-rt
own=/var/lib/postgresql/tls

mkdir -p "$own"
install -o postgres -m 0600 "$secrets/cert.pem" "$secrets/key.pem" "$secrets/ca.pem" "$own"
cat >"$own/pg_hba.conf" <<'HBA'
local   all all     scram-sha-256
hostssl all all all scram-sha-256 clientcert=verify-ca
HBA
chown postgres "$own" "$own/pg_hba.conf"

POSTGRES_PASSWORD=$(cat "$secrets/password")
export POSTGRES_PASSWORD
exec docker-entrypoint.sh postgres -c ssl=on -c "ssl_cert_file=$own/cert.pem" -c "ssl_key_file=$own/key.pem" \
  -c "ssl_ca_file=$own/ca.pem" -c "hba_file=$own/pg_hba.conf"
