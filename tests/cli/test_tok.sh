#!/bin/sh
# build/tok from outside: what it prints, what it refuses.  Run from the repository root after
# ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
cased=tests/fixtures/tokenizer/cased

# tokens CODE EXPECTED INPUT FLAGS...: the exit code, and what is printed (or, on failure, a part of
# the one line on stderr).
tokens() {
    want=$1 expected=$2 input=$3
    shift 3
    printf '%b' "$input" | build/tok "$@" >"$dir/out" 2>"$dir/err"
    code=$?
    if [ "$want" = 0 ]; then
        [ "$code" = 0 ] && [ "$(cat "$dir/out")" = "$expected" ] && [ ! -s "$dir/err" ]
    else
        [ "$code" = "$want" ] && grep -qF -- "$expected" "$dir/err" \
            && [ "$(wc -l <"$dir/err")" -eq 1 ]
    fi
    if [ $? = 0 ]; then ok; else bad "tok $*: exit $code, expected $want and: $expected"; shows; fi
}

tokens 0 '[CLS] the read ##er . [SEP]' 'the reader.\n' --tokenizer_name $cased
tokens 0 '[CLS] the [SEP]' 'the' --tokenizer_name=$cased/vocab.txt
tokens 0 '[CLS] [SEP]
[CLS] a [SEP]' '\na\r\n' --tokenizer_name $cased
tokens 0 'a [MASK] b' 'a[MASK]b\n' --tokenizer_name $cased --no_special_tokens
tokens 0 '[CLS] a b [SEP]' 'a b c\n' --tokenizer_name $cased --max_length 4
tokens 0 '' '' --tokenizer_name $cased
tokens 0 '{"overflow_to_sample_mapping": 0, "input_ids": [0,19,23,2], "token_type_ids": [0,0,0,0], "tokens": ["[CLS]","a","##b","[SEP]"], "offset_mapping": [[0,0],[0,1],[1,2],[0,0]], "sequence_ids": [null,0,0,null]}' \
    '"ab"\n' --tokenizer_name $cased --jsonl
tokens 0 '{"overflow_to_sample_mapping": 0, "input_ids": [0,19,2,19,20,2], "token_type_ids": [0,0,0,1,1,1], "tokens": ["[CLS]","a","[SEP]","a","b","[SEP]"], "offset_mapping": [[0,0],[0,1],[0,0],[0,1],[2,3],[0,0]], "sequence_ids": [null,0,null,1,1,null]}
{"overflow_to_sample_mapping": 0, "input_ids": [0,19,2,20,21,2], "token_type_ids": [0,0,0,1,1,1], "tokens": ["[CLS]","a","[SEP]","b","c","[SEP]"], "offset_mapping": [[0,0],[0,1],[0,0],[2,3],[4,5],[0,0]], "sequence_ids": [null,0,null,1,1,null]}
{"overflow_to_sample_mapping": 1, "input_ids": [0,2,2], "token_type_ids": [0,0,1], "tokens": ["[CLS]","[SEP]","[SEP]"], "offset_mapping": [[0,0],[0,0],[0,0]], "sequence_ids": [null,null,null]}' \
    '{"text": "a", "text_pair": "a b c"}\n\n{"text": "", "text_pair": ""}\n' \
    --tokenizer_name $cased --jsonl --max_length 6 --truncation only_second --stride 1

tokens 2 'tokenizer_name' '' --jsonl
tokens 2 'max_length' 'a\n' --tokenizer_name $cased --max_lenght 3
tokens 2 'only_second' 'a\n' --tokenizer_name $cased --truncation only_third
tokens 3 'no such file or folder' 'a\n' --tokenizer_name "$dir/none"
tokens 3 'neither tokenizer.json nor vocab.txt' 'a\n' --tokenizer_name "$dir"
tokens 3 'tok: stdin:2:' '"a"\n{\n' --tokenizer_name $cased --jsonl
tokens 3 'tok: stdin:2: not a text' '"a"\n[]\n' --tokenizer_name $cased --jsonl
tokens 3 'tok: stdin:1: not a text' '{"text": "a", "text_pair": 3}\n' --tokenizer_name $cased --jsonl
tokens 3 'tok: stdin:1: tokenizer: only_second, but there is one text' '{"text": "", "text_pair": null}\n' \
    --tokenizer_name $cased --jsonl --max_length 9 --truncation only_second
tokens 3 'tok: stdin:1: tokenizer: max_length 4 leaves no room' '{"text": "a", "text_pair": "b c"}\n' \
    --tokenizer_name $cased --jsonl --max_length 4 --truncation only_second
tokens 3 'tok: stdin:1: tokenizer: max_length 1' 'a\n' --tokenizer_name $cased --max_length 1

# SentencePiece's files alone, by path and in their folder: the tokens of transformers 4.57.6.
pieces=tests/fixtures/tokenizer/pieces
text='the cat reads  café 한국어를 읽는다'
alone() {
    tokens 0 "$2" "$text\n" --tokenizer_name "$pieces/$1"
    tokens 0 "$2" "$text\n" --tokenizer_name "$pieces/${1%/*}"
}
alone xlm/sentencepiece.bpe.model \
    '<s> ▁t h e ▁ca t ▁read s ▁ca f é ▁한국어 를 ▁읽 는 다 </s>'
alone albert/spiece.model '[CLS] ▁t h e ▁ca t ▁read s ▁ca f e ▁ <unk> ▁ <unk> [SEP]'
alone deberta/spm.model \
    '[CLS] ▁t h e ▁ca t ▁read s ▁ca f é ▁한국어 를 ▁읽 는 다 [SEP]'
alone bigbird/spiece.model \
    '[CLS] ▁the ▁cat ▁reads ▁ca fé ▁한국어 를 ▁읽 는다 [SEP]'
tokens 0 '{"overflow_to_sample_mapping": 0, "input_ids": [0,29,4,46,16,2,2,14,10,8,12,7,2], "token_type_ids": [0,0,0,0,0,0,0,0,0,0,0,0,0], "tokens": ["<s>","▁ab","▁","c","d","</s>","</s>","▁t","h","e","▁ca","t","</s>"], "offset_mapping": [[0,0],[0,2],[2,3],[3,4],[4,5],[0,0],[0,0],[0,1],[1,2],[2,3],[3,6],[6,7],[0,0]], "sequence_ids": [null,0,0,0,0,null,null,1,1,1,1,1,null]}' \
    '{"text": "ab cd", "text_pair": "the cat"}\n' --tokenizer_name $pieces/xlm --jsonl
mkdir "$dir/cut"
head -c 900 $pieces/deberta/spm.model >"$dir/cut/spm.model"
tokens 3 'spm.model: no SentencePiece model: malformed protobuf' 'a\n' --tokenizer_name "$dir/cut"
cp $pieces/deberta/spm.model "$dir/other.model"
tokens 3 'no family of readers' 'a\n' --tokenizer_name "$dir/other.model"

# A line of 4 MB, and output that nobody can take.
head -c 4000000 /dev/zero | tr '\0' 'a' >"$dir/long"
if [ "$(build/tok --tokenizer_name $cased <"$dir/long")" = '[CLS] [UNK] [SEP]' ]; then ok
else bad "tok: a line of 4 MB"; fi
if [ -w /dev/full ]; then
    echo a | build/tok --tokenizer_name $cased >/dev/full 2>"$dir/err"
    if [ $? = 5 ]; then ok; else bad "/dev/full"; fi
fi
end
