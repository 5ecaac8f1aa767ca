#!/bin/sh
# index, search, ask and serve --engine against a cluster that misbehaves as it is told, which is
# tests/support/bad_server.c: each ends with its exit code and one line, serve goes on, and no
# credential is in any.  Where it behaves the rankings are those of a folder, by words, by vectors,
# fused and reranked; tests/peers/engine_node.py holds those of a real node.  Run from the
# repository root after ./build.sh.
#
# MRC_ENGINE is a folder with another build of the programs, as one with a sanitizer; MRC_UNDER is a
# command that index, search and ask run under, as `valgrind -q --error-exitcode=99`.
. "$(dirname "$0")/../lib.sh"
begin
bin=${MRC_ENGINE:-build} under=${MRC_UNDER:-}
printf '1\ta b\n2\tb c\n3\tc d\n' >"$dir/p.tsv"
printf '{"id": "q", "question": "a"}\n' >"$dir/q.jsonl"
if "$bin/index" --passages "$dir/p.tsv" --analyzer whitespace --output x --engine elasticsearch \
    2>&1 | grep -q 'no libcurl'; then
    skip "this build has no libcurl: a search cluster in place of an index"
    end
fi
$CC -std=c11 -O0 -o "$dir/server" tests/support/bad_server.c -lm || exit 3

# start MODE: the server, its address in $url.
start() {
    # shellcheck disable=SC2086
    [ -z "$running" ] || kill $running
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
    # shellcheck disable=SC2086
    gives "$code" "$text" $under "$bin/$program" "$@" --engine elasticsearch
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
for nowhere in http:// https://:9200 http:///k http://127.0.0.1:1,https://; do
    index 2 'and a host' --url $nowhere
done
for program in search "index --analyzer whitespace --output k --passages $dir/p.tsv"; do
    # shellcheck disable=SC2086
    gives 2 ': --url is of a cluster' $under "$bin/"$program --url http://127.0.0.1:1 \
        $([ "$program" = search ] && echo --index k --queries "$dir/q.jsonl")
done
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
search 0 'q Q0 a 1 1.5 mrc' --url "http://127.0.0.1:1,$url"     # the first is away
start uuid
search 0 'q Q0 a 1 1.5 mrc' --url "$url,$url"
first=$running running= one=$url
start uuid
search 3 "is another cluster than $one (found cluster_uuid u" --url "$one,$url"
running="$first $running"
start good
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
    "items_429 0 3 passages in k-" "items_409 0 3 passages in k-" "items_storm 5 accepted nothing" \
    "items_short 3 answers for 1" \
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
search 2 'has no token rows' --url "$url" --retriever colbert
search 3 'k: has no vectors' --url "$url" --retriever dense
start good
search 3 'has words only' --url "$url" --retriever hybrid
# ask reads the passages that the cluster finds, as it would those of a folder.
build/train --config_name data/config.json --tokenizer_name data --train_file data/train.jsonl \
    --output_dir "$dir/model" --head linear --max_steps 1 --max_train_samples 8 >/dev/null 2>&1 \
    || bad "no model to ask"
printf '{"id": "a", "title": "T", "text": "Anna lives in Oslo."}\n' >"$dir/a.jsonl"
"$bin/index" --passages "$dir/a.jsonl" --analyzer whitespace --output "$dir/local" 2>/dev/null \
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
"$bin/ask" --model_name_or_path "$dir/model" --question 'Where does Anna live' --json \
    --index "$dir/local" 2>/dev/null | read_answers >"$dir/ours"
cmp -s "$dir/ours" "$dir/theirs" && ok || bad "ask: other answers: $(cat "$dir/ours" "$dir/theirs")"
asks 2 'of which index' --url "$url" --context README.md
asks 2 'has no token rows' --url "$url" --index k --retriever colbert
for row in "no_text 3 without its text" "missing 5 status 404" "401 5 refuses the credentials" \
    "stranger 3 was not made by index"; do
    start "${row%% *}"
    row=${row#* }
    asks "${row%% *}" "${row#* }" --index k --url "$url" --auth_file "$dir/auth"
done

#---------------------------------------------------------------------------------------------------
# A cluster that behaves: what is found there is what is found in a folder
#---------------------------------------------------------------------------------------------------
tiny="--config_name data/config.json --tokenizer_name data --train_file data/train.jsonl
      --per_device_train_batch_size 4 --max_steps 1 --seed 1"
# shellcheck disable=SC2086
for task in biencoder cross; do
    build/train --task $task $tiny --output_dir "$dir/$task" >/dev/null 2>&1 || bad "no $task"
done
sed -n '1~8p' data/validation.jsonl | head -n 40 | awk '{ sub(/"id": *"[^"]*"/, "\"id\": \"p" NR "\""); print }' \
    >"$dir/many.jsonl"
words="--passages $dir/many.jsonl --unique --analyzer korean"
# shellcheck disable=SC2086
"$bin/index" $words --output "$dir/folder" --model_name_or_path "$dir/biencoder" 2>/dev/null \
    || bad "no folder"
# ranks NAME ARGUMENTS..: queries and passages of search's run, in order, in $dir/NAME.
ranks() {
    name=$1
    shift
    run "$bin/search" --queries "$dir/many.jsonl" --top_k 5 "$@"
    cat "$dir/err" >>"$dir/all"
    [ $code = 0 ] && ok || { bad "search $*"; shows; }
    cut -d' ' -f1,3,4 "$dir/out" >"$dir/$name"
}
# alike FLAGS..: the cluster at $url ranks as the folder does.
alike() {
    ranks folder.run --index "$dir/folder" --method elasticsearch "$@"
    cut -d' ' -f5 "$dir/out" >"$dir/folder.scores"
    ranks cluster.run --index k --engine "$engine" --url "$url" "$@"
    cut -d' ' -f5 "$dir/out" >"$dir/cluster.scores"
    case $* in
    *dense*|*hybrid*)           # a folder sums in 32 bits: nearly equal ones may change places
        paste -d' ' "$dir/folder.run" "$dir/folder.scores" "$dir/cluster.run" "$dir/cluster.scores" \
            | awk '{ d = $4 - $8; n++; moved += $2 != $6 }
                   $1 != $5 || $3 != $7 || d > 1e-4 || d < -1e-4 { wrong++ }
                   END { exit wrong > 0 || n < 100 || moved * 20 > n }' && ok \
            || bad "$*: $(paste "$dir/folder.scores" "$dir/cluster.scores" | head -n 5)" ;;
    *)  [ -s "$dir/folder.run" ] && same "$dir/folder.run" "$dir/cluster.run" ;;
    esac
}
for mode in es7 es8 os2; do
    start $mode
    engine=elasticsearch graph=--graph
    [ $mode != os2 ] || engine=opensearch
    [ $mode != es7 ] || graph=
    # shellcheck disable=SC2086
    gives 0 ' passages in k-' "$bin/index" $words --output k --engine $engine --url "$url" $graph \
        --model_name_or_path "$dir/biencoder"
    alike --retriever dense
    alike --retriever hybrid
    [ $mode != es8 ] || alike --retriever dense --exact
    if [ $mode = es7 ]; then
        alike
        alike --retriever bm25 --reranker "$dir/cross" --rerank_top_k 3
        ranks folder.run --index "$dir/folder" --method elasticsearch
        ranks cluster.run --index k --engine $engine --url "$url" --search_template mine
        same "$dir/folder.run" "$dir/cluster.run"
        # What is there is not sent again, and another model is another index.
        # shellcheck disable=SC2086
        gives 0 ', 0 sent in' "$bin/index" $words --output k --engine $engine --url "$url" --resume \
            --model_name_or_path "$dir/biencoder"
        gives 3 'is not the model that made' "$bin/search" --queries "$dir/q.jsonl" --index k \
            --engine $engine --url "$url" --retriever dense --retrieval_model "$dir/cross"
        # shellcheck disable=SC2086
        gives 3 '--graph: this version has none' "$bin/index" $words --output k --engine $engine \
            --url "$url" --graph --model_name_or_path "$dir/biencoder"
    fi
done
start good
index 3 'this version scores no vectors (found 7.0' --url "$url" --model_name_or_path "$dir/biencoder"
index 3 'expected a bi-encoder' --url "$url" --model_name_or_path "$dir/cross"
index 2 'has no token rows' --url "$url" --model_name_or_path "$dir/biencoder" --tokens
index 2 'a cluster is sent f32' --url "$url" --model_name_or_path "$dir/biencoder" --form int8
search 2 'one query for one stage' --url "$url" --retriever hybrid --search_template mine
engine 0 '3 passages in k-' index --passages "$dir/p.tsv" --analyzer nori --output k --url "$url"
start no_nori
engine 3 'expected the plug-in analysis-nori there, or --analyzer korean or cjk' index \
    --passages "$dir/p.tsv" --analyzer nori --output k --url "$url"
gives 2 "nori is a cluster's own" "$bin/index" --passages "$dir/p.tsv" --analyzer nori --output "$dir/n"

#---------------------------------------------------------------------------------------------------
# serve: answers are ask's, and a cluster that is away does not end it
#---------------------------------------------------------------------------------------------------
# posts STATUS TEXT JSON: POST /v1/answer has that status and TEXT in its body.
posts() {
    "$dir/client" --port "$port" --post "$3" --code "$1" --holds "$2" --requests 1 >"$dir/posted" 2>&1
    grep -q ' 0 failed$' "$dir/posted" && ok \
        || bad "serve: $3: expected $1 and '$2': $(head -c 600 "$dir/posted")"
}
health() {
    "$dir/client" --port "$port" --get /healthz >"$dir/posted" 2>&1
    grep -qF -e "$1" "$dir/posted"
}
if [ ! -x "$bin/serve" ]; then
    skip "no libmicrohttpd: serve over a cluster"
else
    # shellcheck disable=SC2086
    $CC -std=c11 -O0 tests/support/serve_client.c "$bin/mrc.o" -o "$dir/client" -lm -lpthread || exit 3
    start es7
    # shellcheck disable=SC2086
    "$bin/index" $words --output k --engine elasticsearch --url "$url" --model_name_or_path \
        "$dir/biencoder" 2>/dev/null || bad "no index"
    cluster=$running
    head -n 8 "$dir/many.jsonl" | sed 's/.*"question": *"\([^"\\]*\)".*/\1/' >"$dir/lines"
    for flags in "" "--retriever hybrid --reranker $dir/cross"; do
        # shellcheck disable=SC2086
        serves "$bin/serve" --model_name_or_path "$dir/model" --index k --engine elasticsearch --top_k 3 \
            --url "$url" --retry_seconds 0 --retrieval_weight 0 $flags && ok || bad "serve: $(cat "$dir/err")"
        running="$cluster $server"
        for from in "--index $dir/folder --method elasticsearch" "--index k --engine elasticsearch --url $url"; do
            # shellcheck disable=SC2086
            mv "$dir/told" "$dir/ours" 2>/dev/null
            "$bin/ask" --model_name_or_path "$dir/model" --json --n_answers 5 --top_k 3 \
                --retrieval_weight 0 $from $flags <"$dir/lines" >"$dir/told" 2>>"$dir/all"
        done
        for file in ours told; do       # but for what the stages say
            sed -E 's/, "(retrieval_score|bm25|dense|fused)": [^,}]*//g' "$dir/$file" >"$dir/$file.bare"
        done
        [ -s "$dir/ours.bare" ] && same "$dir/ours.bare" "$dir/told.bare"
        "$dir/client" --port "$port" --asked "$dir/told" >"$dir/posted" 2>&1
        grep -q ' 0 failed$' "$dir/posted" && ok \
            || bad "serve: other answers than ask's: $(head -n 5 "$dir/posted")"
        [ -n "$flags" ] || { kill "$server" && wait "$server"; running=$cluster; }
    done
    health '"cluster": "ok"' && ok || bad "health: $(cat "$dir/posted")"
    kill "$cluster"
    running=$server
    posts 502 'the search cluster does not answer' '{"question": "Where?"}'
    posts 200 '"answer": ' '{"question": "Where?", "context": "Anna lives in Oslo."}'
    health '"cluster": "away"' && ok || bad "health: $(cat "$dir/posted")"
    # It is there again, at the same port.
    "$dir/server" "$dir/port" good "${url##*:}" &
    running="$server $!"
    wait_for 30 health '"cluster": "ok"' && ok || bad "health: the cluster is back"
    posts 200 '"answer": ' '{"question": "Where?"}'
    kill "$server"
    wait "$server" && ok || bad "serve ends with $?"
    cat "$dir/err" "$dir/posted" >>"$dir/all"
    grep -q "^serve: http://127.0.0.1:.*: " "$dir/err" && ok || bad "serve does not say why"
    for row in "late 504 did not answer in time" "clauses 502 cannot answer this" \
        "no_text 502 cannot answer this" "500 502 does not answer"; do
        [ -z "${running#* }" ] || kill "${running#* }"
        running=
        start "${row%% *}"
        cluster=$running row=${row#* }
        serves "$bin/serve" --model_name_or_path "$dir/model" --index k --engine elasticsearch --top_k 1 \
            --url "$url" --retry_seconds 0 --auth_file "$dir/auth" || bad "serve: $(cat "$dir/err")"
        running="$server $cluster"
        posts "${row%% *}" "${row#* }" '{"question": "Where?"}'
        posts 200 '"answer": ' '{"question": "Where?", "context": "Anna lives in Oslo."}'
        kill "$server"
        wait "$server" && ok || bad "serve ends with $?"
        cat "$dir/err" >>"$dir/all"
    done
    [ -z "${running#* }" ] || kill "${running#* }"
    running=
    fails 2 'of which index' "$bin/serve" --model_name_or_path "$dir/model" --engine elasticsearch --url x
    fails 5 '127.0.0.1:1: ' "$bin/serve" --model_name_or_path "$dir/model" --engine elasticsearch --index k \
        --url http://127.0.0.1:1 --retry_seconds 0 --port 0
fi

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
