#!/usr/bin/env bash
# A pair under I/O gets programs of the next generation, one edge at a time, and the on-prem daemon, too: no initiator sees an
# error, nothing is lost. Until both edges have it there is a way back, and the store holds nothing that the older program
# cannot read; from then on there is none, and the older program says so. One of two generations later is not let in.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

sectors=16384
# leave a|b: it is stopped, and the other has noticed.
leave() {
    local other=b
    [ "$1" = a ] || other=a
    stop "edge-$1"
    mv "edge-$1.log" "edge-$1.$((++lives)).log"
    wait_role "$other" sole
}
lives=0
status() { pair_status "$1" "[$2] | map(tostring) | join(\" \")"; }
generations() { status "$1" '.generation, .own_generation, .other_generation'; }
# byte_at FILE MAGIC OFFSET: of the object in that file, which begins with MAGIC.
byte_at() { od -An -tu1 -j"$(($(grep -abo -m1 "$2" "$1" | head -n 1 | cut -d: -f1) + $3))" -N1 "$1" | tr -d ' '; }
newest_object() { find "$pair_store" -type f -path '*/log/*' | sort | tail -n 1; }
# writes_format N: what is put into the store now.
writes_format() {
    local owner=a
    owns a vm1 || owner=b
    ctl_at "$owner" vm flush vm1
    [ "$(byte_at "$(newest_object)" ISTHLOG1 9)" = "$1" ]
}
record_says() { [ "$(byte_at "$(find "$pair_store" -type f -path '*pairs/pair1*')" ISTHPAIR 11)" = "$1" ]; }
load_goes() { expect "the load to go on" alive load; }

cut-check prepare history vm1 one.img "$sectors" two.img "$sectors"
pair_up one "file:$stage/one.img" two "file:$stage/two.img"
both_up
ctl_at a vm create vm1 --disk dc1:one --disk dc1:two
start load cut-check run history "$(url_at a vm1)" "$(url_at b vm1)" --ms 600000 --seed "$RANDOM" --login 60
wait_log load "^loading" 60

act "a program of two generations later is not let in, and leaves nothing"
leave a
edge_as a 2
refusal="edge-a speaks versions 2 to 3 of the link protocol and edge-b 1 to 1: update edge-b"
wait_log edge-a "cannot reach edge-b at .*: $refusal"
wait_log edge-b "refused: $refusal"
wait_log onprem "edge-a speaks versions 2 to 3 of the link protocol and dc1 1 to 1: update dc1"
stop edge-a

act "edge a gets the next program"
mv edge-a.log edge-a.two.log
edge_as a 1
whole
expect "who knows what to be shown (not: $(generations a); $(generations b))" test "$(generations a) $(generations b)" = "1 2 1 1 1 2"
expect "the older protocol to be spoken" logged edge-a "edge-b .*is connected: .*, protocol version 1\""
expect "the older format to be written" writes_format 1
load_goes

act "edge a goes back"
leave a
edge_up a
whole
load_goes

act "edge a gets the next program again, and the on-prem daemon, too"
leave a
edge_as a 1
whole
stop onprem
mv onprem.log onprem.1.log
PATH=${ISTHMUS_BIN:-$root/build/bin}/raised-1:$PATH onprem_start
wait_log onprem "edge-a .*is connected: .*, protocol version 2\""
wait_log onprem "edge-b .*is connected: .*, protocol version 1\""
expect "the older format to be written" writes_format 1
expect "the record to allow for no more" record_says 1
load_goes

act "edge b gets it"
leave b
expect "the older format to be written by edge a alone" writes_format 1
edge_as b 1
whole
expect "both to write as the next generation (not: $(generations a); $(generations b))" test "$(generations a) $(generations b)" = "2 2 2 2 2 2"
expect "the record to say so" record_says 2
expect "the newer protocol to be spoken" logged edge-b "edge-a .*is connected: .*, protocol version 2\""
expect "the newer format to be written" writes_format 2
load_goes

act "now there is no way back"
leave a
edge_up a
wait_log edge-a "its members write as generation 2 and this program is of generation 1: it cannot read that, a newer one must be installed here"
expect "it to serve nothing" test "$(status a .role,.blocked)" = "unknown true"
load_goes
stop edge-a
edge_as a 1
whole

act "an edge in no pair has none at all"
PATH=${ISTHMUS_BIN:-$root/build/bin}/raised-1:$PATH edge_start
stop edge
start edge isthmus-edge --config "$stage/edge.conf"
ended edge 10
refuse "it to serve" test "$ended_status" = 0
expect_log edge "this edge has written as generation 2, and this isthmus-edge is of generation 1: it cannot read that"

kill -TERM "${pids[load]}"
ended load 60
cat load.log
expect "no error at the initiator, and nothing lost" test "$ended_status" = 0
cut-check verify history "$(url_at a vm1)" "$(url_at b vm1)" --login 60 >check.log 2>&1 || failed "$(cat check.log)"
cat check.log
