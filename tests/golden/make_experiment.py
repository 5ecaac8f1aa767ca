#!/usr/bin/env python3
"""Makes experiment/: what PyTorch, transformers, adamp and scikit-learn compute for the choices of
an experiment: heads, losses, optimizers, schedules, parameter groups, folds.

usage: make_experiment.py [--check] [--out DIR]

Needs torch, transformers, safetensors, adamp 0.3.0 and scikit-learn; the tests need only the
fixtures.  README.md has the format.  Everything is float64 from float32 weights.  --check writes
nothing: it computes all of it again and holds the committed files to that; models stay as they are.
"""
import argparse
import os
import shutil
import tempfile

import numpy
import torch
import torch.nn.functional as F
from adamp import AdamP
from safetensors.torch import load_file
from sklearn.model_selection import KFold
from torch import nn
from transformers import get_scheduler

import make_golden
import torch_reader

STEPS = 20
BASE = {"model_type": "roberta", "vocab_size": 23, "hidden_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 18, "max_position_embeddings": 20,
        "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "layer_norm_eps": 1e-5}
HEADS = {
    "linear": None,
    "mlp": {"type": "mlp", "num_layers": 2, "hidden_size": 9, "dropout": 0.0},
    "bilstm": {"type": "bilstm", "num_layers": 1, "hidden_size": 5, "dropout": 0.0},
    "bigru": {"type": "bigru", "num_layers": 2, "hidden_size": 7, "dropout": 0.0},
    "conv1d": {"type": "conv1d", "num_layers": 2, "hidden_size": 10, "dropout": 0.0,
               "kernel_size": 3},
}
# Of the linear head; lr is constant.  "form" is the batch's.
RECIPES = {
    "ce": {},
    "focal_reference": {"loss": ("focal", True, 1.0)},
    "focal_half": {"loss": ("focal", True, 0.5)},
    "focal": {"loss": ("focal", False, 2.0)},
    "smoothing_reference": {"loss": ("smoothing", True, 0.2)},
    "smoothing": {"loss": ("smoothing", False, 0.2)},
    "padded_smoothing": {"loss": ("smoothing", True, 0.2), "form": "padded"},
    "valid_smoothing": {"loss": ("smoothing", True, 0.2), "form": "padded", "valid": True},
    "adamp": {"optim": "adamp", "weight_decay": 0.05},
    "adamp_nesterov": {"optim": "adamp", "weight_decay": 0.05, "nesterov": True},
    "adamw_hf": {"optim": "adamw_hf", "weight_decay": 0.05},
    "sgd": {"optim": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "ema": {"ema": 0.9},
    "fgm": {"fgm": 0.5},
    "groups": {"layer_decay": 0.7, "head_lr": 5e-3},
    "freeze": {"freeze": 1},
}


def loss_of(recipe, logits, target):
    """The formulas of PARITY 3.13, over (B, K) logits, summed over the batch."""
    kind, reference, value = recipe.get("loss", ("ce", False, 0.0))
    lp, k = F.log_softmax(logits, -1), logits.shape[-1]
    own = lp.gather(1, target[:, None])[:, 0]
    if kind == "focal":
        p = own.exp()
        return -((1 - (p.detach() if reference else p)) ** value * own).sum()
    if kind == "smoothing" and reference and k > 1:
        t = torch.full_like(lp, value / (k - 1)).scatter(1, target[:, None], 1 - value)
        return -(t * lp).sum()
    if kind == "smoothing" and not reference:
        return F.cross_entropy(logits, target, label_smoothing=value, reduction="sum")
    return -own.sum()


def step_loss(reader, batch, recipe):
    total, loss = len(batch["lengths"]), 0.0
    for ids, types, mask, which in make_golden.groups(batch):
        out = reader(ids, attention_mask=mask, token_type_ids=types)
        for column in ("start", "end"):
            for row, s in enumerate(which):
                n = int(batch["lengths"][s]) if recipe.get("valid") else ids.shape[1]
                logits = out[column + "_logits"][row:row + 1, :n]
                loss = loss + loss_of(recipe, logits, batch[column + "_positions"][s:s + 1]) / 2
    return loss / total


def depth(name):
    if "embeddings." in name:
        return 0
    return int(name.split("encoder.layer.")[1].split(".")[0]) + 1 if "encoder.layer." in name else \
        BASE["num_hidden_layers"] + 1


def optimizer(recipe, module):
    lr, wd = recipe.get("lr", 1e-3), recipe.get("weight_decay", 0.0)
    head, groups = BASE["num_hidden_layers"] + 1, []
    for name, p in module.named_parameters():
        if not p.requires_grad:
            continue
        rate = lr * recipe.get("layer_decay", 1.0) ** (head - depth(name))
        if depth(name) == head and "head_lr" in recipe:
            rate = recipe["head_lr"]
        groups.append({"params": [p], "lr": rate, "weight_decay": wd})
    kind = recipe.get("optim", "adamw")
    if kind == "adamp":
        return AdamP(groups, lr=lr, eps=1e-6, nesterov=recipe.get("nesterov", False))
    if kind == "adamw_hf":
        return make_golden.AdamWHF([p for group in groups for p in group["params"]], lr,
                                   (0.9, 0.999), 1e-6, wd)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=recipe["momentum"], foreach=False)
    return torch.optim.AdamW(groups, lr=lr, eps=1e-6, foreach=False)


def train(directory, batch, recipe):
    reader, module, _ = torch_reader.load_reader(directory)
    module.double()
    word = next(p for n, p in module.named_parameters() if n.endswith("word_embeddings.weight"))
    for name, p in module.named_parameters():
        p.requires_grad_(not (recipe.get("freeze") and depth(name) <= recipe["freeze"]))
    opt = optimizer(recipe, module)
    average = {n: p.detach().clone() for n, p in module.named_parameters()}
    losses = []
    for _ in range(STEPS):
        module.zero_grad(set_to_none=True)
        loss = step_loss(reader, batch, recipe)
        loss.backward()
        losses.append(loss.item())
        if "fgm" in recipe:
            kept = word.detach().clone()
            with torch.no_grad():
                word.add_(recipe["fgm"] * word.grad / word.grad.norm())
            step_loss(reader, batch, recipe).backward()
            with torch.no_grad():
                word.copy_(kept)
        opt.step()
        for n, p in module.named_parameters():
            average[n] = recipe.get("ema", 0.0) * average[n] + \
                (1 - recipe.get("ema", 0.0)) * p.detach()
    losses.append(step_loss(reader, batch, recipe).item())
    return torch.tensor(losses, dtype=torch.float64), average


def make_head(name, out, new_model):
    spec = {"config": dict(BASE), "lengths": [7, 4, 1], "inside": (0, 4), "seed": 30}
    directory = os.path.join(out, name)
    if HEADS[name]:
        spec["config"]["mrc_head"] = HEADS[name]
    else:
        spec["config"]["architectures"] = ["RobertaForQuestionAnswering"]
    if new_model:
        make_golden.make_model(spec, directory)
    recipes = RECIPES if name == "linear" else {"ce": {}, "padded": {"form": "padded"}}
    files = {"ragged": {}, "padded": {}}
    for recipe_name, recipe in recipes.items():
        form = recipe.get("form", "ragged")
        batch = make_golden.make_batch(spec, form)
        losses, weights = train(directory, batch, recipe)
        files[form]["losses." + recipe_name] = losses
        files[form].update({f"{recipe_name}.{n}": w.float() for n, w in weights.items()})
    for form, tensors in files.items():
        batch = make_golden.make_batch(spec, form)
        loss, packed, grads = make_golden.gradients(directory, batch)
        tensors.update(batch, loss=loss.view(1))
        tensors.update({k: v.float() for k, v in packed.items() if k.endswith("_logits")})
        zeros = make_golden.zero_gradient(spec["config"], grads)
        make_golden.save(os.path.join(directory, f"golden_{form}.safetensors"), tensors,
                         zero_gradient=",".join(zeros))


def make_schedules():
    out = {}
    for kind in ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant",
                 "constant_with_warmup", "inverse_sqrt"):
        for warmup in (0, 5):
            opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
            schedule = get_scheduler(kind, opt, num_warmup_steps=warmup, num_training_steps=30)
            rates = []
            for _ in range(40):
                rates.append(opt.param_groups[0]["lr"])
                opt.step()
                schedule.step()
            out[f"{kind}.{warmup}"] = torch.tensor(rates, dtype=torch.float64)
    return out


def make_folds():
    out = {}
    for n, k, seed in ((2, 2, 0), (10, 5, 42), (11, 5, 42), (100, 3, 1), (3952, 5, 42),
                       (240, 5, 2021), (1000, 10, 7), (17, 17, 4294967295), (513, 2, 123456789),
                       (3706, 5, 1)):
        fold = numpy.zeros(n, dtype=numpy.int32)
        for i, (_, test) in enumerate(KFold(k, shuffle=True, random_state=seed)
                                      .split(numpy.zeros(n))):
            fold[test] = i
        out[f"{n}.{k}.{seed}"] = torch.from_numpy(fold)
    return out


def make_all(out, new_models):
    for name in HEADS:
        make_head(name, out, new_models)
    make_golden.save(os.path.join(out, "schedules.safetensors"), make_schedules())
    make_golden.save(os.path.join(out, "folds.safetensors"), make_folds())


def check(out):
    """Every tensor of every committed file against one computed now, to 1e-6 of its largest."""
    passed, failed, worst = 0, 0, (0.0, "nothing")
    fresh = os.path.join(tempfile.mkdtemp(), "experiment")
    shutil.copytree(out, fresh)
    make_all(fresh, False)
    for directory, _, names in os.walk(out):
        for name in sorted(names):
            if not name.endswith(".safetensors"):
                continue
            path = os.path.relpath(os.path.join(directory, name), out)
            want, got = load_file(os.path.join(fresh, path)), load_file(os.path.join(out, path))
            for key in sorted(want.keys() | got.keys()):
                off = float("inf")
                if key in want and key in got and want[key].shape == got[key].shape:
                    x, y = want[key].double(), got[key].double()
                    off = ((x - y).abs().max() / x.abs().max().clamp(min=1e-30)).item()
                    # A gradient that is zero is noise in both.
                    off = 0.0 if x.abs().max() < 1e-12 and y.abs().max() < 1e-12 else off
                worst = max(worst, (off, f"{path} {key}"))
                if off <= 1e-6:
                    passed += 1
                else:
                    failed += 1
                    print(f"FAIL {path} {key}: off by {off:g}")
    shutil.rmtree(os.path.dirname(fresh))
    print(f"worst: {worst[0]:g} ({worst[1]})")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="check the committed fixtures only")
    parser.add_argument("--out", default=os.path.join(make_golden.HERE, "experiment"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        raise SystemExit(check(args.out))
    make_all(args.out, True)


if __name__ == "__main__":
    main()
