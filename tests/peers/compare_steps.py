#!/usr/bin/env python3
"""Holds a training run against PyTorch, step by step as both go their own way.

usage: compare_steps.py DIR

DIR is what `gpu_run steps N DIR` left (tests/cuda/gpu_run.c): model/ with the weights before the first
step, and steps.jsonl with a batch, its learning rate and our loss per line.  PyTorch trains the
same model on the same batches with torch.optim.AdamW (no weight decay) and gradients clipped at 1,
and each loss must agree within 1e-4 of it.  On CUDA where PyTorch has it, else on the CPU.

Needs torch, transformers, safetensors; without them it says so and ends well.
"""
import json
import os
import sys

BAR = 1e-4


def rows_loss(reader, rows, device):
    """Mean cross-entropy of the places that a window has, half for starts and half for ends; rows
    run alone, so that none sees a pad."""
    total, count = {"start": 0.0, "end": 0.0}, {"start": 0, "end": 0}
    for row in rows:
        ids = torch.tensor([row["ids"]], device=device)
        out = reader(ids, attention_mask=torch.ones_like(ids),
                     token_type_ids=torch.zeros_like(ids))
        for key in total:
            if row[key] >= 0:
                place = torch.tensor([row[key]], device=device)
                total[key] = total[key] + F.cross_entropy(out[key + "_logits"], place)
                count[key] += 1
    return sum(total[key] / max(count[key], 1) for key in total) / 2


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader, module, _ = torch_reader.load_reader(os.path.join(sys.argv[1], "model"))
    module.to(device).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.0)
    worst, steps = 0.0, 0
    with open(os.path.join(sys.argv[1], "steps.jsonl"), encoding="utf8") as f:
        for line in f:
            step = json.loads(line)
            for group in optimizer.param_groups:
                group["lr"] = step["lr"]
            optimizer.zero_grad()
            loss = rows_loss(reader, step["rows"], device)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            error = abs(float(loss.detach()) - step["loss"]) / abs(float(loss.detach()))
            worst = max(worst, error if error == error else float("inf"))
            steps += 1
    bad = int(not worst <= BAR or steps == 0)
    print(f"{steps} steps on PyTorch {torch.__version__} ({device}), largest difference of a loss "
          f"{worst:.1e} (bar {BAR:.0e})")
    print(f"{1 - bad} passed, {bad} failed")
    return bad


if __name__ == "__main__":
    try:
        import torch
        import torch.nn.functional as F
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden"))
        import torch_reader
    except ImportError as e:
        print(f"SKIP: {e.name} is not installed: steps against PyTorch")
        print("0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    sys.exit(main())
