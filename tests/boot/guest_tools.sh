#!/usr/bin/env bash
# Runs in the guest of boot_guest_tools.sh, after guest.sh: logs in to the data VM by two portals, of two target port groups,
# has dm-multipath make one disk of them, loses one path and both while fio verifies, and asks every question sg3_utils
# knows. What is answered is printed and checked; the exit status tells whether all was as it should be.

target=iqn.2026-11.org.isthmus:data
one=10.201.0.1:3260 two=10.201.0.2:3260 # of portal groups 1 and 2
answer=/run/answer
cd /run || exit 1

# --- what is expected ---

# What tools say of an answer that they find wrong.
complaints='malformed|truncated|too short|too long|invalid|unexpected|unable|warning|residual|[^a-z]bad |reserved value'
# ask STATUS command...: its answer is printed and kept; its status must be STATUS. An answer with status 0
# must be one the tool has no complaint about.
ask() {
    local want=$1 status=0
    shift
    echo "\$ $*"
    "$@" >$answer 2>&1 </dev/null || status=$?
    cat $answer
    checks "$1: status $status, not $want" test "$status" = "$want"
    [ "$want" != 0 ] || checks "$1 complains" refuse grep -qiE "$complaints" $answer
}
# has REGEX...: each is in the last answer.
has() {
    local regex
    for regex in "$@"; do
        checks "expected: $regex" grep -qE -- "$regex" $answer
    done
}
hasnt() { checks "not expected: $1" refuse grep -qE -- "$1" $answer; }
# soon SECONDS "what" command...: until it succeeds.
soon() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$end" ] || { checks "$what, in time" false; return; }
        sleep 0.5
    done
    checks "$what" true
}
# signal WORD: the host acts on it.
signal() { echo "SIGNAL $1"; }

# --- disks ---

disk() { readlink -e "/dev/disk/by-path/ip-$1-iscsi-$target-lun-$2"; } # disk PORTAL LUN -> /dev/sdX
generic() { echo "/dev/$(ls "/sys/block/$(basename "$(disk "$1" "$2")")/device/scsi_generic")"; }
# Of the raw disk, past every cache: put FILE LBA, get LBA BLOCKS -> file got, holds "what" LBA FILE
put() { ask 0 sg_dd if="$1" of="$a" bs=512 seek="$2"; }
get() { rm -f /run/got && sg_dd if="$a" of=/run/got bs=512 skip="$1" count="$2" 2>/dev/null; }
holds() {
    get "$2" $(($(stat -c %s "$3") / 512))
    checks "$1" cmp "$3" /run/got
}

# login PORTAL DIGEST CHAP_ALGORITHMS
login() {
    node=(iscsiadm -m node -T "$target" -p "$1")
    set_() { "${node[@]}" -o update -n "$1" -v "$2"; }
    set_ node.session.auth.authmethod CHAP
    set_ node.session.auth.chap_algs "$3"
    set_ node.session.auth.username guest
    set_ node.session.auth.password wrong-horse-battery
    ask 24 "${node[@]}" --login
    set_ node.session.auth.password correct-horse-battery
    set_ node.session.auth.username_in edge
    set_ node.session.auth.password_in staple-not-in-store
    set_ 'node.conn[0].iscsi.HeaderDigest' "$2"
    set_ 'node.conn[0].iscsi.DataDigest' "$2"
    ask 0 "${node[@]}" --login
    has successful
    soon 30 "LUN 0 by $1" disk "$1" 0
    soon 30 "LUN 1 by $1" disk "$1" 1
}

echo "=== two paths, mutual CHAP, digests on one"
ask 0 iscsiadm -m discovery -t sendtargets -p $one
has "^$one,1 $target" "^$two,2 $target"
login $one CRC32C SHA3-256
login $two None SHA1,MD5
udevadm settle
ask 0 iscsiadm -m session -P 2
has 'HeaderDigest: CRC32C' 'DataDigest: CRC32C' 'HeaderDigest: None'
wwid() { udevadm info -q property -n "$(disk $one "$1")" | sed -n 's/^ID_SERIAL=//p'; }
# LUN 0 is for multipath, LUN 1 for us alone.
cat >/etc/multipath.conf <<CONF
defaults {
    find_multipaths yes
}
devices {
    device {
        vendor "ISTHMUS"
        product "edge disk"
        path_grouping_policy group_by_prio
        prio alua
        path_checker tur
        failback immediate
        no_path_retry queue
        fast_io_fail_tmo 5
    }
}
blacklist {
    wwid "$(wwid 1)"
}
CONF
systemctl restart multipathd
map=/dev/mapper/$(wwid 0)
paths_active() { [ "$(multipath -ll | grep -cE 'active ready +running')" = "$1" ]; }
soon 60 "a map of two paths" paths_active 2
ask 0 multipath -ll
has "^.*$(wwid 0) dm-0 ISTHMUS,edge disk" "size=512M" "prio=50 status=active" queue_if_no_path
checks "one map, of LUN 0" test "$(multipath -ll | grep -c 'dm-[0-9]')" = 1
multipath -v3 -ll >$answer 2>&1
has "$(basename "$(disk $one 0)"): reported target port group is 1$" "$(basename "$(disk $two 0)"): reported target port group is 2$"
checks "both disks to be one" test "$(lsblk -no NAME "$(disk $one 0)" "$(disk $two 0)" | grep -c "$(wwid 0)")" = 2

echo "=== discard and file systems over the map"
ask 0 lsblk -D "$map"
has ' 4K +512M '
ask 0 mkfs.ext4 -F -E discard "$map"
has 'Discarding device blocks'
mkdir -p /mnt
ask 0 mount "$map" /mnt
seq 1 500000 >/mnt/gone
seq 1 400000 >/mnt/kept
sync
rm /mnt/gone
ask 0 fstrim -v /mnt
has 'MiB .* trimmed'
ask 0 umount /mnt
ask 0 e2fsck -fn "$map"
ask 0 mount "$map" /mnt
checks "the file that was kept" cmp /mnt/kept <(seq 1 400000)
ask 0 umount /mnt
ask 0 blkdiscard -f "$map"
ask 0 sg_get_lba_status "$(generic $one 0)"
has 'LBA: 0x0+ +blocks: +1048576 +deallocated'
checks "zeros after the discard" cmp -n 33554432 "$map" /dev/zero
ask 0 blkdiscard -z -l 16M "$map"

echo "=== a path is lost, then both, under load"
# Rounds of fio, each of other bytes at another place, written past the page cache and verified; the file rounds counts them.
io() {
    local i=0
    while [ ! -e io.stop ]; do
        i=$((i + 1))
        fio --name=round --filename="$map" --direct=1 --ioengine=libaio --iodepth=8 --rw=randwrite --bs=64k --size=8M \
            --offset=$((i % 16 * 8))M --randseed=$i --verify=crc32c --verify_fatal=1 --thread >io.said 2>&1 ||
            { cat io.said && return 1; }
        echo $i >rounds
    done
}
rounds() { cat rounds; }
more_rounds() { [ "$(rounds)" -gt "$1" ]; }
echo 0 >rounds
io &
io=$!
soon 120 "the first rounds" more_rounds 1
signal CUT-TWO
soon 90 "one path to be seen failed" paths_active 1
ask 0 multipath -ll
has 'failed faulty'
soon 90 "rounds by the other path" more_rounds $(($(rounds) + 2))
signal CUT-ONE
soon 90 "both paths to be seen failed" paths_active 0
before=$(rounds)
signal HEAL
soon 120 "both paths to come back" paths_active 2
soon 90 "rounds after that" more_rounds $((before + 2))
touch io.stop
checks "no I/O error, no wrong byte" wait $io
ask 0 multipath -ll
checks "no error on the map" refuse grep -E 'I/O error.*dm-|Buffer I/O error|EXT4-fs error' <(dmesg)

a=$(generic $one 1) b=$(generic $two 1)
echo "=== sg3_utils: $a and $b, two paths to one disk"
ask 0 sg_turs "$a"
ask 0 sg_inq "$a"
has 'PDT=0' 'RMB=0' 'version=0x06' 'TPGS=1' '3PC=1' 'MultiP=1' 'CmdQue=1' 'Vendor identification: ISTHMUS' 'Unit serial number: [0-9a-f]{16}'
serial=$(sed -n 's/.*Unit serial number: //p' $answer)
ask 0 sg_vpd -p 0x00 "$a"
has 'Unit serial number' 'Device identification' 'Extended inquiry' 'Block limits' 'Block device char' 'Logical block prov'
ask 0 sg_vpd -p 0x80 "$b"
has "serial number: $serial"
ask 0 sg_vpd -p 0x83 "$a"
has "0x$serial" "vendor specific: $serial" 'Relative target port: 0x1' 'Target port group: 0x1' "$target,t,0x0001" "$target$"
ask 0 sg_vpd -p 0x83 "$b"
has "0x$serial" 'Relative target port: 0x2' 'Target port group: 0x2' "$target,t,0x0002"
ask 0 sg_vpd -p 0x86 "$a"
has 'HEADSUP=1 ORDSUP=1 SIMPSUP=1'
ask 0 sg_vpd -p 0x8f "$a"
has 'Extended copy'
ask 0 sg_vpd -p 0xb0 "$a"
has 'compare and write length: [1-9]' 'Maximum transfer length: [1-9]' 'unmap LBA count: [1-9]' 'write same length: 0x'
ask 0 sg_vpd -p 0xb1 "$a"
has 'Non-rotating'
ask 0 sg_vpd -p 0xb2 "$a"
has 'LBPU\): 1' 'LBPWS\): 1' 'LBPWS10\): 1' 'LBPRZ\): 1' 'thin provisioned'
ask 83 sg_vpd -p 0xb9 "$a"
ask 0 sg_readcap "$a"
has 'blocks=524288$' 'length=512 bytes'
ask 0 sg_readcap --16 "$a"
has 'lbpme=1, lbprz=1' 'blocks=524288$' 'exponent=3'
ask 0 sg_luns -d "$a"
has 'imples? 2 lun|implies 2 lun' 'lun=0' 'lun=1'
ask 0 sg_luns --select=1 "$a"
ask 0 sg_opcodes "$a"
has 'Compare and write' 'Unmap' 'Write same\(16\)' 'Extended copy' 'Report target port groups' 'Write atomic\(16\)'
hasnt '[Uu]nknown|Opcode='
ask 0 sg_opcodes -R "$a"
ask 0 sg_opcodes --opcode=0x89 "$a"
has 'is supported' 'Usage data: 89'
ask 0 sg_opcodes -t "$a"
has 'Abort task$' 'Logical unit reset' 'Target reset'
ask 0 sg_modes -a "$a"
has 'Caching, page_control: current' 'Control, page_control' 'DpoFua=1' 'WP=0'
ask 0 sg_modes -a -6 "$a"
ask 5 sg_modes -v --control=3 --page=8 "$a"
has 'Saving parameters not supported'
ask 0 sg_logs -a "$a"
has 'Informational Exceptions' 'Current temperature = <not available>' 'Threshold temperature = <not available>'
for path in $a $b; do
    ask 0 sg_rtpg -d "$path"
    has 'group id : 0x1 ' 'group id : 0x2 ' 'target port count : 01' '^ +0x01$' '^ +0x02$'
    checks "both groups to be active/optimized" test "$(grep -c '(active/optimized)' $answer)" = 2
    ask 0 sg_rtpg -e "$path"
done
ask 0 sg_requests "$a"
has 'No Sense'

echo "=== reservations, by two I_T nexuses"
persist() { # persist DISK STATUS options...
    local on=$1 status=$2
    shift 2
    ask "$status" sg_persist -n "$@" "$on"
}
persist "$a" 0 --in --report-capabilities
has 'PTPL_C\): 1' 'Type Mask Valid\(TMV\): 1'
persist "$a" 0 --out --register --param-sark=0xa1 --param-aptpl
persist "$b" 0 --out --register --param-sark=0xb2
persist "$a" 0 --in --read-keys
has '2 registered' '^ +0xa1' '^ +0xb2'
persist "$a" 0 --out --reserve --param-rk=0xa1 --prout-type=1
persist "$b" 0 --in --read-reservation
has 'Key=0xa1' 'Write Exclusive'
persist "$b" 0 --in --read-full-status
has 'Key=0xa1' 'Key=0xb2' '<< Reservation holder >>' 'not reservation holder' ',i,0x[0-9a-f]{12}' 'Relative port address: 0x1' 'Relative port address: 0x2'
dd if=/dev/zero of=zero bs=512 count=2048 status=none
ask 99 sg_dd if=zero of="$b" bs=512 count=1
has 'Reservation Conflict'
persist "$b" 24 --out --reserve --param-rk=0xb2 --prout-type=1
persist "$a" 0 --out --release --param-rk=0xa1 --prout-type=1
persist "$a" 0 --in --read-reservation
has 'NO reservation held'
persist "$b" 0 --out --preempt --param-rk=0xb2 --param-sark=0xa1 --prout-type=5
ask 6 sg_turs "$a"
has 'Registrations preempted'
ask 0 sg_turs "$a"
persist "$b" 0 --in --read-keys
has '1 registered'
port=$(iscsiadm -m session -r "$(iscsiadm -m session | sed -n "s/.*\[\([0-9]*\)\] $one,1 $target.*/\1/p")" -P 1 | sed -n 's/.*Iface Initiatorname: //p')
persist "$b" 0 --in --read-full-status
me=$(sed -n 's/.*port id: \(.*\)0x.*/\1/p' $answer)
checks "our own name in a TransportID" test "${me%%,*}" = "$port"
persist "$b" 0 --out --clear --param-rk=0xb2
persist "$a" 0 --in --read-keys
has 'NO registered'

echo "=== writes, and what is like them"
head -c 1048576 /dev/urandom >random
head -c 512 random >block
put random 0
holds "what was written" 0 random
ask 0 sg_unmap --force --lba=8 --num=16 "$a"
head -c 8192 zero >sixteen
holds "zeros after UNMAP" 8 sixteen
ask 0 sg_get_lba_status --lba=8 "$a"
has 'blocks: +16 +deallocated'
ask 0 sg_get_lba_status --lba=0 "$a"
has 'blocks: +8 +mapped'
for _ in 1 2 3 4 5 6 7 8; do cat block; done >eight
ask 0 sg_write_same --10 --lba=100 --num=8 --in=block --xferlen=512 "$a"
holds "WRITE SAME(10)" 100 eight
ask 0 sg_write_same --16 --lba=109 --num=8 --in=block --xferlen=512 "$a"
holds "WRITE SAME(16)" 109 eight
head -c 4096 zero >zeros
ask 0 sg_write_same --10 --unmap --lba=160 --num=8 --in=zeros --xferlen=512 "$a"
holds "WRITE SAME(10) with UNMAP" 160 zeros
ask 0 sg_write_same --16 --unmap --lba=168 --num=8 --in=zeros --xferlen=512 "$a"
holds "WRITE SAME(16) with UNMAP" 168 zeros
ask 0 sg_get_lba_status --lba=160 "$a"
has 'blocks: +16 +deallocated'
ask 0 sg_write_same --16 --ndob --lba=177 --num=8 "$a"
holds "WRITE SAME(16) with NDOB" 177 zeros
ask 0 sg_write_same --16 --ndob --unmap --lba=200 --num=8 "$a"
holds "WRITE SAME(16) with NDOB and UNMAP" 200 zeros
head -c 512 /dev/urandom >other
cat block other >pair
ask 0 sg_compare_and_write --in=pair --lba=100 --num=1 --xferlen=1024 "$a"
holds "COMPARE AND WRITE" 100 other
ask 14 sg_compare_and_write --in=pair --lba=100 --num=1 --xferlen=1024 "$a"
has 'Miscompare at byte offset: [0-9]'
holds "nothing written where it differs" 100 other
ask 0 sg_write_x --atomic=0 --16 --lba=300 --num=8 --in=random "$a"
head -c 4096 random >eight
holds "WRITE ATOMIC" 300 eight
ask 0 sg_write_x --or --16 --lba=300 --num=8 --in=zeros "$a"
holds "ORWRITE of zeros" 300 eight
ask 0 sg_verify --lba=0 --count=2048 "$a"
ask 0 sg_verify --16 --lba=0 --count=2048 "$a"
ask 0 sg_verify --ebytchk=1 --lba=100 --count=1 --ndo=512 --in=other "$a"
ask 14 sg_verify --ebytchk=1 --lba=101 --count=1 --ndo=512 --in=other "$a"
get 0 64
cp got first
ask 0 sg_xcopy if="$a" of="$b" bs=512 count=64 skip=0 seek=4096
holds "EXTENDED COPY" 4096 first
ask 0 sg_copy_results -p "$a"
has 'Maximum segment descriptor count'
ask 25 sg_seek --pre-fetch --lba=0 --num-blocks=8 "$a"
has 'Condition met'
ask 0 sg_sync "$a"
ask 0 sg_sync --16 --lba=0 --count=2048 "$a"
ask 0 sg_prevent --prevent=1 "$a"
ask 0 sg_prevent --allow "$a"
ask 0 sg_start --stop "$a"
ask 0 sg_start --start "$a"
ask 0 sg_turs "$a"

echo "=== resets"
# The kernel may take the unit attention before we do.
reset_seen() { dmesg | sed -n "/RESET-$1/,\$p" | grep -q "sd $(basename "$(readlink -e "/sys/class/scsi_generic/$2/device")"): Power-on or device reset"; }
for how in device target; do
    echo "RESET-$how" >/dev/kmsg
    ask 0 sg_reset --no-esc --$how "$a"
    for path in $a $b; do
        sg_turs "$path" >/dev/null 2>&1
        ask 0 sg_turs "$path"
        soon 10 "a unit attention on $path after $how reset" reset_seen $how "$(basename "$path")"
    done
done
soon 60 "both paths to be well after the resets" paths_active 2

echo "=== out again"
systemctl stop multipathd
multipath -F
ask 0 iscsiadm -m node -T "$target" --logout
has "portal: ${one%:*},3260\] successful" "portal: ${two%:*},3260\] successful"
all_told
