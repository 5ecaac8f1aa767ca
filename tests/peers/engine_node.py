#!/usr/bin/env python3
"""index, search and ask --engine over a real Elasticsearch node, which this starts and stops (tests/peers/es; it needs
Java and, once, PyPI):

    rankings   for each analyzer the same ranking as the local index for every question; ask the same answers
    memory     100,000 made passages loaded in one go while the memory of index is watched
    kills      index is killed at 20 random moments, --resume ends it: the count and the rankings are right
    queue      a write queue of 1 and writers beside index: nothing is lost, nothing is there twice

    python3 tests/peers/engine_node.py BUILD TRAIN.jsonl VALIDATION.jsonl TOKENIZER [rankings] [memory] [kills] [queue]
           [--passages N]

The passages are the contexts of both files, each once; the questions are VALIDATION's.  The node has no global
statistics, so that --global_statistics is false here; with one part of the index that is the same.  Where Java or the
files are missing it says so and ends with 0."""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("rankings", "memory", "kills", "queue")
made = [a for a in sys.argv[1:] if not a.startswith("--") and a not in PARTS]
if len(made) == 5:                  # --passages N
    count = int(made.pop())
else:
    count = 100000
if len(made) != 4:
    sys.exit(__doc__)
build, train, validation, tokenizer = made
wanted = [a for a in sys.argv[1:] if a in PARTS] or list(PARTS)
for need, there in (("java and javac", shutil.which("java") and shutil.which("javac")), (train, os.path.exists(train)),
                    (validation, os.path.exists(validation)), ("index", os.path.exists(build + "/index"))):
    if not there:
        print("SKIPPED: no %s: a real search cluster" % need)
        sys.exit(0)
wrong = 0


def check(good, what):
    global wrong
    wrong += not good
    print("%s  %s" % ("ok  " if good else "FAIL", what), flush=True)


def lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def run(*arguments, code=0, stdin=None):
    done = subprocess.run([os.path.join(build, arguments[0]), *arguments[1:]], capture_output=True, text=True,
                          input=stdin)
    if done.returncode != code:
        sys.exit("%s: exit code %d: %s" % (" ".join(arguments)[:300], done.returncode, done.stderr[-500:]))
    return done


class Node:
    """The node, from nothing, with these settings."""

    def __init__(self, folder, *settings):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = "http://127.0.0.1:%d" % self.port
        self.log = open(folder + "/node.log", "w")
        self.process = subprocess.Popen(["bash", HERE + "/es/es_node.sh", folder + "/node", str(self.port), *settings],
                                        stdout=self.log, stderr=self.log)
        for _ in range(240):
            if self.process.poll() is not None:
                break
            try:
                self.ask("GET", "/")
                return
            except OSError:
                time.sleep(0.5)
        self.stop()
        print("SKIPPED: the node does not start: %s" % open(folder + "/node.log").read()[-300:].replace("\n", " "))
        sys.exit(0)

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, data=body and body.encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"{}")

    def drop(self, name):
        for index in self.ask("GET", "/_alias"):
            if index.startswith(name):
                self.ask("DELETE", "/" + index)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def ranking(path):
    found = {}
    for line in open(path, encoding="utf-8"):
        query, _, passage, _, score, _ = line.split()
        found.setdefault(query, []).append((passage, float(score)))
    return found


def same_rankings(ours, theirs):
    """How many questions have the same ranking; the least and the most that their scores are ours times."""
    ours, theirs = ranking(ours), ranking(theirs)
    same = sum([p for p, _ in ours.get(q, [])] == [p for p, _ in theirs.get(q, [])] for q in asked)
    times = [b[1] / a[1] for q in ours for a, b in zip(ours[q], theirs.get(q, [])) if a[1]]
    return same, min(times, default=0), max(times, default=0)


def rankings(node):
    more = {"wordpiece": ["--tokenizer_name", tokenizer]}
    for analyzer in ("whitespace", "char_bigram", "korean", "wordpiece", "english"):
        name = "mrc_" + analyzer
        made = ["--passages", passages, "--analyzer", analyzer, *more.get(analyzer, [])]
        run("index", *made, "--output", folder + "/" + analyzer)
        run("index", *made, *node.flags, "--output", name)
        search = ["search", "--queries", queries, "--top_k", "20"]
        run(*search, "--index", folder + "/" + analyzer, "--method", "elasticsearch", "--run", folder + "/ours")
        run(*search, *node.flags, *node.asks, *more.get(analyzer, []), "--index", name, "--run", folder + "/theirs")
        same, least, most = same_rankings(folder + "/ours", folder + "/theirs")
        check(same == len(asked), "%s: %d passages, %d of %d rankings are the same, their score / ours %.7f to %.7f"
              % (analyzer, len(contexts), same, len(asked), least, most))
    # A search template: the same query, kept by the cluster.
    node.ask("PUT", "/_scripts/mine", json.dumps({"script": {"lang": "mustache", "source": json.dumps({
        "size": "{{k}}", "_source": ["title", "text"], "query": {"match": {"terms": "{{terms}}"}},
        "sort": [{"_score": "desc"}, {"ord": "asc"}]})}}))
    run("search", "--queries", queries, "--top_k", "20", *node.flags, *node.asks, "--index", "mrc_korean", "--run",
        folder + "/template", "--search_template", "mine")
    run("search", "--queries", queries, "--top_k", "20", "--index", folder + "/korean", "--method", "elasticsearch",
        "--run", folder + "/ours")
    same, _, _ = same_rankings(folder + "/ours", folder + "/template")
    check(same == len(asked), "a search template: %d of %d rankings are the same" % (same, len(asked)))
    # An analyzer of the cluster's own; one that it has not is refused by name.
    run("index", "--passages", passages, "--analyzer", "standard", *node.flags, "--output", "mrc_standard")
    run("search", "--queries", queries, *node.flags, *node.asks, "--index", "mrc_standard", "--run", folder + "/s")
    check(len(ranking(folder + "/s")) == len(asked), "--analyzer standard answers all questions")
    done = run("index", "--passages", passages, "--analyzer", "nori", *node.flags, "--output", "mrc_nori", code=3)
    check("expected the plug-in analysis-nori there" in done.stderr, "nori: %s" % done.stderr.strip()[-180:])
    answers(node)


def answers(node):
    """ask reads the same passages and has the same answers; scores of the retrieval are not counted."""
    if not os.path.exists("data/config.json"):
        print("SKIPPED: not in the project's folder: ask over the node")
        return
    run("train", "--config_name", "data/config.json", "--tokenizer_name", "data", "--train_file", "data/train.jsonl",
        "--output_dir", folder + "/model", "--head", "linear", "--max_steps", "1", "--max_train_samples", "8")
    text = "".join(q["question"].replace("\n", " ") + "\n" for q in rows[:20])
    ask = ["ask", "--model_name_or_path", folder + "/model", "--json", "--top_k", "5", "--retrieval_weight", "0"]
    ours = run(*ask, "--index", folder + "/korean", "--method", "elasticsearch", stdin=text).stdout
    theirs = run(*ask, "--index", "mrc_korean", *node.flags, *node.asks, stdin=text).stdout

    def bare(out):
        return [[{k: v for k, v in a.items() if k != "retrieval_score"} for a in json.loads(x)["answers"]]
                for x in out.splitlines()]
    check(ours and bare(ours) == bare(theirs), "ask: the same answers to %d questions" % len(bare(ours)))
    serving(node, theirs)


def serving(node, asked_of_node):
    """serve's first answers are ask's."""
    if not os.path.exists(build + "/serve"):
        print("SKIPPED: no serve in this build")
        return
    service = subprocess.Popen([build + "/serve", "--model_name_or_path", folder + "/model", "--index", "mrc_korean",
                                "--top_k", "5", "--retrieval_weight", "0", "--port", "0", *node.flags, *node.asks],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = json.loads(service.stdout.readline())["url"]
        same = n = 0
        for line in asked_of_node.splitlines():
            want = json.loads(line)
            body = json.dumps({"question": want["question"]}).encode()
            request = urllib.request.Request(url + "v1/answer", body, {"Content-Type": "application/json"})
            got = json.loads(urllib.request.urlopen(request, timeout=60).read())
            same += got["answer"] == want["answers"][0]["answer"]
            n += 1
        check(n and same == n, "serve: %d of %d answers are ask's" % (same, n))
    finally:
        service.terminate()
        check(service.wait(30) == 0, "serve ends with 0")


def resident(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2 ** 20


def memory(node):
    path = folder + "/many.jsonl"
    words = sorted({w for text in contexts for w in text.split()})
    chance = random.Random(1)
    with open(path, "w", encoding="utf-8") as f:
        for i in range(count):
            text = " ".join(chance.choice(words) for _ in range(60))
            f.write(json.dumps({"id": "m%d" % i, "title": "", "text": text}) + "\n")
    begun = time.time()
    load = subprocess.Popen([build + "/index", "--passages", path, "--analyzer", "whitespace", *node.flags,
                             "--output", "mrc_many"], stderr=subprocess.PIPE, text=True)
    seen = []
    while load.poll() is None:
        try:
            there = sum(v["primaries"]["indexing"]["index_total"] for k, v in
                        node.ask("GET", "/mrc_many-*/_stats/indexing")["indices"].items())
        except (OSError, KeyError):
            there = 0
        try:
            seen.append((time.time() - begun, there, resident(load.pid)))
        except (OSError, IndexError):
            break
        time.sleep(0.25)
    said = load.stderr.read().strip()
    check(load.wait() == 0, "%d passages: %s" % (count, said[-120:]))
    found = node.ask("GET", "/mrc_many/_count")["count"]
    check(found == count, "%d passages are there" % found)
    during = [m for _, there, m in seen if there > count // 10]
    quarter = max(1, len(during) // 4)
    first, last = max(during[:quarter], default=0), max(during[-quarter:], default=0)
    for at in range(0, len(seen), max(1, len(seen) // 8)):
        print("      %6.1f s  %7d passages  %6.1f MiB" % seen[at])
    check(during and last < first * 1.05 + 2, "memory of index: %.1f MiB in the first quarter of the loading, "
          "%.1f MiB in the last" % (first, last))
    node.drop("mrc_many")


def kills(node):
    chance = random.Random(2)
    made = ["index", "--passages", passages, "--analyzer", "korean", *node.flags, "--output", "mrc_killed"]
    begun = time.time()
    run(*made)
    whole = time.time() - begun
    node.drop("mrc_killed")
    ended = resumed = 0
    for _ in range(20):
        load = subprocess.Popen([build + "/index", *made[1:], "--resume"], stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.05, 1.2) * whole)
        if load.poll() is None:
            load.kill()
            ended += 1
        load.wait()
        if load.returncode == 0:            # it was whole: begin anew
            resumed += 1
            node.drop("mrc_killed")
    said = run(*made, "--resume").stderr.strip()
    found = node.ask("GET", "/mrc_killed/_count")["count"]
    check(found == len(contexts), "20 starts, %d killed, %d ended; after --resume %d passages (%s)"
          % (ended, resumed, found, said[-70:]))
    search = ["search", "--queries", queries, "--top_k", "20"]
    run("index", "--passages", passages, "--analyzer", "korean", "--output", folder + "/killed")
    run(*search, "--index", folder + "/killed", "--method", "elasticsearch", "--run", folder + "/ours")
    run(*search, *node.flags, *node.asks, "--index", "mrc_killed", "--run", folder + "/theirs")
    same, _, _ = same_rankings(folder + "/ours", folder + "/theirs")
    check(same == len(asked), "after the kills %d of %d rankings are the same" % (same, len(asked)))


def queue(node):
    """Writers beside index, for half a minute, take the one place of the queue: items are refused with 429."""
    node.ask("PUT", "/noise", json.dumps({"settings": {"number_of_shards": 1, "number_of_replicas": 0}}))
    stop, refused, end = threading.Event(), [0, 0], time.time() + 30

    def write(seed):
        chance = random.Random(seed)
        while not stop.wait(chance.uniform(0, 0.3)) and time.time() < end:
            body = "".join('{"index": {}}\n%s\n' % json.dumps({"t": chance.choice(contexts)}) for _ in range(100))
            request = urllib.request.Request(node.url + "/noise/_bulk", body.encode(),
                                             {"Content-Type": "application/x-ndjson"})
            try:
                items = json.loads(urllib.request.urlopen(request, timeout=60).read())["items"]
                refused[0] += sum(i["index"]["status"] == 429 for i in items)
                refused[1] += len(items)
            except (OSError, ValueError):
                pass

    writers = [threading.Thread(target=write, args=(i,), daemon=True) for i in range(4)]
    for w in writers:
        w.start()
    time.sleep(1)
    said = run("index", "--passages", passages, "--analyzer", "korean", *node.flags, "--output", "mrc_queue").stderr
    stop.set()
    for w in writers:
        w.join(60)
    stats = node.ask("GET", "/_nodes/stats/thread_pool")["nodes"]
    rejected = sum(n["thread_pool"]["write"]["rejected"] for n in stats.values())
    found = node.ask("GET", "/mrc_queue/_count")["count"]
    stats = node.ask("GET", "/mrc_queue-*/_stats/docs")["indices"]
    docs = sum(v["primaries"]["docs"]["count"] for v in stats.values())
    check(rejected > 0, "a write queue of 1 refuses %d times (%d of the other writers' %d items)"
          % (rejected, refused[0], refused[1]))
    check(found == docs == len(contexts), "%d passages are there, none twice (%s)" % (found, said.strip()[-80:]))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))     # the node is stopped all the same
with tempfile.TemporaryDirectory() as folder:
    passages, queries = folder + "/passages.jsonl", folder + "/queries.jsonl"
    rows = lines(validation)
    contexts = list(dict.fromkeys(row["context"] for row in lines(train) + rows))
    asked = [str(row["id"]) for row in rows]
    with open(passages, "w", encoding="utf-8") as f:
        for i, text in enumerate(contexts):
            f.write(json.dumps({"id": "p%d" % i, "title": "", "text": text}) + "\n")
    with open(queries, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps({"id": str(row["id"]), "question": row["question"]}) + "\n")
    for parts, settings in ((PARTS[:3], ()), (PARTS[3:], ("thread_pool.write.queue_size=1", "processors=1"))):
        if not set(parts) & set(wanted):
            continue
        node = Node(folder, *settings)
        node.flags = ["--engine", "elasticsearch", "--url", node.url]
        node.asks = ["--global_statistics", "false"]
        try:
            for part in parts:
                if part in wanted:
                    globals()[part](node)
        finally:
            node.stop()
sys.exit(wrong != 0)
