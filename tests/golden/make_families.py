#!/usr/bin/env python3
"""Makes the fixtures in families/: what transformers computes for a tiny reader of each family.

usage: make_families.py [--check] [--out DIR] [NAME..]

Needs torch, transformers (written with 4.57.6) and safetensors; the tests need only the fixtures.
README.md has the format.  Everything is computed in float64 from float32 weights and rounded once
at the end.  --check writes nothing: it holds the committed fixtures against a fresh run, against
the padded batch, and shows what float32 reaches.
"""
import argparse
import json
import os

import torch
import transformers as T
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim import AdamW
from transformers.trainer import Trainer

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 10
RECIPE = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-6}
DECAY = 0.1
LENGTHS = [13, 6, 1, 9]

BASE = dict(vocab_size=41, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=14, max_position_embeddings=24, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0)
REL = dict(BASE, relative_attention=True, max_relative_positions=-1)
V3 = dict(REL, pos_att_type="p2c|c2p", share_att_key=True, norm_rel_ebd="layer_norm",
          position_biased_input=False, type_vocab_size=0, position_buckets=6)
MODERN = dict({k: v for k, v in BASE.items() if "prob" not in k}, pad_token_id=0, bos_token_id=1,
              eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=6,
              num_hidden_layers=3, attn_implementation="eager", hidden_size=12,
              num_attention_heads=3)
MOBILE = dict(BASE, embedding_size=7, intra_bottleneck_size=9, num_feedforward_networks=3)

# name: class of the reader, class of the configuration, its numbers, seed
FAMILIES = {
    "xlm_roberta": ("XLMRoberta", dict(BASE, layer_norm_eps=1e-5, type_vocab_size=1), 21),
    "camembert": ("Camembert", dict(BASE, layer_norm_eps=1e-5, type_vocab_size=1), 22),
    "electra": ("Electra", dict(BASE, embedding_size=7), 23),
    "electra_wide": ("Electra", dict(BASE, embedding_size=12), 24),
    "distilbert": ("DistilBert", dict(vocab_size=41, dim=12, n_layers=2, n_heads=3, hidden_dim=14,
                                      max_position_embeddings=24, dropout=0.0,
                                      attention_dropout=0.0, qa_dropout=0.0), 25),
    "albert": ("Albert", dict(BASE, embedding_size=7), 26),
    "albert_groups": ("Albert", dict(BASE, embedding_size=7, num_hidden_layers=4,
                                     num_hidden_groups=2, inner_group_num=2), 27),
    "mpnet": ("MPNet", dict(BASE, layer_norm_eps=1e-5), 28),
    "deberta_v3": ("DebertaV2", V3, 29),
    "deberta_v2": ("DebertaV2", dict(REL, pos_att_type=["p2c", "c2p"], conv_kernel_size=3,
                                     conv_act="gelu", type_vocab_size=2, embedding_size=7,
                                     position_buckets=6), 30),
    "deberta_v2_c2p": ("DebertaV2", dict(REL, max_relative_positions=7, pos_att_type=["c2p"]), 31),
    "deberta_plain": ("DebertaV2", dict(BASE), 32),
    "deberta": ("Deberta", dict(REL, max_relative_positions=9, pos_att_type="c2p|p2c",
                                position_biased_input=False, type_vocab_size=0), 33),
    "modernbert": ("ModernBert", MODERN, 34),
    "modernbert_biases": ("ModernBert", dict(MODERN, norm_bias=True, attention_bias=True,
                                             mlp_bias=True, classifier_bias=True,
                                             global_attn_every_n_layers=2, global_rope_theta=100.0,
                                             local_rope_theta=10.0), 35),
    "mobilebert": ("MobileBert", MOBILE, 49),
    "splinter": ("Splinter", dict(BASE, question_token_id=5), 37),
    "big_bird": ("BigBird", dict(BASE, block_size=4, num_random_blocks=1,
                                 max_position_embeddings=64, sep_token_id=4), 38),
}


plain_softmax = torch.nn.functional.softmax


def softmax(x, dim=None, dtype=None, **more):
    """Some families ask for float32 whatever the model is: float64 stays."""
    return plain_softmax(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype, **more)


torch.nn.functional.softmax = softmax


def make_model(name):
    """The configuration, the reader in float32 with weights that hide nothing."""
    kind, numbers, seed = FAMILIES[name]
    config = getattr(T, kind + "Config")(**numbers)
    model = getattr(T, kind + "ForQuestionAnswering")(config)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for n, p in model.named_parameters():
            one = p.ndim == 1 and n.endswith("weight")
            p.copy_(torch.randn(p.shape, generator=g) * 0.2 + (1.0 if one else 0.0))
    return model.eval()


def make_batch(config, seed):
    """Packed rows, and the sequences as lists."""
    g = torch.Generator().manual_seed(seed + 1000)
    ids, types, starts, ends = [], [], [], []
    has_types = (getattr(config, "type_vocab_size", 0) or 0) > 1
    for n in LENGTHS:
        x = torch.randint(6, config.vocab_size, (n,), generator=g)
        question = int(torch.randint(0, n, (1,), generator=g))
        if config.model_type == "splinter":
            x[n // 3] = config.question_token_id
        if config.model_type == "big_bird":             # the first [SEP] ends the question
            x[n // 2] = config.sep_token_id
        ids.append(x)
        types.append((torch.arange(n) >= question).long() * int(has_types))
        first = min(n // 2 + (config.model_type == "big_bird"), n - 1)     # after the separator
        starts.append(int(torch.randint(first, n, (1,), generator=g)))
        ends.append(int(torch.randint(starts[-1], n, (1,), generator=g)))
    return ids, types, starts, ends


def run(model, ids, types):
    """Logits (n, 2) of one sequence alone, without pads."""
    args = {"input_ids": ids[None]}
    if (getattr(model.config, "type_vocab_size", 0) or 0) > 1:
        args["token_type_ids"] = types[None]
    if model.config.model_type == "splinter":           # a mask of integers makes its f64 NaN
        args["attention_mask"] = torch.ones(1, len(ids), dtype=model.dtype)
    out = model(**args)
    return torch.stack([out.start_logits[0], out.end_logits[0]], -1)


def loss_of(model, batch):
    """The mean over sequences of both ends' cross-entropies, halved; and all logits."""
    ids, types, starts, ends = batch
    loss, logits = 0, []
    for i, _ in enumerate(ids):
        x = run(model, ids[i], types[i])
        loss = loss - (x[:, 0].log_softmax(0)[starts[i]] + x[:, 1].log_softmax(0)[ends[i]]) / 2
        logits.append(x)
    return loss / len(ids), torch.cat(logits)


def train(model, batch):
    """Ten steps of AdamW; Hugging Face's groups say what is decayed."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    named = list(model.named_parameters())
    optimizer = AdamW([{"params": [p for n, p in named if n in decayed], "weight_decay": DECAY},
                       {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0}],
                      **RECIPE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, _ = loss_of(model, batch)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    losses.append(loss_of(model, batch)[0].item())
    return losses


def used(model, grads):
    return {n: g for n, g in grads.items() if g is not None}


def positions_of(config, ids):
    if config.model_type in ("xlm-roberta", "camembert", "mpnet"):
        return torch.arange(len(ids)) + 2
    if config.model_type == "modernbert" or not getattr(config, "position_biased_input", True):
        return torch.zeros(len(ids), dtype=torch.long)
    return torch.arange(len(ids))


def make_golden(name, model, dtype=torch.float64):
    """Everything of golden_ragged.safetensors, and its metadata."""
    model = model.to(dtype)
    batch = make_batch(model.config, FAMILIES[name][2])
    ids, types, starts, ends = batch
    loss, logits = loss_of(model, batch)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    most = max(g.abs().max().item() for g in grads.values())
    zero = [n for n, g in grads.items() if g.abs().max().item() < 1e-12 * most]
    lengths = torch.tensor(LENGTHS)
    out = {"input_ids": torch.cat(ids), "token_type_ids": torch.cat(types),
           "position_ids": torch.cat([positions_of(model.config, x) for x in ids]),
           "cu_seqlens": torch.nn.functional.pad(lengths.cumsum(0), (1, 0)), "lengths": lengths,
           "start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends),
           "start_logits": logits[:, 0], "end_logits": logits[:, 1], "loss": loss[None]}
    out.update({"grad." + n: g for n, g in grads.items()})
    losses = train(model, batch)
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    out.update({"step10." + n: p for n, p in model.named_parameters() if "grad." + n in out})
    final = {}
    for key, value in out.items():
        keep = value.dtype == torch.int64 or key in ("loss", "losses")
        value = value.detach().clone().contiguous()
        final[key] = value if keep else value.to(torch.float32)
    return final, {"zero_gradient": ",".join(zero)}


def apart(a, b):
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0


def check(name, folder):
    """The committed files against a fresh run, against pads, and in float32."""
    golden = load_file(os.path.join(folder, "golden_ragged.safetensors"))
    fresh, _ = make_golden(name, make_model(name))
    bars = [("keys", float(fresh.keys() != golden.keys()), 0.0),
            ("the file against a fresh run",
             max(apart(fresh[k], golden[k]) for k in golden if k in fresh), 1e-6)]
    single, _ = make_golden(name, make_model(name), torch.float32)
    zero = safe_open(os.path.join(folder, "golden_ragged.safetensors"), "pt").metadata()
    zero = zero["zero_gradient"].split(",")
    bars.append(("float32 logits", max(apart(single[k], golden[k]) for k in
                                       ("start_logits", "end_logits")), 2e-5))
    bars.append(("float32 weights after ten steps",
                 max(apart(single[k], golden[k]) for k in golden
                     if k.startswith("step10.") and k[7:] not in zero), 1e-4))
    reader = type(make_model(name)).from_pretrained(folder).double().eval()
    batch = make_batch(reader.config, FAMILIES[name][2])
    bars.append(("the folder as transformers opens it",
                 apart(loss_of(reader, batch)[0], golden["loss"]), 1e-12))
    bad = 0
    for what, value, bar in bars:
        good = value <= bar
        bad += not good
        print(f"{'ok' if good else 'FAIL'}  {name}: {what}: {value:.2g} (bar {bar:.1g})")
    return len(bars) - bad, bad


def write(name, folder):
    os.makedirs(folder, exist_ok=True)
    model = make_model(name)
    model.save_pretrained(folder)
    config = os.path.join(folder, "config.json")
    with open(config, encoding="utf-8") as f:
        numbers = json.load(f)
    numbers.pop("transformers_version", None)
    with open(config, "w", encoding="utf-8") as f:
        json.dump(numbers, f, indent=1, sort_keys=True)
        f.write("\n")
    golden, metadata = make_golden(name, model)
    save_file(golden, os.path.join(folder, "golden_ragged.safetensors"), metadata)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", default=os.path.join(HERE, "families"))
    parser.add_argument("names", nargs="*")
    a = parser.parse_args()
    torch.set_num_threads(1)
    T.utils.logging.set_verbosity_error()
    passed = failed = 0
    for name in a.names or FAMILIES:
        folder = os.path.join(a.out, name)
        if a.check:
            good, bad = check(name, folder)
            passed, failed = passed + good, failed + bad
        else:
            write(name, folder)
    if a.check:
        print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
