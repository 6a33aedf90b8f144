#!/usr/bin/env bash
# Runs a program as two ranks on two hosts that one machine pretends to be: two network namespaces with host names of their own, joined
# by a veth pair. All that the ranks tell each other crosses it, as TCP. Prints the bytes that crossed, and the time.
#
#   dev/ranks/two_hosts.sh [PROGRAM ARGUMENTS...]       default: build/mpi_check operations, and its speed
#   RATE=1gbit dev/ranks/two_hosts.sh ...               a slower network
#   RANKS=2 dev/ranks/two_hosts.sh ...                  so many ranks on each host (default 1)
#
# Exit code: that of mpirun. Needs root, iproute2 and Open MPI; where they are missing it prints "skipped: ..." and exits with 0.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "skipped: $1"; exit 0; }
(($(id -u) == 0)) || skip "network namespaces need root"
for tool in ip unshare mpirun; do command -v $tool >/dev/null || skip "there is no $tool"; done
mpirun --version | grep -q 'Open MPI' || skip "mpirun is not Open MPI's"
id=$$ work=$(mktemp -d)
a=tll$id-a b=tll$id-b    # namespaces, and host names
net=10.77.$((id % 250)) # .1 and .2
mpirun_id=

clean_up() {
  trap - EXIT INT TERM HUP
  if [[ $mpirun_id ]] && kill -0 "$mpirun_id" 2>/dev/null; then
    kill -TERM "$mpirun_id" 2>/dev/null || true
    for _ in {1..50}; do kill -0 "$mpirun_id" 2>/dev/null || break; sleep 0.1; done
  fi
  for namespace in $a $b; do
    ip netns list 2>/dev/null | grep -qw "$namespace" || continue
    ip netns pids "$namespace" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
    ip netns delete "$namespace" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap clean_up EXIT
trap 'clean_up; exit 130' INT TERM HUP

ip netns add $a 2>"$work/error" || skip "network namespaces are not allowed here: $(cat "$work/error")"
ip netns add $b
ip link add veth-a netns $a type veth peer name veth-b netns $b 2>"$work/error" || skip "no veth pair: $(cat "$work/error")"
ip -n $a address add "$net.1/24" dev veth-a
ip -n $b address add "$net.2/24" dev veth-b
for end in "$a veth-a" "$b veth-b"; do
  read -r namespace interface <<<"$end"
  ip -n "$namespace" link set lo up
  ip -n "$namespace" link set "$interface" up
  if [[ ${RATE-} ]]; then
    tc -n "$namespace" qdisc add dev "$interface" root tbf rate "$RATE" burst 256kb latency 50ms || skip "this kernel limits no rate"
  fi
done

# What mpirun calls in ssh's place, with the host's address and the command.
cat >"$work/agent" <<EOF
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
shift
exec ip netns exec $b unshare --uts sh -c "hostname $b; \$*"
EOF
chmod +x "$work/agent"
ranks=${RANKS:-1}
printf '%s slots=%d\n' "$net.1" "$ranks" "$net.2" "$ranks" >"$work/hosts"
crossed() { ip netns exec $a cat "/sys/class/net/veth-a/statistics/$1_bytes"; }

run() {
  local rc=0 sent received began
  sent=$(crossed tx) received=$(crossed rx) began=$(date +%s.%N)
  ip netns exec $a unshare --uts sh -c "hostname $a; exec \"\$@\"" sh \
    mpirun --allow-run-as-root --oversubscribe --bind-to none --hostfile "$work/hosts" -np $((2 * ranks)) --map-by node \
    --mca plm_rsh_agent "$work/agent" --mca btl tcp,self --mca pml ob1 \
    --mca btl_tcp_if_include "$net.0/24" --mca oob_tcp_if_include "$net.0/24" "$@" &
  mpirun_id=$!
  wait $mpirun_id || rc=$?
  mpirun_id=
  awk -v a="$(($(crossed tx) - sent))" -v b="$(($(crossed rx) - received))" -v t="$(date +%s.%N)" -v began="$began" \
    -v rate="${RATE:-as fast as it goes}" \
    'BEGIN { printf "crossed the network (%s): %d bytes from host a to b, %d from b to a, in %.2f s\n", rate, a, b, t - began }'
  return $rc
}

if (($#)); then
  run "$@"
else
  run build/mpi_check operations
  run build/mpi_check speed
fi
