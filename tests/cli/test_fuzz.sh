#!/bin/sh
# The seeds of the fuzz targets against the parsers' own tables in mrc.h: a format, variant, dtype or
# column type that a parser knows and no accepted seed has is a failure, as mutation hardly finds it.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
OUT=$dir
newer() { return 1; }
mkdir "$dir/fuzz"
for program in index train embed; do ln -s "$PWD/build/$program" "$dir/$program"; done
# shellcheck source=tests/fuzz.sh
. tests/fuzz.sh
fuzz_make_seeds
seeds=$dir/fuzz/seeds

# accepts TARGET FILE..: each is accepted, unchanged.
accepts() {
    target=$1
    shift
    [ -e "$dir/fuzz_$target" ] || $CC -std=c11 -O0 -o "$dir/fuzz_$target" "tests/fuzz/fuzz_$target.c" \
        build/mrc.o -lm -lpthread || exit 3
    for file; do
        if [ -e "$file" ] && "$dir/fuzz_$target" --accepts "$file" >"$dir/out" 2>&1; then ok
        else bad "$target: no accepted seed $file: $(cat "$dir/out")"; fi
    done
}

# A table that is not found would pass with nothing.
for table in arrow:26 safetensors:22 torch:10 dataset:6 index:5 config:2; do
    n=$(parser_table "${table%:*}" | wc -l)
    if [ "$n" -ge "${table#*:}" ]; then ok
    else bad "the table of ${table%:*} has $n entries, at least ${table#*:} were there"; fi
done
for type in $(parser_table arrow); do
    accepts dataset "tests/fixtures/arrow/$(echo "$type" | tr '[:upper:]' '[:lower:]').arrow"
done
accepts dataset tests/fixtures/arrow/dense_union.arrow "$seeds/dataset/folder"
for dtype in $(parser_table safetensors); do accepts safetensors "$seeds/safetensors/$dtype"; done
for analyzer in $(parser_table index); do accepts index "$seeds/index/$analyzer"; done
for word in $(parser_table config); do accepts config "$seeds/config/$word"; done
accepts torch tests/fixtures/torch/*.bin "$seeds/torch/legacy"
accepts weights "$seeds/weights/two" "$seeds/weights/torch"
# Both conventions of tab-separated passages, records, arrays and maps of them.
printf '0\t"a" b\n1\t"c\n' >"$dir/plain.tsv"
printf 'id\ttext\ttitle\n1\t"a\n""b"""\tt\n' >"$dir/dpr.tsv"
printf '{"id": "1", "text": "a"}\n{"_id": 2, "contents": "b"}\n' >"$dir/records.jsonl"
printf '[{"document_id": 1, "context": "a"}]' >"$dir/array.json"
printf '{"0": {"text": "a"}, "1": {"text": "b"}}' >"$dir/map.json"
accepts passages "$dir"/*.tsv "$dir"/*.jsonl "$dir/array.json" "$dir/map.json"
# Runs of TREC and of MS MARCO, judgements of TREC and of BEIR.
printf 'q Q0 d 1 2.5 x\nq Q0 e 2 -inf x\n' >"$dir/trec.run"
printf '1\t7\t1\r\n1\t9\t2\r\n' >"$dir/marco.run"
printf 'q 0 d 1\n' >"$dir/trec.qrels"
printf 'query-id\tcorpus-id\tscore\nq\td\t1\n' >"$dir/beir.qrels"
accepts run "$dir"/*.run "$dir"/*.qrels
for storage in $(parser_table torch); do
    for file in zip legacy; do
        if grep -q -a "$storage" tests/fixtures/torch/${file}_every.bin; then ok
        else bad "torch: ${file}_every.bin has no $storage"; fi
    done
done

# The data set's formats as the reader names them, in the target's own seeds and the files'.
accepts dataset tests/fixtures/small.arrow
"$dir/fuzz_dataset" --corpus "$dir/corpus" tests/fixtures/small.arrow >/dev/null
for file in "$dir"/corpus/*; do build/inspect --as dataset "$file" 2>/dev/null; done >"$dir/formats"
for format in $(parser_table dataset); do
    if grep -q "\"format\": \"$format\"" "$dir/formats"; then ok
    else bad "dataset: no seed of format $format"; fi
done
end
