# Part of build.sh: the verb fuzz.

#===================================================================================================
# fuzz: every tests/fuzz/fuzz_*.c, FUZZ_RUNS mutations each (default 100000), under ASan and UBSan
#
# FUZZER=libfuzzer takes clang's, which is led by coverage, in place of the targets' own driver.
#===================================================================================================
# parser_table NAME: what a parser knows, from its own table in mrc.h, one a line.
parser_table() {
    case $1 in
    tokenizer)                  # words of tokenizer.json that have code
        grep -o 'mrc__tok_is([^,]*[^"]*"[A-Za-z]*"' mrc.h | grep -o '"[A-Z][A-Za-z]*"$' \
            | tr -d '"' | sort -u ;;
    arrow)
        sed -n '/^#define MRC__ARROW_TYPE_LIST/,/[^\\]$/p' mrc.h | grep -o 'X([A-Z0-9_]*,' \
            | sed 's/X(//; s/,//'
        echo DICTIONARY ;;
    safetensors) parser_table safetensors_bits | sed 's/ .*//' ;;
    safetensors_bits)
        sed -n '/mrc__st_dtypes\[\] = {/,/};/p' mrc.h | grep -o '{ "[A-Z0-9_]*", [0-9]* }' \
            | sed 's/{ "//; s/",//; s/ }//' ;;
    torch)
        sed -n '/{ "FloatStorage", "F32" }/,/};/p' mrc.h | grep -o '{ "[A-Za-z0-9]*Storage"' \
            | sed 's/{ "//; s/"//' ;;
    dataset)
        sed -n '/^\/\/ >>impl.dataset/,/^\/\/ >>impl.folds/p' mrc.h \
            | sed -n '/format = /,/;/p' | grep -o '"[a-z_0-9]*"' | tr -d '"' \
            | grep -v '^memory$' | sort -u ;;
    index)
        sed -n '/mrc__an_names\[/,/};/p' mrc.h | grep -o '"[a-z_]*"' | tr -d '"' ;;
    config)
        sed -n '/\[MRC_MODEL_[A-Z_0-9]*\] = /p' mrc.h | grep -o 'word = "[a-z_0-9-]*"' \
            | sed 's/.*"\(.*\)"/\1/' ;;
    esac
}

# Seeds that C strings cannot hold, or that a program here writes, each in the folder of its target.
fuzz_make_seeds() {
    seeds=$OUT/fuzz/seeds fixtures=tests/fixtures
    newer "$seeds/done" tests/fuzz.sh && return
    for target in index weights tokenizer torch dataset safetensors config vectors npy; do
        mkdir -p "$seeds/$target" || exit 5
    done
    printf '1\tthe king of a city 1.\n2\ta \355\225\234\352\265\255 city\n' \
        >"$seeds/corpus.tsv"
    mkdir -p "$seeds/words"
    printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' the king a city 1 \
        >"$seeds/words/vocab.txt"
    echo '{"do_lower_case": true}' >"$seeds/words/tokenizer_config.json"
    for analyzer in $(parser_table index); do
        "$OUT/index" --passages "$seeds/corpus.tsv" --analyzer "$analyzer" \
            --tokenizer_name "$seeds/words" --output "$seeds/made" >/dev/null 2>&1 || exit 3
        mv "$seeds/made/index.bin" "$seeds/index/$analyzer"
        rm -rf "$seeds/made"
    done
    "$OUT/train" --task biencoder --config_name data/config.json --tokenizer_name data \
        --train_file data/question.jsonl --output_dir "$seeds/model" --max_steps 1 \
        --overwrite_output_dir >/dev/null 2>&1 || exit 3
    for form in "--form int8 --graph" "--form bf16" "--form bits" "--tokens --bits 2" "--tokens"; do
        "$OUT/index" --passages "$seeds/corpus.tsv" --analyzer whitespace --output "$seeds/made" \
            --model_name_or_path "$seeds/model" $form >/dev/null 2>&1 || exit 3
        for file in vectors tokens; do
            [ ! -e "$seeds/made/$file.bin" ] \
                || mv "$seeds/made/$file.bin" "$seeds/vectors/$file$(echo $form | tr -d ' ')"
        done
    done
    for shape in '(1, 2)' '(2, 1)'; do
        header="{'descr': '<f4', 'fortran_order': False, 'shape': $shape, }"
        printf '\223NUMPY\1\0\076\0%s  \n12345678' "$header" \
            >"$seeds/npy/$(echo "$shape" | tr -d '(, )')"
    done
    for name in x y; do
        header="{\"$name\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
        printf '\066\0\0\0\0\0\0\0%s1234' "$header" >"$seeds/$name"
    done
    {
        printf '{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}\036'
        cat "$seeds/x"
        printf '\036'
        cat "$seeds/y"
    } >"$seeds/weights/two"
    {
        printf '{"_data_files":[{"filename":"a.arrow"}],"_indices_data_files":null}\036'
        cat $fixtures/types.arrow
    } >"$seeds/dataset/folder"
    for file in vocab.json merges.txt tokenizer_config.json; do
        cat "$fixtures/tokenizer/bytes/$file"
        [ $file = tokenizer_config.json ] || printf '\036'
    done >"$seeds/tokenizer/bytes"
    {
        printf '{"added_tokens":[{"id":0,"content":"<s>","special":true}],"normalizer":null,'
        printf '"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},'
        printf '"post_processor":{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0],'
        printf '"trim_offsets":true,"add_prefix_space":false},"model":{"type":"BPE","dropout":null,'
        printf '"unk_token":null,"byte_fallback":false,"merges":["h e",["l","l"]],"vocab":'
        cat $fixtures/tokenizer/bytes/vocab.json
        printf '}}'
    } >"$seeds/tokenizer/bytes.json"
    fuzz_tokenizer_seeds
    fuzz_torch_seed >"$seeds/torch/legacy"
    # A configuration of each family, with every family's names of its sizes.
    for word in $(parser_table config); do
        sizes='"vocab_size":100,"hidden_size":8,"dim":8,"embedding_size":8,"num_hidden_layers":2'
        sizes="$sizes,\"n_layers\":2,\"num_attention_heads\":2,\"n_heads\":2,\"hidden_dim\":16"
        sizes="$sizes,\"intermediate_size\":16,\"max_position_embeddings\":66,\"pad_token_id\":1"
        printf '{"model_type":"%s",%s,"hidden_act":"gelu","activation":"gelu"}' "$word" "$sizes" \
            >"$seeds/config/$word"
    done
    # Eight values of each dtype that safetensors has.
    parser_table safetensors_bits | while read -r dtype bits; do
        header="{\"x\":{\"dtype\":\"$dtype\",\"shape\":[8],\"data_offsets\":[0,$bits]}}"
        # shellcheck disable=SC2059
        printf "\\$(printf %03o ${#header})\0\0\0\0\0\0\0" >"$seeds/safetensors/$dtype"
        printf '%s' "$header" >>"$seeds/safetensors/$dtype"
        printf "%0${bits}d" 0 >>"$seeds/safetensors/$dtype"
    done
    {
        printf '{"weight_map":{"a":"a.bin"}}\036'
        cat $fixtures/torch/legacy_shard.bin
    } >"$seeds/weights/torch"
    touch "$seeds/done"
}

# Each tokenizer of pipelines.jsonl, a JSON text in a JSON string, and each model of models.jsonl.
fuzz_tokenizer_seeds() {
    sed -n 's/.*"tokenizer":"\(.*\)","cases":.*/\1/p' $fixtures/tokenizer/pipelines.jsonl |
        sed "s/\\\\\\\\/$(printf '\001')/g; s/\\\\\"/\"/g; s/$(printf '\001')/\\\\/g" |
        split -l 1 - "$seeds/tokenizer/pipeline." || exit 5
    n=0
    sed -n 's/.*"file":"\(..\).*"model":"\([^"]*\)".*/\1 \2/p' $fixtures/tokenizer/models.jsonl |
        while read -r name model; do
            case $name in se) name=x ;; sp) name=a ;; *) continue ;; esac
            n=$((n + 1))
            for letter in $name d; do
                { printf '\035%s' $letter; printf '%s' "$model" | base64 -d; } \
                    >"$seeds/tokenizer/model.$n$letter"
            done
        done
}

# PyTorch's old stream, which has no checksums: a tensor, a parameter, sizes, numbers of each kind.
fuzz_torch_seed() {
    odict='ccollections\nOrderedDict\n)R'
    storage='(X\007\000\000\000storagectorch\nFloatStorage\nX\001\000\000\0000'
    storage="${storage}X\003\000\000\000cpuK\002NtQ"
    tensor="ctorch._utils\n_rebuild_tensor_v2\n(${storage}K\000K\002\205K\001\205\211${odict}tR"
    printf '\200\002\212\012l\374\234F\371 j\250P\031.\200\002M\351\003.'
    printf '\200\002}X\015\000\000\000little_endian\210s.'
    printf '\200\002}('
    printf "X\001\000\000\000a${tensor}q\000"
    printf "X\001\000\000\000bctorch._utils\n_rebuild_parameter\n(${tensor}\210${odict}tR"
    printf 'X\001\000\000\000cctorch\nSize\nK\001K\002\206\205R'
    printf 'X\001\000\000\000dctorch\nSize\n](K\001K\002e\205R'
    printf 'X\001\000\000\000e(G\000\000\000\000\000\000\000\000\212\002\001\001J\001\000\000\000Nt'
    printf 'X\001\000\000\000f]K\001aX\001\000\000\000gK\001K\002K\003\207'
    printf 'u.\200\002](X\001\000\000\0000e.\002\000\000\000\000\000\000\00012345678'
}

# The seeds of a target, where ../shared is; each has a few of its own.
fuzz_seeds() {
    cases=${MRC_SHARED:-../shared}/cases
    case $1 in
    json)        echo "$cases/json" ;;
    yaml)        find "$cases/yaml" -name in.yaml 2>/dev/null ;;
    dataset)     echo "$cases/squad tests/fixtures/small.arrow tests/fixtures/types.arrow \
                     tests/fixtures/arrow tests/fixtures/bare_int.arrow \
                     tests/fixtures/bare_null.arrow \
                     $cases/field/arrow_v2/data-00000-of-00001.arrow \
                     $OUT/fuzz/seeds/dataset" ;;
    safetensors) echo "$cases/safetensors $OUT/fuzz/seeds/safetensors" ;;
    torch)       echo "$cases/torch $cases/torch_real tests/fixtures/torch $OUT/fuzz/seeds/torch" ;;
    tokenizer)   echo "data/vocab.txt tests/fixtures/tokenizer/uncased/tokenizer.json \
                     tests/fixtures/tokenizer/prefix/tokenizer.json $OUT/fuzz/seeds/tokenizer" ;;
    config)      echo data/config.json "$OUT/fuzz/seeds/config" ;;
    utf8)        echo "$cases/utf8" ;;
    index)       echo "$OUT/fuzz/seeds/index" ;;
    vectors)     echo "$OUT/fuzz/seeds/vectors" ;;
    npy)         echo "$OUT/fuzz/seeds/npy" ;;
    weights)     echo "$OUT/fuzz/seeds/weights" ;;
    esac
}

# fuzz_compile TARGET SOURCE: the target, and for libFuzzer a second with its main.
fuzz_compile() {
    # shellcheck disable=SC2046
    compile "${fuzz_config%-asan}" "$1" $(config_flags $fuzz_config) "$2" \
        "$OUT/test/$fuzz_config/mrc.o" "$OUT/test/$fuzz_config/kernels.o" || exit 3
    [ "$FUZZER" = libfuzzer ] || return 0
    # shellcheck disable=SC2046
    compile clang "$1-libfuzzer" $(config_flags clang-asan) -fsanitize=fuzzer -DFUZZ_LIBFUZZER \
        "$2" "$OUT/fuzz/mrc-libfuzzer.o" || exit 3
}

fuzz_begin() {
    mkdir -p "$OUT/fuzz" || exit 5
    fuzz_config=gcc-asan
    have gcc || fuzz_config=clang-asan
    case $FUZZER in
    '') ;;
    libfuzzer)
        have clang || die 3 "FUZZER: no clang, which libFuzzer comes with (unset FUZZER for the" \
            "targets' own driver)"
        newer "$OUT/fuzz/mrc-libfuzzer.o" mrc.h tools/library.c tests/fuzz.sh \
            || compile clang "$OUT/fuzz/mrc-libfuzzer.o" $(config_flags clang-asan) \
                -fsanitize=fuzzer-no-link -c tools/library.c || exit 3 ;;
    *) die 2 "FUZZER: unknown (found $FUZZER, expected libfuzzer or nothing)" ;;
    esac
    run_object $fuzz_config mrc && run_object $fuzz_config kernels || exit 3
    fuzz_make_seeds
}

# fuzz_run NAME: the target of tests/fuzz/fuzz_NAME.c, its output going to a log.
fuzz_run() {
    target=$OUT/fuzz/fuzz_$1 runs=${FUZZ_RUNS:-100000} seed=${FUZZ_SEED:-1}
    if [ "$FUZZER" != libfuzzer ]; then
        # shellcheck disable=SC2046
        "$target" --runs "$runs" --seed "$seed" $(fuzz_seeds "$1")
        return
    fi
    corpus=$OUT/fuzz/corpus/$1
    # shellcheck disable=SC2046
    [ -d "$corpus" ] || "$target" --corpus "$corpus" $(fuzz_seeds "$1") >/dev/null || return
    "$target-libfuzzer" -runs="$runs" -seed="$seed" -artifact_prefix="$OUT/fuzz/$1-" "$corpus" 2>&1
}

fuzz() {
    build_all
    fuzz_begin
    targets=0 bad=0
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        target=$OUT/fuzz/$name
        newer "$target" "$source" tests/support/fuzz.h tests/support/test.h tools/yaml.h \
            "$OUT/test/$fuzz_config/mrc.o" \
            && { [ "$FUZZER" != libfuzzer ] || newer "$target-libfuzzer" "$target"; } \
            || fuzz_compile "$target" "$source"
        targets=$((targets + 1))
        fuzz_run "${name#fuzz_}" >"$target.log" 2>&1 || bad=$((bad + 1))
        grep '^SKIP' "$target.log"
        echo "$name: $(tail -n 1 "$target.log")"
    done
    echo "$((targets - bad)) passed, $bad failed"
    [ "$bad" -eq 0 ]
}
