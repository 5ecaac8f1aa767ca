#!/bin/sh
# index, search and ask --engine against a cluster that misbehaves as it is told, which is
# tests/support/bad_server.c: each ends with its exit code and one line, and no credential is in
# any.  tests/peers/compare_engine.py holds the rankings of a real node.  Run from the repository
# root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
printf '1\ta b\n2\tb c\n3\tc d\n' >"$dir/p.tsv"
printf '{"id": "q", "question": "a"}\n' >"$dir/q.jsonl"
if build/index --passages "$dir/p.tsv" --analyzer whitespace --output x --engine elasticsearch \
    2>&1 | grep -q 'no libcurl'; then
    skip "this build has no libcurl: a search cluster in place of an index"
    end
fi
$CC -std=c11 -O0 -o "$dir/server" tests/support/bad_server.c || exit 3

# start MODE: the server, its address in $url.
start() {
    [ -z "$running" ] || kill "$running"
    rm -f "$dir/port"
    "$dir/server" "$dir/port" "$1" &
    running=$!
    wait_for 30 test -s "$dir/port"
    url=http://127.0.0.1:$(cat "$dir/port")
}

# engine CODE TEXT PROGRAM ARGUMENTS..: gives, and what it printed is kept.
engine() {
    code=$1 text=$2 program=$3
    shift 3
    gives "$code" "$text" "build/$program" "$@" --engine elasticsearch
    cat "$dir/out" "$dir/err" >>"$dir/all"
}
index() {
    code=$1 text=$2
    shift 2
    engine "$code" "$text" index --passages "$dir/p.tsv" --analyzer whitespace --output k \
        --retry_seconds 1 "$@"
}
search() {
    code=$1 text=$2
    shift 2
    engine "$code" "$text" search --queries "$dir/q.jsonl" --index k --retry_seconds 1 "$@"
}

index 2 '--url is missing'
index 2 'no name or password in it' --url http://me:secret7@127.0.0.1:1
index 2 'cannot be used' --url ftp://127.0.0.1
index 2 "the index's name" --url http://127.0.0.1:1 --output Upper
index 5 '127.0.0.1:1: ' --url http://127.0.0.1:1
echo 'ApiKey secret7' >"$dir/auth"
chmod 644 "$dir/auth"
index 2 'expected mode 0600' --url http://127.0.0.1:1 --auth_file "$dir/auth"
chmod 600 "$dir/auth"
index 2 'credentials go over https only' --url http://192.0.2.1:9200 --auth_file "$dir/auth"
for name in localhost.example.com 127.0.0.1.example.com; do      # not this machine
    index 2 'credentials go over https only' --url http://$name:9200 --auth_file "$dir/auth"
done
echo 'secret7' >"$dir/auth2"
chmod 600 "$dir/auth2"
index 2 'credentials: unknown form' --url http://127.0.0.1:1 --auth_file "$dir/auth2"

start good
index 0 '3 passages in k-' --url "$url" --auth_file "$dir/auth"
start good
MRC_SEARCH_AUTH='Basic me:secret7' && export MRC_SEARCH_AUTH
index 0 '3 passages in k-' --url "$url"
unset MRC_SEARCH_AUTH
search 0 'q Q0 a 1 1.5 mrc' --url "$url"
search 2 'gives 10000 at most' --url "$url" --top_k 20000
for row in "401 5 refuses the credentials" "429 5 is overloaded" "html 3 is this a search cluster" \
    "redirect 3 status 302" "opensearch 3 found opensearch" "old 3 version 6.8.0" \
    "other 3 found neither" "cut 5 127.0.0.1" "long 3 an answer of more than"; do
    start "${row%% *}"
    row=${row#* }
    index "${row%% *}" "${row#* }" --url "$url" --auth_file "$dir/auth"
    search "${row%% *}" "${row#* }" --url "$url"
done
for row in "mapping 3 mapper_parsing_exception: no analyzer" "items_400 3 1 passages were refused" \
    "items_429 0 3 passages in k-" "items_storm 5 accepted nothing" "items_short 3 answers for 1" \
    "items_other 3 another passage" "413 0 3 passages in k-" "count 5 has 4 passages"; do
    start "${row%% *}"
    row=${row#* }
    index "${row%% *}" "${row#* }" --url "$url"
done
for row in "missing 5 status 404" "stranger 3 was not made by index" "late 5 did not answer" \
    "shards 5 did not answer" "clauses 3 too_many_clauses" "no_score 3 without id or score"; do
    start "${row%% *}"
    row=${row#* }
    search "${row%% *}" "${row#* }" --url "$url"
done
search 2 'searched by words' --url "$url" --retriever dense
# ask reads the passages that the cluster finds, as it would those of a folder.
build/train --config_name data/config.json --tokenizer_name data --train_file data/train.jsonl \
    --output_dir "$dir/model" --head linear --max_steps 1 --max_train_samples 8 >/dev/null 2>&1 \
    || bad "no model to ask"
printf '{"id": "a", "title": "T", "text": "Anna lives in Oslo."}\n' >"$dir/a.jsonl"
build/index --passages "$dir/a.jsonl" --analyzer whitespace --output "$dir/local" 2>/dev/null \
    || bad "no local index"
read_answers() {                        # but for what the index's scores go into
    sed 's/"score": [^,]*, //g; s/"confidence": [^,]*, //g; s/, "retrieval_score": [^,}]*//g'
}
start good
asks() {
    code=$1 text=$2
    shift 2
    engine "$code" "$text" ask --model_name_or_path "$dir/model" --question 'Where does Anna live' --json \
        --retry_seconds 1 "$@"
}
asks 0 '"passage": "a", "title": "T"' --index k --url "$url"
read_answers <"$dir/out" >"$dir/theirs"
grep -q '"retrieval_score": 1.5' "$dir/out" && ok || bad "ask: its score: $(cat "$dir/out")"
build/ask --model_name_or_path "$dir/model" --question 'Where does Anna live' --json \
    --index "$dir/local" 2>/dev/null | read_answers >"$dir/ours"
cmp -s "$dir/ours" "$dir/theirs" && ok || bad "ask: other answers: $(cat "$dir/ours" "$dir/theirs")"
asks 2 'of which index' --url "$url" --context README.md
asks 2 'searched by words' --url "$url" --index k --retriever hybrid
for row in "no_text 3 without its text" "missing 5 status 404" "401 5 refuses the credentials" \
    "stranger 3 was not made by index"; do
    start "${row%% *}"
    row=${row#* }
    asks "${row%% *}" "${row#* }" --index k --url "$url" --auth_file "$dir/auth"
done

# https: openssl's own server, which answers with a page about itself, so that "is this a search
# cluster?" means that the connection stood.
certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$2" -addext "$3" \
        -keyout "$dir/$1.key" -out "$dir/$1.pem" 2>/dev/null || exit 3
    chmod 600 "$dir/$1.key"
}
tls() {
    [ -z "$running" ] || { kill "$running"; wait "$running"; } 2>/dev/null
    : >"$dir/tls"
    openssl s_server -www -accept 127.0.0.1:0 "$@" >"$dir/tls" 2>&1 &
    running=$!
    wait_for 10 grep -q ACCEPT "$dir/tls"
    url=https://127.0.0.1:$(sed -n 's/^ACCEPT.*:\([0-9]*\).*/\1/p' "$dir/tls")
}
if command -v openssl >/dev/null 2>&1; then
    certificate own cluster subjectAltName=IP:127.0.0.1
    certificate other cluster subjectAltName=DNS:elsewhere
    certificate client client basicConstraints=CA:TRUE
    tls -cert "$dir/own.pem" -key "$dir/own.key"
    search 3 'is this a search cluster' --url "$url" --ca_cert "$dir/own.pem" \
        --auth_file "$dir/auth"
    search 5 'certificate' --url "$url" --auth_file "$dir/auth"
    search 5 'certificate' --url "$url" --ca_cert "$dir/other.pem"
    search 5 "$dir/none.pem" --url "$url" --ca_cert "$dir/none.pem"
    tls -cert "$dir/other.pem" -key "$dir/other.key"
    search 5 '127.0.0.1' --url "$url" --ca_cert "$dir/other.pem"
    tls -cert "$dir/own.pem" -key "$dir/own.key" -CAfile "$dir/client.pem" -Verify 1 \
        -verify_return_error
    search 5 "$url" --url "$url" --ca_cert "$dir/own.pem"
    search 3 'is this a search cluster' --url "$url" --ca_cert "$dir/own.pem" \
        --client_cert "$dir/client.pem" --client_key "$dir/client.key"
    search 2 'of no certificate' --url "$url" --client_key "$dir/client.key"
    chmod 644 "$dir/client.key"
    search 2 'expected mode 0600' --url "$url" --client_cert "$dir/client.pem" \
        --client_key "$dir/client.key"
else
    skip "no openssl: a cluster behind https"
fi
if grep -q secret7 "$dir/all"; then bad "a credential: $(grep secret7 "$dir/all")"; else ok; fi
end
