#!/usr/bin/env python3
"""Holds what --report_to writes against the packages that it is for.

usage: compare_logs.py [--build DIR]

Trains the demo's model for a few steps with --report_to all, kills it on the way, goes on, and
reads the event file with tensorboard's EventAccumulator and the offline run with wandb's own
readers: `wandb leet inspect` where this wandb has it, DataStore where it has that.  Every value of
log.jsonl must be there, once.  Says SKIP for a package that is not installed.
"""
import argparse
import glob
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

KEYS = ["train/loss", "train/learning_rate", "eval/loss", "eval/accuracy", "eval/start_accuracy",
        "eval/end_accuracy", "best_acc"]
counts = {"passed": 0, "failed": 0, "skipped": 0}


def check(what, ok, detail=""):
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print("FAIL", what, detail)


def skip(what):
    counts["skipped"] += 1
    print("SKIP:", what)


def logged(out):
    """{key: [(step, value)]} of log.jsonl."""
    rows = {}
    with open(os.path.join(out, "log.jsonl"), encoding="utf-8") as f:
        for line in map(json.loads, f):
            for key in line.keys() - {"step"}:
                rows.setdefault(key, []).append((line["step"], line[key]))
    return rows


def same(what, want, got, narrow):
    """narrow: the values are 32-bit floats."""
    if narrow:
        want = [(s, struct.unpack("f", struct.pack("f", v))[0]) for s, v in want]
    check(what, want == got, f"\n    want {want}\n    got  {got}")


def read_tensorboard(out, rows):
    if not importlib.util.find_spec("tensorboard"):
        return skip("no tensorboard: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(glob.glob(os.path.join(out, "runs", "*"))[0])
    events.Reload()
    tags = events.Tags()["scalars"]
    check("tags", sorted(tags) == sorted(rows), tags)
    for key in rows:
        same("tensorboard " + key, rows[key],
             [(e.step, e.value) for e in events.Scalars(key)] if key in tags else [], True)


def same_history(reader, items, rows):
    got = {}
    for item in items:
        for key in item.keys() & rows.keys():
            got.setdefault(key, []).append((item["_step"], item[key]))
    steps = [item["_step"] for item in items]
    check(reader + " steps", steps == sorted(set(steps)), steps)
    for key in rows:
        # A step is one row there: "epoch" stands in two lines of log.jsonl.
        same(f"{reader} {key}", sorted(dict(rows[key]).items()), got.get(key), False)


def read_leet(path, out, rows):
    program = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    run = subprocess.run(program + [path], capture_output=True, text=True)
    if run.returncode:
        return skip("this wandb has no `leet inspect`: " + run.stderr.strip()[-80:])
    records = [json.loads(line) for line in run.stdout.splitlines()]
    same_history("wandb leet", [r["history"]["item"] for r in records if r["type"] == "history"],
                 rows)
    check("wandb leet: the last record", records[-1]["type"] == "exit", records[-1])
    config = [r["run"]["config"]["update"] for r in records if r["type"] == "run"]
    with open(os.path.join(out, "train_args.json"), encoding="utf-8") as f:
        check("wandb leet: the configuration", config == [json.load(f)], config)
    summary = subprocess.run(program + ["--summary", path], capture_output=True, text=True)
    last = {key: values[-1][1] for key, values in rows.items()}
    got = json.loads(summary.stdout)["summary"]
    check("wandb leet: the summary", {k: got.get(k) for k in last} == last, got)


def read_datastore(path, rows):
    if not importlib.util.find_spec("wandb.sdk.internal.datastore"):
        return skip("this wandb has no DataStore (0.18.7 has)")
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal import datastore
    store, items = datastore.DataStore(), []
    store.open_for_scan(path)
    while data := store.scan_data():
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items.append({i.key: json.loads(i.value_json) for i in record.history.item})
    same_history("wandb DataStore", items, rows)


def train(build, out, *more):
    return [os.path.join(build, "train"), "--config_name", "data/config.json", "--tokenizer_name",
            "data", "--train_file", "data/train.jsonl", "--validation_file",
            "data/question.jsonl", "--output_dir", out, "--max_steps", "60", "--logging_steps",
            "1", "--eval_steps", "20", "--save_steps", "7", "--report_to", "all", "--run_name",
            "a run", *more]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    root = tempfile.mkdtemp()
    out = os.path.join(root, "out")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(train(args.build, out, "--resume_from_checkpoint"), **quiet)
        saved = len(glob.glob(os.path.join(out, "checkpoint-*")))
        while process.poll() is None and \
                len(glob.glob(os.path.join(out, "checkpoint-*"))) < saved + 2:
            time.sleep(0.01)
        process.kill()
        kills += process.wait() < 0
    check("kills", kills > 0)
    done = subprocess.run(train(args.build, out, "--resume_from_checkpoint"), **quiet)
    check("the run ends", done.returncode == 0)
    rows = logged(out)
    check("keys", all(key in rows for key in KEYS), rows.keys())
    read_tensorboard(out, rows)
    path = glob.glob(os.path.join(out, "wandb", "offline-run-*", "run-*.wandb"))[0]
    if importlib.util.find_spec("wandb"):
        read_leet(path, out, rows)
        read_datastore(path, rows)
    else:
        skip("no wandb: pip install wandb")
    shutil.rmtree(root)
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % counts)
    return counts["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
