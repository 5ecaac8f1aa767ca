#!/usr/bin/env python3
"""Holds `ensemble --method logit_mean` against numpy's average of the same files.

usage: compare_ensemble.py [--build DIR]

Files of logits of several sizes, weighted and not, with the -inf of padding; and what `predict
--save_logits` writes for the demo's data from two models.  Says SKIP without numpy or safetensors.
"""
import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

BAR = 1e-6
counts = {"passed": 0, "failed": 0, "skipped": 0}


def check(what, ok, detail=""):
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print("FAIL", what, detail)


def run(*command):
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    check(" ".join(command[:2]), done.returncode == 0, done.stderr[-200:])


def compare(build, root, what, files, weights):
    import numpy
    from safetensors.numpy import load_file
    out = os.path.join(root, "mean.safetensors")
    flags = ["--weights", ",".join(map(str, weights))] if weights else []
    run(os.path.join(build, "ensemble"), "--method", "logit_mean", "--files", ",".join(files),
        "--output", out, *flags)
    got, inputs, worst = load_file(out), [load_file(f) for f in files], 0.0
    for key in ("start_logits", "end_logits"):
        stack = numpy.stack([x[key] for x in inputs]).astype(numpy.float64)
        want, have = numpy.average(stack, axis=0, weights=weights), got[key].astype(numpy.float64)
        finite = numpy.isfinite(want)
        check(f"{what}: the -inf of {key}", (numpy.isneginf(have) == ~finite).all())
        off = numpy.abs(have[finite] - want[finite]) / numpy.maximum(1, numpy.abs(want[finite]))
        worst = max(worst, off.max())
        check(f"{what}: {key}", off.max() <= BAR, f"off by {off.max():g}")
    for key in inputs[0].keys() - {"start_logits", "end_logits"}:
        check(f"{what}: {key}", (got[key] == inputs[0][key]).all())
    print(f"{what}: {len(files)} files, off by at most {worst:.2g}")


def random_files(root, n, seed):
    import numpy
    from safetensors.numpy import save_file
    random = numpy.random.default_rng(seed)
    rows, width, files = int(random.integers(1, 40)), int(random.integers(1, 300)), []
    lengths = random.integers(1, width + 1, rows)
    mask = (numpy.arange(width)[None, :] < lengths[:, None])
    shared = {"input_ids": random.integers(0, 32000, (rows, width)) * mask,
              "attention_mask": mask.astype(numpy.int64),
              "offset_mapping": random.integers(-1, 900, (rows, width, 2)),
              "example_index": numpy.arange(rows)}
    for i in range(n):
        tensors = {k: numpy.ascontiguousarray(v.astype(numpy.int64)) for k, v in shared.items()}
        for key in ("start_logits", "end_logits"):
            x = random.normal(0, 10.0 ** random.integers(-2, 4), (rows, width))
            tensors[key] = numpy.where(mask, x, -numpy.inf).astype(numpy.float32)
        files.append(os.path.join(root, f"random{i}.safetensors"))
        save_file(tensors, files[-1])
    return files


def model_files(build, root):
    files = []
    for seed in ("1", "2"):
        out = os.path.join(root, "model" + seed)
        run(os.path.join(build, "train"), "--config_name", "data/config.json", "--tokenizer_name",
            "data", "--train_file", "data/question.jsonl", "--output_dir", out, "--max_steps", "3",
            "--seed", seed)
        files.append(out + ".safetensors")
        run(os.path.join(build, "predict"), "--model_name_or_path", out, "--test_file",
            "data/hard.jsonl", "--output_dir", out + "-answers", "--save_logits", files[-1])
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    build = parser.parse_args().build
    missing = [m for m in ("numpy", "safetensors") if not importlib.util.find_spec(m)]
    if missing:
        counts["skipped"] += 1
        print("SKIP: no", " and no ".join(missing))
    else:
        root = tempfile.mkdtemp()
        for seed in range(6):
            n = 2 + seed
            weights = [0.5 + i for i in range(n)] if seed % 2 else None
            compare(build, root, f"random {seed}", random_files(root, n, seed), weights)
        compare(build, root, "two models", model_files(build, root), None)
        compare(build, root, "two models, weighted", model_files(build, root + "/again"), [3, 1])
        shutil.rmtree(root)
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % counts)
    return counts["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
