#!/usr/bin/env bash
# A mistake in a configuration ends the start with one sentence that names file and line.
. "$(dirname "$0")/../lib/story.sh"

# mistake PROGRAM FILE LINE REGEX: it refuses to start, and says so once.
mistake() {
    local status=0
    "$1" --config "$2" >out 2>&1 || status=$?
    expect "$1 to refuse $2" test "$status" -ne 0
    expect "one sentence (not: $(cat out))" test "$(wc -l <out)" = 1
    expect "$2:$3 and '$4' in: $(cat out)" grep -qE "$2:$3: .*($4)" out
}
edge_conf
onprem_conf disk1 "file:$stage/source.img"
cp edge.conf good.conf

{ cat good.conf; echo 'colour = "red"'; } >edge.conf
mistake isthmus-edge "$stage/edge.conf" "$(wc -l <edge.conf)" colour
sed 's/^cache {/cache {\n    rum = "1G"/' good.conf >edge.conf
mistake isthmus-edge "$stage/edge.conf" "$(grep -n rum edge.conf | cut -d: -f1)" rum
sed 's/ram = .*/ram = "lots"/' good.conf >edge.conf
mistake isthmus-edge "$stage/edge.conf" "$(grep -n lots edge.conf | cut -d: -f1)" lots
sed 's/log_level = .*/log_level = "loud"/' good.conf >edge.conf
mistake isthmus-edge "$stage/edge.conf" "$(grep -n loud edge.conf | cut -d: -f1)" loud
echo 'shape = "round"' >>onprem.conf
mistake isthmus-onprem "$stage/onprem.conf" "$(wc -l <onprem.conf)" shape

act "other mistakes: a sentence each, naming the file"
sed "s|^key = .*|key = \"$stage/nothing\"|" good.conf >edge.conf
refuse "no key at rest" isthmus-edge --config "$stage/edge.conf" 2>out
expect "the file's name" grep -q "$stage/nothing" out
chmod 644 at-rest.key
cp good.conf edge.conf
refuse "a key that others may read" isthmus-edge --config "$stage/edge.conf" 2>out
expect "what to run" grep -q chmod out
refuse "no configuration" isthmus-edge --config "$stage/missing.conf" 2>out
expect "the file's name" grep -q missing.conf out
