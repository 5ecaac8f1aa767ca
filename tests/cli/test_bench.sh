#!/bin/sh
# build/bench: it runs at tiny sizes, its rows are well formed, a peer that is not there is said to
# be missing, and what is there is run beside it.  No time is looked at.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
PYTHON=${PYTHON:-python3}


# bench PYTHON ROW..: build/bench --quick, its streams in files.
bench() {
    python=$1
    shift
    build/bench --output_dir "$dir/out" --python "$python" --quick --threads 2 "$@" \
        >"$dir/stdout" 2>"$dir/stderr" </dev/null
    code=$?
    if [ $code = 0 ]; then ok
    else
        bad "bench $*: exit $code"
        sed 's/^/    /' "$dir/stderr" "$dir/out/bench.log" | tail -n 10
    fi
}
# well_formed WITH: every line but the first has twelve fields; WITH 1: a peer's figures, 0: none.
well_formed() {
    wrong=$(awk -F '\t' -v with="$1" '
        function number(x) { return x ~ /^[0-9.]+(e[-+][0-9]+)?$/ && x + 0 > 0 }
        NR == 1 {
            if ($0 != "row\tours\tpeer\tpeer_version\tratio\tratio_min\tratio_max\tunit" \
                    "\tours_cpu\tpeer_cpu\tpeak\tprocessor") print
            next
        }
        NF != 12 || $1 !~ /^[-a-z0-9_]+$/ || !number($2) || $8 == "" { print; next }
        with && !(number($3) && $4 != "-" && number($5) && $6 <= $5 && $5 <= $7) { print }
        !with && ($3 $4 $5 $6 $7 != "-----") { print }' "$dir/out/bench.tsv")
    if [ -z "$wrong" ]; then ok; else bad "bench.tsv: $wrong"; fi
}
# rows N: so many, in the table and in the last line.
rows() {
    found=$(($(wc -l <"$dir/out/bench.tsv") - 1))
    if [ "$found" = "$1" ] && tail -n 1 "$dir/stdout" | grep -q "^{\"rows\": $1, .*}\$"; then ok
    else bad "found $found rows, expected $1: $(tail -n 1 "$dir/stdout")"; fi
}

# Without any peer.
bench "$dir/no-such-python" train memory rate_none forward onnx tokenizer search reader question
well_formed 0
rows 72
if grep -q "train_base_linear: no peer: install Python" "$dir/stderr"; then ok
else bad "what to install is not said"; fi
bench "$dir/no-such-python" cold
well_formed 0
rows 1

# Against ourselves.
bench "$dir/no-such-python" rate epoch self
well_formed 1
rows 4
# Against the machine's limits, where it has the instructions.
bench "$dir/no-such-python" limit_step limit_int8_base_384 limit_train_bf16_large_1024_up
rows 10
bench "$dir/no-such-python" --isa baseline rate
if cut -f 4 "$dir/out/bench.tsv" | grep -qx "mrc baseline"; then ok; else bad "--isa: not the one asked"; fi

# OpenBLAS.
bench "$dir/no-such-python" gemm_base_1024 gemm_large_5120_down_t2
rows 7
if grep -q "no peer: install OpenBLAS" "$dir/stderr"; then
    well_formed 0
    skip "no OpenBLAS: its side of gemm"
else well_formed 1; fi

# A peer that only looks at what it is told: whatever it is, key=value.
cat >"$dir/peer" <<'END'
#!/bin/sh
kind=$2
shift 2
for word; do
    case $word in
    ?*=?*) ;;
    *) echo "$kind: found $word, expected key=value" >&2; exit 1 ;;
    esac
done
echo "ready peer 1"
while read -r _; do echo "0.001 0 0.001"; done
END
chmod +x "$dir/peer"
bench "$dir/peer" torch_gemm_base_1024_attn_t1 torch_bf16_gemm_large_1024_up_t2 train_bf16_base_linear \
    forward_bert onnx_int8_base_1 openvino_bf16_base_1 ctranslate2_int8_base_1 question_bf16_openvino_170
well_formed 1
rows 9

# The peers that Python has: rows without one are not looked at.
for row in torch_gemm_base_1024_up_t2 train_base_bilstm forward_base_8 onnx_base_1 tokenizer search reader question_f32_onnx_170 \
    cold_start; do
    case $row in
    onnx*|question*) needs=torch,onnx,onnxruntime ;;
    tok*)  needs=tokenizers ;;
    sear*) needs=bm25s,numba ;;
    cold*|reader) needs=torch,transformers ;;
    *)     needs=torch ;;
    esac
    if ! "$PYTHON" -c "import $needs" 2>/dev/null; then
        skip "$row: no $needs for $PYTHON"
        continue
    fi
    bench "$PYTHON" "$row"
    well_formed 1
    if grep -q "do not do the same" "$dir/stderr"; then
        bad "$row: $(grep "do not do the same" "$dir/stderr")"
    else ok; fi
done

# --backend openblas: the cpu backend's answer, or one line that says what is missing.
build/bench --worker model layers=2 hidden=32 heads=2 ffn=64 vocab=4096 seq=254 threads=1 \
    tokenizer=data to="$dir/model" >/dev/null 2>&1
predict() {
    build/predict --model_name_or_path "$dir/model" --test_file data/question.jsonl \
        --output_dir "$dir/$1" --backend "$1" >/dev/null 2>"$dir/stderr" </dev/null
    code=$?
}
predict cpu
if [ $code = 0 ]; then ok; else bad "predict --backend cpu: exit $code"; fi
predict openblas
if [ $code = 3 ] && grep -q "^predict: --backend: this build has no OpenBLAS" "$dir/stderr"; then
    ok
    skip "no OpenBLAS: predict --backend openblas"
elif [ $code = 0 ] && cmp -s "$dir/cpu/predictions.json" "$dir/openblas/predictions.json"; then ok
else bad "predict --backend openblas: exit $code: $(cat "$dir/stderr")"; fi

build/bench --output_dir "$dir/out" --quick no_such_row >/dev/null 2>"$dir/stderr"
code=$?
if [ $code = 2 ] && grep -q "no_such_row: no such row" "$dir/stderr"; then ok
else bad "no_such_row: exit $code"; fi

end
