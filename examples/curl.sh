#!/bin/sh
# Minted images without any SDK: sh examples/curl.sh [URL] [FOLDER]
# NONESUCH_TOKEN is sent along if it is set.
set -eu

url=${1:-${NONESUCH_URL:-http://127.0.0.1:8000}}
folder=${2:-$(mktemp -d)}
mkdir -p "$folder"

call() {
    curl --fail --silent --show-error --max-time 120 ${NONESUCH_TOKEN:+-H "Authorization: Bearer $NONESUCH_TOKEN"} "$@"
}

mint() {
    call -H 'Content-Type: application/json' -d '{"count": 64, "seed": 7}' "$@" "$url/v1/batches"
}

echo 'What can be minted:'
call "$url/v1/generators" | head -c 300
echo ' …'

mint -o "$folder/batch.arrows"
mint -o "$folder/batch.parquet" -H 'Accept: application/vnd.apache.parquet'
mint -o "$folder/batch.npz" -H 'Accept: application/x-npz'
mint -o "$folder/batch.tar" -H 'Accept: application/x-tar'
mint -o "$folder/batch.zip" -H 'Accept: application/zip'
mint -o "$folder/batch.json" -H 'Accept: application/json'
mint -o "$folder/batch.png" -H 'Accept: image/png' -D "$folder/headers"

# The same bytes again, from the recipe that the answer named.
place=$(tr -d '\r' <"$folder/headers" | awk 'tolower($1) == "content-location:" {print $2}')
call -o "$folder/again.png" "$url$place"
cmp "$folder/batch.png" "$folder/again.png"

# A large order is made in the background and fetched when there is time.
order=$(call -H 'Content-Type: application/json' -d '{"count": 1000}' "$url/v1/orders" | sed 's/.*"id":"\([^"]*\)".*/\1/')
call -o "$folder/large.npz" "$url/v1/orders/$order/results?format=npz"

ls -l "$folder"
