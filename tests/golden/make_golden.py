#!/usr/bin/env python3
"""Makes the fixtures beside this file: what PyTorch and transformers compute for four tiny readers.

usage: make_golden.py [--check] [--out DIR]

Needs torch, transformers and safetensors; the tests need only the fixtures.  README.md has the
format.  Everything is computed in float64 from float32 weights and rounded once at the end, so a
fixture is closer to the exact result than any float32 run.  --check writes nothing: it holds the
committed fixtures against finite differences, against a run of PyTorch with other means (packed
sequences, explicit position ids, float32), and against a fresh run.
"""
import argparse
import json
import os

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import torch_reader

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 10
RECIPE = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01}
CLIP = {"lr": 4e-3, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.1}
CLIP_NORM, CLIP_WARMUP = 0.22, 3
SHARED = {"hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
          "initializer_range": 0.02}

# Odd sizes throughout: heads of 8, 12, 5 and 11, an LSTM narrower than the encoder, lengths down
# to 1.  "inside" is a place (sequence, position) where the pad's id stands inside the text.
MODELS = {
    "roberta_linear": {
        "config": {"architectures": ["RobertaForQuestionAnswering"], "model_type": "roberta",
                   "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2,
                   "num_attention_heads": 3, "intermediate_size": 40,
                   "max_position_embeddings": 40, "type_vocab_size": 1, "pad_token_id": 1,
                   "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5},
        "lengths": [13, 7, 1, 10], "inside": (0, 4), "seed": 11,
    },
    "roberta_bilstm": {
        "config": {"model_type": "roberta",
                   "vocab_size": 47, "hidden_size": 24, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "intermediate_size": 36,
                   "max_position_embeddings": 37, "type_vocab_size": 1, "pad_token_id": 1,
                   "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5,
                   "mrc_head": {"type": "bilstm", "num_layers": 2, "hidden_size": 11,
                                "dropout": 0.0}},
        "lengths": [6, 15, 1, 11], "inside": (1, 8), "seed": 12,
    },
    "bert_linear": {
        "config": {"architectures": ["BertForQuestionAnswering"], "model_type": "bert",
                   "vocab_size": 59, "hidden_size": 20, "num_hidden_layers": 3,
                   "num_attention_heads": 4, "intermediate_size": 33,
                   "max_position_embeddings": 31, "type_vocab_size": 2, "pad_token_id": 0,
                   "layer_norm_eps": 1e-12},
        "lengths": [9, 17, 5], "inside": (1, 11), "seed": 13,
    },
    "bert_bilstm": {
        "config": {"model_type": "bert",
                   "vocab_size": 43, "hidden_size": 22, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "intermediate_size": 35,
                   "max_position_embeddings": 29, "type_vocab_size": 2, "pad_token_id": 0,
                   "layer_norm_eps": 1e-12,
                   "mrc_head": {"type": "bilstm", "num_layers": 2, "hidden_size": 9,
                                "dropout": 0.0}},
        "lengths": [12, 3, 1, 8, 5], "inside": (0, 9), "seed": 14,
    },
}


# ---------------------------------------------------------------------------- batches

def make_sequences(spec):
    """Lists of tensors: ids, types, and the targets, from the model's seed."""
    g = torch.Generator().manual_seed(spec["seed"] + 1000)
    c, ids, types, starts, ends = spec["config"], [], [], [], []
    for n in spec["lengths"]:
        ids.append(torch.randint(3, c["vocab_size"], (n,), generator=g))
        question = int(torch.randint(0, n, (1,), generator=g))
        types.append((torch.arange(n) >= question).long() * (c["type_vocab_size"] - 1))
        starts.append(int(torch.randint(0, n, (1,), generator=g)))
        ends.append(int(torch.randint(starts[-1], n, (1,), generator=g)))
    s, t = spec["inside"]
    ids[s][t] = c["pad_token_id"]
    return ids, types, torch.tensor(starts), torch.tensor(ends)


def positions_of(config, ids):
    """PARITY 3.15, written here anew: transformers' own are not stored unseen."""
    if config["model_type"] == "bert":
        return torch.arange(len(ids))
    m = (ids != config["pad_token_id"]).long()
    return torch.cumsum(m, 0) * m + config["pad_token_id"]


def make_batch(spec, form):
    """Contract B's arrays: every tensor of rows is packed, sequence after sequence."""
    ids, types, starts, ends = make_sequences(spec)
    real = torch.tensor(spec["lengths"])
    if form == "padded":
        width, pad = max(spec["lengths"]), spec["config"]["pad_token_id"]
        ids = [F.pad(x, (0, width - len(x)), value=pad) for x in ids]
        types = [F.pad(x, (0, width - len(x)), value=0) for x in types]
    rows = torch.tensor([len(x) for x in ids])
    return {"input_ids": torch.cat(ids), "token_type_ids": torch.cat(types),
            "position_ids": torch.cat([positions_of(spec["config"], x) for x in ids]),
            "cu_seqlens": F.pad(rows.cumsum(0), (1, 0)), "lengths": real,
            "start_positions": starts, "end_positions": ends}


def groups(batch):
    """The runs of the encoder: (ids, types, mask, sequences).  A padded batch is one run of
    (B, T); a ragged one is B runs without pads or mask."""
    cu, real = batch["cu_seqlens"].tolist(), batch["lengths"].tolist()
    width = cu[1] - cu[0]
    if cu == [i * width for i in range(len(cu))]:
        mask = (torch.arange(width)[None, :] < batch["lengths"][:, None]).long()
        yield (batch["input_ids"].view(-1, width), batch["token_type_ids"].view(-1, width), mask,
               list(range(len(real))))
    else:
        for s, n in enumerate(real):
            rows = slice(cu[s], cu[s + 1])
            yield (batch["input_ids"][rows][None], batch["token_type_ids"][rows][None],
                   torch.ones(1, n, dtype=torch.long), [s])


def forward(reader, batch, explicit_positions=False):
    """Loss (mean over sequences of the two cross-entropies' mean) and what led to it, packed."""
    parts, loss, total = [], 0.0, len(batch["lengths"])
    cu = batch["cu_seqlens"].tolist()
    for ids, types, mask, which in groups(batch):
        more = {}
        if explicit_positions:
            rows = slice(cu[which[0]], cu[which[-1] + 1])
            more["position_ids"] = batch["position_ids"][rows].view(ids.shape)
        out = reader(ids, attention_mask=mask, token_type_ids=types, **more)
        parts.append(out)
        for column in ("start", "end"):
            target = batch[column + "_positions"][which]
            loss = loss + F.cross_entropy(out[column + "_logits"], target, reduction="sum") / 2
    packed = {k: torch.cat([p[k].flatten() for p in parts]) for k in ("start_logits", "end_logits")}
    for i in range(len(parts[0]["hidden_states"])):
        packed[f"hidden.{i}"] = torch.cat([p["hidden_states"][i].flatten(0, 1) for p in parts])
    if "lstm" in parts[0]:
        packed["lstm"] = torch.cat([p["lstm"].flatten(0, 1) for p in parts])
    return loss / total, packed


def zero_gradient(config, names):
    """Parameters whose exact gradient is 0: softmax ignores a shift of all its inputs."""
    last = f"encoder.layer.{config['num_hidden_layers'] - 1}.output.LayerNorm.bias"
    return [n for n in names if n.endswith("attention.self.key.bias")
            or n in ("qa_outputs.bias", "qa_head.bias")
            or ("mrc_head" not in config and n.endswith(last))]


# ---------------------------------------------------------------------------- optimizers

class AdamWHF:
    """transformers' AdamW as PARITY 3.11 states it (transformers 5 no longer has it)."""

    def __init__(self, parameters, lr, betas, eps, weight_decay):
        self.parameters, self.lr, self.betas = list(parameters), lr, betas
        self.eps, self.weight_decay, self.t = eps, weight_decay, 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self):
        self.t += 1
        b1, b2 = self.betas
        alpha = self.lr * (1 - b2 ** self.t) ** 0.5 / (1 - b1 ** self.t)
        for p, m, v in zip(self.parameters, self.m, self.v):
            if p.grad is None:
                continue
            m.mul_(b1).add_(p.grad, alpha=1 - b1)
            v.mul_(b2).add_(p.grad * p.grad, alpha=1 - b2)
            p.sub_(alpha * m / (v.sqrt() + self.eps))
            if self.weight_decay > 0:
                p.sub_(self.lr * self.weight_decay * p)


def clip_groups(module):
    """HF's two groups: no decay for biases and LayerNorm weights."""
    spared = {n for n, _ in module.named_parameters() if "bias" in n or "LayerNorm.weight" in n}
    return [{"params": [p for n, p in module.named_parameters() if (n in spared) == flag],
             "weight_decay": 0.0 if flag else CLIP["weight_decay"]} for flag in (False, True)]


def warmup_linear(t):
    if t < CLIP_WARMUP:
        return t / max(1, CLIP_WARMUP)
    return max(0.0, (STEPS - t) / max(1, STEPS - CLIP_WARMUP))


def train(directory, batch, optim, dtype=torch.float64, max_norm=CLIP_NORM):
    """STEPS steps on one batch.  Returns the weights and the record of losses, rates, norms."""
    reader, module, _ = torch_reader.load_reader(directory)
    module.to(dtype)
    schedule = None
    if optim == "adamw_torch":
        opt = torch.optim.AdamW(module.parameters(), foreach=False, **RECIPE)
    elif optim == "adamw_hf":
        opt = AdamWHF(module.parameters(), **RECIPE)
    else:
        opt = torch.optim.AdamW(clip_groups(module), foreach=False, **CLIP)
        schedule = torch.optim.lr_scheduler.LambdaLR(opt, warmup_linear)
    losses, rates, norms = [], [], []
    for _ in range(STEPS):
        loss = forward(reader, batch)[0]
        module.zero_grad(set_to_none=True)
        loss.backward()
        losses.append(loss.item())
        if schedule:
            rates.append(opt.param_groups[0]["lr"])
            norms.append(nn.utils.clip_grad_norm_(module.parameters(), max_norm).item())
        opt.step()
        if schedule:
            schedule.step()
    losses.append(forward(reader, batch)[0].item())
    record = {"losses": losses}
    if schedule:
        record.update(lr=rates, grad_norm=norms)
    return module.state_dict(), {k: torch.tensor(v, dtype=torch.float64) for k, v in record.items()}


# ---------------------------------------------------------------------------- fixtures

def make_model(spec, directory):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w", encoding="utf8") as f:
        json.dump({**spec["config"], **SHARED}, f, indent=2)
        f.write("\n")
    torch.manual_seed(0)
    _, module = torch_reader.new_reader({**spec["config"], **SHARED})
    torch_reader.fill(module, torch.Generator().manual_seed(spec["seed"]))
    save(os.path.join(directory, "model.safetensors"), module.state_dict(), format="pt")


def save(path, tensors, **metadata):
    """At most one metadata key: safetensors writes several in random order, and a file made again
    should be the same bytes."""
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(tensors, path, metadata=metadata or None)


def gradients(directory, batch, dtype=torch.float64):
    reader, module, _ = torch_reader.load_reader(directory)
    module.to(dtype)
    loss, packed = forward(reader, batch)
    loss.backward()
    grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    return loss.detach(), packed, grads


def make_golden(spec, directory, form):
    batch = make_batch(spec, form)
    loss, packed, grads = gradients(directory, batch)
    out = dict(batch, loss=loss.view(1))
    out.update({k: v.float() for k, v in packed.items()})
    out.update({"grad." + n: g.float() for n, g in grads.items()})
    for optim, prefix in (("adamw_torch", "step10."), ("adamw_hf", "step10_hf.")):
        weights, record = train(directory, batch, optim)
        out.update({prefix + n: w.float() for n, w in weights.items()})
        out["losses" if optim == "adamw_torch" else "losses_hf"] = record["losses"]
    zeros = zero_gradient(spec["config"], grads)
    return out, {"zero_gradient": ",".join(zeros)}


def make_clip(spec, directory):
    """The ragged batch again, with clipping, warmup and decay by groups; weights and curve only."""
    batch = make_batch(spec, "ragged")
    weights, record = train(directory, batch, "clip")
    out = dict(batch, **record)
    out.update({"step10." + n: w.float() for n, w in weights.items()})
    return out, {"zero_gradient": ",".join(zero_gradient(spec["config"], weights))}


def make_lstm():
    """One bidirectional layer over packed sequences (torch's own packing), and its gradients."""
    g = torch.Generator().manual_seed(15)
    lengths = torch.tensor([6, 1, 9, 3])
    rows = int(lengths.sum())
    lstm = nn.LSTM(5, 7, bidirectional=True, batch_first=True)
    torch_reader.fill(lstm, g, std=0.4)
    weights = {n: p.detach().clone() for n, p in lstm.named_parameters()}
    x = torch.randn(rows, 5, generator=g)
    dy = torch.randn(rows, 14, generator=g)
    lstm.double()
    wide = x.double().requires_grad_()
    packed = nn.utils.rnn.pack_sequence(wide.split(lengths.tolist()), enforce_sorted=False)
    y, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    y = torch.cat([y[i, :n] for i, n in enumerate(lengths.tolist())])
    (y * dy.double()).sum().backward()
    out = {"lengths": lengths, "cu_seqlens": F.pad(lengths.cumsum(0), (1, 0)), "x": x, "dy": dy,
           "y": y, "dx": wide.grad}
    out.update(weights)
    out.update({"grad." + n: p.grad for n, p in lstm.named_parameters()})
    return out


def make_all(out):
    for name, spec in MODELS.items():
        directory = os.path.join(out, name)
        make_model(spec, directory)
        for form in ("padded", "ragged"):
            tensors, metadata = make_golden(spec, directory, form)
            save(os.path.join(directory, f"golden_{form}.safetensors"), tensors, **metadata)
        if name == "roberta_bilstm":
            tensors, metadata = make_clip(spec, directory)
            save(os.path.join(directory, "golden_clip.safetensors"), tensors, **metadata)
    save(os.path.join(out, "lstm.safetensors"), make_lstm())


# ---------------------------------------------------------------------------- checks

class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def bound(self, what, value, bar):
        good = value <= bar
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'} {what}: {value:.2e} (bar {bar:.0e})")


def apart(a, b):
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0


def worst(pairs):
    """Largest difference over all pairs, each relative to the second's largest element."""
    return max(apart(a, b) / max(b.abs().max().item(), 1e-300) for a, b in pairs)


def check_finite_differences(r, name, directory, batch, golden):
    """Three elements of every parameter, the largest of its gradient among them."""
    reader, module, _ = torch_reader.load_reader(directory)
    module.double()
    g, error, h = torch.Generator().manual_seed(5), 0.0, 1e-6
    with torch.no_grad():
        for n, p in module.named_parameters():
            if "grad." + n not in golden:
                continue
            want, flat = golden["grad." + n].double().flatten(), p.view(-1)
            picks = [int(want.abs().argmax())]
            picks += torch.randint(0, len(flat), (2,), generator=g).tolist()
            for i in picks:
                # transformers' padding rows have no gradient though the loss depends on them
                width, pad = p.shape[-1], module_pad(module, n)
                if pad is not None and i // width == pad:
                    continue
                old = flat[i].item()
                flat[i] = old + h
                up = forward(reader, batch)[0].item()
                flat[i] = old - h
                down = forward(reader, batch)[0].item()
                flat[i] = old
                scale = max(want.abs().max().item(), 1e-3)
                error = max(error, abs((up - down) / (2 * h) - want[i].item()) / scale)
    r.bound(f"{name}: gradients against finite differences", error, 1e-6)


def module_pad(module, name):
    owner = module.get_submodule(name.rpartition(".")[0])
    return owner.padding_idx if isinstance(owner, nn.Embedding) else None


def check_float32(r, name, directory, spec, batch, golden):
    """What plain float32 PyTorch reaches against the same bars: they must be reachable."""
    loss, packed, grads = gradients(directory, batch, torch.float32)
    r.bound(f"{name}: float32 loss", abs(loss.item() - golden["loss"].item()), 1e-6)
    for k in ("start_logits", "end_logits"):
        r.bound(f"{name}: float32 {k}", apart(packed[k], golden[k]), 1e-5)
    zeros = zero_gradient(spec["config"], grads)
    rest = [n for n in grads if n not in zeros]
    r.bound(f"{name}: float32 gradients",
            worst((grads[n], golden["grad." + n]) for n in rest), 1e-5)
    for optim, prefix in (("adamw_torch", "step10."), ("adamw_hf", "step10_hf.")):
        weights, _ = train(directory, batch, optim, torch.float32)
        r.bound(f"{name}: float32 weights after {STEPS} steps of {optim}",
                max(apart(weights[n], golden[prefix + n]) for n in weights if n not in zeros), 1e-5)
        r.bound(f"{name}: those of zero gradient",
                max(apart(weights[n], golden[prefix + n]) for n in zeros), STEPS * RECIPE["lr"])


def check_zeros(r, name, directory, spec, batch, golden):
    """Exactly the parameters said to have a zero gradient have one; pad rows have none at all."""
    _, _, grads = gradients(directory, batch)
    zeros = zero_gradient(spec["config"], grads)
    r.bound(f"{name}: largest gradient of those said to be zero",
            max(grads[n].abs().max().item() for n in zeros), 1e-15)
    r.bound(f"{name}: 1 / smallest largest gradient of the others",
            1 / min(g.abs().max().item() for n, g in grads.items() if n not in zeros), 1e5)
    pad, rows = spec["config"]["pad_token_id"], []
    for n, g in golden.items():
        roberta = spec["config"]["model_type"] == "roberta"
        if n.endswith("word_embeddings.weight") and n.startswith("grad."):
            rows.append(g[pad])
        if n.endswith("position_embeddings.weight") and n.startswith("grad.") and roberta:
            rows.append(g[pad])
    r.bound(f"{name}: gradient of {len(rows)} padding rows",
            max(x.abs().max().item() for x in rows), 0.0)


def check_forms(r, name, directory, padded, ragged):
    """What masks make equal: the encoder on real rows, and with the linear head the logits."""
    real = torch.cat([torch.arange(n) + padded["cu_seqlens"][s]
                      for s, n in enumerate(padded["lengths"].tolist())])
    keys = [k for k in ragged if k.startswith("hidden.")]
    logits = ["start_logits", "end_logits"]
    r.bound(f"{name}: padded and ragged hidden states",
            max(apart(padded[k][real], ragged[k]) for k in keys), 1e-6)
    gap = max(apart(padded[k][real], ragged[k]) for k in logits)
    if "lstm" not in ragged:
        r.bound(f"{name}: padded and ragged logits", gap, 1e-6)
        return
    r.bound(f"{name}: 1 / what pads do to the logits through the LSTM", 1 / gap, 1e3)
    # the ragged LSTM again, by torch's packing of the padded run's hidden states
    _, module, _ = torch_reader.load_reader(directory)
    last, n = ragged[keys[-1]].double(), ragged["lengths"].tolist()
    packed = nn.utils.rnn.pack_sequence(last.split(n), enforce_sorted=False)
    h, _ = nn.utils.rnn.pad_packed_sequence(module.double().lstm(packed)[0], batch_first=True)
    h = torch.cat([h[i, :k] for i, k in enumerate(n)])
    r.bound(f"{name}: ragged LSTM against packed sequences", apart(h, ragged["lstm"]), 1e-6)


def check_clip(r, spec, directory, golden):
    """The curve crosses the norm both ways, and float32 reaches the bars."""
    zeros = zero_gradient(spec["config"], [k[7:] for k in golden if k.startswith("step10.")])
    norms = golden["grad_norm"].tolist()
    clipped = sum(n > CLIP_NORM for n in norms)
    r.bound("clip: steps clipped or not, the rarer", 1 / max(min(clipped, STEPS - clipped), 1e-9),
            0.5)
    batch = make_batch(spec, "ragged")
    weights, _ = train(directory, batch, "clip", max_norm=1e9)
    r.bound("clip: 1 / what clipping changes in the weights",
            1 / max(apart(weights[n], golden["step10." + n]) for n in weights), 1e4)
    weights, record = train(directory, batch, "clip", torch.float32)
    r.bound("clip: float32 losses", apart(record["losses"], golden["losses"]), 1e-5)
    r.bound("clip: float32 norms", apart(record["grad_norm"], golden["grad_norm"]), 1e-5)
    r.bound("clip: float32 weights",
            max(apart(weights[n], golden["step10." + n]) for n in weights if n not in zeros), 1e-5)


def check(out):
    r = Report()
    for name, spec in MODELS.items():
        directory, forms = os.path.join(out, name), {}
        for form in ("padded", "ragged"):
            path = os.path.join(directory, f"golden_{form}.safetensors")
            golden, batch = forms.setdefault(form, load_file(path)), make_batch(spec, form)
            label = f"{name}/{form}"
            fresh, metadata = make_golden(spec, directory, form)
            with safe_open(path, "pt") as f:
                stored = f.metadata()["zero_gradient"]
            if fresh.keys() != golden.keys() or stored != metadata["zero_gradient"]:
                raise SystemExit(f"{path}: other tensors or metadata than a fresh run's")
            r.bound(f"{label}: the file against a fresh run",
                    max(apart(fresh[k], golden[k]) for k in golden), 1e-6)
            reader, module, _ = torch_reader.load_reader(directory)
            module.double()
            loss, _ = forward(reader, batch, explicit_positions=True)
            r.bound(f"{label}: loss with the stored position ids",
                    abs(loss.item() - golden["loss"].item()), 1e-12)
            check_finite_differences(r, label, directory, batch, golden)
            check_zeros(r, label, directory, spec, batch, golden)
            check_float32(r, label, directory, spec, batch, golden)
        check_forms(r, name, directory, forms["padded"], forms["ragged"])
        if name == "roberta_bilstm":
            check_clip(r, spec, directory,
                       load_file(os.path.join(directory, "golden_clip.safetensors")))
    lstm, fresh = load_file(os.path.join(out, "lstm.safetensors")), make_lstm()
    r.bound("lstm: the file against a fresh run", max(apart(lstm[k], fresh[k]) for k in fresh),
            1e-12)
    print(f"{r.passed} passed, {r.failed} failed")
    return r.failed != 0


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--check", action="store_true", help="check the committed fixtures only")
    ap.add_argument("--out", default=HERE, help="where the fixtures are (default: beside this)")
    a = ap.parse_args()
    torch.set_num_threads(1)
    if a.check:
        raise SystemExit(check(a.out))
    make_all(a.out)


if __name__ == "__main__":
    main()
