#!/bin/sh
# train on two hosts, which are two network namespaces of this machine with a cable between them:
# the bytes of one process, a data file that differs, a cable that is cut.  Wants root, ip netns and
# Open MPI.  Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
alone() {
    skip "$*: train on two hosts"
    end
}
[ "$(id -u)" = 0 ] || alone "not root"
for program in ip unshare mpirun; do
    command -v $program >/dev/null 2>&1 || alone "no $program"
done
mpirun --version 2>/dev/null | grep -q 'Open MPI' || alone "mpirun is not Open MPI's"
ldd build/mrc 2>/dev/null | grep -q 'libmpi' || alone "build/mrc has no MPI"
a=mrca$$ b=mrcb$$ wire=mw$$
unplug() {
    for host in $a $b; do
        for pid in $(ip netns pids $host 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
        ip netns del $host 2>/dev/null
    done
    rm -rf "$dir"
}
trap unplug EXIT
ip netns add $a 2>/dev/null && ip netns add $b 2>/dev/null \
    && ip link add ${wire}a netns $a type veth peer name ${wire}b netns $b 2>/dev/null \
    || alone "no network namespaces"
ip -n $a addr add 10.77.0.1/24 dev ${wire}a && ip -n $b addr add 10.77.0.2/24 dev ${wire}b
for host in $a $b; do ip -n $host link set lo up; done
ip -n $a link set ${wire}a up
ip -n $b link set ${wire}b up
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM

# In place of ssh: the daemon of the second host, under a host name of its own.
cat >"$dir/agent" <<END
#!/bin/sh
shift
mkdir -p $dir/tmp-b
exec ip netns exec $b unshare --uts sh -c "hostname other; cd $PWD; TMPDIR=$dir/tmp-b; export TMPDIR; \$*"
END
chmod 755 "$dir/agent"
base="--config_name data/config.json --tokenizer_name data --train_file data/train.jsonl
    --validation_file data/validation.jsonl --head linear --max_train_samples 200
    --max_eval_samples 20 --per_device_train_batch_size 4 --micro_batches_per_step 5
    --logging_steps 1 --seed 1"
# hosts OUT FLAGS..: two ranks, one a host; what it says goes to $dir/err.
hosts() {
    out=$1
    shift
    # shellcheck disable=SC2086
    ip netns exec $a mpirun --bind-to none --mca plm_rsh_agent "$dir/agent" \
        --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
        --host 10.77.0.1:1,10.77.0.2:1 -n 2 build/train $base --output_dir "$out" "$@" \
        >/dev/null 2>"$dir/err"
}

short="--max_steps 6 --eval_steps 3 --save_steps 6"
# shellcheck disable=SC2086
build/train $base $short --output_dir "$dir/one" >/dev/null 2>"$dir/err" \
    || bad "one process: $(tail -n 2 "$dir/err")"
# shellcheck disable=SC2086
hosts "$dir/two" $short --sharded_optimizer || bad "two hosts: $(tail -n 3 "$dir/err")"
grep -q '2 ranks of mpi, 1 on this host' "$dir/err" && ok || bad "not two hosts: $(cat "$dir/err")"
for file in model.safetensors log.jsonl checkpoint-6/optimizer.safetensors; do
    if cmp -s "$dir/one/$file" "$dir/two/$file"; then ok; else bad "two hosts: another $file"; fi
done

# The other host's data file differs by a byte: whose it is is said, with the host's name.
sed '1s/./ &/' data/train.jsonl >"$dir/other.jsonl"
cat >"$dir/differs" <<END
#!/bin/sh
if [ "\$(hostname)" = other ]; then file=$dir/other.jsonl; else file=data/train.jsonl; fi
exec build/train "\$@" --train_file "\$file"
END
chmod 755 "$dir/differs"
# shellcheck disable=SC2086
ip netns exec $a mpirun --bind-to none --mca plm_rsh_agent "$dir/agent" \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
    --host 10.77.0.1:1,10.77.0.2:1 -n 2 "$dir/differs" $base $short --output_dir "$dir/x" \
    >/dev/null 2>"$dir/err"
code=$?
[ $code -eq 3 ] && ok || bad "a byte of data: exit code $code"
[ "$(grep -c 'train_file of rank 1 (other) is ' "$dir/err")" = 1 ] && ok \
    || bad "a byte of data: $(cat "$dir/err")"

# ended CODE WORDS: the job ends within a minute; the launcher, which may hang once the other host's
# daemon is gone, is then ended here, and only what the ranks said counts.
ended() {
    job=$1 words=$2
    i=0
    while ! grep -q -e "$words" "$dir/err" && kill -0 "$job" 2>/dev/null && [ $i -lt 600 ]; do
        sleep 0.1
        i=$((i + 1))
    done
    grep -q -e "$words" "$dir/err" && ok || bad "$words: not said: $(tail -n 3 "$dir/err")"
    i=0
    while [ -n "$(ip netns pids $a | xargs -r ps -o pid=,args= -p | grep 'build/train' \
        | grep -v mpirun)" ] && [ $i -lt 300 ]; do
        sleep 0.1
        i=$((i + 1))
    done
    [ $i -lt 300 ] && ok || bad "$words: a rank stays"
    for host in $a $b; do
        for pid in $(ip netns pids $host); do kill -9 "$pid" 2>/dev/null; done
    done
    wait "$job" 2>/dev/null
}
long="--max_steps 400 --eval_steps 400 --save_steps 5 --ddp_timeout 3 --overwrite_output_dir"
# shellcheck disable=SC2086
hosts "$dir/cut" $long &
job=$!
wait_for 30 test -e "$dir/cut/checkpoint-5/trainer_state.json"
ip -n $b link set ${wire}b down
ended $job 'nothing from rank 1 (other) for 3 s'
ip -n $b link set ${wire}b up
# What was saved is whole.
for saved in "$dir"/cut/checkpoint-*; do
    build/inspect --as checkpoint "$saved" >/dev/null 2>"$dir/err" && ok \
        || bad "after the cut: $(cat "$dir/err")"
done
end
