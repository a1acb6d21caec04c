#!/bin/sh
# PostgreSQL that answers over TLS only, to clients with a certificate of the CA. As entrypoint of the official image, in
# place of its own, which starts as root: the certificate and the data belong to the user of the container already.
#   docker-compose kill -s HUP postgres    after certificates were replaced
set -eu
secrets=/run/secrets/tunix-rt
data=${PGDATA:-/var/lib/postgresql/data}

if [ ! -s "$data/PG_VERSION" ]; then
  initdb -D "$data" -U "$POSTGRES_USER" --pwfile="$secrets/password" -A scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  pg_ctl -D "$data" -w -o "-c listen_addresses='' -c unix_socket_directories=/tmp" start
  PGPASSWORD=$(cat "$secrets/password") createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -D "$data" -w -m fast stop
fi

exec postgres -D "$data" -c 'listen_addresses=*' -c unix_socket_directories=/tmp -c hba_file=/opt/pg_hba.conf \
  -c ssl=on -c "ssl_cert_file=$secrets/cert.pem" -c "ssl_key_file=$secrets/key.pem" -c "ssl_ca_file=$secrets/ca.pem"
