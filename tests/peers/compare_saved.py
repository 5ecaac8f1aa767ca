#!/usr/bin/env python3
"""Tokenizers that `train` has saved, opened by transformers: the same encodings.

usage: compare_saved.py [--build build] [--texts N] [NAME..]

For each family's tokenizer, made of real vocabularies or trained on real texts, and in each form in
which hubs have it (`files`: vocab.txt, vocab.json and merges.txt or the *.model alone, whose family
config.json says; `json`: as save_pretrained writes it), `train --max_steps 1` makes a tiny reader and
saves it.  AutoTokenizer must open that folder and give the ids, offsets and token types that `tok`
gives with it, and those of the source, for 200 pairs of question and passage, Korean and English.
The texts are those of ../shared (or $MRC_SHARED).  Last line: N passed, N failed.

Needs transformers (4.57.6) and sentencepiece; without them it says so and ends well.
"""
import argparse
import io
import json
import os
import subprocess
import sys
import tempfile

try:
    import sentencepiece
    import tokenizers
    import transformers as T
except ImportError as e:
    print(f"SKIP: {e}: transformers and sentencepiece are needed")
    raise SystemExit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("MRC_SHARED", os.path.join(ROOT, "..", "shared"))
ANGLES = dict(pad_piece="<pad>", bos_piece="<s>", eos_piece="</s>", unk_piece="<unk>")
BERT = dict(pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]")
ALBERT = dict(ANGLES, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
              control_symbols=["[CLS]", "[SEP]", "[MASK]"])


def shared(name):
    return os.path.join(SHARED, "data", name)


def lines_of(name):
    with open(shared(name), encoding="utf-8") as f:
        return f.read().splitlines()


def pairs_of(name, n):
    """Questions with the beginnings of their passages, from all over a file of SQuAD."""
    with open(shared(name), encoding="utf-8") as f:
        rows = [(q["question"], p["context"][:400]) for x in json.load(f)["data"]
                for p in x["paragraphs"] for q in p["qas"]]
    return rows[:: max(1, len(rows) // n)][:n]


def words(edit=lambda x: x, name="english/bert-base-uncased.vocab.txt"):
    def make(where, texts):
        with open(os.path.join(where, "vocab.txt"), "w", encoding="utf-8") as f:
            f.writelines(x + "\n" for x in edit(lines_of(name)))
    return make


def swapped(pairs):
    return lambda lines: [pairs.get(x, x) for x in lines]


def question(lines):
    return lines[:104] + ["[QUESTION]"] + lines[105:]


def bytes_of(pairs):
    """RoBERTa's files, its special tokens by other names."""
    def make(where, texts):
        with open(shared("english/roberta-base.vocab.json"), encoding="utf-8") as f:
            vocab = {pairs.get(k, k): v for k, v in json.load(f).items()}
        with open(os.path.join(where, "vocab.json"), "w", encoding="utf-8") as f:
            json.dump(vocab, f, ensure_ascii=False)
        with open(os.path.join(where, "merges.txt"), "w", encoding="utf-8") as f:
            f.writelines(x + "\n" for x in lines_of("english/roberta-base.merges.txt"))
    return make


def pieces(file, **options):
    def make(where, texts):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(x for pair in texts for x in pair), model_writer=out,
            vocab_size=1500, hard_vocab_limit=False, character_coverage=0.99, minloglevel=2,
            **options)
        with open(os.path.join(where, file), "wb") as f:
            f.write(out.getvalue())
    return make


def modern(where, texts):
    """ModernBERT has tokenizer.json only: NFC, bytes, a template."""
    bytes_of({"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]",
              "<mask>": "[MASK]"})(where, texts)
    names = [os.path.join(where, x) for x in ("vocab.json", "merges.txt")]
    t = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*names))
    t.normalizer = tokenizers.normalizers.NFC()
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(x, t.token_to_id(x)) for x in ("[CLS]", "[SEP]")])
    T.PreTrainedTokenizerFast(
        tokenizer_object=t, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        unk_token="[UNK]", mask_token="[MASK]").save_pretrained(where)
    for name in names:
        os.remove(name)


MPNET = swapped({"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"})
DEBERTA = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]",
           "<mask>": "[MASK]"}
FAMILIES = {                        # model_type, what makes the files, tokenizer_config.json
    "bert": ("bert", words(name="klue/vocab.txt"), {"do_lower_case": False}),
    "bert, uncased": ("bert", words(), None),
    "roberta": ("roberta", bytes_of({}), None),
    "xlm-roberta": ("xlm-roberta", pieces("sentencepiece.bpe.model", **ANGLES), None),
    "camembert": ("camembert", pieces("sentencepiece.bpe.model", **ANGLES), None),
    "electra": ("electra", words(), None),
    "distilbert": ("distilbert", words(name="english/bert-base-cased.vocab.txt"),
                   {"do_lower_case": False}),
    "albert": ("albert", pieces("spiece.model", **ALBERT), None),
    "mpnet": ("mpnet", words(MPNET), None),
    "deberta-v2": ("deberta-v2", pieces("spm.model", pad_id=0, bos_id=1, eos_id=2, unk_id=3,
                                        **BERT), None),
    "modernbert": ("modernbert", modern, None),
    "mobilebert": ("mobilebert", words(), None),
    "big_bird": ("big_bird", pieces("spiece.model", model_type="bpe", pad_id=0, eos_id=1, bos_id=2,
                                    unk_id=3, user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
                                    **ANGLES), None),
    "deberta": ("deberta", bytes_of(DEBERTA), None),
    "splinter": ("splinter", words(question), None),
}
SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
             max_position_embeddings=514, dim=16, n_layers=1, n_heads=2, hidden_dim=16,
             embedding_size=16, intra_bottleneck_size=16)


def run(command, text=None):
    done = subprocess.run(command, capture_output=True, input=text)
    if done.returncode:
        raise RuntimeError(done.stderr.decode().strip().splitlines()[-1])
    return done.stdout.decode()


def encoded(t, pairs):
    """Ids, offsets and types as transformers gives them."""
    out = t([a for a, _ in pairs], [b for _, b in pairs], return_offsets_mapping=True,
            return_token_type_ids=True)
    return [{"input_ids": out["input_ids"][i],
             "offset_mapping": [list(x) for x in out["offset_mapping"][i]],
             "token_type_ids": out["token_type_ids"][i]} for i in range(len(pairs))]


def ours(a, folder, pairs):
    text = "".join(json.dumps({"text": x, "text_pair": y}) + "\n" for x, y in pairs)
    return [json.loads(x) for x in run([os.path.join(a.build, "tok"), "--tokenizer_name", folder,
                                        "--jsonl"], text.encode()).splitlines()]


def differences(mine, theirs):
    return [i for i, (x, y) in enumerate(zip(mine, theirs)) if any(x[k] != y[k] for k in y)]


def compare(a, source, model_type, work, pairs):
    """What is wrong with what train saves from this folder; nothing: ''."""
    before = T.AutoTokenizer.from_pretrained(source)
    sizes = dict(SIZES, model_type=model_type, vocab_size=len(before),
                 pad_token_id=before.pad_token_id, sep_token_id=before.sep_token_id)
    config, out = os.path.join(work, "tiny.json"), os.path.join(work, "saved")
    with open(config, "w", encoding="utf-8") as f:
        json.dump(sizes, f)
    run([os.path.join(a.build, "train"), "--config_name", config, "--tokenizer_name", source,
         "--train_file", a.train_file, "--output_dir", out, "--max_steps", "1",
         "--max_seq_length", "128", "--doc_stride", "32", "--overwrite_output_dir"])
    mine, after = ours(a, out, pairs), T.AutoTokenizer.from_pretrained(out)
    wrong = []
    for what, t in (("saved", after), ("source", before)):
        bad = differences(mine, encoded(t, pairs))
        if bad:
            i = bad[0]
            wrong.append(f"{what}: {len(bad)} differ, as {pairs[i]!r:.80}: "
                         f"{mine[i]['input_ids'][:12]} {encoded(t, [pairs[i]])[0]['input_ids'][:12]}")
    return "; ".join(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("names", nargs="*")
    a = parser.parse_args()
    if not os.path.isdir(shared("")):
        print(f"SKIP: {shared('')}: no such folder")
        return 0
    T.utils.logging.set_verbosity_error()
    pairs = pairs_of("korquad/KorQuAD_v1.0_dev.json", a.texts // 2) \
        + pairs_of("english/xquad.en.json", a.texts - a.texts // 2)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as work:
        a.train_file = os.path.join(work, "train.jsonl")
        with open(os.path.join(ROOT, "data", "train.jsonl"), encoding="utf-8") as f:
            rows = f.readlines()[:40]
        with open(a.train_file, "w", encoding="utf-8") as f:
            f.writelines(rows)
        for name in a.names or FAMILIES:
            model_type, make, config = FAMILIES[name]
            for form in ("files", "json"):
                source = os.path.join(work, f"{name} {form}")
                os.makedirs(source)
                with open(os.path.join(source, "config.json"), "w", encoding="utf-8") as f:
                    json.dump({"model_type": model_type}, f)
                if config:
                    with open(os.path.join(source, "tokenizer_config.json"), "w",
                              encoding="utf-8") as f:
                        json.dump(config, f)
                make(source, pairs)
                if form == "json" and model_type == "splinter":
                    print(f"skip  {name}, json: transformers opens no folder that it saved so")
                    continue
                if form == "json":
                    T.AutoTokenizer.from_pretrained(source).save_pretrained(source)
                try:
                    wrong = compare(a, source, model_type, work, pairs)
                except RuntimeError as e:
                    wrong = str(e)
                passed, failed = passed + (not wrong), failed + bool(wrong)
                print(f"{'FAIL' if wrong else 'ok'}  {name}, {form}: {wrong or len(pairs)}",
                      flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
