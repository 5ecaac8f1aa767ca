#!/bin/sh
# sweep and report from outside: a grid that is killed and goes on gives what one that was not gives;
# the report names what differs, stands alone and is well-formed.  Run from the repository root after
# ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

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
cp "$dir/table" "$dir/table_whole"
parts_ended() { ! pgrep -f "output_dir=$dir/parts" >/dev/null 2>&1; }
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
    wait_for 60 parts_ended || bad "a run of a stopped sweep does not end"
done
[ $stopped -gt 0 ] || bad "no sweep was stopped"
if build/sweep "$dir/grid.yaml" --output_dir "$dir/parts" --json >"$dir/json" 2>"$dir/err"; then ok
else bad "the sweep that goes on"; cat "$dir/err"; fi
[ "$(grep -c '"exit_code": 0, "head": "' "$dir/json")" -eq 4 ] && ok || bad "four objects"
for run in "$dir"/whole/*/; do
    name=$(basename "$run")
    for file in model.safetensors log.jsonl; do same "$run/$file" "$dir/parts/$name/$file"; done
done

# Flags of train on the command line go over base; what is not its flag is refused.
build/sweep "$dir/grid.yaml" --output_dir "$dir/dry" --dry_run --max-steps 7 --fp16 --report_to a b \
    >"$dir/commands" 2>"$dir/err"
if [ "$(grep -c -e ' train .*--max_steps=7 ' "$dir/commands")" -eq 4 ] \
    && [ "$(grep -c -e '--max_steps=60' "$dir/commands")" -eq 0 ] \
    && [ "$(grep -c -e ' --fp16=true --report_to=a,b ' "$dir/commands")" -eq 4 ]; then ok
else bad "flags of train beside a sweep"; cat "$dir/commands" "$dir/err"; fi
refuses 2 'unknown flag (found --max_step, expected perhaps --max_steps' \
    build/sweep "$dir/grid.yaml" --output_dir "$dir/dry" --max_step 7
refuses 2 "the sweep's own" build/sweep "$dir/grid.yaml" --output_dir "$dir/dry" \
    --resume_from_checkpoint x
refuses 3 'in base or on the command line too' build/sweep "$dir/grid.yaml" --output_dir "$dir/dry" \
    --head linear
[ ! -e "$dir/dry" ] && ok || bad "a sweep that was refused left something"

# Folds: a run for each, their mean and standard deviation, and each row answered by the model that
# has not seen it, as it was measured.
cat >"$dir/folds.yaml" <<END
base:
  config_name: data/config.json
  tokenizer_name: data
  train_file: $dir/few.jsonl
  rnn_hidden_size: 64
  per_device_train_batch_size: 4
  learning_rate: 0.001
  max_steps: 20
  num_folds: 4
grid:
  head: [linear, bilstm]
END
head -n 50 data/train.jsonl >"$dir/few.jsonl"
if build/sweep "$dir/folds.yaml" --output_dir "$dir/folds" --jobs 2 --out_of_fold >"$dir/table" \
    2>"$dir/err"; then ok; else bad "a sweep over folds"; cat "$dir/err"; fi
for head in linear bilstm; do
    cat "$dir/folds/head=$head,fold="?/all_results.json | tr -d ',' >"$dir/results"
    # 50 rows in 4 folds: 13, 13, 12, 12.
    for figure in exact_match f1; do
        awk -v key="\"eval_$figure\":" '$1 == key { x[n++] = $2 } END {
                for (i = 0; i < n; i++) mean += x[i] / n
                for (i = 0; i < n; i++) variance += (x[i] - mean) ^ 2 / n
                printf "%.4f %.4f %d\n", mean, sqrt(variance), n }' "$dir/results" >"$dir/want"
        awk -v f=$figure -v h=$head '$1 == f && $2 == h { print $3, $4, 4 }' "$dir/table" >"$dir/got"
        same "$dir/want" "$dir/got"
    done
    build/evaluate --metric korquad "$dir/few.jsonl" \
        "$dir/folds/out_of_fold,head=$head/predictions.json" >"$dir/score" 2>"$dir/err"
    if grep -q 'no prediction' "$dir/err"; then bad "a row without an answer"; else ok; fi
    want=$(awk '$1 == "\"eval_exact_match\":" { s += $2 * (n++ < 2 ? 13 : 12) }
        END { printf "%.6f", s / 50 }' "$dir/results")
    got=$(sed 's/.*"exact_match": \([0-9.]*\).*/\1/' "$dir/score" | awk '{ printf "%.6f", $1 }')
    if [ "$want" = "$got" ]; then ok; else bad "out of fold: $got, the folds say $want"; fi
done
for text in '"params": [{"head": "linear"}, {"head": "bilstm"}]' '"split3_test_f1": [' \
    '"mean_test_exact_match": [' '"std_test_loss": [' '"rank_test_accuracy": ['; do
    if grep -qF "$text" "$dir/folds/cv_results.json"; then ok; else bad "cv_results.json: $text"; fi
done
refuses 2 'there are no folds' build/sweep "$dir/grid.yaml" --output_dir "$dir/none" --out_of_fold

# The report: nothing from outside, one row a run, the setting that mattered, scores over words.
if build/report "$dir/whole" --output "$dir/r.html" --test_file "$dir/dev.jsonl" --examples 2 \
    >"$dir/out" 2>"$dir/err"; then ok; else bad "report"; cat "$dir/err"; fi
for text in '<h2>Runs</h2>' '>Which setting mattered<' '<figcaption>head <span' '<figcaption>learning_rate <span' \
    '<figcaption>eval/exact_match<' '<h2>Lengths</h2>' 'class="words"'; do
    if grep -qF "$text" "$dir/r.html"; then ok; else bad "the report lacks $text"; fi
done
# Main effects: the gap of the means that the table has, and the root mean square of what is left.
for key in 1 2; do
    want=$(awk -v key=$key 'NR > 1 { n++; x[n] = $3; of[n] = $key; sum[$key] += $3; runs[$key]++ }
        END {
            low = 1e9; high = -1e9
            for (v in sum) {
                mean = sum[v] / runs[v]
                if (mean < low) low = mean
                if (mean > high) high = mean
            }
            for (i = 1; i <= n; i++) rest += (x[i] - sum[of[i]] / runs[of[i]]) ^ 2 / n
            printf "%.4g %.4g", high - low, sqrt(rest)
        }' "$dir/table_whole")
    name=$(awk -v key=$key 'NR == 1 { print $key }' "$dir/table_whole")
    got=$(sed -n "s/^<tr><td>$name<\/td><td class=\"n\">\([^<]*\)<.*<td class=\"n\">\([^<]*\)<.*/\1 \2/p" \
        "$dir/r.html")
    if [ "$want" = "$got" ]; then ok; else bad "main effect of $name: $got, expected $want"; fi
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

refuses 3 'no run here' build/report tests --output "$dir/n.html"
refuses 3 'no run has logged it' build/report "$dir/whole" --output "$dir/n.html" --metric eval/none
fails 3 'no question with this id' build/report "$dir/whole" --output "$dir/n.html" \
    --test_file "$dir/dev.jsonl" --ids nobody
[ ! -e "$dir/n.html" ] && ok || bad "a report that failed is there"
bad_grid() {                            # TEXT OF FILE, MESSAGE
    printf '%b' "$1" >"$dir/bad.yaml"
    refuses 3 "$2" build/sweep "$dir/bad.yaml" --output_dir "$dir/none"
}
bad_grid 'base:\n  seed: 1\n' 'no "grid"'
bad_grid 'grid:\n  seed: 1\n' 'expected a list of values'
bad_grid 'grid:\n  seed: [1, [2]]\n' 'not a value for a flag'
bad_grid 'grid:\n  seed: [1, 1]\n' 'two runs of the grid have one name'
bad_grid 'grid:\n  output_dir: [a]\n' "the sweep's own"
bad_grid 'base:\n  seeed: 1\ngrid:\n  head: [linear]\n' 'found seeed, expected perhaps seed'
bad_grid 'base:\n  lr: 1\ngrid:\n  head: [linear]\n' 'not the name of a flag of train (found lr'
bad_grid 'base:\n  seed: 1\ngrid:\n  seed: [1, 2]\n' 'in base or on the command line too'
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

end
