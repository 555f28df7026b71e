#!/usr/bin/env bash
# What the object store holds can be looked at without an edge: listed, verified object by object, exported as raw
# images of any cut. Whatever is damaged is named, with the cut that one can go back to, and nothing is changed.
. "$(dirname "$0")/../lib/story.sh"
needs jq

store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
disk_make source.img 16
cp source.img now.img
usual_cast "$stage/source.img"
committed() { [ "$(metric edge isthmus_journal_bytes)" = 0 ] && [ "$(metric edge isthmus_store_pending_bytes)" = 0 ]; }
tool() { isthmusctl store "$@" --config "$stage/edge.conf"; }
cut_now() { tool list --json | jq '.vms[0].cut'; }

# chapter NUMBER: some writes, in the store; the disk and its cut are kept.
cuts=()
chapter() {
    local i lba
    for i in 1 2 3 4 5 6; do
        head -c $((4096 * i * $1)) /dev/urandom >piece
        lba=$(((i * 2221 + $1 * 977) % 30000))
        lun-io write "$(url vm1)" "$lba" flush <piece
        dd if=piece of=now.img bs=512 seek="$lba" conv=notrunc status=none
    done
    lun-io zero "$(url vm1)" $(($1 * 1000)) 300
    dd if=/dev/zero of=now.img bs=512 seek=$(($1 * 1000)) count=300 conv=notrunc status=none
    wait_for 30 "everything to be in the store" committed
    cp now.img "chapter$1.img"
    cuts[$1]=$(cut_now)
}
act "four chapters of a disk's history"
for n in 1 2 3 4; do chapter "$n"; done
act "cuts ${cuts[*]}"
tool verify >said
grep -q "vm1: sound up to record ${cuts[4]}: .* 0 object(s) left over" said || failed "beside a running edge: $(cat said)"
crash edge
tool list vm1 | grep -q "^vm1 .* ${cuts[4]} " || failed "the list says: $(tool list)"
refuse "a VM that is not there" tool verify vm9 2>said
grep -q "knows no VM vm9" said || failed "it says: $(cat said)"

act "images of every cut"
find bucket -type f -exec sha256sum {} + | sort >before
for n in 1 2 3 4; do
    tool export vm1 "image$n" --cut "${cuts[n]}" --base source.img >said
    cmp "image$n" "chapter$n.img" || failed "chapter $n is not what it was: $(cat said)"
done
refuse "to overwrite an image" tool export vm1 image4 2>/dev/null
tool export vm1 sparse 2>said >/dev/null
grep -q "what the VM never wrote is on its source disk dc1:disk1 and is zeros in sparse" said || failed "it says: $(cat said)"
expect "a sparse image" test "$(stat -c %b sparse)" -lt "$(stat -c %b image4)"
refuse "a disk that is not there" tool export vm1 none --disk 3 2>/dev/null
expect "no file of it" test ! -e none
find bucket -type f -exec sha256sum {} + | sort | cmp - before || failed "looking at the store changed it"

# object N: the file of the N-th log object; of them the whole list
objects() { find "$store/vms" -path '*/log/*' -type f | sort; }
object() { objects | sed -n "$1p"; }
cp -a bucket sound
restore() { rm -rf bucket && cp -a sound bucket; }
# damaged WHAT REGEX [CUT]: verify says so, and with CUT an image of that cut is right.
damaged() {
    local n
    refuse "$1 to be passed over" tool verify >said 2>&1
    grep -qE -- "$2" said || failed "$1: it says: $(cat said)"
    act "$1: $(grep -E "$2" said | head -1)"
    if [ $# = 3 ]; then
        grep -q "it can go back to record ${cuts[$3]} " said || failed "$1: it says: $(cat said)"
        rm -f back.img
        tool export vm1 back.img --cut "${cuts[$3]}" --base source.img >/dev/null 2>&1
        cmp back.img "chapter$3.img" || failed "$1: the cut to go back to is not what it was"
    fi
    restore
}
flip() { # FILE OFFSET: one bit
    local octal
    printf -v octal '%03o' $(($(od -An -tu1 -j "$2" -N 1 "$1") ^ 1))
    printf '%b' "\\0$octal" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
n=$(objects | wc -l)
expect "an object a chapter at least" test "$n" -ge 4
# The first object of the last chapter: its name is the SEQ behind the cut before.
last=$(objects | grep -n "$(printf '%016x' $((cuts[3] + 1)))" | cut -d: -f1)
size=$(stat -c %s "$(object "$last")")
flip "$(object "$last")" $((size - 100))
damaged "a bit of data" "the log object at $((cuts[3] + 1)) is damaged: " 3
flip "$(object "$last")" 120
damaged "a bit of an index" "the log object at $((cuts[3] + 1)) cannot be used: " 3
truncate -s $((size / 2)) "$(object "$last")"
damaged "half an object" "the log object at $((cuts[3] + 1)) is damaged: |cannot be used" 3
cp "$(object 1)" "$(object "$last")"
damaged "one object in the place of another" "the log object at $((cuts[3] + 1)) cannot be used: " 3
rm "$(object 1)"
damaged "a missing object at the beginning" "the log object at 1 is missing|the store holds no whole cut"

act "recovered with damage in the middle, nothing is thrown away"
flip "$(object 3)" 120
rm -rf edge-data
edge_start
ctl vm recover vm1 >said
grep -q "object(s) behind the cut are kept, in the folder lost/" said || failed "it says: $(cat said)"
stop edge
expect "all but the good ones put aside" test "$(objects | grep -c /lost/)" = $((n - 2))
expect "all of them there" test "$(objects | wc -l)" = "$n"
tool list vm1 | grep -Eq "^vm1 .* 2 +$((n - 1))\$" || failed "the list says: $(tool list)"
expect "the VM once" test "$(tool list --json | jq '.vms | length')" = 1
refuse "to drop them without a word" tool drop-lost vm1 2>said
grep -q "would be gone for good: say --yes" said || failed "it says: $(cat said)"
tool drop-lost vm1 --yes
expect "none put aside" test "$(objects | wc -l)" = 2
restore

act "with another key"
cp at-rest.key right.key
isthmusctl key new other.key >/dev/null
cp other.key at-rest.key
refuse "another key" tool verify 2>said
grep -q "belongs to another deployment" said || failed "it says: $(cat said)"
