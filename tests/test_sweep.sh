#!/bin/sh
# sweep and report from outside: a grid that is killed and goes on gives what one that was not gives;
# the report names what differs, stands alone and is well-formed.  Run from the repository root after
# ./build.sh; the last line is the count.
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0 skipped=0

ok()   { passed=$((passed + 1)); }
bad()  { failed=$((failed + 1)); echo "FAIL $*"; }
same() { if cmp -s "$1" "$2"; then ok; else bad "$1 and $2 differ"; fi; }
fails() {                               # CODE TEXT COMMAND..: one line that has TEXT
    code=$1 text=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got = "$code" ] && [ "$(wc -l <"$dir/err")" -eq 1 ] && grep -q "$text" "$dir/err"; then ok
    else bad "$*: exit code $got, expected $code and \"$text\""; cat "$dir/err"; fi
}

head -n 300 data/train.jsonl >"$dir/train.jsonl"
head -n 40 data/validation.jsonl >"$dir/dev.jsonl"
cat >"$dir/grid.yaml" <<END
base:
  config_name: data/config.json
  tokenizer_name: data
  train_file: $dir/train.jsonl
  validation_file: $dir/dev.jsonl
  rnn_hidden_size: 64
  per_device_train_batch_size: 4
  max_steps: 60
  logging_steps: 10
  eval_steps: 30
  save_steps: 5
  seed: 5
grid:
  head: [linear, bilstm]
  learning_rate: [0.0001, 0.001]
END

# In one go, two at a time; then one at a time, stopped in the middle.
if build/sweep "$dir/grid.yaml" --output_dir "$dir/whole" --jobs 2 >"$dir/table" 2>"$dir/err"; then ok
else bad "sweep"; cat "$dir/err"; fi
if [ "$(wc -l <"$dir/table")" -eq 5 ] && head -n 1 "$dir/table" | tr '\t' ' ' | grep -q '^head learning_rate eval_exact_match '
then ok; else bad "the table of a sweep"; cat "$dir/table"; fi
stopped=0
for signal in TERM KILL; do
    build/sweep "$dir/grid.yaml" --output_dir "$dir/parts" >"$dir/out" 2>"$dir/err" &
    pid=$!
    tries=0                             # until some run has saved something, and it is not the last
    while [ $tries -lt 100 ] && kill -0 $pid 2>/dev/null; do
        set -- "$dir"/parts/*/checkpoint-*
        [ -e "$1" ] && [ ! -e "$dir/parts/head=bilstm,learning_rate=0.001" ] && break
        sleep 0.05
        tries=$((tries + 1))
    done
    kill -$signal $pid 2>/dev/null && stopped=$((stopped + 1))
    wait $pid
    code=$?
    [ $signal = KILL ] || [ $code = 7 ] || [ $code = 0 ] || bad "stopped by $signal: exit code $code"
    # A killed sweep leaves its run alone; the next one may come only when that has ended.
    while pgrep -f "output_dir=$dir/parts" >/dev/null 2>&1; do sleep 0.1; done
done
[ $stopped -gt 0 ] || bad "no sweep was stopped"
if build/sweep "$dir/grid.yaml" --output_dir "$dir/parts" --json >"$dir/json" 2>"$dir/err"; then ok
else bad "the sweep that goes on"; cat "$dir/err"; fi
[ "$(grep -c '"exit_code": 0, "head": "' "$dir/json")" -eq 4 ] && ok || bad "four objects"
for run in "$dir"/whole/*/; do
    name=$(basename "$run")
    for file in model.safetensors log.jsonl; do same "$run/$file" "$dir/parts/$name/$file"; done
done

# The report: nothing from outside, one row a run, the setting that mattered, scores over words.
if build/report "$dir/whole" --output "$dir/r.html" --test_file "$dir/dev.jsonl" --examples 2 \
    >"$dir/out" 2>"$dir/err"; then ok; else bad "report"; cat "$dir/err"; fi
for text in '<h2>Runs</h2>' '>Which setting mattered<' '<h3>head <span' '<h3>learning_rate <span' \
    '<figcaption>eval/exact_match<' '<h2>Lengths</h2>' 'class="words"'; do
    if grep -qF "$text" "$dir/r.html"; then ok; else bad "the report lacks $text"; fi
done
if grep -qE 'https?://|<script|src=|@import' "$dir/r.html"; then bad "the report needs a network"
else ok; fi
if [ "$(grep -c '<polyline class="c3"' "$dir/r.html")" -ge 5 ]; then ok
else bad "a curve of each run in each chart"; fi
if awk '{ a += gsub(/<svg/, ""); b += gsub(/<\/svg>/, ""); c += gsub(/<span/, "")
          d += gsub(/<\/span>/, ""); e += gsub(/<table/, ""); f += gsub(/<\/table>/, "") }
    END { exit !(a == b && c == d && e == f && a > 5) }' "$dir/r.html"; then ok
else bad "tags of the report are not closed"; fi
# What a file says is text, never markup.
sed 's/"question": "/"question": "<b>\&/' "$dir/dev.jsonl" >"$dir/markup.jsonl"
build/report "$dir/whole" --output "$dir/m.html" --test_file "$dir/markup.jsonl" --examples 1 \
    >/dev/null 2>&1
if grep -q '&lt;b&gt;&amp;' "$dir/m.html" && ! grep -q '<h3><b>' "$dir/m.html"; then ok
else bad "markup in a question"; fi

fails 3 'no run here' build/report tests --output "$dir/n.html"
fails 3 'no run has logged it' build/report "$dir/whole" --output "$dir/n.html" --metric eval/none
fails 3 'no question with this id' build/report "$dir/whole" --output "$dir/n.html" \
    --test_file "$dir/dev.jsonl" --ids nobody
[ ! -e "$dir/n.html" ] && ok || bad "a report that failed is there"
bad_grid() {                            # TEXT OF FILE, MESSAGE
    printf '%b' "$1" >"$dir/bad.yaml"
    fails 3 "$2" build/sweep "$dir/bad.yaml" --output_dir "$dir/none"
}
bad_grid 'base:\n  seed: 1\n' 'no "grid"'
bad_grid 'grid:\n  seed: 1\n' 'expected a list of values'
bad_grid 'grid:\n  seed: [1, [2]]\n' 'not a value for a flag'
bad_grid 'grid:\n  seed: [1, 1]\n' 'two runs of the grid have one name'
bad_grid 'grid:\n  output_dir: [a]\n' "the sweep's own"
bad_grid 'base:\n  seed: 1\ngrid:\n  seed: [1, 2]\n' 'in base too'
bad_grid 'grids:\n  seed: [1]\n' 'unknown key (found grids'
bad_grid 'grid:\n  seed: &a [1]\n' 'bad.yaml:2'
# A value that train refuses: the others run, and the sweep says that one did not.
sed 's/\[linear, bilstm\]/[linear, lstm]/; s/max_steps: 60/max_steps: 2/' "$dir/grid.yaml" \
    >"$dir/half.yaml"
build/sweep "$dir/half.yaml" --output_dir "$dir/half" >"$dir/out" 2>"$dir/err"
code=$?
if [ $code = 2 ] && [ -e "$dir/half/head=linear,learning_rate=0.001/model.safetensors" ] \
    && grep -q 'head=lstm,learning_rate=0.001: ended with exit code 2' "$dir/err"; then ok
else bad "a run that is refused: exit code $code"; cat "$dir/err"; fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
