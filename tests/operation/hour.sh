#!/usr/bin/env bash
# An operator's hour, in half a minute: two servers with TLS behind HAProxy, under load. They are looked at, one is replaced while
# it runs, the other one is restarted with a grace, both get a new certificate, and all is stopped. No connection may fail.
#
#     ECHOLOOP=path/to/echoloop tests/operation/hour.sh
#
# Needs HAProxy, OpenSSL, curl and Python.
set -euo pipefail

echoloop=${ECHOLOOP:-echoloop}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"

say() { printf '== %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*"
  tail -n 5 ./*.log ./*.out || true
  exit 1
}
# Waits until a command succeeds.
until_ok() {
  for _ in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  fail "waited in vain: $*"
}
# Waits for a process that must end well.
ends_well() { wait "$1" || fail "exit status $? of $2"; }

new_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=$1" -addext subjectAltName=DNS:localhost \
    -keyout key.new -out cert.new 2>/dev/null
  mv key.new key.pem
  mv cert.new cert.pem
}
# Whose certificate is served there.
subject() { openssl s_client -connect "$1" </dev/null 2>/dev/null | openssl x509 -noout -subject | sed 's/.*CN *= *//'; }
serves() { [ "$(subject "$1")" = "$2" ]; }

# serve NAME ADDRESS METRICS AGENT [OPTION…]: starts a server, and says in $pid which process it is.
serve() {
  local name=$1 address=$2 metrics=$3 agent=$4
  shift 4
  # Whoever has started this with nohup(1) has SIGHUP ignored.
  env --default-signal=HUP "$echoloop" --log-format json serve "$address" --tls-cert cert.pem --tls-key key.pem --metrics "$metrics" --agent "$agent" \
    --grace 3s --drain-timeout 20s --control "unix:$work/$name.ctl" --log-closed "$@" >"$name.out" 2>>"$name.log" &
  pid=$!
  until_ok grep -q '^control on' "$name.out"
}
said() { sed -n "s,^$2,,p" "$1.out" | tr -d /; }

say "two servers"
new_certificate first
serve one 127.0.0.1:0 127.0.0.1:0 127.0.0.1:0
one=$pid
serve two 127.0.0.1:0 127.0.0.1:0 127.0.0.1:0 --workers 2
two=$pid
address1=$(said one 'listening on ') metrics1=$(said one 'metrics on http://') agent1=$(said one 'agent-check on ')
address2=$(said two 'listening on ') metrics2=$(said two 'metrics on http://') agent2=$(said two 'agent-check on ')

say "HAProxy in front of them: no second attempt, the agent alone says whom to spare"
cat >haproxy.cfg <<END
global
  maxconn 1000
defaults
  mode tcp
  retries 0
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen echo
  bind unix@$work/front
  balance roundrobin
  server one $address1 check agent-check agent-addr 127.0.0.1 agent-port ${agent1##*:} agent-inter 200ms inter 1s
  server two $address2 check agent-check agent-addr 127.0.0.1 agent-port ${agent2##*:} agent-inter 200ms inter 1s
END
haproxy -db -f haproxy.cfg >haproxy.log 2>&1 &
proxy=$!
until_ok test -S front

say "load"
"$echoloop" bench "unix:$work/front" --tls --insecure --churn --rate 100/s --duration 1h --warmup 0 --format json \
  >bench.out 2>bench.log &
bench=$!
accepted() { curl -sf "http://$1/metrics" | sed -n 's/^echoloop_connections_accepted_total //p'; }
has_more() { [ "$(accepted "$1")" -gt "$2" ]; }
until_ok has_more "$metrics1" 50
until_ok has_more "$metrics2" 50

say "a look at them"
# Into files: grep -q in a pipe leaves at the first match, and curl may fail then.
curl -sf "http://$metrics1/" >page.html || fail "curl: exit status $?"
grep -q '<title>' page.html || fail "no status page"
curl -sf "http://$metrics1/metrics" >scrape.txt || fail "curl: exit status $?"
grep -q '^echoloop_tls_handshakes_total{resumed="no"} ' scrape.txt || fail "no handshakes"
if command -v promtool >/dev/null; then promtool check metrics <scrape.txt || fail "promtool"; fi
"$echoloop" health --ready "$metrics1" || fail "not ready"
"$echoloop" ctl two.ctl status
"$echoloop" ctl two.ctl list --json | python3 -c 'import json, sys; json.load(sys.stdin)' || fail "the list"

say "one is replaced while it runs"
mv one.out before.out
serve one "$address1" "$metrics1" "$agent1" --takeover "$work/one.ctl" --workers 2
ends_well "$one" "the one that was replaced"
one=$pid
"$echoloop" health --ready "$metrics1" || fail "not ready after it was replaced"
until_ok has_more "$metrics1" 50

say "two is restarted, with a grace"
kill -TERM "$two"
until_ok eval "! '$echoloop' health --ready '$metrics2'"
ends_well "$two" "two"
serve two "$address2" "$metrics2" "$agent2"
two=$pid
until_ok has_more "$metrics2" 50

say "a new certificate"
serves "$address1" first || fail "it is $(subject "$address1")"
new_certificate second
"$echoloop" ctl one.ctl reload
kill -HUP "$two"
until_ok serves "$address1" second
until_ok serves "$address2" second

say "a broken one"
cp key.pem kept.pem
echo nonsense >key.pem
if "$echoloop" ctl one.ctl reload; then fail "nonsense was loaded"; fi
serves "$address1" second || fail "the old one is gone"
mv kept.pem key.pem

say "the end"
seen=$(accepted "$metrics2")
until_ok has_more "$metrics2" $((seen + 50))
kill -TERM "$bench"
ends_well "$bench" "the load: $(cat bench.out)"
"$echoloop" ctl one.ctl stop
kill -TERM "$two"
ends_well "$one" "one"
ends_well "$two" "two"
kill "$proxy"
tail -n 1 one.out two.out
python3 - <<'END'
import json
load = json.load(open("bench.out"))
failures = sum(load["failures"].values())
print(f"{load['fin']} connections, {failures} failures")
assert failures == 0 and load["fin"] > 200
for log in ("one.log", "two.log"):
    lines = [json.loads(line) for line in open(log)]
    closed = [line for line in lines if "reason" in line]
    print(f"{log}: {len(lines)} lines, {len(closed)} of connections that ended")
    assert closed and not [line for line in closed if line.get("undelivered_bytes")]
END
say "0 failures"
