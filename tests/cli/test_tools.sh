#!/bin/sh
# The programs from outside: flags, messages, exit codes, streams.  First tools/tool.h alone,
# through a probe with one flag of each kind; then every program in build/.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
probe=$dir/probe


# prints TEXT COMMAND...: exit 0, and this is all it prints.
prints() {
    expected=$1
    shift
    run "$@"
    if [ "$code" = 0 ] && [ "$(cat "$dir/out")" = "$expected" ] && [ ! -s "$dir/err" ]; then ok
    else bad "$*: expected '$expected'"; shows; fi
}

#---------------------------------------------------------------------------------------------------
# tool.h
#---------------------------------------------------------------------------------------------------
test_forms() {
    cores=$("$probe" f | sed 's/.* //')
    last="42 $cores"
    rates="5.0000000000000002e-05 0.10000000000000001"
    prints "f - - - -1 384 $rates 0 1 $last" "$probe" f
    prints "f - a=b - -1 384 $rates 1 1 $last" "$probe" --text=a=b --do_eval f
    prints "f - -5 - -1 384 $rates 1 1 $last" "$probe" --text -5 --do_eval true f
    prints "f - - - -1 384 $rates 0 1 $last" "$probe" --do_eval --do_eval=false f
    for word in 1 true True TRUE yes Yes YES; do
        prints "f - - - -1 384 $rates 1 1 $last" "$probe" --do_eval $word f
        prints "f - - - -1 384 $rates 1 1 $last" "$probe" --do-eval=$word f
    done
    for word in 0 false False FALSE no No NO; do
        prints "f - - - -1 384 $rates 0 1 $last" "$probe" --do_eval $word f
        prints "f - - - -1 384 $rates 0 1 $last" "$probe" --do_eval=$word f
    done
    # A flag that may stand alone is switched by the same words.
    prints "f - -  -1 384 $rates 0 1 $last" "$probe" --resume_from_checkpoint True f
    prints "f - - - -1 384 $rates 0 1 $last" "$probe" --resume_from_checkpoint no f
    # "-" is "_", in aliases too.
    prints "f - - - 8 512 $rates 0 1 $last" "$probe" --max-seq-length 512 --n-steps=8 f
    prints "f g - - 7 384 $rates 0 1 $last" "$probe" f --max_steps 7 g
    prints "f - - - 8 384 $rates 0 1 $last" "$probe" --steps 7 --n_steps=8 f
    prints "head was given
f - - - -1 384 $rates 0 0 $last" "$probe" --head linear f
    prints "f -  - -1 384 $rates 0 1 $last" "$probe" --text= f
    prints "--f - - - -1 384 $rates 0 1 $last" "$probe" -- --f
    prints "f - - d -1 384 $rates 0 1 $last" "$probe" --resume_from_checkpoint d f
    prints "f - -  -1 384 $rates 1 1 $last" "$probe" f --resume_from_checkpoint --do_eval
    prints "f - - - -1 384 1.0000000000000001e-05 0.5 0 1 7 3" "$probe" f --learning_rate 1E-5 \
        --dropout .5 --seed 7 --threads 3
    for size in 3 65536 +512; do
        prints "f - - - -1 ${size#+} $rates 0 1 $last" "$probe" --max_seq_length $size f
    done
    # Lists: several values, or commas; a file that is there is one, whatever its name; the last
    # one given counts.
    for list in "a b c" "a,b,c" "a,b c"; do
        # shellcheck disable=SC2086
        prints "names a,b,c
f - - - -1 384 $rates 0 1 $last" "$probe" f --names $list
    done
    : >"$dir/x,y"
    prints "names $dir/x,y,z
f - - - -1 384 $rates 0 1 $last" "$probe" f --names a --names "$dir/x,y" z
    # Ratios: a whole number, or a part.
    for steps in 0 0.1 1 7 1e3; do
        prints "save $(awk -v x=$steps 'BEGIN { printf "%.17g", x }')
f - - - -1 384 $rates 0 1 $last" "$probe" --save_steps $steps f
    done
    # A decimal comma in the environment changes nothing.
    prints "f - - - -1 384 $rates 0 1 $last" env LC_ALL=de_DE.UTF-8 "$probe" --dropout 0.1 f
}

test_refusals() {
    refuses 2 "FILE" "$probe"
    refuses 2 "found c, expected none" "$probe" a b c
    refuses 2 "found --max_seq_len, expected perhaps --max_seq_length" "$probe" --max_seq_len 5 f
    refuses 2 "found --Threads, expected perhaps --threads" "$probe" --Threads=5 f
    refuses 2 "found --do_evals, expected perhaps --do_eval" "$probe" --do_evals f
    refuses 2 "found --FILE" "$probe" --FILE f
    refuses 2 "found --versoin, expected perhaps --version" "$probe" --versoin
    # Beginnings and ends come first; no guess beyond a third of the name.
    refuses 2 "found --learning, expected perhaps --learning_rate" "$probe" --learning 1 f
    refuses 2 "found --rate, expected perhaps --learning_rate" "$probe" --rate 1 f
    refuses 2 "(found --lxyn, expected another; --help lists all)" "$probe" --lxyn 1 f
    refuses 2 "(found --lr: write --learning_rate; --help lists all)" "$probe" --lr 1 f
    refuses 2 "3 unknown flags (found --lr: write --learning_rate; --max-seq-len: perhaps \
--max_seq_length; --zzz; --help lists all)" "$probe" --lr=1 --max-seq-len 5 f --zzz g h
    refuses 2 "found 1.5, expected a whole number, or a part of all below 1" "$probe" \
        --save_steps 1.5 f
    refuses 2 "names: not a value of this flag (found a,,b, expected NAME)" "$probe" f --names a,,b
    refuses 2 "--max_seq_length: a value is missing" "$probe" f --max_seq_length
    refuses 2 "--max_seq_length: a value is missing" "$probe" f --max_seq_length --do_eval
    for value in 2 65537 5x 5.0 '' ' 5' 0x10 1e3 99999999999999999999 -5; do
        refuses 2 "expected an integer from 3 to 65536" "$probe" "--max_seq_length=$value" f
    done
    for value in nan inf -1 1.5 1,5 0x1p-3 '1 ' . e5 1e 1e999 --; do
        refuses 2 "(found $value, expected a number from 0 to 1)" "$probe" "--learning_rate=$value" f
    done
    for value in 0 1; do
        refuses 2 "expected a number above 0, below 1" "$probe" --dropout $value f
    done
    refuses 2 "found -2, expected an integer from -1" "$probe" --max_steps -2 f
    for value in 9223372036854775808 18446744073709551617 -9223372036854775809; do
        refuses 2 "found $value, expected an integer from -1" "$probe" "--max_steps=$value" f
    done
    refuses 2 "found maybe, expected true or false" "$probe" --do_eval=maybe f
    refuses 2 "found gru, expected linear|bilstm" "$probe" --head gru f
    refuses 2 "found bil, expected linear|bilstm" "$probe" --head bil f
    # One line, whatever the value holds.
    refuses 2 "found a b, expected linear|bilstm" "$probe" --head "a
b" f
}

test_ends() {
    i=0
    for status in ok arg shape mem format unsupported io numeric interrupted; do
        expected=$(echo "0 3 3 4 3 3 5 6 7" | cut -d ' ' -f $((i + 1)))
        i=$((i + 1))
        run "$probe" --status $status f
        if [ "$code" = "$expected" ]; then ok; else bad "--status $status"; shows; fi
    done
    run "$probe" context
    if [ "$code" = 3 ] && grep -q "^probe: .*the context has no backend" "$dir/err"; then ok
    else bad "the context's message"; shows; fi

    # A file that may not grow is a failed write, not a signal.
    : >"$dir/out"
    (ulimit -f 0; exec "$probe" f >"$dir/limited" 2>/dev/null)
    code=$?
    if [ $code = 5 ]; then ok; else bad "ulimit -f 0: expected exit 5"; shows; fi

    for signal in INT TERM HUP; do
        mkfifo "$dir/ready"
        "$probe" wait >"$dir/ready" 2>"$dir/err" &
        pid=$!
        grep -m 1 -q ready "$dir/ready"
        kill -$signal $pid
        wait $pid
        code=$?
        if [ $code = 7 ] && grep -q "^probe: caught" "$dir/err"; then ok
        else bad "SIG$signal: expected exit 7"; shows; fi
        rm "$dir/ready"
    done
    mkfifo "$dir/ready"
    "$probe" wait longer >"$dir/ready" 2>"$dir/err" &
    pid=$!
    grep -m 1 -q ready "$dir/ready"
    kill -TERM $pid
    wait_for 30 test -s "$dir/err"
    kill -TERM $pid
    wait $pid
    code=$?
    if [ $code = $((128 + 15)) ]; then ok; else bad "a second signal: expected 143"; shows; fi
}

test_terminal() {
    run "$probe" bar
    if [ "$code" = 0 ] && [ ! -s "$dir/err" ]; then ok
    else bad "a bar without a terminal"; shows; fi
    # Without one there is a line a minute; here ten a second.
    run "$probe" bar fast
    if [ "$code" = 0 ] && [ "$(wc -l <"$dir/err")" -ge 1 ] \
        && ! grep -qv '^probe: train: [0-9]* of 40, 00:0[0-9] left, loss=0.5$' "$dir/err"; then ok
    else bad "lines without a terminal"; shows; fi
    if ! script -qec true /dev/null >/dev/null 2>&1; then
        skip "no script(1): the progress bar on a terminal"
        return
    fi
    script -qec "env TERM=xterm $probe bar" /dev/null </dev/null | tr '\r' '\n' >"$dir/out"
    if grep -q '^train: 100%|█* *| 40/40 \[00:0[0-9]<00:00, [0-9.]*it/s, loss=0.5\]' "$dir/out" \
        && grep -q '^train:  25%|█* *| 10/40 \[00:00<?, ?it/s\]' "$dir/out" \
        && [ "$(grep -c '^train: ' "$dir/out")" -le 12 ]; then ok
    else bad "a bar on a terminal"; sed 's/^/    /' "$dir/out" | tail -n 5; fi
    script -qec "env TERM=dumb $probe bar" /dev/null </dev/null >"$dir/out"
    if grep -q 'train: ' "$dir/out"; then bad "a bar on a dumb terminal"; else ok; fi
}

#---------------------------------------------------------------------------------------------------
# Every program
#---------------------------------------------------------------------------------------------------
# NAME PROGRAM SOURCE
test_common() {
    run "$2" --help
    if [ "$code" = 0 ] && [ ! -s "$dir/err" ]; then ok; else bad "$1 --help"; shows; fi
    cp "$dir/out" "$dir/help"
    # shellcheck disable=SC2013
    for word in $({ cat "$3" tools/"$1"_*.h 2>/dev/null
        sed -n '/tool_common_flags\[\] = {$/,/{ 0 }/p' tools/flags.h
    } | sed -n 's/.*\.name = "\([A-Za-z0-9_]*\)".*/\1/p' | sort -u); do
        case $word in
        "$1"|probe|example|DATA_FILE|n_best_size|metric|json)
            grep -q "\.name = \"$word\"" "$3" || continue ;;    # of the example in tool.h
        tf32) grep -q TOOL_TF32_FLAG "$3" || continue ;;        # of some programs
        esac
        if grep -q -e "^  --$word\b" -e "^  $word\b" -e "^$word - " "$dir/help"; then ok
        else bad "$1 --help does not know $word"; fi
    done
    if [ "$(sed '1,/^examples:/d; /^$/,$d' "$dir/help" | grep -c "^  [^ ]")" -eq 2 ]; then ok
    else bad "$1 --help: expected two examples"; fi
    if grep -q '.\{101\}' "$dir/help"; then bad "$1 --help has a line over 100 columns"; else ok; fi

    run "$2" --version
    if [ "$code" = 0 ] && grep -q "^$1 [0-9]*\.[0-9]*\.[0-9]*$" "$dir/out"; then ok
    else bad "$1 --version"; shows; fi
    refuses 2 "expected perhaps --version" "$2" --versoin
    refuses 2 "expected perhaps --threads" "$2" --thread 2
    refuses 2 "2 unknown flags (found --thread: perhaps --threads; --versoin: perhaps --version" \
        "$2" --thread 2 --versoin
    refuses 2 "expected an integer from 1 to 1024" "$2" --threads 0
    refuses 2 "found fast, expected auto|naive|cpu|openblas|cuda" "$2" --backend fast
    refuses 2 "found -1, expected an integer from 0" "$2" --seed -1
    refuses 2 "is missing" "$2"

    if [ -w /dev/full ]; then
        "$2" --help >/dev/full 2>"$dir/err" </dev/null
        code=$?
        : >"$dir/out"
        if [ $code = 5 ] && [ "$(grep -c "^$1: stdout: " "$dir/err")" = 1 ]; then ok
        else bad "$1 --help >/dev/full: expected exit 5"; shows; fi
    else skip "no /dev/full"; fi
    "$2" --help >&- 2>"$dir/err" </dev/null
    code=$?
    if [ $code = 5 ] && [ "$(grep -c "^$1: stdout: " "$dir/err")" = 1 ]; then ok
    else bad "$1 --help >&-: expected exit 5"; shows; fi
    # A reader that leaves ends it quietly.
    { sleep .1; "$2" --help 2>"$dir/err" </dev/null; echo $? >"$dir/code"; } | :
    if [ "$(cat "$dir/code")" = 5 ] && [ ! -s "$dir/err" ]; then ok
    else bad "$1 --help | :"; shows; fi
}

# A model of one step, for programs that want a good one beside what is bad.
make_model() {
    sed 's/: 64,/: 8,/; s/: 128,/: 8,/' data/config.json >"$dir/config.json"
    head -n 2 data/train.jsonl >"$dir/rows.jsonl"
    run build/train --config_name "$dir/config.json" --tokenizer_name data \
        --train_file "$dir/rows.jsonl" --output_dir "$dir/model" --max_steps 1
    if [ "$code" = 0 ]; then ok; else bad "no model for the tests"; shows; fi
}

# One program a line: command lines whose BAD is something that no program takes.
bad_inputs="
ask      --model_name_or_path BAD --context ROWS --question x
ask      --model_name_or_path MODEL --context BAD/x --question x
ask      --model_name_or_path MODEL --index BAD --question x
convert  BAD --output OUT
embed    --model_name_or_path BAD --input ROWS --output OUT.npy
ensemble --method hard_vote --files BAD,BAD --output_dir OUT
evaluate --metric squad BAD ROWS
evaluate --metric squad ROWS BAD
fuse     --runs BAD BAD --run OUT
index    --passages BAD --analyzer korean --output OUT
inspect  BAD/x
inspect  --as arrow BAD
inspect  --as checkpoint BAD
inspect  --as config BAD
inspect  --as dataset BAD
inspect  --as json BAD
inspect  --as safetensors BAD
inspect  --as tokenizer BAD
inspect  --as torch BAD
inspect  --as yaml BAD
predict  --model_name_or_path BAD --test_file ROWS --output_dir OUT
predict  --model_name_or_path MODEL --test_file BAD --output_dir OUT
predict  --model_name_or_path MODEL --tokenizer_name BAD --test_file ROWS --output_dir OUT
report   BAD --output OUT
search   --index BAD --queries ROWS
sweep    BAD --output_dir OUT
tok      --tokenizer_name BAD
train    --model_name_or_path BAD --train_file ROWS --output_dir OUT
train    --model_name_or_path MODEL --train_file BAD --output_dir OUT
train    --model_name_or_path MODEL --train_file ROWS --validation_file BAD --output_dir OUT
train    --config_name BAD --tokenizer_name data --train_file ROWS --output_dir OUT
train    --config_name data --tokenizer_name BAD --train_file ROWS --output_dir OUT
train    BAD --model_name_or_path MODEL --train_file ROWS --output_dir OUT"

# The same with an output that cannot be made: exit 5.
bad_outputs="
convert  MODEL --output FILE/x/o.safetensors
embed    --model_name_or_path MODEL --input ROWS --output FILE/x.npy
ensemble --files ROWS --output_dir FILE/x
fuse     --runs ROWS ROWS --run FILE/x
predict  --model_name_or_path MODEL --test_file ROWS --output_dir OUT --save_logits FILE/x
report   MODEL --output FILE/x
search   --index MODEL --queries ROWS --run FILE/x
index    --passages ROWS --analyzer whitespace --output FILE/x
predict  --model_name_or_path MODEL --test_file ROWS --output_dir FILE/x
train    --model_name_or_path MODEL --train_file ROWS --output_dir FILE/x --max_steps 1"

# ends CODE BAD LINE: that exit code, and its line on stderr begins with the program's name and names
# what is bad; nothing is left behind.
ends() {
    expected=$1 what=$2
    # shellcheck disable=SC2086
    set -- $(echo "$3" | sed "s:BAD:$what:g; s:ROWS:$dir/rows.jsonl:; s:MODEL:$dir/model:
        s:OUT:$dir/output:; s:FILE:$dir/rows.jsonl:")
    program=$1
    shift
    [ -x "build/$program" ] || { bad "build/$program is missing"; return; }
    bounded "build/$program" "$@"
    if [ "$code" = "$expected" ] && tail -n 1 "$dir/err" | grep "^$program: " \
        | grep -qF -e "$what"; then ok
    else bad "$program $*: expected exit $expected and a line with $what"; shows; fi
    if [ -e "$dir/output" ]; then bad "$program $* left its output"; rm -rf "$dir/output"; fi
}

# Exit codes (RELIABILITY 2): each program, each input, each way in which it can be bad.
test_exit_codes() {
    make_model
    printf '\000\001garbage\377' >"$dir/garbage"
    : >"$dir/empty"
    mkdir "$dir/folder"
    for kind in nowhere garbage empty folder; do
        echo "$bad_inputs" | sed 1d >"$dir/lines"
        while read -r line; do ends 3 "$dir/$kind" "$line"; done <"$dir/lines"
    done
    echo "$bad_outputs" | sed 1d >"$dir/lines"
    while read -r line; do ends 5 "$dir/rows.jsonl" "$line"; done <"$dir/lines"
    # Every program that reads or writes is in the table.
    for source in tools/*.c; do
        name=$(basename "$source" .c)
        case $name in library|mrc|bench|serve) continue ;; esac
        if echo "$bad_inputs" | grep -q "^$name "; then ok; else bad "$name: no exit codes"; fi
    done
}

# memory_limit EXPECTED [FILE TEXT]..: what files like the kernel's say of a container's memory.
memory_limit() {
    expected=$1 root=$dir/kernel
    shift
    rm -rf "$root"
    mkdir "$root"
    while [ $# -gt 0 ]; do
        mkdir -p "$root/$(dirname "$1")"
        printf "$2" >"$root/$1"
        shift 2
    done
    found=$("$probe" memory "$root" | sed -n 's/^limit //p')
    [ "$found" = "$expected" ] && ok || bad "memory limit $found, expected $expected"
}
test_memory_limit() {
    none=18446744073709551615 groups=proc/self/cgroup v2=sys/fs/cgroup v1=sys/fs/cgroup/memory
    memory_limit $none
    memory_limit $none $groups '0::/a/b\n'
    memory_limit 1048576 $v2/memory.max '1048576\n'
    memory_limit $none $v2/memory.max 'max\n'
    memory_limit 4096 $groups '0::/a/b\n' $v2/a/b/memory.max '4096\n' $v2/a/memory.max '8192\n'
    memory_limit 4096 $groups '0::/a/b\n' $v2/a/b/memory.max 'max\n' $v2/a/memory.max '4096\n'
    memory_limit 4096 $groups '0::/a/b\n' $v2/a/b/memory.max '8192\n' $v2/memory.max '4096\n'
    memory_limit $none $groups '0::/a/b\n' $v2/a/bc/memory.max '4096\n'
    memory_limit 4096 $groups '5:cpu:/y\n4:memory:/x\n0::/\n' $v1/x/memory.limit_in_bytes '4096\n'
    memory_limit 4096 $groups '4:cpu,memory:/x' $v1/memory.limit_in_bytes '4096\n'
    memory_limit $none $groups '4:memory:/x\n' $v1/x/memory.limit_in_bytes '\n'
}

if [ ! -e build/mrc.o ]; then
    bad "build/mrc.o is missing: run ./build.sh first"
    end
fi
# shellcheck disable=SC2086
if $CC -std=c11 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror tests/support/tool_probe.c \
    build/mrc.o -lm -lpthread -o "$probe"; then
    test_forms
    test_refusals
    test_ends
    test_terminal
    test_memory_limit
    test_common probe "$probe" tests/support/tool_probe.c
else bad "tests/support/tool_probe.c does not compile"; fi

for source in tools/*.c; do
    name=$(basename "$source" .c)
    case $name in library|mrc) continue ;; esac
    if [ ! -x "build/$name" ]; then bad "build/$name is missing"; continue; fi
    test_common "$name" "build/$name" "$source"
done
test_exit_codes
end
