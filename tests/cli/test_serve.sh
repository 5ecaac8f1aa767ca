#!/bin/sh
# serve from outside: answers equal predict's and ask's to the byte, malformed requests, a full
# queue, the end; the page in a headless browser.  All over the loopback interface.
#
# MRC_SERVE_SECONDS=60 adds 64 clients for as long, during which memory must not grow.  MRC_SERVE is
# a folder with another build of serve, predict and ask, as one with a sanitizer.
# Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

programs=${MRC_SERVE:-build}
serve=$programs/serve
if [ ! -x "$serve" ]; then
    skip "no libmicrohttpd: build/serve is not built"
    end
fi
model=$dir/model
build/train --config_name data/config.json --tokenizer_name data --train_file data/train.jsonl \
    --validation_file data/question.jsonl --output_dir "$model" --max_steps 250 --seed 1 \
    --head bilstm --num_rnn_layers 1 --rnn_hidden_size 64 --per_device_train_batch_size 8 \
    --learning_rate 1e-3 --warmup_steps 0 >"$dir/log" 2>&1 || bad "train: $(tail -n 2 "$dir/log")"
# shellcheck disable=SC2086
$CC -std=c11 -O1 tests/support/serve_client.c build/mrc.o -o "$dir/client" -lm -lpthread \
    >"$dir/log" 2>&1 || bad "serve_client.c: $(head -n 3 "$dir/log")"
head -n 100 data/validation.jsonl >"$dir/questions.jsonl"
awk '{ sub(/"id": *"[^"]*"/, "\"id\": \"p" NR "\""); print }' "$dir/questions.jsonl" \
    >"$dir/passages.jsonl"
build/index --passages "$dir/passages.jsonl" --unique --analyzer korean --output "$dir/index" \
    >"$dir/log" 2>&1 || bad "index: $(cat "$dir/log")"

# start FLAGS...: a service at a port of its own choice, which becomes $port.
start() {
    serves "$serve" --model_name_or_path "$model" "$@" && ok || { bad "serve $*: $(cat "$dir/err")"; end; }
}
# stop: it ends when it is told, with 0.
stop() {
    kill "$server"
    wait "$server"
    code=$?
    running=
    [ $code = 0 ] && ok || { bad "the service ends with $code"; cat "$dir/err"; }
}
# client WHAT FLAGS...: its checks, added to these.
client() {
    what=$1
    shift
    "$dir/client" --port "$port" "$@" >"$dir/checks" 2>&1
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$dir/checks")
    counts=${counts:-0 1}
    passed=$((passed + ${counts% *}))
    [ "${counts#* }" = 0 ] || bad "$what: $(grep -v passed "$dir/checks" | head -n 10)"
}
# gets PATH TEXT: the response there, headers and all, holds TEXT.
gets() {
    "$dir/client" --port "$port" --get "$1" >"$dir/got" 2>&1
    grep -qF -e "$2" "$dir/got" && ok || { bad "$1 lacks '$2'"; head -n 20 "$dir/got"; }
}
# predict_to NAME FLAGS...: what the answers must be.
predict_to() {
    to=$dir/$1
    shift
    "$programs/predict" --model_name_or_path "$model" --test_file "$dir/questions.jsonl" \
        --output_dir "$to" "$@" 2>"$dir/log" || bad "predict: $(cat "$dir/log")"
}

#---------------------------------------------------------------------------------------------------
# Answers
#---------------------------------------------------------------------------------------------------
predict_to answers
start --index "$dir/index"
for flags in "--clients 1" "--clients 8" "--clients 4 --batch 10"; do
    # shellcheck disable=SC2086
    client "$flags" --questions "$dir/questions.jsonl" --answers "$dir/answers" --requests 50 $flags
done
sed -n 's/.*"question": *"\([^"\\]*\)".*/\1/p' "$dir/questions.jsonl" | head -n 10 >"$dir/lines"
echo "qqqqqq zzzzzz" >>"$dir/lines"
"$programs/ask" --model_name_or_path "$model" --index "$dir/index" --json --n_answers 5 <"$dir/lines" \
    >"$dir/asked" 2>"$dir/log" || bad "ask: $(cat "$dir/log")"
client "ask's answers" --asked "$dir/asked"

#---------------------------------------------------------------------------------------------------
# What is malformed, and what else there is
#---------------------------------------------------------------------------------------------------
client "malformed requests" --malformed --index
gets /healthz '{"status": "ok", "passages": '
gets /healthz 'Content-Type: application/json'
gets / "default-src 'none'; script-src 'nonce-"
gets / 'X-Content-Type-Options: nosniff'
nonce=$(sed -n "s/.*script-src 'nonce-\([0-9a-f]*\)'.*/\1/p" "$dir/got")
[ "$(grep -c "nonce=\"$nonce\"" "$dir/got")" = 2 ] && ok || bad "the page's nonce"
grep -v 'www.w3.org/2000/svg' "$dir/got" | grep -qE 'https?://|src=|@import' \
    && bad "the page needs a network" || ok
grep -qi 'access-control' "$dir/got" && bad "other sites are let in" || ok
gets /metrics 'mrc_requests_total{path="/v1/answer",code="200"} '
gets /metrics 'mrc_requests_total{path="/v1/answer",code="413"} '
gets /metrics 'mrc_request_seconds_bucket{le="+Inf"} '
gets /metrics 'mrc_batch_passages_count '
# Every figure has its name explained.
sed -n 's/^\(mrc[a-z_]*\|process[a-z_]*\)[ {].*/\1/p' "$dir/got" \
    | sed 's/_bucket$//; s/_seconds_sum$/_seconds/; s/_seconds_count$/_seconds/
           s/_passages_sum$/_passages/; s/_passages_count$/_passages/' | sort -u >"$dir/names"
while read -r name; do
    grep -q "^# TYPE $name " "$dir/got" && ok || bad "/metrics does not explain $name"
done <"$dir/names"
[ "$(wc -l <"$dir/out")" -eq 1 ] && ok || bad "stdout has more than the address"

#---------------------------------------------------------------------------------------------------
# The page
#---------------------------------------------------------------------------------------------------
for browser in chromium chromium-browser google-chrome; do
    command -v $browser >/dev/null && break
    browser=
done
# page QUERY: the page after it has asked, into $dir/dom.
page() {
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$dir/browser" \
        --virtual-time-budget=10000 --dump-dom "http://127.0.0.1:$port/?$1" \
        >"$dir/dom" 2>"$dir/log"
}
# page_shows TEXT: it stands in that page.
page_shows() { grep -qF -e "$1" "$dir/dom" && ok || bad "the page does not show '$1'"; }
if [ -z "$browser" ]; then
    skip "no Chromium: the page"
else
    # Markup in a passage stays text.
    sed 's/"question": *"[^"]*"/"question": "신다린은 어디에서 성장했는가?"/
         s/"context": *"/&<b>x\&amp;<\/b> /' data/question.jsonl >"$dir/one.jsonl"
    "$programs/predict" --model_name_or_path "$model" --test_file "$dir/one.jsonl" \
        --output_dir "$dir/one" 2>"$dir/log" || bad "predict: $(cat "$dir/log")"
    # %XX for a query; the answer out of \uXXXX.
    coded=$(sed -n 's/.*"context": *"\([^"]*\)".*/\1/p' "$dir/one.jsonl" | tr -d '\n' \
        | od -An -v -tx1 | tr -d '\n' | sed 's/ /%/g')
    question=$(printf '신다린은 어디에서 성장했는가?' | od -An -v -tx1 | tr -d '\n' | sed 's/ /%/g')
    page "lang=en&context=$coded&q=$question&auto"
    answer=$("$dir/client" --port "$port" --answer_of "$dir/one/predictions.json")
    [ -n "$answer" ] && ok || bad "no answer to look for"
    page_shows "<mark>$answer</mark>"
    page_shows "<p id=\"answer\">$answer <small>"
    page_shows '&lt;b&gt;x&amp;amp;&lt;/b&gt; '
    page_shows 'aria-pressed="true"><span>'
    # The bars: one word at least has more than nothing, and heights agree with what is read out.
    tr '>' '\n' <"$dir/dom" | sed -n 's/.*aria-label="\([^"]*: starts [^"]*\)".*/\1/p' >"$dir/bars"
    [ "$(wc -l <"$dir/bars")" -ge 10 ] && ok || bad "the page has $(wc -l <"$dir/bars") bars"
    grep -q ': starts [1-9][0-9.]*%' "$dir/bars" && ok || bad "no word has a start score"
    tr '>' '\n' <"$dir/dom" | awk '
        match($0, /: starts [0-9.]+%/) { says = substr($0, RSTART + 9, RLENGTH - 10) + 0; next }
        /<rect class="start"/ && says != "" {
            match($0, / height="[0-9.e-]+"/)
            drawn = substr($0, RSTART + 9, RLENGTH - 10) / 1.5
            if (drawn - says > 0.06 || says - drawn > 0.06) wrong++
            n++; says = ""
        }
        END { exit wrong > 0 || n == 0 }' && ok || bad "bars are not as high as they say"
    page "lang=ko&q=$(printf '오지우의 고향' | od -An -v -tx1 | tr -d '\n' | sed 's/ /%/g')&auto"
    page_shows '<html lang="ko">'
    page_shows '함께 읽은 다른 지문'
    page_shows '답이 여기서 시작할 확률'
    page "lang=en&context=x&q=&auto"
    page_shows 'Type a question first.'
    page "lang=en&context=x&q=$(awk 'BEGIN { while (n++ < 1100) printf "a" }')&auto"
    page_shows 'The service has refused this: question is too long (found 1100 characters, expected'
fi

#---------------------------------------------------------------------------------------------------
# Slow clients, many clients, the end, a full queue, questions without an answer
#---------------------------------------------------------------------------------------------------
if [ -n "$MRC_SERVE_SECONDS" ]; then
    for seconds in 10 "$MRC_SERVE_SECONDS"; do
        client "64 clients" --questions "$dir/questions.jsonl" --answers "$dir/answers" \
            --clients 64 --requests 1000000 --for_seconds "$seconds"
    done
    sed -n '/^{/p' "$dir/checks"
    sed -n 's/.*"resident_mib": \[\(.*\), \(.*\)\]}/\1 \2/p' "$dir/checks" \
        | awk '{ exit !($1 > 0 && $2 < $1 + 4) }' && ok || bad "memory grows"
fi
# Told to end amid a request it finishes that.
"$dir/client" --port "$port" --questions "$dir/questions.jsonl" --answers "$dir/answers" \
    --requests 1 --batch 60 >"$dir/last" 2>&1 &
last=$! tries=0
while [ $tries -lt 200 ] && kill -0 $last 2>/dev/null; do
    "$dir/client" --port "$port" --get /metrics >"$dir/got" 2>&1
    grep -q '^mrc_requests_active [2-9]' "$dir/got" && break
    tries=$((tries + 1))
done
stop
wait $last && ok || bad "the last request: $(tail -n 3 "$dir/last")"
"$dir/client" --port "$port" --get /healthz >"$dir/log" 2>&1 && bad "it still listens" || ok
[ -s "$dir/err" ] && grep -qv -e '^serve: ending' -e ': backend: ' \
    -e ': as in training: ' "$dir/err" && bad "stderr: $(cat "$dir/err")" || ok

start --timeout 1
client "slow clients" --slow
stop
start --max_batch 4 --max_queue 4
client "a full queue" --questions "$dir/questions.jsonl" --answers "$dir/answers" --crowded \
    --clients 16 --batch 4 --requests 20
stop
# An index that is damaged in its passages: who needs those is told, others in the same pass have
# their answers.
awk '{ for (i = 0; i < 6; i++) { x = $0; sub(/"id": *"[^"]*"/, "\"id\": \"p" NR "-" i "\"", x)
           sub(/"context": *"/, "&" i NR " ", x); print x } }' "$dir/questions.jsonl" >"$dir/many.jsonl"
build/index --passages "$dir/many.jsonl" --analyzer whitespace --output "$dir/damaged" \
    >"$dir/log" 2>&1 || bad "index: $(cat "$dir/log")"
place=$(LC_ALL=C grep -abo p60-0 "$dir/damaged/index.bin" | tail -n 1 | sed 's/:.*//')
printf 'x' | dd of="$dir/damaged/index.bin" bs=1 seek="${place:-0}" conv=notrunc 2>/dev/null
start --index "$dir/damaged"
subject=$(sed -n '60s/.*"title": *"\([^"]*\)".*/\1/p' "$dir/questions.jsonl")
"$dir/client" --port "$port" --requests 50 --code 500 \
    --post "{\"question\": \"${subject}의 ${subject}는 ${subject}은\", \"top_k\": 60}" >"$dir/log" 2>&1 &
other=$!
client "beside a damaged index" --questions "$dir/questions.jsonl" --answers "$dir/answers" \
    --clients 4 --requests 25
wait $other && ok || bad "a damaged index: $(head -n 3 "$dir/log")"
grep -q 'block .* is damaged' "$dir/err" && ok || bad "the log does not say why"
stop
# The same where a reranker reads the passages: a request of its own fails, and the service goes on.
build/train --task cross --config_name data/config.json --tokenizer_name data \
    --train_file data/train.jsonl --per_device_train_batch_size 4 --max_steps 1 --seed 1 \
    --output_dir "$dir/cross" >"$dir/log" 2>&1 || bad "train: $(tail -n 1 "$dir/log")"
start --index "$dir/damaged" --reranker "$dir/cross" --rerank_top_k 60
for request in 1 2; do
    "$dir/client" --port "$port" --requests 1 --code 500 \
        --post "{\"question\": \"${subject}의 ${subject}는 ${subject}은\", \"top_k\": 60}" \
        >"$dir/log" 2>&1 && ok || bad "reranking a damaged index: $(head -n 3 "$dir/log")"
done
grep -q 'block .* is damaged' "$dir/err" && ok || bad "the log does not say why: $(cat "$dir/err")"
stop
predict_to negative --version_2_with_negative --null_score_diff_threshold -3
start --version_2_with_negative --null_score_diff_threshold -3 --host localhost
client "no answers" --questions "$dir/questions.jsonl" --answers "$dir/negative" --requests 100
fails 5 "cannot listen at localhost port $port" "$serve" --model_name_or_path "$model" --host localhost \
    --port "$port"
stop
# Weights of fewer bits: what predict answers with them.
for dtype in int8 bf16; do
    predict_to $dtype --dtype $dtype
    start --dtype $dtype
    client "--dtype $dtype" --questions "$dir/questions.jsonl" --answers "$dir/$dtype" \
        --clients 2 --requests 50
    stop
done
fails 2 "--int8_keep: no such layer (found middle" "$serve" --model_name_or_path "$model" --port 0 \
    --dtype int8 --int8_keep middle
fails 2 "--int8_keep: needs --dtype int8" "$serve" --model_name_or_path "$model" --port 0 --int8_keep down
fails 2 "--model_name_or_path is missing" "$serve" --port 0
fails 2 "--port: not a value of this flag (found 65536" "$serve" --model_name_or_path "$model" --port 65536
fails 2 "--max_queue: a request may have more" "$serve" --model_name_or_path "$model" --max_queue 8
fails 2 "--top_k: more than a request may have" "$serve" --model_name_or_path "$model" --top_k 100 \
    --index "$dir/index"
fails 3 "nowhere" "$serve" --model_name_or_path "$dir/nowhere" --port 0
fails 3 "--host: " "$serve" --model_name_or_path "$model" --host "no such host" --port 0

end
